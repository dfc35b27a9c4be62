//! Real servers, real agents, real kills: one story a row of the promise.
//!
//! Each story ends with the checker, which reads every member back by itself,
//! and again after everything was stopped and started. No story asserts a time:
//! times come from `tanist demo` and benchmarks. The binary is the one that
//! `cargo test` builds beside this test; stories run one after another.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use api::Status;
use api::verbs::{Done, FailoverBody, SwitchoverBody};
use drill::layout::{Options, PlannedNode};
use drill::load::{CLIENTS, Load, prepare};
use drill::verdict::examine;
use drill::{Stage, fault};
use tokio::sync::{Mutex, MutexGuard};

/// Longest that any condition is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
/// Switchovers that may be called off in a row.
const SWITCHOVER_TRIES: u32 = 4;
/// Two cores carry one cluster at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The program under test: beside this test's own, built if it is not there.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap().to_path_buf();
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--package", "cli"]).status();
    assert!(built.is_ok_and(|s| s.success()), "the binary could not be built");
    profile.join("tanist")
}

struct Story {
    stage: Stage,
    load: Option<Load>,
    dir: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of the failed story are in {}", self.dir.display());
            let _ = self.stage.down(false);
        } else {
            let _ = self.stage.down(true);
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Story {
    async fn begin(name: &str, nodes: u16) -> Story {
        let turn = ONE_AT_A_TIME.lock().await;
        let dir = PathBuf::from(format!("/var/tmp/tanist-e2e-{}-{name}", std::process::id()));
        let options = Options {
            dir: dir.clone(),
            nodes,
            base_port: Some(0),
            pg_bin: None,
            durability: None,
            binary: Some(binary()),
            isolate: false,
        };
        let stage = Stage::up(&options).await.unwrap();
        let url = stage.document().direct_url;
        prepare(&url).await.unwrap();
        let load = Some(Load::start(&url, CLIENTS).unwrap());
        let story = Story { stage, load, dir, _turn: turn };
        story.writes_flow().await;
        story
    }

    async fn wait_until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            if let Some(status) = self.stage.status().await.filter(|s| holds(s)) {
                return status;
            }
            let now = self.stage.status().await;
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}: {now:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn leader(&self) -> PlannedNode {
        let status = self.wait_until("a leader", |s| s.writable && s.leader.is_some()).await;
        self.stage.plan.node(&status.leader.unwrap()).unwrap().clone()
    }

    async fn term(&self) -> u64 {
        self.wait_until("a term", |s| s.term > 0).await.term
    }

    /// Switches over until somebody else leads: on a machine that is very slow
    /// a switchover may be called off, which loses nothing either.
    async fn hand_over(&self) {
        let from = self.leader().await;
        for _ in 0..SWITCHOVER_TRIES {
            let term = self.term().await;
            let body = SwitchoverBody::default();
            // Refused while a change is under way; asked again when all is quiet.
            let asked: Result<Done, _> = self.stage.client().send("POST", "/v1/switchover", &body).await;
            if asked.is_ok() {
                let over = |s: &Status| s.writable && s.switchover.is_none() && s.term > term;
                self.wait_until("the next term", over).await;
            }
            if self.leader().await.name != from.name {
                return;
            }
            self.whole().await;
        }
        panic!("{SWITCHOVER_TRIES} switchovers left the leader where it was");
    }

    /// Twenty more writes are acknowledged from now on.
    async fn writes_flow(&self) {
        let load = self.load.as_ref().unwrap();
        let (before, began) = (load.acknowledged(), Instant::now());
        wait_until_more(load, before + 20, began).await;
    }

    async fn whole(&self) {
        self.stage.wait_whole(PATIENCE).await.unwrap();
    }

    /// Stops the load and reads every member back, now and after a restart of everything.
    async fn end(mut self) {
        self.whole().await;
        let history = self.load.take().unwrap().finish().await;
        let findings = examine(&self.stage, &history).await.unwrap();
        assert!(findings.acknowledged > 0 && findings.is_clean(), "{findings:?}");
        self.stage.down(false).unwrap();
        for node in &self.stage.plan.nodes {
            self.stage.start(node).unwrap();
        }
        self.whole().await;
        let again = examine(&self.stage, &history).await.unwrap();
        assert!(again.is_clean(), "after a restart of everything: {again:?}");
    }
}

async fn wait_until_more(load: &Load, wanted: usize, began: Instant) {
    while load.acknowledged() < wanted {
        assert!(began.elapsed() < PATIENCE, "waited in vain for writes to flow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn told(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(story);
}

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
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        story.writes_flow().await;
        story.end().await;
    });
}

