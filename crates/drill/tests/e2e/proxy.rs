//! Clients behind the proxy: a failover is a pause, and what they are told is true.

use checker::Fate;
use drill::fault;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::story::{Story, told, wait_until};

/// A client of the proxy. Its connection is the only one that it ever has.
async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn rows(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

/// Every write of the load was acknowledged, whatever happened meanwhile.
async fn all_went_well(story: Story) {
    let history = story.end_with_history().await;
    let bad: Vec<_> = history.operations.iter().filter(|o| o.fate != Fate::Acknowledged).collect();
    assert!(bad.is_empty(), "not acknowledged through the proxy: {bad:?}");
}

#[test]
fn a_switchover_behind_the_proxy_is_a_pause_and_no_error() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-switchover").await;
        let idle = client(&story.stage.document().write_url).await;
        idle.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        let prepared = idle.prepare("INSERT INTO kept VALUES ($1)").await.unwrap();
        idle.execute("SELECT set_config('app.name', 'kept', false)", &[]).await.unwrap();
        for n in 0..2 {
            story.hand_over().await;
            idle.execute(&prepared, &[&n]).await.unwrap();
            story.writes_flow().await;
            story.whole().await;
        }
        assert_eq!(rows(&idle).await, 2);
        let name: String = idle.query_one("SELECT current_setting('app.name')", &[]).await.unwrap().get(0);
        assert_eq!(name, "kept", "a setting follows its client");
        all_went_well(story).await;
    });
}

#[test]
fn lost_leaders_behind_the_proxy_cost_open_transactions_and_nothing_else() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-lost").await;
        let url = story.stage.document().write_url;
        let (idle, open) = (client(&url).await, client(&url).await);
        idle.batch_execute("CREATE TABLE kept (n int)").await.unwrap();

        open.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
        let (leader, term) = (story.leader().await, story.term().await);
        assert!(fault::kill_postmaster(&story.stage, &leader));
        story.next_term(term).await;
        assert_eq!(rows(&idle).await, 0, "what was not committed is gone");
        let refused = open.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{refused}");
        let refused = open.batch_execute("INSERT INTO kept VALUES (3)").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION), "{refused}");
        open.batch_execute("COMMIT").await.unwrap();
        assert_eq!(rows(&idle).await, 0, "a COMMIT of what is gone commits nothing");
        open.batch_execute("BEGIN; INSERT INTO kept VALUES (4); COMMIT").await.unwrap();
        assert_eq!(rows(&idle).await, 1, "on the same connection");

        story.whole().await;
        let (leader, term) = (story.leader().await, story.term().await);
        fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        assert_eq!(rows(&idle).await, 1);
        story.stage.start(&leader).unwrap();
        all_went_well(story).await;
    });
}

#[test]
fn readers_are_sent_to_replicas_and_strangers_are_sent_away() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-read").await;
        let document = story.stage.document();
        let reader = client(&document.read_url).await;
        for _ in 0..20 {
            let row = reader.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap();
            assert!(row.get::<_, bool>(0), "a reader was sent to the leader while replicas were there");
        }
        let wrong = document.write_url.replace("postgres:", "postgres:x");
        for url in [wrong.clone(), wrong.replace("//postgres:", "//nobody:")] {
            let refused = tokio_postgres::connect(&url, NoTls).await.err().expect("a wrong password");
            assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused}");
        }
        all_went_well(story).await;
    });
}

#[test]
fn a_proxy_that_is_told_to_end_lets_transactions_end_first() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-end").await;
        let url = story.stage.document().write_url;
        let (idle, open) = (client(&url).await, client(&url).await);
        open.batch_execute("CREATE TABLE kept (n int); BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
        let proxy = story.stage.proxy_pid().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(proxy), nix::sys::signal::Signal::SIGTERM).unwrap();
        wait_until(|| idle.is_closed(), "the end of an idle connection").await;
        open.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
        open.batch_execute("COMMIT").await.unwrap();
        wait_until(|| open.is_closed(), "the end of the connection").await;
        wait_until(|| story.stage.proxy_pid().is_none(), "the end of the proxy").await;
        story.stage.start_proxy().unwrap();
        assert_eq!(rows(&client(&url).await).await, 2);
        story.writes_flow().await;
        story.end().await;
    });
}
