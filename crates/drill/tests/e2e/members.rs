//! Members that come, go, and are made anew.

use std::process::Command;

use crate::story::{Story, may_be_root, sql_beside, told, wait_until};
use drill::fault;
use drill::layout::PlannedNode;

#[test]
fn reinit_makes_a_copy_anew_while_writes_flow() {
    told(async {
        let story = Story::begin("reinit", 3).await;
        let standby = story.standby().await;
        story.reinit(&standby).await;
        story.wait_until("it to leave the rule", |s| !s.sync.names.contains(&standby.name.to_string())).await;
        story.writes_flow().await;
        story.end().await;
    });
}

#[test]
fn two_nodes_and_a_witness_shrink_by_a_stored_command_and_grow_again() {
    told(async {
        let story = Story::begin("witness", 2).await;
        let leader = story.leader().await;
        let standby = story.standby().await;
        fault::kill_node(&story.stage, &standby);
        story.wait_until("the leader alone", |s| s.degraded && s.sync.acks == 0).await;
        story.writes_flow().await;
        story.stage.start(&standby).unwrap();
        story.whole().await;
        let term = story.term().await;
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn a_standby_killed_in_the_middle_of_its_clone_is_cloned_again() {
    told(async {
        let story = Story::begin("mid-clone", 3).await;
        let (standby, term) = (story.standby().await, story.term().await);
        let being_made = story.stage.plan.node_dir(&standby).join("pgdata.new");
        for _ in 0..2 {
            story.reinit(&standby).await;
            wait_until(|| being_made.exists(), "a copy to begin").await;
            fault::kill_node(&story.stage, &standby);
            story.writes_flow().await;
            story.stage.start(&standby).unwrap();
            story.whole().await;
        }
        assert!(!being_made.exists(), "a copy was left half made");
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_leader_that_dies_while_another_is_rewound_to_it_is_replaced_and_all_come_back() {
    if !may_be_root("a leader that dies while another is rewound") {
        return;
    }
    told(async {
        let story = Story::begin_with("mid-rewind", |o| o.isolate = true).await;
        let (old, term) = (story.leader().await, story.term().await);
        fault::cut(&story.stage, &old).unwrap();
        // Log that nobody else has: never acknowledged, and to be undone.
        let _ = sql_beside(&story, &old, "INSERT INTO ledger VALUES (98, 1)");
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        let leader = story.leader().await;
        fault::heal(&story.stage, &old).unwrap();
        let lost = story.stage.plan.node_dir(&old).join("lost");
        wait_until(|| lost.exists(), "a rewind to begin").await;
        let term = story.term().await;
        fault::kill_node(&story.stage, &leader);
        story.wait_until("the term after", |s| s.term > term).await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

/// What a person types, at the agents of the story's cluster.
fn tanist(story: &Story, api: &str, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(&story.stage.plan.binary);
    command.arg("--api").arg(api).arg("--token-file").arg(story.stage.plan.token_file()).args(args);
    let out = command.output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn take_out(story: &Story, api: &str, name: &str) {
    let (done, said) = tanist(story, api, &["member", "remove", name]);
    assert!(done, "{said}");
    story.wait_until("it to be out", |s| s.members.iter().all(|m| m.name != name)).await;
}

fn let_in(story: &Story, api: &str, node: &PlannedNode) {
    let address = format!("{}:{}", node.address, node.peers);
    let (done, said) = tanist(story, api, &["member", "add", node.name.as_str(), &address]);
    assert!(done, "{said}");
}

#[test]
fn a_member_taken_out_serves_nothing_and_is_let_in_again_by_one_command() {
    told(async {
        let story = Story::begin("out-and-in", 3).await;
        let (leader, standby, term) = (story.leader().await, story.standby().await, story.term().await);
        let api = format!("http://{}:{}", leader.address, leader.api);
        let name = standby.name.as_str();
        take_out(&story, &api, name).await;
        wait_until(|| story.stage.pids(&standby).postmaster.is_none(), "its server to be gone").await;
        story.writes_flow().await;
        let (done, said) = tanist(&story, &api, &["member", "add", name, "nowhere"]);
        assert!(!done && said.contains("TAN0620"), "{said}");
        let_in(&story, &api, &standby);
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

/// The last of two to go is needed to agree that it goes.
#[test]
fn two_nodes_become_one_and_two_again() {
    told(async {
        let story = Story::begin("one-and-two", 2).await;
        let (leader, standby, term) = (story.leader().await, story.standby().await, story.term().await);
        let api = format!("http://{}:{}", leader.address, leader.api);
        for name in ["w1", standby.name.as_str()] {
            take_out(&story, &api, name).await;
        }
        story.writes_flow().await;
        let gone = story.stage.plan.node_dir(&standby).join("store.gone");
        wait_until(|| gone.exists(), "it to give its store up").await;
        let_in(&story, &api, &standby);
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_member_taken_out_while_it_was_away_learns_it_from_the_others() {
    told(async {
        let story = Story::begin("out-while-away", 3).await;
        let (leader, standby) = (story.leader().await, story.standby().await);
        let api = format!("http://{}:{}", leader.address, leader.api);
        let name = standby.name.as_str();
        fault::kill_node(&story.stage, &standby);
        story.wait_until("it to leave the rule", |s| !s.sync.names.iter().any(|n| n == name)).await;
        take_out(&story, &api, name).await;
        story.stage.start(&standby).unwrap();
        let gone = story.stage.plan.node_dir(&standby).join("store.gone");
        wait_until(|| gone.exists(), "it to learn that its seat is gone").await;
        let_in(&story, &api, &standby);
        story.end().await;
    });
}
