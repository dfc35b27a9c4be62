//! Two data nodes and a witness that keeps WAL: every promise of three nodes, in `quorum`.

use drill::fault;
use drill::layout::{Options, PlannedNode};

use crate::story::{Story, may_be_root, told};

async fn begin(name: &str, ask: impl FnOnce(&mut Options)) -> Story {
    let story = Story::begin_with(name, |options| {
        (options.nodes, options.wal_witness) = (Some(2), true);
        ask(options);
    });
    story.await
}

fn witness(story: &Story) -> PlannedNode {
    story.stage.plan.node("w1").unwrap().clone()
}

/// Commits wait for the witness alone, which is told as degraded.
fn by_the_witness_alone(status: &api::Status) -> bool {
    status.sync.names == ["w1"] && status.sync.acks == 1 && status.degraded
}

#[test]
fn writes_go_on_by_a_wal_witness_when_the_standby_dies_and_after_a_failover() {
    told(async {
        let story = begin("wal-witness", |_| {}).await;
        let (leader, standby) = (story.leader().await, story.standby().await);
        let term = story.term().await;
        fault::kill_node(&story.stage, &standby);
        story.writes_flow().await;
        story.wait_until("the witness alone", by_the_witness_alone).await;
        story.writes_flow().await;
        assert_eq!(story.term().await, term, "a term began");
        story.stage.start(&standby).unwrap();
        story.whole().await;
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        story.wait_until("the witness alone", by_the_witness_alone).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn a_standby_that_is_behind_gets_the_rest_from_the_wal_witness_and_leads() {
    if !may_be_root("a standby that is behind a WAL witness") {
        return;
    }
    told(async {
        let story = begin("wal-ahead", |o| o.isolate = true).await;
        let (leader, standby, term) = (story.leader().await, story.standby().await, story.term().await);
        fault::cut(&story.stage, &standby).unwrap();
        // All that is acknowledged from here on is on the leader and the witness only.
        story.wait_until("the witness alone", by_the_witness_alone).await;
        story.writes_flow().await;
        // Over a timeline, too: the leader crashes and is elected again, by the witness's word.
        fault::kill_postmaster(&story.stage, &leader);
        story.next_term(term).await;
        assert_eq!(story.leader().await.name, leader.name);
        let term = story.term().await;
        fault::kill_node(&story.stage, &leader);
        fault::heal(&story.stage, &standby).unwrap();
        story.next_term(term).await;
        assert_eq!(story.leader().await.name, standby.name);
        let log = std::fs::read_to_string(story.stage.plan.node_dir(&standby).join("tanist.log")).unwrap();
        let fetched = log.lines().any(|l| l.contains("FastForward") && l.contains("done"));
        assert!(fetched, "it led without having fetched anything");
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn a_wal_witness_that_lost_its_wal_is_let_out_of_the_rule_and_comes_back_into_it() {
    told(async {
        let story = begin("wal-lost", |_| {}).await;
        let (witness, term) = (witness(&story), story.term().await);
        fault::kill_node(&story.stage, &witness);
        story.writes_flow().await;
        std::fs::remove_dir_all(story.stage.plan.node_dir(&witness).join("wal")).unwrap();
        story.stage.start(&witness).unwrap();
        // C-10: first out of the rule, for what it had acknowledged is nowhere but on the others.
        story.wait_until("it to leave the rule", |s| s.sync.names.iter().all(|n| n != "w1")).await;
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        let leader = story.leader().await;
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}
