//! Clients that take too long over something.

use std::time::Instant;

use crate::stage::{PATIENCE, Stage, refused, table, told, wait_until_closed};

const LINES: &str = r#"
admin.users = ["boss"]
[timeouts]
client_idle_s = 0
[[database]]
name = "queries"
dbname = "postgres"
timeouts = { query_s = 0.3 }
[[database]]
name = "waits"
dbname = "postgres"
pool_size = 1
timeouts = { query_s = 0.3 }
[[database]]
name = "idle"
dbname = "postgres"
timeouts = { client_idle_s = 0.3 }
[[database]]
name = "open"
dbname = "postgres"
timeouts = { idle_transaction_s = 0.3 }
[[database]]
name = "long"
dbname = "postgres"
timeouts = { transaction_s = 0.3 }
[[database]]
name = "*"
[[user]]
name = "patient"
timeouts = { query_s = 0, transaction_s = 0, idle_transaction_s = 0, client_idle_s = 0 }
"#;

async fn stage() -> Stage {
    let stage = Stage::open(LINES, |_| {}).await;
    let anybody = stage.client("postgres", "postgres").await;
    anybody.batch_execute("create role patient login superuser").await.unwrap();
    stage
}

/// Processes that run a statement with these words.
async fn running(stage: &Stage, words: &str) -> usize {
    let look = stage.client("postgres", "postgres").await;
    let text = format!(
        "select pid from pg_stat_activity where state = 'active' and query like '%{words}%' \
         and pid <> pg_backend_pid()"
    );
    table(&look, &text).await.rows.len()
}

#[test]
fn a_query_that_takes_too_long_ends_its_client_and_is_cancelled() {
    told(async {
        let stage = stage().await;
        let client = stage.client("postgres", "queries").await;
        // Queries that are short enough may be as many as they like.
        for _ in 0..10 {
            client.simple_query("select pg_sleep(0.05)").await.unwrap();
        }
        let (code, words) = refused(&client, "select pg_sleep(600)").await;
        assert_eq!(code, "57014", "{words}");
        assert!(words.contains("query timeout"), "{words}");
        wait_until_closed(&client).await;
        let begun = Instant::now();
        while running(&stage, "pg_sleep(600)").await > 0 {
            assert!(begun.elapsed() < PATIENCE, "it runs on");
        }
        let patient = stage.client("patient", "queries").await;
        patient.simple_query("select pg_sleep(0.6)").await.unwrap();
    });
}

#[test]
fn waiting_for_a_server_counts_as_well() {
    told(async {
        let stage = stage().await;
        let patient = stage.client("patient", "waits").await;
        patient.simple_query("select 1").await.unwrap();
        let holder = stage.client("postgres", "waits").await;
        let waiting = stage.client("postgres", "waits").await;
        holder.batch_execute("begin").await.unwrap();
        let (code, words) = refused(&waiting, "select 1").await;
        assert_eq!((code.as_str(), words.contains("query_timeout")), ("57014", true), "{words}");
        wait_until_closed(&waiting).await;
        // Whoever asks for nothing has no query.
        holder.batch_execute("commit").await.unwrap();
    });
}

#[test]
fn transactions_end_that_are_too_long_or_stand_still() {
    told(async {
        let stage = stage().await;
        for (database, code, words) in [
            ("open", "25P03", "terminating connection due to idle-in-transaction timeout"),
            ("long", "25P04", "terminating connection due to transaction timeout"),
        ] {
            let patient = stage.client("patient", database).await;
            patient.batch_execute("begin").await.unwrap();
            let client = stage.client("postgres", database).await;
            client.batch_execute(&format!("create table {database}(n int)")).await.unwrap();
            client.batch_execute(&format!("begin; insert into {database} values (1)")).await.unwrap();
            wait_until_closed(&client).await;
            // It was rolled back, and the one without a limit is still there.
            patient.batch_execute("commit").await.unwrap();
            assert!(table(&patient, &format!("select * from {database}")).await.rows.is_empty());
            let said = stage.last_words("postgres", database, "begin").await;
            assert!(said.contains(code) && said.contains(words), "{said}");
        }
        // A transaction that does something is not idle.
        let client = stage.client("postgres", "open").await;
        client.batch_execute("begin").await.unwrap();
        for _ in 0..8 {
            client.simple_query("select pg_sleep(0.1)").await.unwrap();
        }
        client.batch_execute("commit").await.unwrap();
        // A statement of its own is a transaction, too.
        let client = stage.client("postgres", "long").await;
        assert_eq!(refused(&client, "select pg_sleep(600)").await.0, "25P04");
    });
}

#[test]
fn idle_clients_are_ended_and_their_servers_kept() {
    told(async {
        let stage = stage().await;
        let patient = stage.client("patient", "idle").await;
        let said = stage.last_words("postgres", "idle", "select 1").await;
        assert!(said.contains("57P05") && said.contains("idle-session timeout"), "{said}");
        patient.simple_query("select 1").await.unwrap();
        let boss = stage.console("boss").await;
        assert_eq!(table(&boss, "show pools").await.number("user", "postgres", "sv_idle"), 1);
    });
}
