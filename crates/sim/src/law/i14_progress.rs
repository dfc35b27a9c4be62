//! I14 Progress: with all faults over the cluster opens, and there is no endless
//! election on the way there.
//!
//! Source: docs/protocol.md, section 5 and C-14. That it opens, takes writes and
//! has everybody back within a bound is what the end of every storm expects; here
//! it must not need more terms than this. And what is not needed must not be: no term
//! begins by itself while that is paused, none because a leader is missed of whom
//! another agent has just said that it hears it, and no standby is dropped on its
//! leader's word alone, nobody who stood still himself suspects anybody for as long
//! (C-13, C-23, C-24).

use std::collections::BTreeSet;

use cluster::command::{Change, Member, Trigger};
use cluster::{ClusterState, Command, Durability, MemberId, NodeId};

use super::Moment;
use crate::clock::{Us, ms};
use crate::world::World;

/// Most terms that may begin between the end of all faults and rest.
pub const TERMS_TO_HEAL_MAX: u64 = 8;

/// By then a leader that reaches the store knows of a pause.
const NEWS: Us = ms(5000);

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    match moment {
        Moment::Agreed { old, command } if !world.rogue => needless(world, old, command),
        Moment::Spoke { at, misses: true } => {
            let host = &world.hosts[*at];
            let late = host.clock.local(world.now) < host.ghost.late_until;
            late.then(|| format!("{} misses its leader, and has itself stood still", host.name))
        }
        Moment::Ended => endless(world),
        _ => None,
    }
}

fn endless(world: &World) -> Option<String> {
    let begun = world.truth.ctl.term.0.saturating_sub(world.witnessed.terms_at_heal?);
    (begun > TERMS_TO_HEAL_MAX).then(|| format!("{begun} terms began after all faults were over"))
}

fn needless(world: &World, old: &ClusterState, command: &Command) -> Option<String> {
    match &command.change {
        Change::BeginTerm { trigger: Trigger::Missed { by, .. }, term } => {
            if old.ctl.paused {
                return Some(format!("term {term} began by itself while that was paused"));
            }
            heard(world, old, &command.by, by)
                .map(|n| format!("term {term} began, and {n} had just said that it hears the leader"))
        }
        Change::RuleBegin { rule, agreed_by, .. } => {
            let from = &old.newest_rule()?.rule;
            let over = |m: &MemberId| old.member(m).is_none_or(|m| m.reinit || !Member::is_data_voter(m));
            let mut dropped = from.standbys().difference(rule.standbys()).filter(|m| !over(m));
            let another = agreed_by.iter().any(|n| *n != command.by);
            let quorum = old.settings.durability != Durability::Async;
            let first = dropped.next().filter(|_| quorum)?;
            // A leader may not have heard of it yet.
            let asked = world.places.get(&command.by).map_or(0, |at| world.hosts[*at].ghost.rule_asked);
            let known = world.witnessed.paused_at.is_some_and(|at| asked > at + NEWS);
            if old.ctl.paused && known {
                return Some(format!("{first} is dropped while that is paused"));
            }
            (!another).then(|| format!("{first} is dropped on nobody's word but its leader's"))
        }
        _ => None,
    }
}

/// Somebody who said to `proposer`, since that began to miss the leader, that it hears it.
fn heard(world: &World, old: &ClusterState, proposer: &NodeId, by: &BTreeSet<NodeId>) -> Option<NodeId> {
    let leader = &old.ctl.leader.as_ref()?.node;
    let host = &world.hosts[*world.places.get(proposer)?];
    let now = host.clock.local(world.now);
    let view = host.agent.controller.view(now, 0);
    let suspicion_ms = old.settings.timing.suspicion_ms;
    let says = |node: &NodeId, heard: &failover::view::Heard| {
        let seat = old.members.get(node).is_some_and(Member::has_seat);
        let asked = !host.ghost.asked.is_empty();
        let before = host.ghost.asked.iter().all(|(since, until)| heard.at >= *since && heard.at < *until);
        let hears = heard.report.hears.get(leader).is_some_and(|age| *age < suspicion_ms);
        let misses = heard.report.misses.is_some_and(|m| m.term == old.ctl.term);
        seat && asked && before && hears && !misses && node != leader && !by.contains(node)
    };
    view.peers.iter().find(|(n, h)| says(n, h)).map(|(n, _)| n.clone())
}
