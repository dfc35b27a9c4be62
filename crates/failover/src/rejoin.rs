//! Coming (back) to a leader: follow, rewind, re-clone, in that order, bounded.
//!
//! A member whose WAL has left the leader's history must be rebuilt, and a
//! member that is rebuilt throws a vote away: so it leaves the commit rule
//! first (C-10), unless it never attached under it (O-8). Its promise goes on
//! counting; its position says nothing until it has caught up.

use alloc::string::String;
use core::time::Duration;

use cluster::command::{Change, Kind, Member, MemberState};
use cluster::local::Rebuild;
use cluster::mutant::{Mutant, on};
use cluster::report::{ServerReport, ServerState};
use cluster::state::Phase;
use cluster::{Action, Lineage, MemberId, Term, Time, Timeline};

use crate::decide::Verdict;
use crate::retry::{CLONE_TRIES_MAX, FOLLOW_TRIES_MAX, REWIND_TRIES_MAX};
use crate::view::View;
use crate::waiting::Waiting;

/// Closer than this to the leader's end, and past its switch, is caught up.
pub const CAUGHT_UP_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A server that was told whom to follow and does not stream is told again.
pub const FOLLOW_AGAIN: Duration = Duration::from_secs(3);
/// A standby that does not stream from a leader whose server is up is restarted
/// after so long.
pub const STUCK_LIMIT: Duration = Duration::from_secs(3);
/// A standby that runs and does not stream from an open leader for so long
/// (its WAL is gone there, say) is rebuilt.
pub const FOLLOW_LIMIT: Duration = Duration::from_secs(45);

/// What a member that does not lead has to do about its server.
#[must_use]
pub fn rejoin(view: &View<'_>) -> Verdict {
    let (Some(leader), Some(me), Some(record)) = (view.other_leader(), view.my_id(), view.my_member()) else {
        return Verdict::wait(Waiting::Membership);
    };
    let Some(server) = view.server() else { return Verdict::wait(Waiting::FirstProbe) };
    if let MemberState::Quarantined { why } = &record.state
        && !record.reinit
    {
        return stopped(server, Waiting::Operator(why.clone()));
    }
    if let Some(verdict) = foreign(view, &me, record, server) {
        return verdict;
    }
    if let Some(why) = unfit(record, server) {
        return Verdict::wait(Waiting::Operator(why));
    }
    let need = need(view, record, server);
    match need {
        Need::Nothing => standing(view, &me, record, server),
        Need::Follow => follow(view, leader, server),
        Need::Wait(why) => Verdict::wait(why),
        Need::Rewind | Need::Clone => rebuild(view, &me, record, leader, need == Need::Clone),
    }
}

/// Told once, a running server keeps trying by itself; it is told again now and
/// then in case something was lost.
fn follow(view: &View<'_>, leader: &MemberId, server: &ServerReport) -> Verdict {
    let term = view.term();
    let told = view
        .me
        .following
        .as_ref()
        .is_some_and(|(t, l, at)| *t == term && l == leader && view.now.since(*at) < FOLLOW_AGAIN);
    // A restart that is under way has the server down; it is not broken off.
    let restarting = matches!(view.running, Some(Action::Follow { term: t, afresh: true, .. }) if *t == term);
    let afresh = restarting || is_stuck(view, server);
    if told && !afresh && matches!(server.state, ServerState::Standby | ServerState::Starting) {
        return Verdict::default();
    }
    Verdict::act(view, Action::Follow { term, leader: leader.clone(), afresh })
}

/// Told whom to follow, with that leader's server up, and it gets nowhere. One
/// that was reading a record which its old leader never finished asks for the
/// segment in which that would go on, beyond the place where the new timeline
/// begins, for ever; a start reads again from what is whole. Tried once a term.
fn is_stuck(view: &View<'_>, server: &ServerReport) -> bool {
    let long = |since: Option<Time>| since.is_some_and(|t| view.now.since(t) >= STUCK_LIMIT);
    let promoted = long(view.watch.leader_up_since);
    let waits = long(view.me.not_streaming_since);
    let told = view.me.following.as_ref().is_some_and(|(t, ..)| *t == view.term());
    !on(Mutant::TornForever)
        && server.state == ServerState::Standby
        && promoted
        && told
        && waits
        && view.me.restarted < view.term()
}

