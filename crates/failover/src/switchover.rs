//! The planned change of leaders (protocol (f)), seen from both ends.
//!
//! ```text
//!   old leader:  Aim ▶ Prepare (checkpoints) ▶ HandOver (fast shutdown, "resigned t")
//!   successor:                                   sees it ▶ Recruit(t+1) ▶ BeginAndElect ▶ promote
//! ```
//! The old leader's resignation blocks and discovers (C-3 "by its leader"), so
//! no other standby is asked. If anything fails before the election, the old
//! leader's server is started as a standby and the term changes as after a crash.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use cluster::command::{Ballot, Change, Evidence};
use cluster::report::{Leading, Report, StandbyProgress};
use cluster::state::{Phase, Switchover};
use cluster::{Action, ClusterState, Durability, MemberId, NodeId, Rule, Timeline};

use crate::decide::Verdict;
use crate::election::evidence;
use crate::view::View;
use crate::waiting::Waiting;

/// A switchover that has not found a ready successor after so long is called off.
pub const READY_LIMIT: Duration = Duration::from_secs(10);
/// A successor must be this close before the old leader shuts down.
pub const READY_LAG_BYTES_MAX: u64 = 1024 * 1024;
/// A resigned leader waits so long for its successor before an ordinary election.
pub const TAKE_OVER_LIMIT: Duration = Duration::from_millis(1500);

/// Whether a planned switchover is due.
#[must_use]
pub fn due<'a>(view: &View<'a>) -> Option<&'a Switchover> {
    let target = view.state.ctl.target.as_ref().filter(|_| view.phase() == Phase::Open)?;
    target.at_ms.is_none_or(|at| view.wall_ms >= at).then_some(target)
}

/// The old leader's part.
#[must_use]
pub fn hand_over(view: &View<'_>) -> Option<Verdict> {
    let target = due(view)?;
    let Some(to) = &target.to else { return Some(aim(view)) };
    if !is_ready(view, to) {
        return Some(Verdict::wait(Waiting::Successor(to.clone())));
    }
    let term = view.term();
    if view.me.prepared < term {
        return Some(Verdict::act(view, Action::Prepare { term }));
    }
    Some(Verdict::act(view, Action::HandOver { term }))
}

/// Calls off what could not be begun in time, whatever keeps the leader from it:
/// nobody expects it any more. Counted from when the leader saw it due: the wall
/// clock of whoever was asked says nothing here.
#[must_use]
pub fn overdue(view: &View<'_>) -> Option<Change> {
    let target = due(view)?;
    let (_, since) = view.watch.due_since.filter(|(asked_ms, _)| *asked_ms == target.asked_ms)?;
    let late = view.now.since(since) >= READY_LIMIT;
    let handing_over = matches!(view.running, Some(Action::HandOver { .. }));
    let why = match &target.to {
        Some(to) => alloc::format!("{to} was not streaming closely enough"),
        None => "no standby was streaming closely enough".to_string(),
    };
    (late && !handing_over).then_some(Change::CancelSwitchover { why })
}

/// The leader chooses whom a switchover goes to.
fn aim(view: &View<'_>) -> Verdict {
    let others = view.data_voters().map(|(id, _)| id).filter(|id| id.node != view.me.node);
    if let Some(best) = field(view).choose(others.filter(|id| is_ready(view, &id.node))) {
        return Verdict::ask(Change::Aim { to: best.node });
    }
    Verdict::wait(Waiting::Candidate)
}

/// Those who could succeed a leader, as whoever looks sees them.
pub(crate) struct Field<'a> {
    /// What is agreed.
    pub state: &'a ClusterState,
    /// The leader's own account of who streams from it.
    pub leading: Option<&'a Leading>,
}

