//! The term change: `BeginTerm`, `Elect`, `Opened`.

use super::trigger;
use crate::command::{Ballot, Change, Command, Evidence, Kind, MemberState, Trigger};
use crate::lineage::TIMELINE_STRIDE;
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::Durability;
use crate::reason::{Missing, NotShown, Reason};
use crate::recruited::{is_valid, of_unknown_end, recruited, relied_upon};
use crate::refused::Refused;
use crate::rule::{ActiveRule, Rule};
use crate::state::{ClusterState, Election, Opening, Phase};
use crate::term::Term;

pub(super) fn begin(s: &mut ClusterState, c: &Command, term: Term, trigger: &Trigger) -> Result<(), Refused> {
    if term != s.ctl.term.next() {
        return Err(Refused::WrongTerm { asked: term, current: s.ctl.term });
    }
    trigger::check(s, trigger)?;
    let old_leader = s.ctl.leader.as_ref().map(|m| m.node.clone());
    s.ctl.term = term;
    s.ctl.phase = Phase::Revoking;
    s.ctl.coordinator = Some(c.by.clone());
    s.ctl.since_ms = c.at_ms;
    if !on(Mutant::PreferredStays) {
        s.ctl.preferred = None;
    }
    s.ctl.asked = matches!(trigger, Trigger::Operator { .. }) || (s.ctl.asked && on(Mutant::AskedStays));
    if let Trigger::Operator { to, accept_loss } = trigger {
        s.ctl.preferred = to.clone();
        trigger::write_off(s, accept_loss);
    }
    s.note(c, Reason::TermBegan { trigger: trigger.clone(), old_leader });
    Ok(())
}

/// Whether `node` may lead at all. An operator may name one that is tagged.
pub(super) fn check_fit(s: &ClusterState, node: &NodeId, named: bool) -> Result<(), Refused> {
    let unfit = |why: &'static str| Err(Refused::CandidateUnfit { node: node.clone(), why: why.into() });
    let Some(m) = s.members.get(node) else { return Err(Refused::NoSuchNode(node.clone())) };
    if m.kind != Kind::Data {
        return unfit("it is a witness and has no database");
    }
    if m.tags.no_failover && !named {
        return unfit("it is tagged no_failover");
    }
    match &m.state {
        MemberState::Voter if m.leaving => unfit("it is being taken out"),
        MemberState::Voter => Ok(()),
        MemberState::Registered => unfit("it has not joined yet"),
        MemberState::Clone | MemberState::Catchup => unfit("it is not caught up with the leader"),
        MemberState::Removed => unfit("it was taken out of the cluster"),
        MemberState::Quarantined { .. } => unfit("it is quarantined"),
        MemberState::WrittenOff => unfit("it was declared dead"),
    }
}

pub(super) fn begin_and_elect(s: &mut ClusterState, c: &Command, ballot: &Ballot) -> Result<(), Refused> {
    if s.ctl.phase != Phase::Open || s.ctl.target.is_none() {
        return Err(Refused::NoSwitchover);
    }
    let resigned = |e: &&Evidence| s.ctl.leader.as_ref() == Some(&e.member);
    let Some(old) = ballot.evidence.iter().find(resigned) else {
        return Err(Refused::NoTrigger("the leader has not handed over".into()));
    };
    let trigger = Trigger::HandedOver { leader: old.member.clone(), term: old.resigned };
    begin(s, c, ballot.term, &trigger)?;
    elect(s, c, ballot, true)
}

