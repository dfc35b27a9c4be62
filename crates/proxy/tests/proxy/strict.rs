//! Strict reads: nothing reaches the leader while nobody says that it still leads.

use std::sync::Arc;
use std::time::Instant;

use crate::cluster::{Cluster, member};
use crate::stage::{PATIENCE, connect, refused, said, told, wait_until, wait_until_closed, wait_until_some};

const LINES: &str = r#"
hold.timeout_s = 1
[[database]]
name = "postgres"
read_consistency = "strict"
[[database]]
name = "template1"
"#;

/// Longer than any test lasts.
const LONG_MS: u64 = 600_000;

#[test]
fn what_is_strict_waits_for_a_lease_of_the_term_and_nothing_else_does() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        let strict = cluster.client(cluster.write).await;
        let relaxed = connect(cluster.write, "postgres", "template1").await.unwrap();
        let (code, words) = refused(&strict, "SELECT 1").await;
        assert_eq!(code, "57P03", "{words}");
        assert!(words.contains("still leads"), "{words}");
        relaxed.batch_execute("SELECT 1").await.unwrap();
        // Readers of replicas are shown what those have.
        let reader = cluster.client(cluster.read).await;
        reader.batch_execute("SELECT 1").await.unwrap();
        // One of another term, and what another agent says, is none.
        cluster.lease(0, Some((3, LONG_MS)));
        cluster.lease(1, Some((4, LONG_MS)));
        assert_eq!(refused(&strict, "SELECT 1").await.0, "57P03");
        cluster.lease(0, Some((4, LONG_MS)));
        strict.batch_execute("SELECT 1").await.unwrap();
    });
}

#[test]
fn reload_makes_reads_strict_and_lets_them_be() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        let (client, console) = (cluster.client(cluster.write).await, cluster.console().await);
        let asked = async || client.batch_execute("SELECT 1").await.map_err(|e| said(&e).0);
        for _ in 0..2 {
            assert_eq!(asked().await, Err("57P03".to_string()));
            cluster.configure("hold.timeout_s = 1");
            console.batch_execute("reload").await.unwrap();
            asked().await.unwrap();
            cluster.configure(LINES);
            console.batch_execute("reload").await.unwrap();
        }
        // Leases are asked for again.
        cluster.lease(0, Some((4, LONG_MS)));
        wait_until_some("it never goes on", async || asked().await.ok()).await;
    });
}

#[test]
fn it_goes_on_as_soon_as_there_is_one() {
    told(async {
        let cluster = Cluster::open(&LINES.replace("timeout_s = 1", "timeout_s = 60"), |_| {}).await;
        let strict = cluster.client(cluster.write).await;
        let waits = tokio::spawn(async move { strict.batch_execute("SELECT 1").await.map(|()| strict) });
        let late = cluster.client(cluster.write).await;
        cluster.lease(0, Some((4, LONG_MS)));
        let strict = waits.await.unwrap().unwrap();
        drop((strict, late));
    });
}

#[test]
fn an_open_transaction_stops_as_well_and_is_rolled_back() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        cluster.lease(0, Some((4, 300)));
        let direct = cluster.servers[0].wait_until_client().await;
        direct.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        let strict = cluster.client(cluster.write).await;
        strict.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
        let error = until_lapsed(&cluster, &strict, "SELECT count(*) FROM t").await;
        assert_eq!(said(&error).0, "40001", "{error:?}");
        strict.batch_execute("ROLLBACK").await.unwrap();
        cluster.lease(0, Some((4, 300)));
        wait_until_some("it never goes on", async || strict.batch_execute("SELECT 1").await.ok()).await;
        assert_eq!(direct.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 0);
    });
}

/// From now on there are no leases: what a client is told once the last has ended.
async fn until_lapsed(
    cluster: &Cluster,
    client: &tokio_postgres::Client,
    text: &str,
) -> tokio_postgres::Error {
    cluster.lease(0, None);
    let begun = Instant::now();
    loop {
        match client.batch_execute(text).await {
            Ok(()) => assert!(begun.elapsed() < PATIENCE, "it goes on without a lease"),
            Err(error) => return error,
        }
    }
}

