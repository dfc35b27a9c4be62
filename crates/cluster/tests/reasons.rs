//! What the history says is true: who is named, and what is said to have happened.

mod common;

use cluster::command::{Ballot, Change, Evidence, MemberState};
use cluster::{ClusterState, Durability, NodeId, Reason, Term, Timeline};
use common::*;

/// Whom the newest election names.
fn heard(s: &ClusterState) -> Vec<NodeId> {
    let named = s.history.iter().rev().find_map(|e| match &e.reason {
        Reason::Elected { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    named.expect("there was an election")
}

/// What an agent that is silent since it resigned term 1 left behind: no promise to term 2.
fn resigned_and_silent() -> Evidence {
    Evidence { resigned: Term(1), ..says("n1", 0, 250) }
}

#[test]
fn an_election_names_those_whose_word_counted() {
    let s = three();
    let s = must(&s, "n2", begin(&s, resigned("n1", 1)));
    let check = |evidence: Vec<Evidence>, names: &[&str]| {
        let s = must(&s, "n2", elect(&s, "n2", evidence, rule(&["n3"], 1)));
        assert_eq!(heard(&s), names.iter().map(|n| node(n)).collect::<Vec<_>>());
    };
    // n1 died after it resigned, and the two know all there is.
    check(vec![says("n2", 2, 300), resigned_and_silent(), says("n3", 2, 300)], &["n2", "n3"]);
    // n3 is dead, too: only that n1 resigned shows that nothing more is acknowledged.
    let stale = says("n3", 1, 300);
    check(vec![says("n2", 2, 300), resigned_and_silent(), stale], &["n2", "n1"]);
    // n1 answered this term, so it is alive.
    let alive = Evidence { resigned: Term(1), ..says("n1", 2, 250) };
    check(vec![says("n2", 2, 300), says("n3", 2, 300), alive], &["n2", "n3", "n1"]);
}

#[test]
fn a_planned_change_names_who_handed_over() {
    // n2 alone would satisfy C-3; what it was asked on is n1's word.
    let s = cluster(&["n1", "n2"], Durability::Quorum);
    let s = must(&s, "n1", Change::Switchover { to: Some(node("n2")), at_ms: None });
    let ballot = Ballot {
        term: Term(2),
        leader: member("n2"),
        evidence: vec![says("n2", 2, 300), Evidence { resigned: Term(1), ..says("n1", 0, 300) }],
        rule: rule(&["n1"], 1),
        parent_tli: Timeline(2),
        tli: Timeline(s.tli_next),
    };
    let s = must(&s, "n2", Change::BeginAndElect(ballot));
    assert_eq!(heard(&s), vec![node("n2"), node("n1")]);
}

/// A fence resigns as a crash does: the guard's deadline, a user's `pg_promote()`, a hang.
#[test]
fn a_resignation_says_no_more_than_is_known() {
    let s = three();
    let s = must(&s, "n1", begin(&s, resigned("n1", 1)));
    let said = s.history.back().expect("it is noted").reason.to_string();
    assert_eq!(said, "n1 is to lead no longer: the server of n1 has ended and its agent resigned");
}

/// The same standing stands for a rewind and for a new copy.
#[test]
fn a_member_that_may_be_rewound_is_not_said_to_be_cloned() {
    let s = cluster(&["n1", "n2"], Durability::Async);
    let s = must(&s, "n2", set_state("n2", MemberState::Clone, 1));
    let said = s.history.back().expect("it is noted").reason.to_string();
    assert_eq!(said, "n2 is now being rebuilt");
}
