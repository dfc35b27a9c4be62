//! Recruiting and electing: C2 to C4 of a term change.
//!
//! Nobody orders anybody to recruit. The agreed phase `Revoking` is the order;
//! every agent obeys it on its own server and reports. Whoever began the term
//! sends the `Elect`; the others hold back and stand in if it dies.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use cluster::command::{Ballot, Change, Evidence, Kind, Member, MemberState};
use cluster::local::Vows;
use cluster::mutant::{Mutant, on};
use cluster::recruited::{is_valid, recruited};
use cluster::report::{Recruited, ServerState};
use cluster::state::Phase;
use cluster::{ClusterState, Durability, MemberId, Position, Rule, Term, Timeline};

use crate::view::View;
use crate::waiting::Waiting;
use crate::{lease, severed};

/// Once an election is safe, wait so long for the rest of those that live: a
/// second standby in the new rule is worth more than these milliseconds.
pub const ELECT_GRACE: Duration = Duration::from_millis(40);
/// The same, when nobody but the leader that failed could be elected so far: its
/// server must be started first, so a standby that is about to speak is faster.
pub const FAILED_GRACE: Duration = Duration::from_millis(400);
/// An agent that did not begin the term sends the `Elect` after so long, plus its turn.
pub const STAND_IN: Duration = Duration::from_millis(600);
/// A leader that resigned because nobody reached its server leaves it to others for so
/// long, who may have to fetch its WAL first.
pub const YIELDED: Duration = Duration::from_secs(5);
/// The candidate that an operator named gets so long to become fit.
pub const PREFERRED_PATIENCE: Duration = Duration::from_secs(3);

/// Everything that is reported for `term`, as evidence.
#[must_use]
pub fn evidence(view: &View<'_>, term: Term) -> Vec<Evidence> {
    let answer = view.me.recruited.as_ref().filter(|_| lease::is_outwaited(view));
    let own = view.my_id().map(|me| (me, &view.me.vows, answer));
    let reports = view.peers.values().map(|heard| &heard.report);
    let telling = reports.filter(|r| r.vows.promise == term || r.vows.resigned > Term(0));
    let others = telling.map(|r| (r.member.clone(), &r.vows, r.recruited.as_ref()));
    // O-2: in async a report also fences by time, once the wait is over.
    let waited = view.phase() == Phase::Revoking
        && view.now.since(view.watch.phase_since) >= Duration::from_millis(view.timing().async_wait_ms);
    let all = own.into_iter().chain(others).map(|(member, vows, said)| {
        let mut e = evidence_of(&member, vows, said, term);
        if view.state.member(&member).is_some_and(|m| m.kind == Kind::Witness) {
            e.promise = vows.promise; // It has no ack path that would have to be cut.
        }
        e.time_fenced = (waited || on(Mutant::AsyncUnwaited)) && e.promise == view.term();
        e
    });
    all.collect()
}

/// One report as evidence for `term`.
pub(crate) fn evidence_of(member: &MemberId, vows: &Vows, said: Option<&Recruited>, term: Term) -> Evidence {
    let said = said.filter(|r| r.term == term);
    let rebuilding = vows.rebuilding.is_some() || vows.quarantine.is_some();
    let position = said.map_or(vows.resigned_at, |r| r.position).filter(|_| !rebuilding);
    let lineage =
        said.map(|r| r.lineage.clone()).or_else(|| vows.resigned_lineage.clone()).unwrap_or_default();
    // A promise counts once the ack path is cut, which is what `recruited` says.
    let promise = if said.is_some() { vows.promise } else { Term(0) };
    Evidence {
        member: member.clone(),
        promise,
        resigned: vows.resigned,
        position,
        lineage,
        time_fenced: false,
    }
}

/// The `Elect` that is due, or what it waits for.
///
/// # Errors
/// What is still missing.
pub fn ballot(view: &View<'_>) -> Result<Change, Waiting> {
    let term = view.term();
    let all = evidence(view, term);
    let needed = recruited(view.state, term, &all).map_err(Waiting::Positions)?;
    if !lease::is_over_for_lost(view) {
        return Err(Waiting::Reads);
    }
    let Some(best) = candidate(view, &all, needed) else { return Err(Waiting::Candidate) };
    let grace = if view.state.ctl.leader.as_ref() == Some(&best.member) { FAILED_GRACE } else { ELECT_GRACE };
    if !is_settled(view, &all, grace) {
        return Err(Waiting::Candidate);
    }
    let parent_tli = best.lineage.timeline;
    let (leader, base) = (best.member.clone(), best.position.unwrap_or_default());
    let rule = opening_rule(view.state, &leader, base, &all);
    let tli = Timeline(view.state.tli_next);
    Ok(Change::Elect(Ballot { term, leader, evidence: all, rule, parent_tli, tli }))
}

pub(crate) fn candidate<'a>(view: &View<'_>, all: &'a [Evidence], needed: Position) -> Option<&'a Evidence> {
    let fits = fit(view.state, view.term(), all, needed, |m| may_be_chosen(view, m));
    best(view.state, view.state.ctl.leader.as_ref(), &fits, is_patient(view))
}

/// Whether the candidate that an operator named may still become fit.
pub(crate) fn is_patient(view: &View<'_>) -> bool {
    view.now.since(view.watch.phase_since) < PREFERRED_PATIENCE
}

