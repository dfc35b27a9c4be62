//! When our own server must go: its term is over, it died, or it hangs.
//!
//! Fenced is a promise (C-4): the process tree is dead and "resigned t" is on
//! disk before anybody hears of it. A member elected in s and recruited for a
//! later term fences s too, opened or not (C-22); else one lost host could
//! block C-3 for ever.

use core::time::Duration;

use cluster::command::Kind;
use cluster::mutant::{Mutant, on};
use cluster::report::ServerState;
use cluster::state::Phase;
use cluster::{Action, ClusterState, Durability, Term, Time, Timeline};

use crate::view::View;
use crate::{rules, severed};

/// A postmaster that answers nobody for so long is as good as dead. Above P, so
/// that a machine that is merely slow is left alone.
pub const HUNG_LIMIT: Duration = Duration::from_millis(3500);

/// The fence that is due.
#[must_use]
pub fn fence(view: &View<'_>) -> Option<Action> {
    if view.i_lead() { fence_leader(view) } else { fence_past(view) }
}

/// Of terms that are over: everything we were elected in, and anything that
/// runs read-write without having been elected (a user's `pg_promote()`).
fn fence_past(view: &View<'_>) -> Option<Action> {
    let resigned = view.me.vows.resigned;
    let elected = view.my_id().and_then(|me| view.state.last_elected(&me)).unwrap_or(Term(0));
    let read_write = matches!(view.server_state(), ServerState::Primary | ServerState::Promoting);
    if read_write || (resigned < elected && !on(Mutant::QuietPast)) {
        return Some(Action::Fence { term: elected.max(resigned) });
    }
    None
}

/// Of the term we lead: the server was promoted and is not primary any more,
/// opened another timeline than the one reserved, or hangs; or a rule change
/// leads nowhere, or its standbys can't reach it, and nothing is acknowledged until a new
/// term begins.
fn fence_leader(view: &View<'_>) -> Option<Action> {
    let term = view.term();
    if view.me.vows.resigned >= term {
        let read_write = matches!(view.server_state(), ServerState::Primary | ServerState::Promoting);
        return read_write.then_some(Action::Fence { term });
    }
    let promoted = view.me.vows.promoting.is_some_and(|p| p.term == term);
    let right_timeline =
        view.state.election().zip(view.server()).is_some_and(|(e, s)| s.lineage.timeline == e.tli);
    let hung =
        !on(Mutant::HungForever) && view.me.hung_since.is_some_and(|t| view.now.since(t) >= HUNG_LIMIT);
    // While we are promoting, the vow is on disk before the server has moved.
    let busy = matches!(view.running, Some(Action::Promote { .. }));
    let lost = match view.server_state() {
        _ if busy => false,
        ServerState::Primary => !promoted || !right_timeline,
        ServerState::Promoting => !promoted,
        // Promoted by hand since it was recruited: what it would grow from is nobody's.
        ServerState::Standby => promoted || strayed(view),
        ServerState::Empty | ServerState::Down | ServerState::Starting => promoted,
    };
    let nowhere = view.watch.nowhere_since.is_some_and(|t| view.now.since(t) >= severed::nowhere_limit(view));
    let lost = lost && !on(Mutant::CrashUnfenced);
    (lost || hung || nowhere || severed::is_severed(view)).then_some(Action::Fence { term })
}

/// Whether our log is on another timeline than the one that we were elected on.
fn strayed(view: &View<'_>) -> bool {
    let on = view.server().map(|s| s.lineage.timeline).filter(|t| *t != Timeline(0));
    view.state.election().zip(on).is_some_and(|(e, on)| on != e.parent_tli)
}

/// Until when the guard may leave our server alone, if it may at all (C-25,
/// C-26, O-6). Called on every turn of the agent's loop: that it is called is
/// half of the proof.
#[must_use]
pub fn guard_deadline(view: &View<'_>) -> Option<Time> {
    let timing = view.timing();
    let reach = Duration::from_millis(timing.guard_deadline_ms);
    // An agent that knows nothing yet leaves the deadline it found. What is agreed may be
    // older than what its server does: it has to have looked at that as well.
    let blind = view.me.server.is_none() && view.me.kind == Kind::Data;
    if !view.state.exists() || blind || rules::is_behind(view) {
        return None;
    }
    if !view.i_lead() {
        // One that takes writes all the same is to be fenced: whoever does that may be held
        // up, so it keeps the deadline that it had.
        let read_write = matches!(view.server_state(), ServerState::Primary | ServerState::Promoting);
        return (!read_write).then_some(view.now + reach);
    }
    if needs_lease(view) {
        let lease = Duration::from_millis(timing.async_lease_ms);
        // Before the first read the deadline of before holds: it was armed when this term
        // could not have ended yet, for D at most, which is no longer than a lease.
        if on(Mutant::LeaseUnread) {
            return Some(view.now + lease);
        }
        return has_lease(view).then_some(view.watch.store_read_at + lease);
    }
    let leader_only = view.state.rules.iter().all(|r| r.rule.is_leader_only());
    if leader_only || has_grants(view) || on(Mutant::GrantsUnneeded) {
        return Some(view.now + reach);
    }
    let proven = view.watch.grants_at.max(view.watch.store_read_at).max(view.watch.phase_since);
    Some(proven + reach)
}

/// How long after the read of the store that validates a promotion the server may run
/// before the agent must have said more (C-25): in async no longer than a lease.
#[must_use]
pub fn first_reach(state: &ClusterState) -> Duration {
    let timing = &state.settings.timing;
    let leased = state.rules.iter().any(|r| r.mode == Durability::Async);
    Duration::from_millis(if leased { timing.async_lease_ms } else { timing.guard_deadline_ms })
}

/// Whether a rule of async is active, so that commits are acknowledged by lease.
#[must_use]
pub fn needs_lease(view: &View<'_>) -> bool {
    if on(Mutant::LeaseBySettings) {
        return view.state.settings.durability == Durability::Async;
    }
    view.state.rules.iter().any(|r| r.mode == Durability::Async)
}

/// C-26: whether the store was read since we lead by it. What was read before then
/// may be hours old, and is no lease: the guard would kill a healthy server.
#[must_use]
pub fn has_lease(view: &View<'_>) -> bool {
    view.watch.store_read_at >= view.watch.phase_since.max(view.watch.leased_since)
}

/// Whether an ack set of our newest rule still lets us lead: each member was heard
/// lately, hears us, and has promised no later term. An older one may be over without
/// our knowledge (M3), and with it what its standbys' word is worth.
#[must_use]
pub fn has_grants(view: &View<'_>) -> bool {
    let term = view.term();
    let grants = |m: &&cluster::MemberId| {
        view.fresh(m, view.timing().suspicion_ms).is_some_and(|r| {
            let hears = r.hears.get(&view.me.node).is_some_and(|age| *age < view.timing().suspicion_ms);
            hears && r.vows.promise <= term
        })
    };
    let newest = view.state.own_rules().map(|r| r.sub).max();
    view.phase() != Phase::Revoking
        && view.state.own_rules().any(|r| {
            let counts = Some(r.sub) == newest || on(Mutant::OlderGrants);
            counts && r.rule.is_acked_by(r.rule.standbys().iter().filter(grants))
        })
}