#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Follow,
    Rewind,
    Clone,
    Wait(Waiting),
}

fn need(view: &View<'_>, record: &Member, server: &ServerReport) -> Need {
    // Before the term is open nobody is let out of its rule, and it may open by us.
    let bound = |me| view.phase() != Phase::Open && view.state.is_bound(&me, view.me.vows.attached);
    let remake = record.reinit && view.me.rebuilt != view.term() && !view.my_id().is_some_and(bound);
    if remake || view.me.vows.rebuilding == Some(Rebuild::Clone) || server.state == ServerState::Empty {
        return Need::Clone;
    }
    if view.me.vows.rebuilding == Some(Rebuild::Rewind) {
        // Begun by an agent that died meanwhile: what it left can't be trusted.
        let ours = view.me.failures.contains_key("rewind") || view.running.is_some();
        return if rewound_enough(view) || !ours { Need::Clone } else { Need::Rewind };
    }
    if server.streaming == Some(view.term()) {
        return Need::Nothing;
    }
    if view.me.vows.promise > view.term() {
        return Need::Wait(Waiting::Opening(view.me.node.clone()));
    }
    if view.me.rebuilt == view.term() && !unable(view) {
        return Need::Follow;
    }
    let Some(lineage) = view.leader_lineage() else {
        return Need::Wait(Waiting::LeaderLineage(view.term()));
    };
    match (diverged(server, &lineage), stranded(view, server) || unable(view)) {
        (true, _) if rewound_enough(view) => Need::Clone,
        (true, _) => Need::Rewind,
        (false, true) => Need::Clone,
        (false, false) => Need::Follow,
    }
}

fn rewound_enough(view: &View<'_>) -> bool {
    view.me.failures.get("rewind").is_some_and(|f| f.of_the_data >= REWIND_TRIES_MAX)
}

/// Our own comparison of histories; `pg_rewind`'s word that none is needed is
/// false on 15 and older (C-11).
fn diverged(server: &ServerReport, leader: &Lineage) -> bool {
    let unknown = server.lineage.timeline == Timeline(0);
    !unknown && !server.lineage.can_follow(server.end, leader)
}

/// It runs, nothing is wrong with its history, and yet it gets no WAL.
fn stranded(view: &View<'_>, server: &ServerReport) -> bool {
    let leads = view.leader_leading().is_some_and(|l| l.writable);
    let waits = view.me.not_streaming_since.is_some_and(|t| view.now.since(t) >= FOLLOW_LIMIT);
    server.state == ServerState::Standby && leads && waits
}

/// It could not be made to follow again and again, with a leader there.
fn unable(view: &View<'_>) -> bool {
    let leads = view.leader_leading().is_some_and(|l| l.writable);
    leads && view.me.failures.get("follow").is_some_and(|f| f.of_the_data >= FOLLOW_TRIES_MAX)
}

/// A database with another system identifier is somebody else's.
fn foreign(view: &View<'_>, me: &MemberId, record: &Member, server: &ServerReport) -> Option<Verdict> {
    let known = view.state.sysid;
    if known == 0 || server.sysid == 0 || server.sysid == known || server.state == ServerState::Empty {
        return None;
    }
    let why = alloc::format!(
        "its data directory belongs to another database (system identifier {}, this cluster's is {known}); \
         move it away, or 'tanist reinit {}' to replace it",
        server.sysid,
        me.node
    );
    if record.reinit {
        return None;
    }
    let state = MemberState::Quarantined { why: why.clone() };
    let change = Change::SetMemberState { member: me.clone(), state, attached: view.me.vows.attached };
    Some(Verdict { command: Some(change), ..stopped(server, Waiting::Operator(why)) })
}

/// It is down and says why it can't be started: nothing is tried and nothing is
/// made anew over it, unless an operator asked for that.
fn unfit(record: &Member, server: &ServerReport) -> Option<String> {
    let unfit = server.unfit && server.state == ServerState::Down && !record.reinit;
    unfit.then(|| server.trouble.clone().unwrap_or_default())
}