pub(super) fn elect(s: &mut ClusterState, c: &Command, b: &Ballot, planned: bool) -> Result<(), Refused> {
    if b.term != s.ctl.term {
        return Err(Refused::WrongTerm { asked: b.term, current: s.ctl.term });
    }
    if s.ctl.phase != Phase::Revoking {
        return Err(Refused::WrongPhase { term: s.ctl.term, phase: s.ctl.phase });
    }
    if b.tli.0 != s.tli_next {
        return Err(Refused::WrongTimeline { asked: b.tli.0, next: s.tli_next });
    }
    if !planned {
        check_pause(s, &b.leader)?;
    }
    let base = check_candidate(s, b)?;
    check_opening_rule(s, &b.leader, &b.rule)?;
    let rule = b.rule.clone();
    // Who hands over was heard just now; of others only the word that the election rests on.
    let mut evidence = relied_upon(s, b.term, base, &b.evidence);
    let old = s.ctl.leader.as_ref().map(|l| l.node.clone()).filter(|n| planned && !evidence.contains(n));
    evidence.extend(old);
    let unknown_end = of_unknown_end(s, b.term, &b.evidence).filter(|old| *old != b.leader);
    s.elections.push(Election {
        term: b.term,
        leader: b.leader.clone(),
        tli: b.tli,
        parent_tli: b.parent_tli,
        base,
        rule: rule.clone(),
        opened: None,
    });
    if on(Mutant::OldRuleDropped) {
        s.rules.clear();
    }
    push_rule(s, &b.leader, rule.clone());
    s.tli_next = s.tli_next.saturating_add(TIMELINE_STRIDE);
    s.ctl.phase = Phase::Elected;
    s.ctl.leader = Some(b.leader.clone());
    s.ctl.since_ms = c.at_ms;
    let leader = b.leader.node.clone();
    s.note(c, Reason::Elected { leader, position: base, evidence, rule, planned });
    if let Some(old) = unknown_end {
        let time_ms = s.settings.timing.async_lease_ms.saturating_add(s.settings.timing.kill_ms);
        s.note(c, Reason::MayBeLost { leader: old.node, beyond: base.lsn, time_ms });
    }
    Ok(())
}

/// C-13: while paused, only the leader that was may lead again, unless an
/// operator asked for this term.
fn check_pause(s: &ClusterState, candidate: &MemberId) -> Result<(), Refused> {
    let again = s.ctl.leader.as_ref().is_none_or(|l| l == candidate);
    if s.ctl.paused && !s.ctl.asked && !again {
        let why = "automatic failover is paused, and only the leader that was may lead again".into();
        return Err(Refused::CandidateUnfit { node: candidate.node.clone(), why });
    }
    Ok(())
}

/// The candidate is fit, its evidence valid, and it reaches all that is needed.
fn check_candidate(s: &ClusterState, b: &Ballot) -> Result<crate::Position, Refused> {
    let node = &b.leader.node;
    if s.member(&b.leader).is_none() {
        return Err(Refused::StaleIncarnation(b.leader.clone()));
    }
    check_fit(s, node, s.ctl.preferred.as_ref() == Some(node))?;
    let needed = recruited(s, b.term, &b.evidence).map_err(Refused::NotRecruited)?;
    let own = b.evidence.iter().find(|e| e.member == b.leader && is_valid(s, b.term, e));
    let Some(Evidence { position: Some(base), lineage, .. }) = own else {
        let why = "its own position is not known for this term".into();
        return Err(Refused::CandidateUnfit { node: node.clone(), why });
    };
    if lineage.timeline != b.parent_tli {
        return Err(Refused::CandidateUnfit { node: node.clone(), why: "it is on another timeline".into() });
    }
    if *base < needed && !on(Mutant::CandidateBehind) {
        let rule = s.rules.last().map_or_else(Rule::leader_only, |r| r.rule.clone());
        let what = NotShown::Reached;
        return Err(Refused::NotRecruited(Missing { term: needed.term, rule, leader: node.clone(), what }));
    }
    Ok(*base)
}

/// O-4: the new rule names voters, and is the leader alone only where the mode allows it.
fn check_opening_rule(s: &ClusterState, leader: &MemberId, rule: &Rule) -> Result<(), Refused> {
    let bad = |why: &'static str| Err(Refused::BadRule { rule: rule.clone(), why: why.into() });
    if rule.names(leader) {
        return bad("a leader does not acknowledge its own commits");
    }
    if rule.is_leader_only() {
        return if may_be_leader_only(s, leader) || on(Mutant::QuorumAlone) {
            Ok(())
        } else {
            bad("durability 'quorum' never waits for nobody")
        };
    }
    if s.settings.durability == Durability::Async {
        return bad("durability 'async' waits for nobody");
    }
    let usable = |m: &MemberId| s.member(m).is_some_and(|m| m.kind.keeps_wal() && may_acknowledge(&m.state));
    if rule.standbys().iter().all(usable) {
        Ok(())
    } else {
        bad("it names somebody who keeps no WAL, or whose word is not to be believed")
    }
}

