//! Deliberate mistakes in the thinking code, to prove that the simulator's laws
//! would find them. Nothing that ships can switch one on: without the feature
//! `mutants`, which only the simulator asks for, `on` is constantly false.

macro_rules! mutants {
    ($($name:ident $text:literal $what:literal,)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $name,)*
        }

        impl Mutant {
            /// Every mistake.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)*];

            /// Its name on command lines.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => $text,)* }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Mutant::$name => $what,)* }
            }
        }
    };
}

mutants! {
    LsnBeforeTerm "lsn-before-term" "Positions are compared by LSN first (1.2).",
    JudgedByOpened "judged-by-opened" "A past is judged by opened elections alone (C-2).",
    OldRuleDropped "old-rule-dropped" "Elect drops the rules of older terms.",
    NewestRuleOnly "newest-rule-only" "C-3 is asked of the newest rule alone.",
    AnyoneBlocks "anyone-blocks" "One member of S blocks any rule (C-3).",
    CandidateBehind "candidate-behind" "A candidate need not reach what was discovered (C-3).",
    TailUnresigned "tail-unresigned" "A leader's position discovers though it has not resigned (C-3).",
    AnyStep "any-step" "Rules change in any steps (C-6).",
    AloneShrinks "alone-shrinks" "A leader drops a standby on nobody's word but its own (C-13).",
    PauseIgnored "pause-ignored" "Terms begin by themselves while paused (C-13).",
    OpenedUnproven "opened-unproven" "A leader opens before its barrier is proven (C6).",
    EndUnproven "end-unproven" "M3 is asked for before M2 is proven.",
    EndBackwards "end-backwards" "A rule change may go back to the older rule (C-21).",
    BoundRebuilds "bound-rebuilds" "A member is rebuilt though the rules bind it (C-10).",
    Uncheckpointed "uncheckpointed" "A rewind does not wait for the leader's checkpoint (C-11).",
    CrashUnfenced "crash-unfenced" "A leader whose server died does not resign ((a)).",
    QuietPast "quiet-past" "A recruited member elected earlier does not resign that term (C-22).",
    StuckForever "stuck-forever" "A term that does not open is not ended (C-14).",
    NowhereForever "nowhere-forever" "A change that leads nowhere is not ended (C-14).",
    SeveredForever "severed-forever" "A leader whose server no standby can reach stays ((c)).",
    LinkedIsNoWord "linked-is-no-word" "That others hear the leader is no evidence for a shrink (C-24).",
    NobodyStandsIn "nobody-stands-in" "Only who began a term may send its Elect (C-14).",
    TornForever "torn-forever" "A standby that gets no WAL is not started afresh ((h)).",
    QuorumAlone "quorum-alone" "In durability quorum a leader may open alone (C-15).",
    SecondClaim "second-claim" "A cluster that exists may be claimed (C-16).",
    LossUnheard "loss-unheard" "An operator's loss need not wait for the living (C-18).",
    MissedByEither "missed-by-either" "Silent WAL alone makes a leader missed (C-23).",
    HearersIgnored "hearers-ignored" "A pre-vote passes though somebody hears the leader (C-24).",
    LateIsSilent "late-is-silent" "A loop that ran late counts the time as silence (C-23).",
    GrantsUnneeded "grants-unneeded" "The guard's deadline is moved on without grants (C-25).",
    OlderGrants "older-grants" "Standbys of a rule that may be over grant reads (C-25, M3).",
    StalePosition "stale-position" "A position counts though its node has promised nothing for this term (C-5).",
    NoPatience "no-patience" "A silent leader is never missed while its server answers (C-23).",
    PausedShrink "paused-shrink" "Standbys are dropped while paused (C-13).",
    AsyncUnwaited "async-unwaited" "An async election does not wait for the lease to run out (C-26).",
    LeaseUnread "lease-unread" "An async lease needs no read of the store (C-26).",
    AnyTiming "any-timing" "Settings are taken whatever their timing (C-28).",
    OldNews "old-news" "A restarted leader puts a rule in force again that it does not know to be over (I4).",
    PreferredStays "preferred-stays" "Whom an operator named for one term is waited for in the next.",
    AskedStays "asked-stays" "That an operator asked for a term counts for later ones, while paused (C-13).",
    LossLeast "loss-least" "After an accepted loss the least of the positions will do (C-18).",
    LeaseBySettings "lease-by-settings" "Whether a lease is needed is read off the settings, not the rules (C-26).",
    HungForever "hung-forever" "A postmaster that hangs is left alone.",
    SeveredImpatient "severed-impatient" "Terms that did not open make nobody more patient ((c)).",
    SeveredPaused "severed-paused" "A leader that no standby reaches gives up while paused (C-13).",
    StuckWhileLate "stuck-while-late" "Who stood still himself ends a term as stuck (C-14).",
    NoPause "no-pause" "A leader that has just come by a failover is replaced at once ((b)).",
    NotReasserted "not-reasserted" "A restarted leader does not prove its rule again.",
    GrantUnwaited "grant-unwaited" "A recruited member answers though a read that it granted may still be given (C-12).",
    GrantForgotten "grant-forgotten" "A restarted agent answers at once, whatever the one before it granted (C-21).",
    GrantsHeld "grants-held" "A lease rests on grants that were held before it was asked for (C-19).",
    LeaseByOlder "lease-by-older" "While rules change, leases are given by the older one (C-21).",
    EndUnwaited "end-unwaited" "A rule is dropped while leases run that were given by it (C-21).",
    RebornTrusted "reborn-trusted" "The next life of a node is taken for the one before (C-10).",
}

#[cfg(feature = "mutants")]
static ON: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Makes one mistake from here on, or none, in the whole process.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, |m| m as u8 + 1), core::sync::atomic::Ordering::Relaxed);
}

/// Whether that mistake is to be made.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(mutant: Mutant) -> bool {
    ON.load(core::sync::atomic::Ordering::Relaxed) == mutant as u8 + 1
}

/// Whether that mistake is to be made: never.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn on(_: Mutant) -> bool {
    false
}
