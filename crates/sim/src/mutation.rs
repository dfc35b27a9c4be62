//! Deliberate mistakes, each of which some law or the bound on healing must catch.
//!
//! Those of the core are switches in `cluster::mutant`, which do not exist in what
//! ships. Those of the shells are made here, in the model of what executor, guard
//! and configuration do.

use cluster::Timeline;
use cluster::mutant::Mutant;

use crate::wal::Wal;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// In the core.
    Core(Mutant),
    /// In a shell.
    Env(Env),
}

macro_rules! env {
    ($($name:ident $text:literal $why:literal,)*) => {
        /// A mistake in a shell.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Env {
            $(#[doc = $why] $name,)*
        }

        /// Every mistake of the shells: its name and what it does.
        pub const SHELLS: &[(Env, &str, &str)] = &[$((Env::$name, $text, $why),)*];
    };
}

env! {
    ReportBeforeCut "report-before-cut" "A recruited member reads its position before its ack path is cut (C2, C-5).",
    PromiseNotDurable "promise-not-durable" "A promise is kept in memory alone, and forgotten with the agent (1.4).",
    VowsForgotten "promise-forgotten" "The promise is not read back after a restart (1.4).",
    CredentialStays "credential-stays" "The term's credential is not removed, so a respawned walreceiver gets in (C-5).",
    PositionByHistory "position-by-history" "A position's term is that of the newest history file (C-1).",
    HalfStreamedStays "half-streamed-stays" "A half-streamed switch segment is not set aside before a start ((k), C-1).",
    FencedBeforeKilled "fenced-before-killed" "Resigned is on disk and reported while the server still runs (C-4).",
    NoDataBarrier "no-data-barrier" "The opening barrier is taken as proven at once (C6).",
    NoConfigBarrier "no-config-barrier" "A rule change is taken as proven without the walsenders of both rules (M2, (i) iii).",
    EarlyDataBarrier "early-data-barrier" "One record proves both barriers of a rule change, so what is written behind it may be on the older rule (M2).",
    FirstConnectionWillDo "first-connection" "The reload is taken as done when a first connection shows it (C-7).",
    NoCheckpointerProof "no-checkpointer-proof" "Leaving '' is not proven at the checkpointer (C-9).",
    EmptyNames "empty-names" "A standby is started with an empty synchronous_standby_names (C-9).",
    TimelineNotReserved "timeline-not-reserved" "A promotion takes the next timeline it knows of ((k)).",
    NoStandbySignal "no-standby-signal" "standby.signal is not made again after a promotion (1.4).",
    XidBeforeReplay "xid-before-replay" "next_xid is read before everything is replayed (C-17).",
    LeaseFromReply "lease-from-reply" "An async lease is counted from the store's reply instead of the request (C-26).",
    GuardUnarmed "guard-unarmed" "A server is promoted though its guard was never given a deadline (C-25).",
    GuardSleeps "guard-sleeps" "The guard never kills a server whose deadline has passed (C-25).",
    LatenessIgnored "lateness-ignored" "A loop that ran late does not count that time as heard (decision 8).",
    HoldForgotten "hold-forgotten" "A proxy goes on giving a leader new transactions that hands over (6.1).",
    OldServerKept "old-server-kept" "A proxy lets clients go on at a server after it knows of a newer leader (6).",
    TermOutlived "term-outlived" "A client's open transaction goes on at a server whose term is known to be over (6).",
    TermBelieved "term-believed" "A transaction is taken for one of the term that its proxy believed in, which may be over (C-17, C-20).",
    StandbyTaken "standby-taken" "A proxy gives writers a server that has just come back as a standby (C-20).",
    AgainUnproven "again-unproven" "A statement whose fate is open is run again without asking (6.2).",
    NoticeLost "notice-lost" "A commit whose wait was cut short is taken for one like any other (6.3).",
    SilenceIsAnEnd "silence-is-an-end" "A connection that went dark is taken for one that has delivered everything (6.2).",
    XidCompared "xid-compared" "The number of a lost transaction is not compared with that of the next opening (C-17).",
    StatusUnproven "status-unproven" "A transaction's status is believed without a barrier before it (C-17).",
    FateGuessed "fate-guessed" "A lost connection is reported as a failed write (6.2).",
}

/// The mistake of that name.
#[must_use]
pub fn named(name: &str) -> Option<Mutation> {
    let core = Mutant::ALL.iter().find(|m| m.name() == name).map(|m| Mutation::Core(*m));
    core.or_else(|| SHELLS.iter().find(|(_, n, _)| *n == name).map(|(e, ..)| Mutation::Env(*e)))
}

/// Every name, with what it does.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    Mutant::ALL.iter().map(|m| (m.name(), m.what())).chain(SHELLS.iter().map(|(_, n, w)| (*n, *w)))
}

impl Mutation {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mutation::Core(m) => m.name(),
            Mutation::Env(e) => SHELLS.iter().find(|(x, ..)| *x == e).map_or("", |(_, n, _)| n),
        }
    }

    /// Switches the core's mistakes: on for this one, off for all others.
    pub fn arm(mutation: Option<Mutation>) {
        cluster::mutant::set(match mutation {
            Some(Mutation::Core(m)) => Some(m),
            Some(Mutation::Env(_)) | None => None,
        });
        POSITION_BY_HISTORY.store(
            mutation == Some(Mutation::Env(Env::PositionByHistory)),
            std::sync::atomic::Ordering::Relaxed,
        );
    }
}

static POSITION_BY_HISTORY: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The past that goes with it.
#[must_use]
pub fn position_lineage(wal: &Wal) -> cluster::Lineage {
    if POSITION_BY_HISTORY.load(std::sync::atomic::Ordering::Relaxed) {
        wal.lineage.clone()
    } else {
        wal.log_lineage()
    }
}

/// The timeline whose term a position bears.
#[must_use]
pub fn position_owner(wal: &Wal) -> Timeline {
    if POSITION_BY_HISTORY.load(std::sync::atomic::Ordering::Relaxed) {
        wal.lineage.timeline
    } else {
        wal.owner()
    }
}