#[test]
fn a_lost_node_is_replaced_and_rejoins_when_started() {
    told(async {
        let story = Story::begin("node", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        fault::kill_node(&story.stage, &leader);
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        story.writes_flow().await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}

#[test]
fn an_agent_that_dies_or_freezes_touches_neither_server_nor_term() {
    told(async {
        let story = Story::begin("agent", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let postmaster = story.stage.pids(&leader).postmaster;
        for break_it in [fault::kill_agent, fault::freeze_agent] {
            let agent = story.stage.pids(&leader).agent;
            assert!(break_it(&story.stage, &leader));
            let another = |s: &Status| {
                let now = story.stage.pids(&leader).agent;
                s.writable && now.is_some() && now != agent
            };
            story.wait_until("another agent", another).await;
            story.writes_flow().await;
            story.whole().await;
        }
        assert_eq!(story.stage.pids(&leader).postmaster, postmaster, "PostgreSQL was restarted");
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_frozen_postmaster_is_as_good_as_dead() {
    told(async {
        let story = Story::begin("frozen", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(fault::freeze_postmaster(&story.stage, &leader));
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        story.writes_flow().await;
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

/// Waits until nothing was acknowledged for a second; gives how much was before.
async fn wait_until_quiet(load: &Load) -> usize {
    let began = Instant::now();
    loop {
        let before = load.acknowledged();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if load.acknowledged() == before {
            return before;
        }
        assert!(began.elapsed() < PATIENCE, "writes went on without standbys");
    }
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
fn a_wiped_disk_comes_back_as_somebody_new() {
    told(async {
        let story = Story::begin("wiped", 3).await;
        let leader = story.leader().await;
        let standby = story.stage.plan.data_nodes().find(|n| n.name != leader.name).unwrap().clone();
        fault::kill_node(&story.stage, &standby);
        let dir = story.stage.plan.node_dir(&standby);
        std::fs::remove_dir_all(dir.join("store")).unwrap();
        std::fs::remove_dir_all(dir.join("pgdata")).unwrap();
        story.stage.start(&standby).unwrap();
        story.whole().await;
        story.writes_flow().await;
        story.end().await;
    });
}

#[test]
fn reinit_makes_a_copy_anew_while_writes_flow() {
    told(async {
        let story = Story::begin("reinit", 3).await;
        let leader = story.leader().await;
        let standby = story.stage.plan.data_nodes().find(|n| n.name != leader.name).unwrap().clone();
        let path = format!("/v1/reinit/{}", standby.name);
        let _: Done = story.stage.client().send("POST", &path, &()).await.unwrap();
        story.wait_until("it to leave the rule", |s| !s.sync.names.contains(&standby.name.to_string())).await;
        story.writes_flow().await;
        story.end().await;
    });
}

#[test]
fn what_would_lose_or_make_no_sense_is_refused_and_changes_nothing() {
    told(async {
        let story = Story::begin("refused", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let client = story.stage.client();
        let to = |name: &str| SwitchoverBody { to: Some(name.parse().unwrap()), ..SwitchoverBody::default() };
        let refused = |e: api::ClientError| e.to_string();
        let asked: Result<Done, _> = client.send("POST", "/v1/switchover", &to("n9")).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0112"));
        let asked: Result<Done, _> = client.send("POST", "/v1/switchover", &to(leader.name.as_str())).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0107"));
        let stranger = api::Client { token: None, ..client.clone() };
        let asked: Result<Done, _> = stranger.send("POST", "/v1/pause", &()).await;
        assert!(refused(asked.unwrap_err()).starts_with("TAN0615"));
        for node in story.stage.plan.data_nodes().filter(|n| n.name != leader.name) {
            fault::kill_postmaster(&story.stage, node);
            fault::freeze_agent(&story.stage, node);
        }
        let asked: Result<Done, _> = client.send("POST", "/v1/failover", &FailoverBody::default()).await;
        if let Err(why) = asked {
            assert!(refused(why).contains("TAN0"), "a refusal has a code");
        }
        story.whole().await;
        assert!(story.term().await >= term);
        story.end().await;
    });
}

#[test]
fn two_nodes_and_a_witness_shrink_by_a_stored_command_and_grow_again() {
    told(async {
        let story = Story::begin("witness", 2).await;
        let leader = story.leader().await;
        let standby = story.stage.plan.data_nodes().find(|n| n.name != leader.name).unwrap().clone();
        fault::kill_node(&story.stage, &standby);
        story.wait_until("the leader alone", |s| s.degraded && s.sync.acks == 0).await;
        story.writes_flow().await;
        story.stage.start(&standby).unwrap();
        story.whole().await;
        let term = story.term().await;
        fault::kill_node(&story.stage, &leader);
        story.wait_until("the next term", |s| s.term > term && s.writable).await;
        story.writes_flow().await;
        story.stage.start(&leader).unwrap();
        story.end().await;
    });
}
