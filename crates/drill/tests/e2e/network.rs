//! Links that are cut silently, in network namespaces.

use drill::fault;
use drill::layout::PlannedNode;

use crate::story::{PATIENCE, Story, may_be_root, sql_beside, told};

async fn isolated(name: &str) -> Story {
    Story::begin_with(name, |options| options.isolate = true).await
}

/// Tries one write as somebody who is cut off together with a server; whether
/// it was acknowledged.
fn write_beside(story: &Story, node: &PlannedNode) -> bool {
    let insert = "INSERT INTO ledger VALUES (99, extract(epoch FROM clock_timestamp()) * 1000000)";
    sql_beside(story, node, insert).is_ok()
}

#[test]
fn a_leader_whose_link_is_cut_acknowledges_nothing_and_comes_back_as_a_standby() {
    if !may_be_root("a leader whose link is cut") {
        return;
    }
    told(async {
        let story = isolated("cut").await;
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(write_beside(&story, &leader), "a write beside the leader");
        fault::cut(&story.stage, &leader).unwrap();
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        assert!(!write_beside(&story, &leader), "the old leader acknowledged beside the new one");
        story.writes_flow().await;
        fault::heal(&story.stage, &leader).unwrap();
        let status = story.stage.wait_whole(PATIENCE).await.unwrap();
        assert_ne!(status.leader.as_deref(), Some(leader.name.as_str()));
        story.end().await;
    });
}

#[test]
fn a_standby_whose_link_is_cut_leaves_the_rule_and_comes_back_into_it() {
    if !may_be_root("a standby whose link is cut") {
        return;
    }
    told(async {
        let story = isolated("cut-standby").await;
        let (standby, term) = (story.standby().await, story.term().await);
        fault::cut(&story.stage, &standby).unwrap();
        let out = |s: &api::Status| !s.sync.names.contains(&standby.name.to_string());
        story.wait_until("it to leave the rule", out).await;
        story.writes_flow().await;
        fault::heal(&story.stage, &standby).unwrap();
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_leader_whose_port_no_standby_reaches_hands_over() {
    if !may_be_root("a leader whose port is closed") {
        return;
    }
    told(async {
        let story = isolated("port").await;
        let (leader, term) = (story.leader().await, story.term().await);
        let data = story.stage.plan.data_nodes();
        let others: Vec<PlannedNode> = data.filter(|n| n.name != leader.name).cloned().collect();
        let closed = fault::link::close_port(&story.stage, &leader, &others).unwrap();
        let after = story.wait_until("the next term", |s| s.term > term && s.writable).await;
        assert_ne!(after.leader.as_deref(), Some(leader.name.as_str()), "elected again");
        story.writes_flow().await;
        // As a standby it needs nobody to reach its port.
        story.whole().await;
        drop(closed);
        assert_eq!(story.term().await, after.term, "a term began");
        story.end().await;
    });
}
