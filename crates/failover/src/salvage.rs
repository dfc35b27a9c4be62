//! Fast-forward: getting the WAL that an election needs from one who can't lead
//! ((a) 5, (g) of the protocol).
//!
//! Say n2 is elected over, and w, a witness that keeps WAL, has acknowledged more:
//! n2 fetches the rest from w and reports again; then it has all that is needed.
//! Only bytes that follow our own end in the same history are taken: a candidate
//! whose log has left the holder's history is none.
//!
//! Never fetches from one who could be elected itself.

use alloc::vec::Vec;
use core::time::Duration;

use cluster::command::Evidence;
use cluster::recruited::{is_valid, recruited};
use cluster::{Action, ClusterState, MemberId, Position, Term};

use crate::election::{ELECT_GRACE, best, candidate, evidence, fit, is_patient, is_settled, may_be_chosen};
use crate::view::View;

/// The best candidate gets so long; then every other one tries as well (C-14).
pub const OTHERS_TRY: Duration = Duration::from_secs(5);

/// The fetch that is due on our own server.
#[must_use]
pub fn fast_forward(view: &View<'_>) -> Option<Action> {
    let (term, me) = (view.term(), view.my_id()?);
    let all = evidence(view, term);
    let needed = recruited(view.state, term, &all).ok()?;
    if candidate(view, &all, needed).is_some() || !is_settled(view, &all, ELECT_GRACE) {
        return None;
    }
    let alive = |m: &MemberId| *m == me || view.fresh(m, view.timing().suspicion_ms).is_some();
    // Whom an operator named, the others have to wait for.
    let named = view.state.ctl.preferred.as_ref().filter(|_| is_patient(view));
    let may_lead = |m: &MemberId| may_be_chosen(view, m) && named.is_none_or(|n| m.node == *n);
    let (holder, behind) = short(view.state, term, &all, needed, alive, may_lead)?;
    let first = best(view.state, view.state.ctl.leader.as_ref(), &behind, true)?;
    let waited = view.watch.recruited_since.is_some_and(|t| view.now.since(t) >= OTHERS_TRY);
    let mine = behind.iter().find(|e| e.member == me).filter(|_| first.member == me || waited)?;
    let (from, to) = (mine.position?.lsn, holder.position?.lsn);
    let (timeline, holder) = (holder.lineage.timeline, holder.member.clone());
    Some(Action::FastForward { term, holder, timeline, from, to })
}

/// Where nobody who may lead has all that is `needed`: who has it, and those who
/// may lead and whose log goes on in that one's.
pub(crate) fn short<'a>(
    state: &ClusterState,
    term: Term,
    all: &'a [Evidence],
    needed: Position,
    alive: impl Fn(&MemberId) -> bool,
    may_lead: impl Fn(&MemberId) -> bool,
) -> Option<(&'a Evidence, Vec<&'a Evidence>)> {
    let has = |e: &&Evidence| alive(&e.member) && is_valid(state, term, e) && e.position >= Some(needed);
    let holder = all.iter().filter(has).max_by_key(|e| e.position)?;
    let mut behind = fit(state, term, all, Position::default(), may_lead);
    if behind.iter().any(|e| e.position >= Some(needed)) {
        return None;
    }
    behind.retain(|e| e.position.is_some_and(|p| e.lineage.can_follow(p.lsn, &holder.lineage)));
    Some((holder, behind))
}