impl<'a> Field<'a> {
    /// How far the leader's WAL and this life of a standby are.
    pub fn row(&self, member: &MemberId) -> Option<&'a StandbyProgress> {
        self.leading?.standbys.iter().find(|p| p.member == *member)
    }

    /// Bytes that `member` has not replayed; `None` while it does not stream.
    pub fn lag_bytes(&self, member: &MemberId) -> Option<u64> {
        let end = self.leading?.end;
        self.row(member).filter(|p| p.streaming).map(|p| end.bytes_past(p.replay))
    }

    /// The one of `ready` that a switchover without a name goes to: fit and in
    /// the rule, then by priority, then by least lag.
    pub fn choose(&self, ready: impl Iterator<Item = MemberId>) -> Option<MemberId> {
        let may = |id: &MemberId| {
            let fit = self.state.member(id).is_some_and(|m| m.is_data_voter() && !m.tags.no_failover);
            fit && self.state.newest_rule().is_some_and(|r| r.rule.names(id) || r.rule.is_leader_only())
        };
        let key = |id: &MemberId| {
            let priority = self.state.member(id).map_or(0, |m| m.tags.priority);
            (core::cmp::Reverse(priority), self.lag_bytes(id).unwrap_or(u64::MAX))
        };
        ready.filter(may).min_by_key(key)
    }
}

fn field<'a>(view: &View<'a>) -> Field<'a> {
    Field { state: view.state, leading: view.me.leading.as_ref() }
}

/// Ready now: here to stay, heard, streaming, and close to what the leader has.
fn is_ready(view: &View<'_>, node: &NodeId) -> bool {
    let Some(id) = view.state.member_id(node) else { return false };
    let stays = view.state.member(&id).is_some_and(|m| m.is_data_voter() && !m.reinit);
    let heard = view.fresh(&id, view.timing().suspicion_ms).is_some();
    stays && heard && field(view).lag_bytes(&id).is_some_and(|lag| lag < READY_LAG_BYTES_MAX)
}

/// The successor's part.
#[must_use]
pub fn take_over(view: &View<'_>) -> Option<Verdict> {
    let target = due(view)?;
    let leader = view.other_leader()?;
    let old = &view.peers.get(&leader.node)?.report;
    let resigned = old.member == *leader && old.vows.resigned >= view.term();
    if target.to.as_ref() != Some(&view.me.node) || !resigned || !old.vows.resigned_clean {
        return None;
    }
    let next = view.term().next();
    let Some(mine) = view.me.recruited.as_ref().filter(|r| r.term == next) else {
        return Some(Verdict::act(view, Action::Recruit { term: next }));
    };
    if mine.position < old.vows.resigned_at {
        // Something of the old leader's WAL has not reached us: an ordinary election decides.
        return None;
    }
    Some(Verdict::ask(Change::BeginAndElect(ballot(view, old)?)))
}

fn ballot(view: &View<'_>, old: &Report) -> Option<Ballot> {
    let term = view.term().next();
    let leader = view.my_id()?;
    let all = evidence(view, term);
    let evidence: Vec<Evidence> =
        all.into_iter().filter(|e| e.member == leader || e.member == old.member).collect();
    let parent_tli = evidence.iter().find(|e| e.member == leader).map(|e| e.lineage.timeline)?;
    let rule = rule_after(view, &leader, &old.member);
    Some(Ballot { term, leader, evidence, rule, parent_tli, tli: Timeline(view.state.tli_next) })
}

/// The rule without the successor; where that leaves nobody, the old leader,
/// who comes back as a clean standby, or nobody where the mode allows it.
fn rule_after(view: &View<'_>, leader: &MemberId, old: &MemberId) -> Rule {
    let settings = &view.state.settings;
    let current = view.state.newest_rule().map(|r| r.rule.standbys().clone()).unwrap_or_default();
    let alive = |m: &MemberId| view.fresh(m, view.timing().suspicion_ms).is_some();
    let mut standbys: BTreeSet<MemberId> = current.into_iter().filter(|m| m != leader && alive(m)).collect();
    if settings.durability == Durability::Async {
        return Rule::leader_only();
    }
    if standbys.is_empty() && settings.durability == Durability::Quorum {
        standbys.insert(old.clone());
    }
    let acks = settings.acks.min(u32::try_from(standbys.len()).unwrap_or(u32::MAX));
    Rule::new(standbys, acks).unwrap_or_else(|_| Rule::leader_only())
}
