//! Servers that die, hang or hand over: somebody else leads, and nothing is lost.

use cluster::Durability;

use crate::story::{Story, sql_beside, told, wait_until_quiet};
use drill::fault;
use drill::layout::PlannedNode;

#[test]
fn a_switchover_there_and_back_loses_nothing() {
    told(async {
        let story = Story::begin("switchover", 3).await;
        for _ in 0..2 {
            story.hand_over().await;
            story.writes_flow().await;
            story.whole().await;
        }
        story.end().await;
    });
}

#[test]
fn a_killed_postmaster_is_replaced_and_comes_back() {
    told(async {
        let story = Story::begin("postmaster", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(fault::kill_postmaster(&story.stage, &leader));
        story.next_term(term).await;
        story.end().await;
    });
}

#[test]
fn a_lost_node_is_replaced_and_rejoins_when_started() {
    told(async {
        let story = Story::begin("node", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn a_frozen_postmaster_is_as_good_as_dead() {
    told(async {
        let story = Story::begin("frozen", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(fault::freeze_postmaster(&story.stage, &leader));
        story.next_term(term).await;
        story.end().await;
    });
}

#[test]
fn without_standbys_writes_stop_rather_than_lie_and_resume() {
    told(async {
        let story = Story::begin("standbys", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let standbys: Vec<PlannedNode> =
            story.stage.plan.data_nodes().filter(|n| n.name != leader.name).cloned().collect();
        for node in &standbys {
            fault::kill_node(&story.stage, node);
        }
        let load = story.load.as_ref().unwrap();
        let quiet = wait_until_quiet(load).await;
        assert_eq!(load.acknowledged(), quiet, "a write was acknowledged that nobody else has");
        story.stage.start(&standbys[0]).unwrap();
        story.writes_flow().await;
        assert_eq!(story.term().await, term, "a term began");
        story.stage.start(&standbys[1]).unwrap();
        story.end().await;
    });
}

#[test]
fn everything_killed_at_once_serves_again_by_itself() {
    told(async {
        let story = Story::begin("everything", 3).await;
        for node in &story.stage.plan.nodes {
            fault::kill_node(&story.stage, node);
        }
        for node in &story.stage.plan.nodes {
            story.stage.start(node).unwrap();
        }
        story.whole().await;
        story.writes_flow().await;
        story.end().await;
    });
}

#[test]
fn replay_that_is_paused_stops_neither_revocation_nor_the_way_to_the_new_leader() {
    told(async {
        let story = Story::begin("paused-replay", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        for node in story.stage.plan.data_nodes().filter(|n| n.name != leader.name) {
            sql_beside(&story, node, "SELECT pg_wal_replay_pause()").unwrap();
        }
        story.writes_flow().await;
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn async_loses_no_acknowledged_write_when_only_the_postmaster_dies() {
    told(async {
        let story = Story::begin_with("async", |o| o.durability = Some(Durability::Async)).await;
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(fault::kill_postmaster(&story.stage, &leader));
        story.next_term(term).await;
        story.end().await;
    });
}