/// Whether it lives, and does not yield to others, who then get so long.
pub(crate) fn may_be_chosen(view: &View<'_>, member: &MemberId) -> bool {
    let patient = view.now.since(view.watch.phase_since) < YIELDED;
    if member.node == view.me.node {
        return !(patient && severed::yields(view));
    }
    let report = view.fresh(member, view.timing().suspicion_ms);
    report.is_some_and(|r| !(patient && r.yields))
}

/// Those who live, may lead, and have all that is needed.
pub(crate) fn fit<'a>(
    state: &ClusterState,
    term: Term,
    all: &'a [Evidence],
    needed: Position,
    alive: impl Fn(&MemberId) -> bool,
) -> Vec<&'a Evidence> {
    let fit = |e: &&Evidence| {
        let Some(m) = state.member(&e.member) else { return false };
        let named = state.ctl.preferred.as_ref() == Some(&e.member.node);
        let may = m.is_data_voter() && (named || !m.tags.no_failover);
        may && alive(&e.member)
            && is_valid(state, term, e)
            && e.position.is_some_and(|p| p >= needed || on(Mutant::CandidateBehind))
    };
    all.iter().filter(fit).collect()
}

/// The best of those who fit: whom the operator named; while paused only the
/// leader that was (C-13); not the one that just failed if another will do;
/// then most WAL, then priority. `patient`: the named one may still come.
pub(crate) fn best<'a>(
    state: &ClusterState,
    old: Option<&MemberId>,
    fits: &[&'a Evidence],
    patient: bool,
) -> Option<&'a Evidence> {
    let ctl = &state.ctl;
    let preferred = ctl.preferred.as_ref();
    if let Some(named) = fits.iter().find(|e| preferred == Some(&e.member.node)) {
        return Some(named);
    }
    if preferred.is_some() && patient {
        return None;
    }
    let only_old = ctl.paused && !ctl.asked && old.is_some();
    let allowed = fits.iter().filter(|e| !only_old || old == Some(&e.member));
    let key = |e: &&&Evidence| {
        let tags = state.member(&e.member).map(|m| m.tags.priority).unwrap_or_default();
        (Reverse(old == Some(&e.member)), e.position, tags, Reverse(e.member.clone()))
    };
    allowed.max_by_key(key).copied()
}

/// Whether everybody who lives has spoken, or had time to.
pub(crate) fn is_settled(view: &View<'_>, all: &[Evidence], grace: Duration) -> bool {
    let waited = view.watch.recruited_since.is_some_and(|t| view.now.since(t) >= grace);
    let spoke = |id: &MemberId| all.iter().any(|e| e.member == *id && e.promise == view.term());
    let alive =
        |id: &MemberId| id.node == view.me.node || view.fresh(id, 3 * view.timing().heartbeat_ms).is_some();
    waited || view.wal_voters().all(|(id, _)| spoke(&id) || !alive(&id))
}

/// O-4: the voters that reported and can follow the new leader; where they are
/// too few, strict adds absent ones and stays closed until they are back,
/// relaxed takes the leader alone.
pub(crate) fn opening_rule(
    state: &ClusterState,
    leader: &MemberId,
    base: Position,
    all: &[Evidence],
) -> Rule {
    if state.settings.durability == Durability::Async {
        return Rule::leader_only();
    }
    let usable = |m: &MemberId| state.member(m).is_some_and(Member::is_wal_voter);
    let reported = all.iter().filter(|e| {
        e.member != *leader
            && usable(&e.member)
            && is_valid(state, state.ctl.term, e)
            && e.position.is_some_and(|p| p <= base)
    });
    let mut standbys: BTreeSet<MemberId> = reported.map(|e| e.member.clone()).collect();
    fill_up(state, leader, &mut standbys);
    let acks = state.settings.acks.min(u32::try_from(standbys.len()).unwrap_or(u32::MAX));
    Rule::new(standbys, acks).unwrap_or_else(|_| Rule::leader_only())
}

fn fill_up(state: &ClusterState, leader: &MemberId, standbys: &mut BTreeSet<MemberId>) {
    if on(Mutant::QuorumAlone)
        || !standbys.is_empty()
        || state.settings.durability != Durability::Quorum
        || state.always_alone()
    {
        return;
    }
    for (node, m) in &state.members {
        let id = MemberId::new(node.clone(), m.incarnation);
        if m.is_wal_voter() && id != *leader {
            standbys.insert(id);
        }
    }
    if standbys.is_empty() {
        let rebuilding = state.members.iter().filter(|(n, m)| {
            let being_made = matches!(m.state, MemberState::Clone | MemberState::Catchup);
            m.kind == Kind::Data && being_made && **n != leader.node
        });
        standbys.extend(rebuilding.map(|(n, m)| MemberId::new(n.clone(), m.incarnation)));
    }
}

/// Whether it is on us to send the `Elect`.
#[must_use]
pub fn is_our_turn(view: &View<'_>) -> bool {
    if view.state.ctl.coordinator.as_ref() == Some(&view.me.node) {
        return true;
    }
    if on(Mutant::NobodyStandsIn) {
        return false;
    }
    let turn = Duration::from_millis(view.turn_ms(100));
    view.now.since(view.watch.phase_since) >= STAND_IN + turn
}

/// Whether our own server still has to be recruited for the current term.
#[must_use]
pub fn must_recruit(view: &View<'_>) -> bool {
    let done = view.me.recruited.as_ref().is_some_and(|r| r.term == view.term());
    let running = view.server_state();
    !done && running != ServerState::Promoting && running != ServerState::Primary
}
