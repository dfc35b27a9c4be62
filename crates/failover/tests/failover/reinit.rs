//! What a `reinit` would come to, as the leader's agent foresees it.

use std::collections::BTreeMap;

use cluster::report::{Leading, Report, StandbyProgress};
use cluster::state::{Control, Phase};
use cluster::{ActiveRule, ClusterState, Durability, Lsn, Rule, Settings, Term, Vows};
use failover::forecast::{self, Remake, Scene, Unwise};

use crate::clarifications::{id, node, voter};

/// n1 leads term 1; commits wait for one of `rule`.
fn state(nodes: &[&str], rule: &[&str], durability: Durability) -> ClusterState {
    let rule = Rule::new(rule.iter().map(|n| id(n)).collect(), 1).expect("one may acknowledge");
    ClusterState {
        members: nodes.iter().map(|n| (node(n), voter())).collect(),
        ctl: Control { term: Term(1), phase: Phase::Open, leader: Some(id("n1")), ..Control::default() },
        rules: vec![ActiveRule { term: Term(1), leader: id("n1"), sub: 1, rule, mode: durability }],
        settings: Settings { durability, ..Settings::default() },
        ..ClusterState::default()
    }
}

/// What `reinit n2` comes to while `streaming` stream from n1.
fn foreseen(state: &ClusterState, streaming: &[&str]) -> Result<Remake, Unwise> {
    let row = |n: &&str| StandbyProgress {
        member: id(n),
        streaming: true,
        sent: Lsn(9),
        write: Lsn(9),
        flush: Lsn(9),
        replay: Lsn(9),
        reply_age_ms: 20,
        replay_lag_ms: 0,
    };
    let standbys = streaming.iter().map(row).collect();
    let leading = Leading { term: Term(1), writable: true, standbys, ..Leading::default() };
    let vows = Vows { attached: Term(1), ..Vows::default() };
    let n1 = Report { leading: Some(leading), ..Report::first(id("n1")) };
    let n2 = Report { vows, ..Report::first(id("n2")) };
    let reports = BTreeMap::from([(node("n1"), (n1, 0)), (node("n2"), (n2, 100))]);
    forecast::reinit(Scene { state, reports: &reports }, &node("n1"), &node("n2"))
}

#[test]
fn a_standby_that_commits_can_not_do_without_is_not_promised_to_leave() {
    let three = state(&["n1", "n2", "n3"], &["n2", "n3"], Durability::Quorum);
    assert_eq!(foreseen(&three, &["n2", "n3"]), Ok(Remake::Leaves));
    let refused = foreseen(&three, &["n2"]).expect_err("n3 is away");
    assert_eq!(refused.code(), "TAN0625");
    assert!(refused.to_string().contains("commits wait for any 1 of n2, n3"), "{refused}");
    assert!(refused.advice().contains("member remove n3"), "{}", refused.advice());
    // Nobody acknowledges: taken out, n3 would still not get out of the rule.
    let refused = foreseen(&three, &[]).expect_err("both are away");
    assert!(!refused.advice().contains("remove") && refused.advice().contains("n3"), "{}", refused.advice());
    // n3 has left the rule already: every write would wait for the copy.
    let shrunk = state(&["n1", "n2", "n3"], &["n2"], Durability::Quorum);
    assert_eq!(foreseen(&shrunk, &["n2"]).map_err(|e| e.code()), Err("TAN0625"));
    assert_eq!(foreseen(&shrunk, &["n2", "n3"]), Ok(Remake::Leaves), "n3 is let in first");
    assert_eq!(foreseen(&shrunk, &[]), Ok(Remake::CommitsWait), "they do already, and this mends it");
}

#[test]
fn what_is_possible_is_said_as_it_is() {
    let two = state(&["n1", "n2"], &["n2"], Durability::Quorum);
    assert_eq!(foreseen(&two, &["n2"]), Ok(Remake::CommitsWait));
    let relaxed = state(&["n1", "n2"], &["n2"], Durability::QuorumRelaxed);
    assert_eq!(foreseen(&relaxed, &["n2"]), Ok(Remake::LeaderAlone));
    let out = state(&["n1", "n2", "n3"], &["n3"], Durability::Quorum);
    assert_eq!(foreseen(&out, &["n3"]), Ok(Remake::Free));
    let mut revoking = two.clone();
    revoking.ctl.phase = Phase::Revoking;
    assert_eq!(foreseen(&revoking, &["n2"]), Ok(Remake::Later));
    // While paused nobody is let into the rule.
    let mut paused = state(&["n1", "n2", "n3"], &["n2"], Durability::Quorum);
    paused.ctl.paused = true;
    let refused = foreseen(&paused, &["n2", "n3"]).expect_err("n3 is not let in");
    assert!(
        refused.code() == "TAN0625" && refused.advice().contains("tanist resume"),
        "{}",
        refused.advice()
    );
    let mut leader = two;
    leader.ctl.leader = Some(id("n2"));
    assert!(matches!(foreseen(&leader, &[]), Err(Unwise::Refused(_))), "a leader stays");
}
