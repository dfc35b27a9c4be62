//! Strict reads: nothing reaches the leader while nobody says that it still leads.

use std::time::Instant;

use crate::cluster::Cluster;
use crate::stage::{PATIENCE, connect, said, told, wait_until_some};

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
        let error = strict.batch_execute("SELECT 1").await.unwrap_err();
        assert_eq!(said(&error).0, "57P03", "{error:?}");
        assert!(said(&error).1.contains("still leads"), "{error:?}");
        relaxed.batch_execute("SELECT 1").await.unwrap();
        // Readers of replicas are shown what those have.
        let reader = cluster.client(cluster.read).await;
        reader.batch_execute("SELECT 1").await.unwrap();
        // One of another term, and what another agent says, is none.
        cluster.lease(0, Some((3, LONG_MS)));
        cluster.lease(1, Some((4, LONG_MS)));
        assert_eq!(said(&strict.batch_execute("SELECT 1").await.unwrap_err()).0, "57P03");
        cluster.lease(0, Some((4, LONG_MS)));
        strict.batch_execute("SELECT 1").await.unwrap();
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
        let begun = Instant::now();
        strict.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
        cluster.lease(0, None);
        let error = loop {
            match strict.batch_execute("SELECT count(*) FROM t").await {
                Ok(()) => assert!(begun.elapsed() < PATIENCE, "it goes on without a lease"),
                Err(error) => break error,
            }
        };
        assert_eq!(said(&error).0, "40001", "{error:?}");
        strict.batch_execute("ROLLBACK").await.unwrap();
        cluster.lease(0, Some((4, 300)));
        wait_until_some("it never goes on", async || strict.batch_execute("SELECT 1").await.ok()).await;
        assert_eq!(direct.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 0);
    });
}
