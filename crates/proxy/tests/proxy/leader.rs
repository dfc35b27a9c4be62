//! Who is said to lead, and does not.

use std::time::Instant;

use crate::cluster::Cluster;
use crate::stage::{PATIENCE, said, told};

#[test]
fn a_server_in_recovery_gets_no_writers_whoever_says_that_it_leads() {
    told(async {
        let mut cluster = Cluster::open("hold.timeout_s = 2\n[pool]\nwarm = 0\n", |_| {}).await;
        let writer = cluster.client(cluster.write).await;
        writer.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        cluster.say(5, 1, |_| {});
        let begun = Instant::now();
        let error = loop {
            match writer.batch_execute("SELECT 1").await {
                // It has not heard of it yet, or takes what is in recovery.
                Ok(()) => assert!(begun.elapsed() < PATIENCE, "it goes on at a server"),
                Err(error) => break error,
            }
        };
        assert_eq!(said(&error).0, "57P03", "{error:?}");
        cluster.say(6, 0, |_| {});
        writer.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
    });
}
