//! A small cluster made by commands alone, and the evidence to try it with.
#![allow(dead_code)] // each test file uses its part

use cluster::command::{
    Addresses, Ballot, Change, Command, Evidence, Kind, MemberState, Registration, Trigger,
};
use cluster::lineage::Branch;
use cluster::{
    ClusterState, Durability, Lineage, Lsn, MemberId, NodeId, Position, Refused, Rule, Settings, Term,
    Timeline,
};

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("tests name nodes well")
}

pub fn member(name: &str) -> MemberId {
    MemberId::new(node(name), 1)
}

pub fn rule(names: &[&str], acks: u32) -> Rule {
    Rule::new(names.iter().map(|n| member(n)).collect(), acks).expect("tests ask for rules that can be kept")
}

pub fn ask(s: &ClusterState, by: &str, change: Change) -> Result<ClusterState, Refused> {
    s.apply(&Command { at_ms: 0, by: node(by), change })
}

pub fn must(s: &ClusterState, by: &str, change: Change) -> ClusterState {
    ask(s, by, change.clone()).unwrap_or_else(|e| panic!("{change:?}: {e}"))
}

pub fn set_state(name: &str, state: MemberState, attached: u64) -> Change {
    Change::SetMemberState { member: member(name), state, attached: Term(attached) }
}

pub fn claim(names: &[&str], durability: Durability) -> Change {
    let registration = |n: &&str| {
        let kind = match n.as_bytes()[0] {
            b'w' => Kind::Witness,
            b'k' => Kind::WalWitness,
            _ => Kind::Data,
        };
        (node(n), Registration { kind, ..Registration::default() })
    };
    Change::Claim {
        cluster: "c".into(),
        settings: Settings { durability, ..Settings::default() },
        members: names.iter().map(registration).collect(),
    }
}

pub fn opened(term: u64, timeline: u32, switch: u64, sub: u64) -> Change {
    Change::Opened {
        term: Term(term),
        sysid: 7,
        timeline: Timeline(timeline),
        switch_lsn: Lsn(switch),
        next_xid: 700 + term,
        sub,
    }
}

/// n1 leads term 1 on timeline 2, from 100; the other data nodes are voters in the rule.
pub fn cluster(names: &[&str], durability: Durability) -> ClusterState {
    let mut s = must(&ClusterState::default(), "n1", claim(names, durability));
    s = must(&s, "n1", opened(1, 2, 100, 1));
    let others: Vec<&&str> = names.iter().skip(1).collect();
    for (nonce, name) in others.iter().enumerate() {
        let join =
            Change::Join { node: node(name), addresses: Addresses::default(), nonce: nonce as u64 + 1 };
        s = must(&s, name, join);
        if !name.starts_with('w') {
            s = must(&s, name, set_state(name, MemberState::Catchup, 1));
            s = must(&s, name, set_state(name, MemberState::Voter, 1));
        }
    }
    let standbys: Vec<&str> = others.iter().map(|n| **n).filter(|n| !n.starts_with('w')).collect();
    if durability == Durability::Async || standbys.is_empty() {
        return s;
    }
    s = must(&s, "n1", change_rule(1, 1, rule(&standbys, 1), &[]));
    must(&s, "n1", Change::RuleEnd { term: Term(1), keep: 2, drop: 1, lsn: Lsn(200) })
}

pub fn three() -> ClusterState {
    cluster(&["n1", "n2", "n3"], Durability::Quorum)
}

pub fn change_rule(term: u64, from_sub: u64, rule: Rule, agreed_by: &[&str]) -> Change {
    let agreed_by = agreed_by.iter().map(|n| node(n)).collect();
    Change::RuleBegin { term: Term(term), from_sub, rule, agreed_by }
}

pub fn begin(s: &ClusterState, trigger: Trigger) -> Change {
    Change::BeginTerm { term: s.ctl.term.next(), trigger }
}

pub fn missed(by: &[&str]) -> Trigger {
    Trigger::Missed { by: by.iter().map(|n| node(n)).collect(), silent_ms: 600 }
}

pub fn resigned(name: &str, term: u64) -> Trigger {
    Trigger::Resigned { leader: member(name), term: Term(term) }
}

pub fn operator(to: Option<&str>, dead: &[&str]) -> Trigger {
    Trigger::Operator { to: to.map(node), accept_loss: dead.iter().map(|n| node(n)).collect() }
}

/// The past of a server on the timeline of term 1, which left `initdb`'s at 100.
pub fn on_term_1() -> Lineage {
    Lineage { ancestors: vec![Branch { timeline: Timeline(1), end: Lsn(100) }], timeline: Timeline(2) }
}

/// What a member promised to `promise`, with WAL of term 1 up to `lsn`, reports.
pub fn says(name: &str, promise: u64, lsn: u64) -> Evidence {
    Evidence {
        member: member(name),
        promise: Term(promise),
        resigned: Term(0),
        position: Some(Position::new(Term(1), Lsn(lsn))),
        lineage: on_term_1(),
        time_fenced: false,
    }
}

pub fn elect(s: &ClusterState, leader: &str, evidence: Vec<Evidence>, rule: Rule) -> Change {
    let own = evidence.iter().find(|e| e.member == member(leader));
    Change::Elect(Ballot {
        term: s.ctl.term,
        leader: member(leader),
        parent_tli: own.map_or(Timeline(0), |e| e.lineage.timeline),
        tli: Timeline(s.tli_next),
        evidence,
        rule,
    })
}

pub fn code(r: Result<ClusterState, Refused>) -> &'static str {
    r.map_or_else(|e| e.code(), |_| "accepted")
}
