//! Readers behind the proxy: who answers them, whatever happens meanwhile.

use drill::fault;
use drill::fault::process::{Target, find, freeze};
use drill::layout::PlannedNode;
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls};

use crate::story::{Story, told};

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A user with a password of its own, and its URLs for writing and for reading.
async fn user(story: &Story, name: &str) -> (String, String) {
    let document = story.stage.document();
    let boss = client(&document.write_url).await;
    boss.batch_execute(&format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'secret'; ALTER ROLE {name} SET log_statement = 'all'"
    ))
    .await
    .unwrap();
    let of = |url: &str| {
        let (_, host) = url.split_once('@').unwrap();
        format!("postgresql://{name}:secret@{host}")
    };
    (of(&document.write_url), of(&document.read_url))
}

/// Reads one after the other until it is told to stop: how many, and how many the leader answered.
async fn read_on(url: String, stop: watch::Receiver<bool>) -> (u32, u32) {
    let reader = client(&url).await;
    let (mut all, mut by_leader) = (0, 0);
    while !*stop.borrow() {
        // Each time a statement of its own, which the driver closes together with what it asks next.
        let row = reader.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap();
        all += 1;
        by_leader += u32::from(!row.get::<_, bool>(0));
    }
    (all, by_leader)
}

async fn logins_at(story: &Story, node: &PlannedNode, user: &str) -> i64 {
    let text = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
    crate::story::sql_beside(story, node, &text).unwrap().parse().unwrap()
}

#[test]
fn readers_never_meet_the_leader_while_a_replica_will_do() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-readers").await;
        let (_, read_url) = user(&story, "reader").await;
        story.whole().await;
        let (stop, stopped) = watch::channel(false);
        let readers: Vec<_> =
            (0..4).map(|_| tokio::spawn(read_on(read_url.clone(), stopped.clone()))).collect();
        story.hand_over().await;
        story.whole().await;
        let standby = story.standby().await;
        assert!(fault::kill_postmaster(&story.stage, &standby));
        story.writes_flow().await;
        story.whole().await;
        let leader = story.leader().await;
        assert_eq!(logins_at(&story, &leader, "reader").await, 0, "as the leader itself sees it");
        stop.send_replace(true);
        for reader in readers {
            let (all, by_leader) = reader.await.unwrap();
            assert!(all > 0 && by_leader == 0, "{by_leader} of {all} reads were the leader's");
        }
        story.end().await;
    });
}

/// How often a text stands in a server's log behind `from` bytes, and how long that log is.
fn logged(story: &Story, node: &PlannedNode, text: &str, from: usize) -> (usize, usize) {
    let logs = postgres::layout::NodeDir::new(story.stage.plan.node_dir(node)).unwrap().log_file();
    let log = std::fs::read(logs).unwrap();
    (String::from_utf8_lossy(&log[from..]).matches(text).count(), log.len())
}

#[test]
fn nothing_reaches_a_demoted_leader_that_lives_on() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-demoted").await;
        let (write_url, _) = user(&story, "asker").await;
        let asker = client(&write_url).await;
        let (leader, term) = (story.leader().await, story.term().await);
        asker.batch_execute("SELECT 'was it here?'").await.unwrap();
        assert!(logged(&story, &leader, "was it here?", 0).0 > 0, "the log shows who asks");
        // Nobody tells its server that another leads: it serves on, to whoever still comes.
        let pids = [Target::Guard, Target::Agent].map(|target| find(&story.stage, &leader, target)).concat();
        assert_eq!(pids.len(), 2);
        let frozen = freeze(&pids);
        story.next_term(term).await;
        let direct = crate::story::sql_beside(&story, &leader, "SELECT pg_is_in_recovery()");
        assert_eq!(direct.unwrap(), "f", "it believes that it leads");
        asker.batch_execute("SELECT 1").await.unwrap();
        let (_, from) = logged(&story, &leader, "was it here?", 0);
        for n in 0..100 {
            asker.batch_execute("SELECT 'was it here?'").await.unwrap();
            if n % 20 == 0 {
                let again = client(&write_url).await;
                again.batch_execute("BEGIN; SELECT 'was it here?'; COMMIT").await.unwrap();
            }
        }
        story.writes_flow().await;
        assert_eq!(logged(&story, &leader, "was it here?", from).0, 0, "statements at a demoted leader");
        drop(frozen);
        story.whole().await;
        story.end().await;
    });
}
