//! What would lose something or makes no sense is refused and changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use api::Status;
use api::verbs::{Done, FailoverBody, SwitchoverBody};
use drill::fault;
use drill::layout::PlannedNode;

use crate::story::{PATIENCE, Story, sql_beside, told, wait_until};

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
        // To whom it could go is down: refused, unless their agents' last word still stood.
        let asked: Result<Done, _> = client.send("POST", "/v1/failover", &FailoverBody::default()).await;
        story.whole().await;
        match asked {
            Ok(_) => assert!(story.term().await > term, "an accepted failover began no term"),
            Err(why) => {
                let why = refused(why);
                assert!(why.starts_with("TAN01"), "{why}");
                assert_eq!(story.term().await, term, "a refused failover began a term");
            }
        }
        story.end().await;
    });
}

/// Writes `text` over a file of a stopped node's data directory; gives what was there.
fn overwrite(story: &Story, node: &PlannedNode, file: &str, text: &str) -> String {
    let path = story.stage.plan.node_dir(node).join("pgdata").join(file);
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text).unwrap();
    before
}

fn trouble<'a>(status: &'a Status, node: &PlannedNode) -> &'a str {
    let member = status.members.iter().find(|m| m.name == node.name.as_str());
    member.and_then(|m| m.trouble.as_deref()).unwrap_or_default()
}

#[test]
fn a_data_directory_of_another_version_is_left_alone() {
    told(async {
        let story = Story::begin("version", 3).await;
        let (standby, term) = (story.standby().await, story.term().await);
        story.stage.stop(&standby);
        let before = overwrite(&story, &standby, "PG_VERSION", "14\n");
        story.stage.start(&standby).unwrap();
        story.wait_until("the refusal", |s| trouble(s, &standby).starts_with("TAN0404")).await;
        story.writes_flow().await;
        story.stage.stop(&standby);
        assert_eq!(overwrite(&story, &standby, "PG_VERSION", &before), "14\n", "it was touched");
        story.stage.start(&standby).unwrap();
        story.whole().await;
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_database_of_another_origin_is_quarantined_until_it_is_made_anew() {
    told(async {
        let story = Story::begin("sysid", 3).await;
        let standby = story.standby().await;
        story.stage.stop(&standby);
        let pgdata = story.stage.plan.node_dir(&standby).join("pgdata");
        std::fs::remove_dir_all(&pgdata).unwrap();
        another_database(&story, &pgdata);
        story.stage.start(&standby).unwrap();
        let quarantined = |s: &Status| {
            s.members.iter().any(|m| m.name == standby.name.as_str() && m.standing == "quarantined")
        };
        story.wait_until("the quarantine", quarantined).await;
        story.writes_flow().await;
        story.reinit(&standby).await;
        story.end().await;
    });
}

fn another_database(story: &Story, pgdata: &Path) {
    let owner = postgres::RunAs::for_server().unwrap();
    std::fs::create_dir(pgdata).unwrap();
    owner.own(pgdata).unwrap();
    let mut initdb = Command::new(story.stage.plan.pg_bin.join("initdb"));
    initdb.args(["-U", "postgres", "-A", "scram-sha-256", "--pwfile=/proc/self/comm"]).arg(pgdata);
    owner.apply(&mut initdb);
    let out = initdb.current_dir("/").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_a_superuser_sets_of_ours_is_taken_back() {
    told(async {
        let story = Story::begin("alter-system", 3).await;
        let (leader, term) = (story.leader().await, story.term().await);
        let show = "SHOW synchronous_standby_names";
        let before = sql_beside(&story, &leader, show).unwrap();
        assert!(before.starts_with("ANY 1"), "{before}");
        for set in ["synchronous_standby_names = ''", "fsync = off", "restart_after_crash = on"] {
            sql_beside(&story, &leader, &format!("ALTER SYSTEM SET {set}")).unwrap();
        }
        sql_beside(&story, &leader, "SELECT pg_reload_conf()").unwrap();
        let ours = || sql_beside(&story, &leader, show).is_ok_and(|now| now == before);
        wait_until(ours, "the rule to be ours again").await;
        for (name, value) in [("fsync", "on"), ("restart_after_crash", "off")] {
            assert_eq!(sql_beside(&story, &leader, &format!("SHOW {name}")).unwrap(), value);
        }
        assert_eq!(story.term().await, term, "a term began");
        story.end().await;
    });
}

#[test]
fn a_second_agent_of_one_name_gets_no_seat_and_harms_nobody() {
    told(async {
        let story = Story::begin("namesake", 3).await;
        let standby = story.standby().await;
        let incarnation = |s: &Status| s.members.iter().find(|m| m.name == standby.name.as_str()).cloned();
        let before = incarnation(&story.stage.status().await.unwrap());
        let (mut namesake, dir) = namesake(&story, &standby);
        let refused = wait_until_logged(&dir, "TAN0618").await;
        story.writes_flow().await;
        let after = incarnation(&story.stage.status().await.unwrap());
        // Its guard takes its agent with it.
        let _ = namesake.kill();
        let _ = namesake.wait();
        assert!(refused, "the second agent was not refused");
        assert_eq!(before.unwrap().standing, after.unwrap().standing);
        story.end().await;
    });
}

/// A host of its own in all but its name: other folder, other ports, empty disk.
fn namesake(story: &Story, node: &PlannedNode) -> (Child, PathBuf) {
    let (real, dir) = (story.stage.plan.node_dir(node), story.stage.plan.dir.join("namesake"));
    std::fs::create_dir(&dir).unwrap();
    for file in ["ca.crt", "node.crt", "node.key"] {
        std::fs::copy(real.join(file), dir.join(file)).unwrap();
    }
    let copied = Command::new("cp").arg("-a").arg(real.join("secrets")).arg(&dir).status().unwrap();
    assert!(copied.success());
    let config = std::fs::read_to_string(real.join("tanist.toml")).unwrap();
    let config = config.replace(&real.display().to_string(), &dir.display().to_string());
    let config =
        config.replace(&format!(":{}\"", node.api), ":0\"").replace(&format!(":{}\"", node.peers), ":0\"");
    std::fs::write(dir.join("tanist.toml"), config).unwrap();
    let log = std::fs::File::create(dir.join("tanist.log")).unwrap();
    let mut run = Command::new(&story.stage.plan.binary);
    run.arg("run").arg("--config").arg(dir.join("tanist.toml")).stderr(log).current_dir("/");
    (run.spawn().unwrap(), dir)
}

async fn wait_until_logged(dir: &Path, word: &str) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if std::fs::read_to_string(dir.join("tanist.log")).unwrap_or_default().contains(word) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
