//! I1 AckDurable: for all acknowledged w and every later opened term u, w is in
//! the log of leader(u) at its opening, and never leaves it.
//!
//! Source: docs/protocol.md, section 5. Looked at when a leader is elected, which
//! shows a loss before anything is built on it, when a term opens, and in the end.
//! In async what was acknowledged by lease may be lost, but not when the leader
//! handed over or said itself where its log ends.
//!
//! What it rests on is looked at besides, so that a mistake shows before chance has
//! made a loss of it: an acknowledgement is backed by the disks that an agreed rule
//! asks for, and whoever is elected has all that replies on their way let an older
//! leader acknowledge (sections 2.2 and 2.3).

use cluster::command::{Change, Trigger};
use cluster::{ActiveRule, ClusterState, MemberId, Reason, Term};

use super::Moment;
use crate::network::At;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    match moment {
        Moment::Acked { at, write } => is_unbacked(world, *at, *write),
        Moment::Agreed { old, command } => match &command.change {
            Change::Elect(b) | Change::BeginAndElect(b) => elected_behind(world, old, &b.leader),
            Change::RuleEnd { .. } if !world.rogue => {
                uncovered(world, world.truth.ctl.leader.as_ref().map(|l| &l.node)?)
            }
            _ => None,
        },
        _ => None,
    }
    .or_else(|| lacks(world, moment))
}

/// An acknowledgement while fewer disks have the record than every agreed rule asks for.
fn is_unbacked(world: &World, at: At, write: u32) -> Option<String> {
    let host = &world.hosts[at];
    let (term, (count, id)) = (host.ghost.leads, world.writes[write as usize].place);
    let has = |m: &&MemberId| {
        let other = world.places.get(&m.node).map(|at| &world.hosts[*at]);
        let wal = other.filter(|h| h.vows.member.as_ref() == Some(*m)).map(|h| &h.server.wal);
        let flushed = wal.filter(|w| w.flushed >= count).and_then(|w| w.records.get(count.wrapping_sub(1)));
        // A disk that was lost since had it.
        flushed.is_some_and(|r| r.id == id) || world.witnessed.wiped.contains(*m)
    };
    let own = |r: &&ActiveRule| r.term == term && r.leader.node == host.name;
    let mut rules = world.truth.rules.iter().filter(own).peekable();
    // Whether a leader of whom no rule is left may acknowledge is law I2's.
    let bound = rules.peek().is_some() && !world.witnessed.is_dead(&host.name, term);
    let backed = rules.any(|r| r.rule.is_acked_by(r.rule.standbys().iter().filter(has)));
    (bound && !backed).then(|| {
        format!(
            "{} acknowledges w{write} in term {term}, which too few of its standbys have on disk",
            host.name
        )
    })
}

/// A rule is over, and what was acknowledged under it fewer have than the one that is kept asks for.
fn uncovered(world: &World, leader: &cluster::NodeId) -> Option<String> {
    let at = *world.places.get(leader)?;
    let term = world.hosts[at].ghost.leads;
    let acked = world.witnessed.acked.iter().copied();
    let own =
        acked.filter(|w| world.writes[*w as usize].on == Some(at) && world.writes[*w as usize].term == term);
    let last = own
        .filter(|w| !world.writes[*w as usize].forfeited)
        .max_by_key(|w| world.writes[*w as usize].place.0)?;
    is_unbacked(world, at, last).map(|_| format!("the rule under which {leader} acknowledged w{last} is over, and too few of the one that is left have it on disk"))
}

/// Somebody is elected without what replies to an older leader let it acknowledge.
fn elected_behind(world: &World, old: &ClusterState, elected: &MemberId) -> Option<String> {
    let wal = &world.hosts[*world.places.get(&elected.node)?].server.wal;
    let rules = old.rules.iter().filter(|r| !r.rule.is_leader_only());
    rules.filter_map(|r| Some((r, releasable(world, r)?))).find_map(|(r, (count, id))| {
        let kept = wal.records.get(count - 1).is_some_and(|x| x.id == id);
        (!kept && !is_given_up(world, r, count, id)).then(|| {
            format!(
                "{elected} is elected without record {count}, which {} of term {} may acknowledge as it has the replies",
                r.leader, r.term
            )
        })
    })
}

/// An operator has declared dead whoever of the rule has it (C-18).
fn is_given_up(world: &World, rule: &ActiveRule, count: usize, id: u32) -> bool {
    let mut named = rule.rule.standbys().iter().chain([&rule.leader]);
    let dead = |m: &MemberId| world.witnessed.is_dead(&m.node, rule.term);
    let has = |m: &MemberId| {
        let host = world.places.get(&m.node).map(|at| &world.hosts[*at]);
        host.is_some_and(|h| h.server.wal.records.get(count - 1).is_some_and(|r| r.id == id))
    };
    named.clone().any(dead) && !named.any(|m| !dead(m) && has(m))
}

/// The last record that replies let the leader of this rule acknowledge: its count, and
/// which it is. What it found in its log it acknowledges to nobody: only its own counts.
fn releasable(world: &World, rule: &ActiveRule) -> Option<(usize, u32)> {
    let own = world.truth.elections.iter().find(|e| e.term == rule.term)?.tli;
    let replies = rule.rule.standbys().iter();
    let replies = replies.filter_map(|m| world.witnessed.replied.get(&(rule.term, m.clone())));
    let mut replies: Vec<_> =
        replies.filter(|(_, r)| r.timeline == own).map(|(count, r)| (*count, r.id)).collect();
    replies.sort_unstable_by(|a, b| b.cmp(a));
    replies.get(rule.rule.acks().checked_sub(1)? as usize).copied()
}

fn lacks(world: &World, moment: &Moment) -> Option<String> {
    let leader = match moment {
        Moment::Agreed { command, .. } => match &command.change {
            Change::Elect(ballot) | Change::BeginAndElect(ballot) => &ballot.leader.node,
            Change::Opened { .. } => &command.by,
            _ => return None,
        },
        Moment::Ended => &world.truth.ctl.leader.as_ref()?.node,
        _ => return None,
    };
    let at = *world.places.get(leader)?;
    let lost = world.witnessed.acked.iter().copied().find(|w| is_lost(world, at, *w))?;
    let w = &world.writes[lost as usize];
    Some(format!(
        "w{lost}, acknowledged by {} in term {}, is not on {leader}, which leads term {}",
        w.on.map_or("?", |on| world.hosts[on].name.as_str()),
        w.term,
        world.truth.ctl.term,
    ))
}

fn is_lost(world: &World, at: At, write: u32) -> bool {
    let w = &world.writes[write as usize];
    let (count, id) = w.place;
    let kept = world.hosts[at].server.wal.records.get(count.wrapping_sub(1)).is_some_and(|r| r.id == id);
    let given_up = w.forfeited || (w.leased && may_lose(world, w.term));
    !kept && !given_up
}

/// Async: only a term that began because the leader was missed, or an operator
/// asked, may begin without what that leader alone had.
fn may_lose(world: &World, acked_in: Term) -> bool {
    let began = world.truth.history.iter().rev().filter(|e| e.term > acked_in);
    let mut triggers = began.filter_map(|e| match &e.reason {
        Reason::TermBegan { trigger, .. } => Some(trigger),
        _ => None,
    });
    triggers.any(|t| !matches!(t, Trigger::HandedOver { .. }))
}
