//! Who belongs: claim, add, join, standing, remove.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;

use super::election::push_rule;
use crate::command::{Addresses, Command, Kind, Member, MemberState, Registration};
use crate::lineage::{INITDB_TIMELINE, TIMELINE_STRIDE};
use crate::lsn::{Position, Timeline};
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::Settings;
use crate::reason::Reason;
use crate::refused::Refused;
use crate::rule::{ActiveRule, Rule};
use crate::state::{ClusterState, Election, Phase};
use crate::term::Term;

/// Most members, removed ones included.
pub const MEMBERS_MAX: usize = 64;

fn registered(r: &Registration) -> Member {
    Member {
        incarnation: 0,
        raft_id: 0,
        nonce: 0,
        kind: r.kind,
        addresses: r.addresses.clone(),
        tags: r.tags.clone(),
        state: MemberState::Registered,
        leaving: false,
        reinit: false,
    }
}

/// C-16, O-13: the claim is term 1's election, completed by `Opened`. Term 1
/// opens timeline 2, because every opening is a promotion, the first one too.
pub(super) fn claim(
    s: &mut ClusterState,
    c: &Command,
    cluster: &str,
    settings: &Settings,
    members: &BTreeMap<NodeId, Registration>,
) -> Result<(), Refused> {
    if s.exists() && !on(Mutant::SecondClaim) {
        return Err(Refused::ClusterExists(s.cluster.clone()));
    }
    settings.check().map_err(|why| Refused::BadSettings(why.to_string()))?;
    match members.get(&c.by) {
        None => return Err(Refused::NoSuchNode(c.by.clone())),
        Some(r) if r.kind != Kind::Data => {
            let why = "it is a witness and has no database".into();
            return Err(Refused::CandidateUnfit { node: c.by.clone(), why });
        }
        Some(_) if members.len() > MEMBERS_MAX => {
            return Err(Refused::BadSettings("too many members".to_string()));
        }
        Some(_) => {}
    }
    s.cluster = cluster.to_string();
    s.settings = settings.clone();
    s.members = members.iter().map(|(n, r)| (n.clone(), registered(r))).collect();
    if let Some(m) = s.members.get_mut(&c.by) {
        (m.incarnation, m.raft_id, m.state) = (1, 1, MemberState::Voter);
    }
    (s.raft_id_next, s.tli_next) = (2, INITDB_TIMELINE.0 + 1 + TIMELINE_STRIDE);
    let leader = MemberId::new(c.by.clone(), 1);
    s.ctl.term = Term(1);
    s.ctl.phase = Phase::Elected;
    s.ctl.leader = Some(leader.clone());
    s.ctl.since_ms = c.at_ms;
    s.elections = vec![Election {
        term: Term(1),
        leader: leader.clone(),
        tli: Timeline(INITDB_TIMELINE.0 + 1),
        parent_tli: INITDB_TIMELINE,
        base: Position::default(),
        rule: Rule::leader_only(),
        opened: None,
    }];
    push_rule(s, &leader, Rule::leader_only());
    s.note(c, Reason::Claimed { leader: c.by.clone(), durability: settings.durability });
    Ok(())
}

pub(super) fn add(s: &mut ClusterState, c: &Command, node: &NodeId, r: &Registration) -> Result<(), Refused> {
    let old = s.members.get(node);
    if old.is_some_and(|m| m.state != MemberState::Removed) {
        return Err(Refused::MemberExists(node.clone()));
    }
    if old.is_none() && s.members.len() >= MEMBERS_MAX {
        return Err(Refused::BadSettings("too many members".to_string()));
    }
    let mut member = registered(r);
    member.incarnation = old.map_or(0, |m| m.incarnation);
    s.members.insert(node.clone(), member);
    s.note(c, Reason::MemberAdded(node.clone()));
    Ok(())
}

pub(super) fn remove(s: &mut ClusterState, c: &Command, node: &NodeId) -> Result<(), Refused> {
    if s.ctl.leader.as_ref().is_some_and(|l| l.node == *node) {
        return Err(Refused::LeaderStays(node.clone()));
    }
    let id = s.member_id(node).ok_or_else(|| Refused::NoSuchNode(node.clone()))?;
    // The leader of a rule that no later term has overcome may be needed too:
    // its log can be the only other proof of what was acknowledged.
    let in_rules = s.is_needed(&id);
    if s.members.get(node).is_some_and(|m| m.kind == Kind::Data) && s.is_alone(node) {
        return Err(Refused::NoCandidate(
            "it is the last data node, and nobody could lead without it".into(),
        ));
    }
    let Some(m) = s.members.get_mut(node) else { return Err(Refused::NoSuchNode(node.clone())) };
    if m.state == MemberState::Removed {
        return Err(Refused::NothingToDo("it was taken out before".into()));
    }
    if in_rules && m.leaving {
        return Err(Refused::StillInRule(id));
    }
    if in_rules {
        m.leaving = true;
        s.note(c, Reason::MemberLeaving(node.clone()));
    } else {
        (m.state, m.leaving) = (MemberState::Removed, false);
        s.note(c, Reason::MemberRemoved(node.clone()));
    }
    Ok(())
}