fn stopped(server: &ServerReport, why: Waiting) -> Verdict {
    let runs = !matches!(server.state, ServerState::Down | ServerState::Empty);
    Verdict { action: runs.then_some(Action::Stop), waiting: Some(why), ..Verdict::default() }
}

fn rebuild(view: &View<'_>, me: &MemberId, record: &Member, leader: &MemberId, clone: bool) -> Verdict {
    if record.state != MemberState::Clone {
        return leave_first(view, me);
    }
    // A leader whose opening waits for us can only be helped by a copy of it.
    if view.phase() != Phase::Open && !view.leader_is_up() {
        return Verdict::wait(Waiting::Opening(leader.node.clone()));
    }
    // Where our old copy may still be needed it stays until the new one is whole.
    // A witness has no database that could be rewound.
    let clone = clone || record.kind != Kind::Data || view.phase() != Phase::Open || view.state.is_needed(me);
    let (term, leader) = (view.term(), leader.clone());
    // With it come the roles that a copy is made through, and what a rewind reads.
    let checkpointed = view.leader_leading().is_some_and(|l| l.checkpointed);
    if !checkpointed && !on(Mutant::Uncheckpointed) && (view.phase() == Phase::Open || view.term() == Term(1))
    {
        return Verdict::wait(Waiting::LeaderCheckpoint);
    }
    if clone {
        let tries = view.me.failures.get("clone");
        if let Some(f) = tries.filter(|f| f.count >= CLONE_TRIES_MAX) {
            return Verdict::wait(Waiting::Operator(alloc::format!(
                "cloning failed {} times: {}",
                f.count,
                f.why
            )));
        }
        return Verdict::act(view, Action::Clone { term, leader });
    }
    Verdict::act(view, Action::Rewind { term, leader })
}

/// C-10: out of every rule that we may have acknowledged under, then our
/// position counts no longer, and only then the directory may be touched.
fn leave_first(view: &View<'_>, me: &MemberId) -> Verdict {
    let attached = view.me.vows.attached;
    if view.state.is_bound(me, attached) {
        return Verdict { wants_out: true, ..Verdict::wait(Waiting::LeavingRule) };
    }
    let state = MemberState::Clone;
    Verdict::ask(Change::SetMemberState { member: me.clone(), state, attached })
}

/// It streams: let its standing follow.
fn standing(view: &View<'_>, me: &MemberId, record: &Member, server: &ServerReport) -> Verdict {
    let attached = view.me.vows.attached;
    let ask = |state| Verdict::ask(Change::SetMemberState { member: me.clone(), state, attached });
    // (g): before it must drop WAL that somebody may need it stands back. Once out of the
    // rule it may drop that, and is well again.
    if record.kind == Kind::WalWitness && record.state == MemberState::Voter && server.trouble.is_some() {
        return Verdict { wants_out: true, ..Verdict::wait(Waiting::LeavingRule) };
    }
    match record.state {
        MemberState::Clone => ask(MemberState::Catchup),
        MemberState::Catchup if caught_up(view, server) => ask(MemberState::Voter),
        MemberState::Catchup
        | MemberState::Voter
        | MemberState::Registered
        | MemberState::Removed
        | MemberState::Quarantined { .. }
        | MemberState::WrittenOff => Verdict::default(),
    }
}

fn caught_up(view: &View<'_>, server: &ServerReport) -> bool {
    // A leader may have to wait for us before it can open: then the position it
    // was elected on is what its timeline begins at.
    let election = view.state.election().filter(|e| server.lineage.timeline == e.tli);
    let switch = election.map(|e| e.opened.as_ref().map_or(e.base.lsn, |o| o.switch_lsn));
    let end = view.leader_leading().map(|l| l.end);
    // Copied anew while a rule went on naming us, we count again only with all
    // that we ever acknowledged: what the leader had after the copy was made.
    let named = view.my_id().is_some_and(|me| view.state.is_in_rules(&me));
    let leader = view.other_leader().and_then(|l| view.peers.get(&l.node));
    let since = leader.is_some_and(|h| h.at > view.watch.standing_since);
    let lag_bytes_max = if named { 0 } else { CAUGHT_UP_BYTES_MAX };
    switch.zip(end).is_some_and(|(switch, end)| {
        server.replay > switch && end.bytes_past(server.replay) <= lag_bytes_max && (since || !named)
    })
}
