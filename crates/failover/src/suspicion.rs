//! Whether the leader is missed, and whether enough others miss it too.
//!
//! Suspicion is mutual and never one agent's opinion (protocol (b), C-23,
//! C-24): a leader is missed by an agent that, for S, got no heartbeat saying
//! that the leader hears it, while the leader's PostgreSQL was silent as well
//! (or for P whatever PostgreSQL does). A term begins only when those who miss
//! it could carry an election and nobody says that he hears it. An agent whose
//! own loop ran late counts that time as heard.

use alloc::collections::BTreeSet;
use core::time::Duration;

use cluster::command::{Change, Trigger};
use cluster::mutant::{Mutant, on};
use cluster::report::{Missing, Report};
use cluster::state::Phase;
use cluster::{ClusterState, Durability, MemberId, NodeId, Reason, Term, Time};

use crate::lease::Ends;
use crate::view::View;

/// Reports in a row by which a leader that does not hear us is missed at once.
pub const DEAF_REPORTS: u32 = 2;
/// Agents hold back so long per rank before they begin a term.
pub const TURN_MS: u64 = 60;
/// Longest that one whose loop ran late suspects nobody. What waited for it to run again
/// is read in far less, and a host that stood still for an hour must not be blind for one.
pub const LATE_MAX: Duration = Duration::from_secs(3);

/// How long things have lasted, by our own clock.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// When we first saw the current term and phase.
    pub phase_since: Time,
    /// Which those are.
    seen: (Term, Phase),
    /// When the leader last said that it hears us, or counts as having said so.
    pub leader_heard_us: Time,
    /// Reports in a row in which the leader did not hear us.
    deaf: u32,
    /// Since when the leader of this term says that its server is a primary.
    pub leader_up_since: Option<Time>,
    /// Since when we miss the leader.
    pub missing_since: Option<Time>,
    /// When we first saw that the leader has resigned.
    pub resigned_since: Option<Time>,
    /// When C-3 first held for the term that recruits.
    pub recruited_since: Option<Time>,
    /// Until when we suspect nobody, because our own loop ran late.
    pub late_until: Time,
    /// When the planned switchover that was asked for at that time (of the wall clock
    /// there, which names it) was first seen to be due.
    pub due_since: Option<(u64, Time)>,
    /// Since when our rule change leads where nobody is left to acknowledge.
    pub nowhere_since: Option<Time>,
    /// The newest term that we had to give up because no standby reached our server.
    pub severed: Term,
    /// When we first saw our own standing as it is.
    pub standing_since: Time,
    /// When our own agent last heard enough peers to be sure it leads.
    pub grants_at: Time,
    /// When a linearizable read last *started* that showed our term.
    pub store_read_at: Time,
    /// What others must wait for before they may take it that we give or grant no read any more.
    pub ends: Ends,
    /// Whether a rule of async is active: commits are acknowledged by lease.
    pub leased: bool,
    /// Since when.
    pub leased_since: Time,
}

impl Watch {
    /// Takes note of a new agreed state.
    pub fn on_state(&mut self, state: &ClusterState, now: Time) {
        let leased = state.rules.iter().any(|r| r.mode == Durability::Async);
        if leased && !self.leased {
            self.leased_since = now;
        }
        self.leased = leased;
        let seen = (state.ctl.term, state.ctl.phase);
        if seen != self.seen {
            self.seen = seen;
            self.phase_since = now;
            self.leader_heard_us = now;
            self.deaf = 0;
            self.missing_since = None;
            self.resigned_since = None;
            self.recruited_since = None;
        }
    }

    /// Takes note of a report from the leader. One that never heard us says nothing
    /// by that while it or we (`up_ms`) have only just started.
    pub fn on_leader_report(
        &mut self,
        report: &Report,
        me: &NodeId,
        suspicion_ms: u64,
        up_ms: u64,
        now: Time,
    ) {
        let age = report.hears.get(me).copied();
        if age.is_some_and(|age| age < suspicion_ms) {
            self.leader_heard_us = now;
            self.deaf = 0;
        } else if age.unwrap_or(report.up_ms.min(up_ms)) >= suspicion_ms {
            self.deaf = self.deaf.saturating_add(1);
        }
    }

    /// Our loop ran late by `late`: all of that counts as heard, and for as long nobody is
    /// suspected, at most `LATE_MAX`.
    pub fn on_late(&mut self, late: Duration, now: Time) {
        if on(Mutant::LateIsSilent) {
            return;
        }
        self.leader_heard_us = (self.leader_heard_us + late).min(now);
        self.missing_since = None;
        self.late_until = now + late.min(LATE_MAX);
    }
}