#[test]
fn one_that_waited_at_a_leader_that_was_replaced_goes_on_at_the_next() {
    told(async {
        let mut cluster = Cluster::open(&LINES.replace("timeout_s = 1", "timeout_s = 60"), |_| {}).await;
        cluster.lease(0, Some((4, 300)));
        let strict = Arc::new(cluster.client(cluster.write).await);
        strict.batch_execute("BEGIN; SELECT 1").await.unwrap();
        cluster.lease(0, None);
        let console = cluster.console().await;
        let other = strict.clone();
        let asks = tokio::spawn(async move {
            loop {
                if let Err(error) = other.batch_execute("SELECT 2").await {
                    return error;
                }
            }
        });
        let state = |t: &crate::stage::Table| t.find("state", "waiting", "database").is_some();
        wait_until(&console, "show clients", state).await;
        let direct = cluster.servers[1].wait_until_client().await;
        direct.batch_execute("SELECT pg_promote()").await.unwrap();
        cluster.say(5, 1, |_| {});
        cluster.lease(1, Some((5, LONG_MS)));
        assert_eq!(said(&asks.await.unwrap()).0, "40001");
        strict.batch_execute("ROLLBACK").await.unwrap();
        for _ in 0..3 {
            strict.batch_execute("SELECT 3").await.unwrap();
        }
    });
}

#[test]
fn a_session_with_something_of_its_own_is_told_why_it_ends() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        cluster.lease(0, Some((4, 300)));
        let strict = cluster.client(cluster.write).await;
        strict.batch_execute("CREATE TEMP TABLE mine (n int); LISTEN x").await.unwrap();
        let error = until_lapsed(&cluster, &strict, "INSERT INTO mine VALUES (1)").await;
        assert_eq!(said(&error).0, "57P03", "{error:?}");
        wait_until_closed(&strict).await;
    });
}

#[test]
fn a_cancel_ends_the_wait() {
    told(async {
        let cluster = Cluster::open(&LINES.replace("timeout_s = 1", "timeout_s = 600"), |_| {}).await;
        let strict = cluster.client(cluster.write).await;
        let cancel = strict.cancel_token();
        let asks =
            tokio::spawn(async move { strict.batch_execute("SELECT 1").await.map_err(|e| said(&e).0) });
        let console = cluster.console().await;
        wait_until(&console, "show clients", |t| t.find("state", "waiting", "database").is_some()).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
        assert_eq!(asks.await.unwrap(), Err("57014".to_string()));
    });
}

#[test]
fn what_was_sent_before_is_answered() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        cluster.lease(0, Some((4, 300)));
        let direct = cluster.servers[0].wait_until_client().await;
        direct.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        let strict = cluster.client(cluster.write).await;
        let write = strict.batch_execute("INSERT INTO t SELECT 1 FROM pg_sleep(3)");
        let read = async {
            let began = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t%'";
            wait_until_some("it is never begun", async || direct.query_opt(began, &[]).await.unwrap()).await;
            cluster.lease(0, None);
            // Behind the write, and long after its lease and the limit are over.
            strict.batch_execute("SELECT 2").await
        };
        let (write, read) = tokio::join!(write, read);
        write.unwrap();
        // On a machine that is slow the lease may have covered it still.
        assert!(read.as_ref().err().is_none_or(|e| said(e).0 == "57P03"), "{read:?}");
        assert_eq!(direct.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 1);
    });
}

#[test]
fn readers_that_end_at_the_leader_wait_as_well() {
    told(async {
        let away = |routes: &mut api::routes::Routes| {
            member(routes, "n2").maintenance = true;
            member(routes, "n3").maintenance = true;
        };
        let cluster = Cluster::open(LINES, away).await;
        let reader = cluster.client(cluster.read).await;
        assert_eq!(refused(&reader, "SELECT 1").await.0, "57P03");
        cluster.lease(0, Some((4, LONG_MS)));
        reader.batch_execute("SELECT 1").await.unwrap();
    });
}

#[test]
fn so_does_sql_over_a_connection_for_replication() {
    told(async {
        let cluster = Cluster::open(LINES, |_| {}).await;
        let url = format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres replication=database",
            cluster.write
        );
        let mut psql = std::process::Command::new("psql")
            .args([&url, "-Atc", "SELECT 'seen'"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let console = cluster.console().await;
        let there = |t: &crate::stage::Table| t.find("replication", "logical", "user").is_some();
        wait_until(&console, "show clients", there).await;
        assert!(psql.try_wait().unwrap().is_none(), "it was answered without a lease");
        cluster.lease(0, Some((4, LONG_MS)));
        let answer = tokio::task::spawn_blocking(move || psql.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "seen\n");
    });
}
