//! Commands that must be refused whatever is agreed: a rogue sends them beside its own
//! (`rogue 12345`), and whoever begins a cluster is preceded by them. What is taken all
//! the same breaks the storm.

use std::collections::{BTreeMap, BTreeSet};

use cluster::command::{Addresses, Ballot, Change, Kind, Member, MemberState, Registration, Trigger};
use cluster::state::Phase;
use cluster::{ClusterState, Lsn, MemberId, NodeId, Rule, Settings, Term, Timeline};

use crate::law::Broken;
use crate::operator::CROWD;
use crate::rng::Rng;
use crate::world::World;

/// Asks for all of it.
pub(super) fn ask(world: &mut World, rng: &mut Rng) {
    let s = world.truth.clone();
    let names: Vec<NodeId> = s.members.keys().cloned().collect();
    let by = rng.of(&names).clone();
    let mut all = vec![];
    elections(&s, &mut all);
    openings(&s, &mut all);
    triggers(&s, rng.of(&names), &mut all);
    members(&s, &mut all);
    for (who, change) in all {
        refused(world, &who.unwrap_or_else(|| by.clone()), change);
    }
}

/// Before there is a cluster, and before anybody has joined it.
pub(crate) fn before_joining(world: &mut World, claimer: &NodeId) {
    let s = world.truth.clone();
    let other = s.members.keys().find(|n| *n != claimer && s.members[*n].kind == Kind::Data);
    let Some(to) = other.cloned() else { return };
    let trigger = Trigger::Operator { to: Some(to), accept_loss: BTreeSet::new() };
    refused(world, claimer, Change::BeginTerm { term: s.ctl.term.next(), trigger });
    let by = BTreeSet::from([claimer.clone()]);
    let trigger = Trigger::Missed { by, silent_ms: 1 };
    refused(world, claimer, Change::BeginTerm { term: s.ctl.term.next(), trigger });
}

/// All have a seat, and nobody a copy of the database yet.
pub(crate) fn before_opening(world: &mut World, claimer: &NodeId) {
    let s = world.truth.clone();
    let by: BTreeSet<NodeId> = s.members.keys().filter(|n| *n != claimer).cloned().collect();
    if s.elections.iter().all(|e| e.opened.is_none()) {
        let trigger = Trigger::Missed { by, silent_ms: 1 };
        refused(world, claimer, Change::BeginTerm { term: s.ctl.term.next(), trigger });
    }
}

/// Claims that nobody may make.
pub(crate) fn before_the_claim(world: &mut World, claimer: &NodeId) {
    let claim = |settings: Settings, members: BTreeMap<NodeId, Registration>| Change::Claim {
        cluster: "nonsense".into(),
        settings,
        members,
    };
    let one = |kind| BTreeMap::from([(claimer.clone(), Registration { kind, ..Registration::default() })]);
    let crowd = (0..CROWD).filter_map(|i| NodeId::new(&format!("x{i}")).ok());
    let crowd = crowd.chain([claimer.clone()]).map(|n| (n, Registration::default())).collect();
    let bad = Settings { acks: 0, ..Settings::default() };
    for change in [
        claim(bad, one(Kind::Data)),
        claim(Settings::default(), BTreeMap::new()),
        claim(Settings::default(), one(Kind::Witness)),
        claim(Settings::default(), crowd),
    ] {
        refused(world, claimer, change);
    }
}

pub(super) fn refused(world: &mut World, by: &NodeId, change: Change) {
    let text = format!("{change:?}");
    if world.ask(by, change).is_ok() && world.broken.is_none() {
        world.broken = Some(Broken { law: "nonsense", what: format!("{by} was given {text}") });
    }
}

/// Who asks, where it matters, and for what.
type Asked = (Option<NodeId>, Change);

fn nobody() -> NodeId {
    NodeId::new("nobody").expect("a name")
}

fn elections(s: &ClusterState, all: &mut Vec<Asked>) {
    let Some(leader) = s.ctl.leader.clone() else { return };
    let stale = MemberId::new(leader.node.clone(), leader.incarnation + 7);
    let ballot = |leader: MemberId, tli| Ballot {
        term: s.ctl.term,
        leader,
        rule: Rule::leader_only(),
        parent_tli: Timeline(1),
        tli: Timeline(tli),
        evidence: vec![],
    };
    all.push((None, Change::Elect(ballot(stale, s.tli_next))));
    all.push((None, Change::Elect(ballot(leader.clone(), s.tli_next + 1))));
    let may_not = |m: &Member| m.tags.no_failover || m.state == MemberState::WrittenOff;
    for (node, _) in s.members.iter().filter(|(_, m)| may_not(m) && m.kind == Kind::Data) {
        all.extend(s.member_id(node).map(|id| (None, Change::Elect(ballot(id, s.tli_next)))));
    }
    for (node, _) in s.members.iter().filter(|(_, m)| m.leaving) {
        all.push((Some(leader.node.clone()), Change::Aim { to: node.clone() }));
    }
    let next = Ballot { term: s.ctl.term.next(), ..ballot(leader, s.tli_next) };
    all.push((None, Change::BeginAndElect(next)));
}

