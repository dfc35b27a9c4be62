//! I1 AckDurable: for all acknowledged w and every later opened term u, w is in
//! the log of leader(u) at its opening, and never leaves it.
//!
//! Source: docs/protocol.md, section 5. Looked at when a leader is elected, which
//! shows a loss before anything is built on it, when a term opens, and in the end.
//! In async what was acknowledged by lease may be lost, but not when the leader
//! handed over or said itself where its log ends.

use cluster::command::{Change, Trigger};
use cluster::{Reason, Term};

use super::Moment;
use crate::network::At;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
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
