//! A real cluster under load, and what every story does with one.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use api::Status;
use api::verbs::{Done, SwitchoverBody};
use checker::History;
use drill::Stage;
use drill::layout::{Options, PlannedNode};
use drill::load::{CLIENTS, INSERT_LIMIT, Load, Manner, PAUSE, prepare};
use drill::verdict::examine;
use tokio::sync::{Mutex, MutexGuard};

/// Longest that any condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Switchovers that may be called off in a row.
const SWITCHOVER_TRIES: u32 = 4;
/// Two cores carry one cluster at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The program under test: beside this test's own, built if it is not there.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap().to_path_buf();
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--package", "cli"]).status();
    assert!(built.is_ok_and(|s| s.success()), "the binary could not be built");
    profile.join("tanist")
}

/// Held by whoever has a cluster.
pub async fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

pub struct Story {
    pub stage: Stage,
    pub load: Option<Load>,
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
    pub async fn begin(name: &str, nodes: u16) -> Story {
        Story::begin_with(name, |options| options.nodes = Some(nodes)).await
    }

    /// One whose clients come through the cluster's proxy.
    pub async fn begin_behind_proxy(name: &str) -> Story {
        let mut story = Story::begin(name, 3).await;
        story.load.take().unwrap().finish().await;
        // Other numbers: rows of the first writers are there.
        let manner = |client| Manner { client: 100 + client, pause: PAUSE, limit: INSERT_LIMIT };
        let manners: Vec<Manner> = (0..CLIENTS).map(manner).collect();
        story.load = Some(Load::start_with(&story.stage.document().write_url, &manners).unwrap());
        story.writes_flow().await;
        story
    }

    pub async fn begin_with(name: &str, ask: impl FnOnce(&mut Options)) -> Story {
        let turn = turn().await;
        let dir = PathBuf::from(format!("/var/tmp/tanist-e2e-{}-{name}", std::process::id()));
        let mut options = Options {
            dir: dir.clone(),
            nodes: None,
            wal_witness: false,
            base_port: Some(0),
            pg_bin: None,
            durability: None,
            binary: Some(binary()),
            isolate: false,
        };
        ask(&mut options);
        let stage = Stage::up(&options).await.unwrap();
        let url = stage.document().direct_url;
        prepare(&url).await.unwrap();
        let load = Some(Load::start(&url, CLIENTS).unwrap());
        let story = Story { stage, load, dir, _turn: turn };
        story.writes_flow().await;
        story
    }

    pub async fn wait_until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
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

    pub async fn leader(&self) -> PlannedNode {
        let status = self.wait_until("a leader", |s| s.writable && s.leader.is_some()).await;
        self.stage.plan.node(&status.leader.unwrap()).unwrap().clone()
    }

    /// A data node that does not lead.
    pub async fn standby(&self) -> PlannedNode {
        let leader = self.leader().await;
        self.stage.plan.data_nodes().find(|n| n.name != leader.name).unwrap().clone()
    }

    pub async fn term(&self) -> u64 {
        self.wait_until("a term", |s| s.term > 0).await.term
    }

    /// Switches over until somebody else leads: on a machine that is very slow
    /// a switchover may be called off, which loses nothing either.
    pub async fn hand_over(&self) {
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
    pub async fn writes_flow(&self) {
        let load = self.load.as_ref().unwrap();
        let (before, began) = (load.acknowledged(), Instant::now());
        wait_until_more(load, before + 20, began).await;
    }

    /// A later term takes writes, and clients feel it.
    pub async fn next_term(&self, term: u64) {
        self.wait_until("the next term", |s| s.term > term && s.writable).await;
        self.writes_flow().await;
    }

    /// Has a member's copy made anew.
    pub async fn reinit(&self, node: &PlannedNode) {
        let path = format!("/v1/reinit/{}", node.name);
        let _: Done = self.stage.client().send("POST", &path, &()).await.unwrap();
    }

    pub async fn whole(&self) {
        self.stage.wait_whole(PATIENCE).await.unwrap();
    }

    /// As `end`, where the leader's last WAL went with it in async: what was acknowledged just before may be lost,
    /// on all members alike, and nothing comes back that was refused.
    pub async fn end_without_the_tail(mut self) {
        self.whole().await;
        let history = self.load.take().unwrap().finish().await;
        let findings = examine(&self.stage, &history).await.unwrap();
        let lost: BTreeSet<usize> = findings.lost.iter().map(|(_, lost)| *lost).collect();
        let back: usize = findings.resurrected.iter().map(|(_, back)| back).sum();
        assert!(findings.acknowledged > 0 && lost.len() == 1 && back == 0, "{findings:?}");
    }

    /// Stops the load and reads every member back, now and after a restart of everything.
    pub async fn end(self) {
        let _ = self.end_with_history().await;
    }

    /// The same, and what the clients were told.
    pub async fn end_with_history(mut self) -> History {
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
        history
    }
}

/// Looks often: what is waited for may be there for an instant only.
pub async fn wait_until(holds: impl Fn() -> bool, what: &str) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn wait_until_more(load: &Load, wanted: usize, began: Instant) {
    while load.acknowledged() < wanted {
        assert!(began.elapsed() < PATIENCE, "waited in vain for writes to flow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing was acknowledged for a second; gives how much was before.
pub async fn wait_until_quiet(load: &Load) -> usize {
    let began = Instant::now();
    loop {
        let before = load.acknowledged();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if load.acknowledged() == before {
            return before;
        }
        assert!(began.elapsed() < PATIENCE, "writes went on");
    }
}

/// Longest that a statement beside the cluster's own connections may take.
const BESIDE_LIMIT: Duration = Duration::from_secs(3);

/// Asks a server through its own unix socket, as the superuser, with no agent
/// and no network between; what it answered.
pub fn sql_beside(story: &Story, node: &PlannedNode, sql: &str) -> Result<String, String> {
    let limit = BESIDE_LIMIT.as_secs().to_string();
    let out = Command::new("timeout")
        .args(["-s", "KILL", &limit])
        .arg(story.stage.plan.pg_bin.join("psql"))
        .args(["-XqAt", "-U", "postgres", "-d", "postgres", "-p", &node.postgres.to_string(), "-h"])
        .arg(story.stage.plan.node_dir(node).join("run"))
        .args(["-c", sql])
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).trim().to_string();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

/// Whether this process may make network namespaces and mounts; says so where it may not.
pub fn may_be_root(name: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("TANIST_REQUIRE_ALL").is_none(), "{name} needs root");
        // The harness would keep what `eprintln!` says to itself.
        let _ = writeln!(std::io::stderr(), "skipped: {name}: it needs root");
    }
    root
}

pub fn told(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(story);
}