/// What an elected leader would say, each time with one thing wrong.
fn openings(s: &ClusterState, all: &mut Vec<Asked>) {
    let (Some(leader), Some(e)) = (s.ctl.leader.clone(), s.elections.last()) else { return };
    let own = s.own_rules().last().map_or(0, |r| r.sub);
    let opened = |sysid, timeline, switch_lsn, sub| Change::Opened {
        term: s.ctl.term,
        sysid,
        timeline,
        switch_lsn,
        next_xid: 3,
        sub,
    };
    let other = s.members.keys().find(|n| **n != leader.node).cloned();
    let by = Some(leader.node);
    let end = e.base.lsn;
    all.extend(other.map(|n| (Some(n), opened(s.sysid, e.tli, end, own))));
    all.push((by.clone(), opened(s.sysid, e.tli, end, own + 1000)));
    all.push((by.clone(), opened(s.sysid, Timeline(e.tli.0 + 1), end, own)));
    if s.sysid != 0 {
        all.push((by.clone(), opened(s.sysid + 1, e.tli, end, own)));
    }
    if !e.admits_switch(Lsn::ZERO) {
        all.push((by, opened(s.sysid, e.tli, Lsn::ZERO, own)));
    }
}

fn triggers(s: &ClusterState, node: &NodeId, all: &mut Vec<Asked>) {
    let term = s.ctl.term.next();
    let mut operator = |to: Option<NodeId>, accept_loss: BTreeSet<NodeId>| {
        all.push((None, Change::BeginTerm { term, trigger: Trigger::Operator { to, accept_loss } }));
    };
    operator(Some(nobody()), BTreeSet::new());
    operator(Some(node.clone()), BTreeSet::from([node.clone()]));
    operator(None, BTreeSet::from([nobody()]));
    let seated = s.members.iter().filter(|(_, m)| m.has_seat()).map(|(n, _)| n.clone()).collect();
    operator(None, seated);
    let by = BTreeSet::new();
    all.push((None, Change::BeginTerm { term, trigger: Trigger::Missed { by, silent_ms: 1 } }));
    all.push((
        None,
        Change::BeginTerm {
            term: Term(term.0 + 1),
            trigger: Trigger::Missed { by: [node.clone()].into(), silent_ms: 1 },
        },
    ));
}

fn members(s: &ClusterState, all: &mut Vec<Asked>) {
    let stale = MemberId::new(nobody(), 1);
    let join = |node| Change::Join { node, addresses: Addresses::default(), nonce: 77 };
    let state = MemberState::Catchup;
    let attached = Term(0);
    all.extend([
        (None, Change::Reinit { node: nobody() }),
        (None, Change::RemoveMember { node: nobody() }),
        (None, join(nobody())),
        (None, Change::Reincarnate { member: stale.clone() }),
        (None, Change::SetMemberState { member: stale, state, attached }),
        (None, Change::Switchover { to: Some(nobody()), at_ms: None }),
    ]);
    for (node, m) in &s.members {
        if m.state == MemberState::Removed {
            all.push((None, join(node.clone())));
            all.push((None, Change::Reinit { node: node.clone() }));
        }
        if m.kind == Kind::Witness {
            all.push((None, Change::Reinit { node: node.clone() }));
            all.push((None, Change::Switchover { to: Some(node.clone()), at_ms: None }));
        }
        let leads = s.ctl.leader.as_ref().is_some_and(|l| l.node == *node);
        if matches!(m.state, MemberState::Quarantined { .. }) {
            all.push((None, Change::Switchover { to: Some(node.clone()), at_ms: None }));
        }
        if leads && s.ctl.phase == Phase::Open {
            all.push((None, Change::Switchover { to: Some(node.clone()), at_ms: None }));
        }
    }
    let leads = |n: &NodeId| s.ctl.leader.as_ref().is_some_and(|l| l.node == *n);
    if !s.members.iter().any(|(n, m)| m.is_data_voter() && !leads(n)) {
        all.push((None, Change::Switchover { to: None, at_ms: None }));
    }
    let mut shorter = s.settings.clone();
    shorter.timing.async_wait_ms -= 1;
    let leased = s.rules.iter().any(|r| r.mode == cluster::Durability::Async);
    if leased {
        all.push((None, Change::SetSettings(shorter)));
    }
}
