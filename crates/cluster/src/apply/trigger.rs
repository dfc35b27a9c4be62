//! Whether a term may begin: C-13, O-3, and what an operator may declare dead (C-18).

use alloc::collections::BTreeSet;

use super::election::check_fit;
use crate::command::{Kind, Member, MemberState, Trigger};
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::Durability;
use crate::refused::Refused;
use crate::rule::ActiveRule;
use crate::state::{ClusterState, Phase};

/// C-13, and O-3 for terms that don't open.
pub(super) fn check(s: &ClusterState, trigger: &Trigger) -> Result<(), Refused> {
    let recruits = s.ctl.phase == Phase::Revoking;
    match trigger {
        Trigger::HandedOver { .. } if s.ctl.target.is_none() => Err(Refused::NoSwitchover),
        Trigger::Resigned { .. } | Trigger::HandedOver { .. } if recruits => {
            Err(no_trigger("nobody leads who could resign"))
        }
        Trigger::Resigned { leader, term } | Trigger::HandedOver { leader, term }
            if s.ctl.leader.as_ref() == Some(leader) && *term >= s.ctl.term =>
        {
            Ok(())
        }
        Trigger::Resigned { .. } | Trigger::HandedOver { .. } => {
            Err(no_trigger("whoever resigned does not lead this term"))
        }
        Trigger::Missed { .. } if recruits => Err(no_trigger("nobody leads who could be missed")),
        Trigger::Missed { .. } if s.ctl.paused && !on(Mutant::PauseIgnored) => {
            Err(no_trigger("automatic failover is paused"))
        }
        Trigger::Missed { by, .. } => check_missed(s, by),
        Trigger::Operator { to, accept_loss } => check_operator(s, to.as_ref(), accept_loss),
        Trigger::Stuck { .. } if s.ctl.phase == Phase::Open => Err(no_trigger("the term is open, not stuck")),
        Trigger::Stuck { .. } => Ok(()),
    }
}

fn no_trigger(why: &'static str) -> Refused {
    Refused::NoTrigger(why.into())
}

/// A pre-vote counts only if those who miss the leader could carry an election;
/// else it would cut a working leader off for nothing (C-24).
fn check_missed(s: &ClusterState, by: &BTreeSet<NodeId>) -> Result<(), Refused> {
    let leads = |n: &NodeId| s.ctl.leader.as_ref().is_some_and(|l| l.node == *n);
    let speaks = |n: &&NodeId| s.members.get(*n).is_some_and(Member::has_seat) && !leads(n);
    let ids: BTreeSet<MemberId> = by.iter().filter(speaks).filter_map(|n| s.member_id(n)).collect();
    if !ids.iter().any(|m| s.member(m).is_some_and(|m| m.kind == Kind::Data)) {
        return Err(no_trigger("no data node misses the leader"));
    }
    if s.elections.iter().all(|e| e.opened.is_none()) {
        return Err(no_trigger("nobody else has a copy of the database yet"));
    }
    let could_block = |r: &ActiveRule| {
        if r.mode == Durability::Async && r.rule.is_leader_only() {
            return ids.len() * 2 > s.members.values().filter(|m| m.has_seat()).count();
        }
        r.rule.is_blocked_by(&ids) || ids.contains(&r.leader)
    };
    if s.rules.iter().all(could_block) {
        Ok(())
    } else {
        Err(no_trigger("those who miss the leader are too few to elect another"))
    }
}

fn check_operator(
    s: &ClusterState,
    to: Option<&NodeId>,
    accept_loss: &BTreeSet<NodeId>,
) -> Result<(), Refused> {
    if let Some(node) = to {
        check_fit(s, node, true)?;
        if accept_loss.contains(node) {
            let why = "it is declared dead in the same breath".into();
            return Err(Refused::CandidateUnfit { node: node.clone(), why });
        }
    }
    let known = |n: &&NodeId| s.members.get(*n).is_some_and(Member::has_seat);
    if let Some(unknown) = accept_loss.iter().find(|n| !known(n)) {
        return Err(Refused::NoSuchNode(unknown.clone()));
    }
    // Whoever is declared dead is banned, so somebody who may lead has to be left.
    let banned = |n: &NodeId| accept_loss.contains(n) && bans(s, n);
    let may_lead = |n: &NodeId| check_fit(s, n, true).is_ok() && !banned(n);
    if accept_loss.is_empty() || s.members.keys().any(may_lead) {
        Ok(())
    } else {
        Err(Refused::NoCandidate("all who could lead are declared dead, so everything would be lost".into()))
    }
}

/// The lives of `node` that a rule still speaks of, as a standby or as its leader.
fn lives_in_rules(s: &ClusterState, node: &NodeId) -> BTreeSet<MemberId> {
    s.needed().filter(|m| m.node == *node).cloned().collect()
}

/// Whether declaring `node` dead bans its current life. Say n1's disk was replaced
/// while it led: then n1_1 is what is lost, and n1_2, which is well, is not banned.
fn bans(s: &ClusterState, node: &NodeId) -> bool {
    let lives = lives_in_rules(s, node);
    lives.is_empty() || s.member_id(node).is_some_and(|id| lives.contains(&id))
}

pub(super) fn write_off(s: &mut ClusterState, dead: &BTreeSet<NodeId>) {
    for node in dead {
        let (lives, bans) = (lives_in_rules(s, node), bans(s, node));
        s.ctl.written_off.extend(lives);
        if !bans {
            continue;
        }
        s.ctl.written_off.extend(s.member_id(node));
        if let Some(m) = s.members.get_mut(node) {
            m.state = MemberState::WrittenOff;
        }
    }
}
