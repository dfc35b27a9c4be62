//! A leader that sees the store and the other agents, while its standbys can't reach its
//! PostgreSQL (protocol (c)): nobody misses it, and no commit is acknowledged. Where they
//! are well and could do without it, it ends its server and resigns, as after a crash.

use core::time::Duration;

use cluster::command::Member;
use cluster::mutant::{Mutant, on};
use cluster::report::{Report, ServerState};
use cluster::state::Phase;
use cluster::{Durability, MemberId, Term};

use crate::rules::can_be_satisfied;
use crate::view::View;

/// Each term in a row that could not open doubles the patience of its leader, so often
/// at most: where nobody reaches anybody, terms change seldom.
pub const DOUBLINGS_MAX: u32 = 5;

/// Whether our standbys have been without our server for longer than the others' patience
/// (P), and one of them should lead instead. Only for a leader whose server is primary.
#[must_use]
pub fn is_severed(view: &View<'_>) -> bool {
    let doublings = if on(Mutant::SeveredImpatient) { 0 } else { unopened(view).min(DOUBLINGS_MAX) };
    let limit = view.patience() * 2u32.pow(doublings);
    view.now.since(view.watch.phase_since) >= limit && should_hand_over(view, view.patience())
}

/// How long a leader whose rule leads nowhere waits (C-14): longer after each term, but
/// its own, that could not open.
#[must_use]
pub(crate) fn nowhere_limit(view: &View<'_>) -> Duration {
    view.term_limit() * 2u32.pow(unopened(view).saturating_sub(1).min(DOUBLINGS_MAX))
}

/// Terms in a row, up to the present one, that have not opened.
fn unopened(view: &View<'_>) -> u32 {
    let all = view.state.elections.iter().rev();
    u32::try_from(all.take_while(|e| e.opened.is_none()).count()).unwrap_or(u32::MAX)
}

/// Whether we have resigned for that reason, and nobody has been elected since.
#[must_use]
pub fn yields(view: &View<'_>) -> bool {
    let resigned = view.me.vows.resigned;
    let ours = view.state.ctl.leader.is_some() && view.state.ctl.leader == view.my_id();
    view.phase() == Phase::Revoking && ours && resigned > Term(0) && view.watch.severed == resigned
}

/// The same for those who have been without it for `limit`.
pub(crate) fn should_hand_over(view: &View<'_>, limit: Duration) -> bool {
    let primary = view.server().is_some_and(|s| s.state == ServerState::Primary);
    let waits = !view.state.own_rules().any(|r| can_be_satisfied(view, &r.rule));
    let paused = view.state.ctl.paused && !on(Mutant::SeveredPaused);
    let stays = paused || view.phase() == Phase::Revoking || on(Mutant::SeveredForever);
    if !view.i_lead() || !primary || !waits || stays {
        return false;
    }
    let others = || view.wal_voters().filter(|(id, m)| id.node != view.me.node && !m.reinit);
    let cut_off = |id: &MemberId| view.fresh(id, view.timing().suspicion_ms).is_some_and(|r| lacks(r, limit));
    let unheard =
        |id: &MemberId| view.fresh(id, view.timing().suspicion_ms).is_none() && others_hear(view, id);
    let may_lead = |m: &Member| m.is_data_voter() && !m.tags.no_failover;
    let near = others().any(|(id, m)| may_lead(m) && cut_off(&id));
    let far = || others().filter(|(id, _)| unheard(id));
    // Those whom we don't hear must be able to do it without our log.
    let far_ids: alloc::vec::Vec<MemberId> = far().map(|(id, _)| id).collect();
    let far_elect =
        far().any(|(_, m)| may_lead(m)) && view.state.rules.iter().all(|r| r.rule.is_blocked_by(&far_ids));
    let copies = others().filter(|(id, _)| cut_off(id) || unheard(id)).count();
    // Where there is no third copy, durability quorum waits for ours, which may reach them.
    let alone = near && view.state.settings.durability == Durability::Quorum;
    (near || far_elect) && (copies > 1 || alone)
}

/// Whether whoever says this is a standby that runs without a sign of our server.
fn lacks(report: &Report, limit: Duration) -> bool {
    let standby = report.server.as_ref().is_some_and(|s| s.state == ServerState::Standby);
    let silent = report.leader_server_silent_ms.is_some_and(|ms| u128::from(ms) >= limit.as_millis());
    standby && silent && !report.wants_out
}

/// Whether another agent, which we hear, hears this member.
fn others_hear(view: &View<'_>, member: &MemberId) -> bool {
    view.peers.iter().any(|(node, heard)| {
        let recent = view.now.since(heard.at) < view.suspicion();
        let seated = view.state.members.get(node).is_some_and(Member::has_seat);
        let age = heard.report.hears.get(&member.node);
        seated && recent && age.is_some_and(|ms| *ms < view.timing().suspicion_ms)
    })
}
