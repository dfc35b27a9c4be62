//! What the guard refuses, what a drill may ask of it, and what people are told
//! when a server can't be started.

use std::net::TcpListener;
use std::process::Command;

use api::Client;
use api::verbs::{Done, Fault, FaultBody};
use cluster::Durability;
use drill::fault::process::{self, Target};
use drill::layout::PlannedNode;

use crate::story::{Story, told, wait_until};

/// Asks one node's agent for a fault.
async fn ask(story: &Story, node: &PlannedNode, fault: Fault, ms: u64) -> Result<Done, String> {
    let urls = vec![format!("http://{}:{}", node.address, node.api)];
    let client = Client { urls, ..story.stage.client() };
    client.send("POST", "/v1/drill/fault", &FaultBody { fault, ms }).await.map_err(|e| e.to_string())
}

async fn has_trouble(story: &Story, node: &PlannedNode, code: &str) {
    let name = node.name.to_string();
    let told = |m: &api::status::MemberStatus| m.trouble.as_ref().is_some_and(|t| t.contains(code));
    story.wait_until(code, |s| s.members.iter().any(|m| m.name == name && told(m))).await;
}

#[test]
fn a_second_run_on_a_node_is_refused_and_the_first_one_serves_on() {
    told(async {
        let story = Story::begin("twice", 1).await;
        let leader = story.leader().await;
        let before = story.stage.pids(&leader);
        let config = story.stage.plan.node_dir(&leader).join("tanist.toml");
        let again =
            Command::new(&story.stage.plan.binary).arg("run").arg("--config").arg(config).output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(!again.status.success() && said.contains("TAN0502"), "{said}");
        assert!(said.contains(&before.guard.unwrap().to_string()), "{said}");
        story.writes_flow().await;
        assert_eq!(story.stage.pids(&leader), before);
        story.end().await;
    });
}

#[test]
fn a_fault_is_made_on_request_and_refused_where_drills_are_not_allowed() {
    told(async {
        let story = Story::begin("request", 3).await;
        let (leader, standby, term) = (story.leader().await, story.standby().await, story.term().await);
        ask(&story, &leader, Fault::KillPostmaster, 0).await.unwrap();
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        story.whole().await;
        let stranger = Client { token: None, ..story.stage.client() };
        let body = FaultBody { fault: Fault::KillNode, ms: 0 };
        let asked: Result<Done, _> = stranger.send("POST", "/v1/drill/fault", &body).await;
        assert!(asked.unwrap_err().to_string().starts_with("TAN0615"));
        let config = story.stage.plan.node_dir(&standby).join("tanist.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("allow_drills = true", "allow_drills = false")).unwrap();
        story.stage.stop(&standby);
        story.stage.start(&standby).unwrap();
        story.whole().await;
        let before = story.stage.pids(&standby);
        let refused = ask(&story, &standby, Fault::KillPostmaster, 0).await.unwrap_err();
        assert!(refused.starts_with("TAN0503"), "{refused}");
        assert_eq!(story.stage.pids(&standby), before);
        story.end().await;
    });
}

#[test]
fn what_keeps_a_server_down_is_told_with_its_code() {
    told(async {
        let story = Story::begin("told", 3).await;
        let standby = story.standby().await;
        let version = story.stage.plan.node_dir(&standby).join("pgdata/PG_VERSION");
        let made_by = std::fs::read_to_string(&version).unwrap();
        story.stage.stop(&standby);
        std::fs::write(&version, "9.6\n").unwrap();
        story.stage.start(&standby).unwrap();
        has_trouble(&story, &standby, "TAN0404").await;
        story.stage.stop(&standby);
        std::fs::write(&version, made_by).unwrap();
        let taken = TcpListener::bind((standby.address.as_str(), standby.postgres)).unwrap();
        story.stage.start(&standby).unwrap();
        has_trouble(&story, &standby, "TAN0410").await;
        drop(taken);
        story.end().await;
    });
}

/// Found by the fault matrix: the agent ended with a guard that did not answer, and
/// left a server that acknowledged for as long as that one stood still.
#[test]
fn a_guard_that_stands_still_takes_its_server_with_it() {
    told(async {
        let story = Story::begin_with("still", |o| o.durability = Some(Durability::Async)).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let frozen = process::freeze(&process::find(&story.stage, &leader, Target::Guard));
        assert_eq!(frozen.count(), 1);
        wait_until(|| story.stage.pids(&leader).postmaster.is_none(), "the server to be killed").await;
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        drop(frozen);
        story.whole().await;
        // Its agent has ended with the server, so nobody hands over what it had not sent.
        story.end_without_the_tail().await;
    });
}