/// C-23: whether we miss the leader of the current term, and for how long.
#[must_use]
pub fn missing(view: &View<'_>) -> Option<Missing> {
    let leader = view.other_leader()?;
    if view.now < view.watch.late_until {
        return None;
    }
    let silent = view.now.since(view.watch.leader_heard_us);
    let alive = view.me.leader_alive.map_or(Duration::MAX, |t| view.now.since(t));
    let heartbeat_gone = silent >= view.suspicion();
    let wal_gone = alive >= view.suspicion();
    let deaf = view.watch.deaf >= DEAF_REPORTS && view.state.member(leader).is_some();
    let either = on(Mutant::MissedByEither) && (heartbeat_gone || wal_gone);
    let impatient = silent >= view.patience() && !on(Mutant::NoPatience);
    let missed = either || heartbeat_gone && (wal_gone || impatient);
    let deaf_and_gone = deaf && wal_gone;
    let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
    (missed || deaf_and_gone).then_some(Missing { term: view.term(), silent_ms })
}

/// How long the PostgreSQL of the leader whom we follow has been silent, in this term.
pub(crate) fn server_silent(view: &View<'_>) -> Option<Duration> {
    view.other_leader()?;
    let late = view.now < view.watch.late_until;
    let heard = view.me.leader_alive.map_or(view.watch.phase_since, |t| t.max(view.watch.phase_since));
    Some(if late { Duration::ZERO } else { view.now.since(heard) })
}

/// C-24: the command that ends the term of a leader who is missed by enough.
#[must_use]
pub fn begin_term(view: &View<'_>) -> Option<Change> {
    let leader = view.other_leader()?;
    let since = view.watch.missing_since?;
    let mine = missing(view)?;
    let waited = view.now.since(since);
    let turn = Duration::from_millis(view.turn_ms(TURN_MS));
    let (by, silent_ms, all_said) = missed_by(view, leader, since, mine)?;
    let answered = all_said || waited >= Duration::from_millis(view.timing().prevote_ms);
    if !answered
        || waited < turn
        || (view.state.ctl.paused && !on(Mutant::PauseIgnored))
        || (just_failed_over(view) && !on(Mutant::NoPause))
    {
        return None;
    }
    let trigger = Trigger::Missed { by, silent_ms };
    Some(Change::BeginTerm { term: view.term().next(), trigger })
}

/// Damps flapping (protocol (b)): a term that began because its predecessor was
/// missed is not ended for the same reason before the pause is over. It runs anew
/// from the opening: counted from the term's beginning, one that was slow to open
/// would have used it up before its leader served anybody.
fn just_failed_over(view: &View<'_>) -> bool {
    let begins = |r: &Reason| matches!(r, Reason::TermBegan { .. });
    let began = view.state.history.iter().rev().map(|e| &e.reason).find(|r| begins(r));
    let missed = matches!(began, Some(Reason::TermBegan { trigger: Trigger::Missed { .. }, .. }));
    missed && view.now.since(view.watch.phase_since) < Duration::from_millis(view.timing().failover_pause_ms)
}

/// Who misses the leader, for how long at most, and whether everybody else has
/// spoken since we began to; `None` if somebody hears it.
fn missed_by(
    view: &View<'_>,
    leader: &MemberId,
    since: Time,
    mine: Missing,
) -> Option<(BTreeSet<NodeId>, u64, bool)> {
    let mut by = BTreeSet::from([view.me.node.clone()]);
    let mut silent_ms = mine.silent_ms;
    let mut all_said = true;
    let others =
        view.state.members.iter().filter(|(n, m)| **n != leader.node && **n != view.me.node && m.has_seat());
    for (node, _) in others {
        let Some(heard) = view.peers.get(node).filter(|h| h.at >= since) else {
            all_said = false;
            continue;
        };
        match heard.report.misses {
            Some(m) if m.term == view.term() => {
                by.insert(node.clone());
                silent_ms = silent_ms.max(m.silent_ms);
            }
            Some(_) | None if hears(&heard.report, leader, view) && !on(Mutant::HearersIgnored) => {
                return None;
            }
            Some(_) | None => all_said = false,
        }
    }
    Some((by, silent_ms, all_said))
}

fn hears(report: &Report, leader: &MemberId, view: &View<'_>) -> bool {
    report.hears.get(&leader.node).is_some_and(|age| *age < view.timing().suspicion_ms)
}