/// One that is being made anew may be waited for (O-4), one that is gone may not.
fn may_acknowledge(state: &MemberState) -> bool {
    match state {
        MemberState::Voter | MemberState::Clone | MemberState::Catchup => true,
        MemberState::Registered
        | MemberState::Removed
        | MemberState::Quarantined { .. }
        | MemberState::WrittenOff => false,
    }
}

/// In `quorum` only while it always was, or while there is nobody else.
pub(super) fn may_be_leader_only(s: &ClusterState, leader: &MemberId) -> bool {
    s.settings.durability != Durability::Quorum || s.always_alone() || s.is_alone(&leader.node)
}

/// Adds a rule of the current term with a number that never repeats.
pub(super) fn push_rule(s: &mut ClusterState, leader: &MemberId, rule: Rule) {
    s.sub_next = s.sub_next.saturating_add(1);
    let (term, sub, mode) = (s.ctl.term, s.sub_next, s.settings.durability);
    s.rules.push(ActiveRule { term, leader: leader.clone(), sub, rule, mode });
}

pub(super) fn opened(s: &mut ClusterState, c: &Command) -> Result<(), Refused> {
    let Change::Opened { term, sysid, timeline, switch_lsn, next_xid, sub } = &c.change else {
        return Err(Refused::NothingToDo("not an opening".into()));
    };
    if *term != s.ctl.term {
        return Err(Refused::WrongTerm { asked: *term, current: s.ctl.term });
    }
    if s.ctl.phase != Phase::Elected {
        return Err(Refused::WrongPhase { term: s.ctl.term, phase: s.ctl.phase });
    }
    // Not a later life of the one that was elected: that disk is empty.
    if !s.ctl.leader.as_ref().is_some_and(|l| l.node == c.by && s.member(l).is_some()) {
        return Err(Refused::NotLeader(*term));
    }
    if !s.own_rules().any(|r| r.sub == *sub) {
        return Err(Refused::WrongRule(*sub));
    }
    if s.sysid != 0 && s.sysid != *sysid {
        let why = "its database has another system identifier".into();
        return Err(Refused::CandidateUnfit { node: c.by.clone(), why });
    }
    let Some(e) = s.elections.last_mut().filter(|e| e.term == *term) else {
        return Err(Refused::NotLeader(*term));
    };
    if e.tli != *timeline {
        return Err(Refused::WrongTimeline { asked: timeline.0, next: e.tli.0 });
    }
    if !e.admits_switch(*switch_lsn) {
        let why = "its timeline begins before the position that it was elected on".into();
        return Err(Refused::CandidateUnfit { node: c.by.clone(), why });
    }
    e.opened = Some(Opening { switch_lsn: *switch_lsn, next_xid: *next_xid });
    s.sysid = *sysid;
    open(s, c);
    s.note(c, Reason::Opened { leader: c.by.clone(), timeline: *timeline, switch_lsn: *switch_lsn });
    Ok(())
}

/// Drops only the rules of older terms: dropping more loses commits (I4).
fn open(s: &mut ClusterState, c: &Command) {
    let term = s.ctl.term;
    s.rules.retain(|r| r.term == term);
    s.ctl.phase = Phase::Open;
    s.ctl.target = None;
    s.ctl.preferred = None;
    s.ctl.asked = false;
    s.ctl.written_off.clear();
    s.ctl.since_ms = c.at_ms;
    let leader = s.ctl.leader.clone();
    if let Some(m) = leader.and_then(|l| s.members.get_mut(&l.node)) {
        m.state = MemberState::Voter;
        m.reinit = false;
    }
}
