//! Changing the commit rule under a sitting leader: M1 and M3 (protocol (i)).

use alloc::collections::BTreeSet;

use super::election::{may_be_leader_only, push_rule};
use crate::command::{Command, Member};
use crate::lsn::Lsn;
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::Durability;
use crate::reason::Reason;
use crate::refused::Refused;
use crate::rule::Rule;
use crate::state::{ClusterState, Phase};
use crate::term::Term;

pub(super) fn begin(
    s: &mut ClusterState,
    c: &Command,
    term: Term,
    from_sub: u64,
    rule: &Rule,
    agreed_by: &BTreeSet<NodeId>,
) -> Result<(), Refused> {
    let leader = check_leads(s, c, term)?;
    if s.own_rules().count() != 1 {
        return Err(bad(rule, "another change of the commit rule is under way"));
    }
    let Some((from, mode)) = s.own_rules().find(|r| r.sub == from_sub).map(|r| (r.rule.clone(), r.mode))
    else {
        return Err(Refused::WrongRule(from_sub));
    };
    // A leader alone also goes from one promise to another: C-3 blocks it by its mode.
    if from == *rule && (mode == s.settings.durability || !rule.is_leader_only()) {
        return Err(Refused::NothingToDo("that rule is in force".into()));
    }
    if !from.is_elementary_to(rule) {
        return Err(bad(
            rule,
            "PostgreSQL can't go there in one step: add or drop at equal k, or change k alone",
        ));
    }
    check_members(s, &leader, &from, rule)?;
    check_agreed(s, &leader, &from, rule, agreed_by)?;
    push_rule(s, &leader, rule.clone());
    s.note(c, Reason::RuleBegan { from, to: rule.clone(), agreed_by: agreed_by.clone() });
    Ok(())
}

fn bad(rule: &Rule, why: &'static str) -> Refused {
    Refused::BadRule { rule: rule.clone(), why: why.into() }
}

fn check_leads(s: &ClusterState, c: &Command, term: Term) -> Result<MemberId, Refused> {
    if term != s.ctl.term {
        return Err(Refused::WrongTerm { asked: term, current: s.ctl.term });
    }
    if s.ctl.phase == Phase::Revoking {
        return Err(Refused::WrongPhase { term, phase: s.ctl.phase });
    }
    match &s.ctl.leader {
        Some(leader) if leader.node == c.by && s.member(leader).is_some() => Ok(leader.clone()),
        Some(_) | None => Err(Refused::NotLeader(term)),
    }
}

/// Those added are voters; nobody is left alone where the mode forbids it.
fn check_members(s: &ClusterState, leader: &MemberId, from: &Rule, rule: &Rule) -> Result<(), Refused> {
    if rule.names(leader) {
        return Err(bad(rule, "a leader does not acknowledge its own commits"));
    }
    if rule.is_leader_only() && from != rule && !may_be_leader_only(s, leader) {
        return Err(bad(rule, "durability 'quorum' never waits for nobody"));
    }
    let voter = |m: &MemberId| s.member(m).is_some_and(Member::is_wal_voter);
    if rule.standbys().difference(from.standbys()).all(voter) {
        Ok(())
    } else {
        Err(bad(rule, "it adds somebody who keeps no WAL or has not caught up"))
    }
}

/// C-13: an isolated leader must not shrink its way out of stepping down, so
/// dropping a member, or waiting for fewer, needs a word from another agent, unless
/// the agreed state itself says that these lives are over or on their way out.
fn check_agreed(
    s: &ClusterState,
    leader: &MemberId,
    from: &Rule,
    rule: &Rule,
    agreed_by: &BTreeSet<NodeId>,
) -> Result<(), Refused> {
    let over = |m: &MemberId| s.member(m).is_none_or(|m| m.reinit || !m.is_wal_voter());
    let left = from.standbys().iter().filter(|m| !over(m)).count();
    let acks_min = from.acks().min(s.settings.acks) as usize;
    if on(Mutant::AloneShrinks) {
        return Ok(());
    }
    let enough = rule.acks() as usize >= acks_min.min(left);
    let mut dropped = from.standbys().difference(rule.standbys());
    let another =
        agreed_by.iter().any(|n| *n != leader.node && s.members.get(n).is_some_and(Member::has_seat));
    if another || s.settings.durability == Durability::Async || (enough && dropped.all(over)) {
        Ok(())
    } else {
        Err(bad(rule, "no other agent agrees that anybody is gone"))
    }
}

pub(super) fn end(
    s: &mut ClusterState,
    c: &Command,
    term: Term,
    keep: u64,
    drop: u64,
    lsn: Lsn,
) -> Result<(), Refused> {
    check_leads(s, c, term)?;
    let own = |sub: u64| s.own_rules().any(|r| r.sub == sub);
    if keep == drop || !own(drop) {
        return Err(Refused::WrongRule(drop));
    }
    let Some(kept) = s.own_rules().find(|r| r.sub == keep).map(|r| r.rule.clone()) else {
        return Err(Refused::WrongRule(keep));
    };
    if keep < drop && !on(Mutant::EndBackwards) {
        return Err(bad(&kept, "a change goes only forward: the newer may be in force already"));
    }
    s.rules.retain(|r| r.sub != drop);
    s.note(c, Reason::RuleInForce { rule: kept, lsn });
    Ok(())
}