/// A node with an empty store has forgotten its promises, so it is somebody
/// new (C-10, pitfall 118). The same request again gets the same answer.
pub(super) fn join(
    s: &mut ClusterState,
    c: &Command,
    node: &NodeId,
    addresses: &Addresses,
    nonce: u64,
) -> Result<(), Refused> {
    let raft_id = s.raft_id_next;
    let Some(m) = s.members.get_mut(node) else { return Err(Refused::NoSuchNode(node.clone())) };
    if m.state == MemberState::Removed {
        return Err(Refused::NoSuchNode(node.clone()));
    }
    if m.raft_id != 0 && m.nonce == nonce {
        return Err(Refused::NothingToDo("it has joined by that request".into()));
    }
    renew(m);
    (m.raft_id, m.nonce) = (raft_id, nonce);
    if !addresses.peers.is_empty() {
        m.addresses = addresses.clone();
    }
    let incarnation = m.incarnation;
    s.raft_id_next = raft_id.saturating_add(1);
    s.note(c, Reason::MemberJoined(MemberId::new(node.clone(), incarnation)));
    Ok(())
}

/// The next life. A witness that keeps nothing is a voter at once.
fn renew(m: &mut Member) {
    m.incarnation = m.incarnation.saturating_add(u32::from(m.incarnation == 0 || !on(Mutant::RebornTrusted)));
    m.reinit = false;
    m.state = match m.kind {
        Kind::Data | Kind::WalWitness => MemberState::Clone,
        Kind::Witness => MemberState::Voter,
    };
}

pub(super) fn reincarnate(s: &mut ClusterState, c: &Command, member: &MemberId) -> Result<(), Refused> {
    let Some(m) = s.members.get_mut(&member.node) else {
        return Err(Refused::NoSuchNode(member.node.clone()));
    };
    if m.incarnation != member.incarnation {
        return Err(Refused::StaleIncarnation(member.clone()));
    }
    if m.state != MemberState::WrittenOff {
        return Err(Refused::BadMemberState { member: member.clone(), to: "somebody new".into() });
    }
    renew(m);
    let incarnation = m.incarnation;
    s.note(c, Reason::MemberJoined(MemberId::new(member.node.clone(), incarnation)));
    Ok(())
}

pub(super) fn set_state(
    s: &mut ClusterState,
    c: &Command,
    member: &MemberId,
    to: &MemberState,
    attached: Term,
) -> Result<(), Refused> {
    if s.member(member).is_none() {
        return Err(Refused::StaleIncarnation(member.clone()));
    }
    if s.ctl.phase != Phase::Revoking && s.ctl.leader.as_ref() == Some(member) {
        return Err(Refused::LeaderStays(member.node.clone()));
    }
    if matches!(to, MemberState::Clone) && s.is_bound(member, attached) {
        return Err(Refused::StillInRule(member.clone()));
    }
    // Where an older rule still counts, one that it concerns is not believed again
    // before the term has opened; another may be the one that the opening waits for.
    let concerned = |r: &ActiveRule| r.term < s.ctl.term && (r.rule.names(member) || r.leader == *member);
    let early = s.ctl.phase != Phase::Open && s.rules.iter().any(concerned);
    if matches!(to, MemberState::Voter) && (early || s.ctl.phase == Phase::Revoking) {
        return Err(Refused::WrongPhase { term: s.ctl.term, phase: s.ctl.phase });
    }
    let Some(m) = s.members.get_mut(&member.node) else {
        return Err(Refused::NoSuchNode(member.node.clone()));
    };
    // A witness has no copy that could be made anew.
    if !may_become(&m.state, to) || m.kind == Kind::Witness {
        return Err(Refused::BadMemberState { member: member.clone(), to: word(to).into() });
    }
    if matches!(to, MemberState::Catchup) {
        m.reinit = false;
    }
    m.state = to.clone();
    let state = String::from(word(to));
    s.note(c, Reason::MemberNow { member: member.clone(), state });
    Ok(())
}

fn may_become(from: &MemberState, to: &MemberState) -> bool {
    use MemberState as M;
    match to {
        M::Clone => matches!(from, M::Voter | M::Catchup | M::Quarantined { .. }),
        M::Catchup => matches!(from, M::Clone | M::Voter),
        M::Voter => matches!(from, M::Catchup),
        M::Quarantined { .. } => matches!(from, M::Voter | M::Catchup | M::Clone),
        M::Registered | M::Removed | M::WrittenOff => false,
    }
}

fn word(state: &MemberState) -> &'static str {
    match state {
        MemberState::Registered => "registered",
        // By a rewind or by a new copy: which of the two only its agent knows.
        MemberState::Clone => "being rebuilt",
        MemberState::Catchup => "catching up",
        MemberState::Voter => "a voter",
        MemberState::Removed => "removed",
        MemberState::Quarantined { .. } => "quarantined",
        MemberState::WrittenOff => "written off",
    }
}

pub(super) fn reinit(s: &mut ClusterState, c: &Command, node: &NodeId) -> Result<(), Refused> {
    if s.ctl.leader.as_ref().is_some_and(|l| l.node == *node) {
        return Err(Refused::LeaderStays(node.clone()));
    }
    let Some(m) = s.members.get_mut(node) else { return Err(Refused::NoSuchNode(node.clone())) };
    if m.kind == Kind::Witness {
        return Err(Refused::NothingToDo("a witness has no database".into()));
    }
    if m.incarnation == 0 || m.state == MemberState::Removed {
        return Err(Refused::NoSuchNode(node.clone()));
    }
    m.reinit = true;
    s.note(c, Reason::ReinitAsked(node.clone()));
    Ok(())
}
