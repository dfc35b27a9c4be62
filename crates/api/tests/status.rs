//! What `status` says of a member is what its agent does.

use std::collections::BTreeMap;

use api::status;
use cluster::command::{Kind, Member, MemberState};
use cluster::report::{Leading, Progress, Report, ServerReport, ServerState};
use cluster::state::{Control, Phase};
use cluster::{ClusterState, MemberId, NodeId, Term};

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn member(state: MemberState) -> Member {
    Member {
        incarnation: 1,
        raft_id: 2,
        nonce: 1,
        kind: Kind::Data,
        addresses: Default::default(),
        tags: Default::default(),
        state,
        leaving: false,
        reinit: false,
    }
}

fn rebuilt_by(what: &str) -> (String, String) {
    let node = node("n2");
    let mut state = ClusterState::default();
    state.members.insert(node.clone(), member(MemberState::Clone));
    let server = ServerReport { state: ServerState::Down, ..ServerReport::default() };
    let progress = Progress { what: what.to_string(), percent: None, detail: "it runs".to_string() };
    let report = Report {
        server: Some(server),
        progress: Some(progress),
        ..Report::first(MemberId::new(node.clone(), 1))
    };
    let said = status(&state, &BTreeMap::from([(node, (report, 0))]), None);
    (said.members[0].state.clone(), said.members[0].standing.clone())
}

#[test]
fn a_rewind_and_a_clone_are_told_apart() {
    assert_eq!(rebuilt_by("rewind"), ("rewinding".to_string(), "rebuild".to_string()));
    assert_eq!(rebuilt_by("clone"), ("cloning".to_string(), "rebuild".to_string()));
}

/// n1 leads term 3 of three; what the agent of n2, which hears `heard`, says of writes.
fn of_writes(phase: Phase, paused: bool, heard: &[&str]) -> String {
    let leader = Some(MemberId::new(node("n1"), 1));
    let state = ClusterState {
        members: ["n1", "n2", "n3"].map(|n| (node(n), member(MemberState::Voter))).into(),
        ctl: Control { term: Term(3), phase, leader, paused, ..Control::default() },
        ..ClusterState::default()
    };
    let report = |n: &str| {
        let leading = (n == "n1").then(Leading::default);
        Report { leading, ..Report::first(MemberId::new(node(n), 1)) }
    };
    let reports = heard.iter().map(|n| (node(n), (report(n), 0))).collect();
    let all = status(&state, &reports, None).problems;
    let problem = all.into_iter().find(|p| p.code == "TAN0610").expect("nobody takes writes");
    format!("{}. {}", problem.what, problem.advice)
}

#[test]
fn where_no_writes_are_taken_the_advice_is_what_can_be_done() {
    let all = ["n1", "n2", "n3"];
    let cut_off = of_writes(Phase::Open, false, &["n2"]);
    assert!(cut_off.starts_with("whether writes are taken is not known here: n1 leads term 3"), "{cut_off}");
    assert!(cut_off.contains("ask another agent"), "{cut_off}");
    let missing = of_writes(Phase::Revoking, false, &["n1", "n2"]);
    assert!(missing.starts_with("no writes are taken: a leader for term 3 is being chosen"), "{missing}");
    assert!(missing.contains("bring n3 back") && missing.contains("--accept-loss"), "{missing}");
    let there = of_writes(Phase::Elected, false, &all);
    assert!(!there.contains("bring") && there.contains("n1 was elected"), "nobody is away: {there}");
    let closed = of_writes(Phase::Open, true, &all);
    assert!(closed.contains("its server does not take them now"), "{closed}");
    assert!(closed.contains("tanist resume") && !there.contains("tanist resume"), "{closed}");
}
