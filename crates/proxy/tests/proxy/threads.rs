//! Clients on several threads share the connections of a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::AsyncWriteExt as _;

use crate::stage::{Stage, table, told};

const LINES: &str =
    "admin.users = [\"boss\"]\n[[database]]\nname = \"shop\"\ndbname = \"postgres\"\npool_size = 2\n";
const CLIENTS: usize = 18;
const EACH_AT_LEAST: u64 = 40;

#[test]
fn a_pool_is_one_queue_over_all_threads() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let boss = stage.console("boss").await;
        let over = Arc::new(AtomicBool::new(false));
        let mut done = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let (client, count) = (stage.client("postgres", "shop").await, Arc::new(AtomicU64::new(0)));
            done.push(count.clone());
            let over = over.clone();
            tasks.push(tokio::spawn(async move {
                let statement = client.prepare("select pg_sleep($1)").await.unwrap();
                while !over.load(Ordering::Relaxed) {
                    client.query(&statement, &[&0.001_f64]).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
                client
            }));
        }
        let counts = || done.iter().map(|n| n.load(Ordering::Relaxed)).collect::<Vec<_>>();
        // As the server sees them: one that is between two threads is on neither.
        let direct = crate::stage::connect(stage.postgres.port, "postgres", "template1").await.unwrap();
        let all = "select count(*) from pg_stat_activity where datname = 'postgres'";
        loop {
            let servers: i64 = direct.query_one(all, &[]).await.unwrap().get(0);
            assert!(servers <= 2, "{servers} connections");
            if counts().iter().all(|n| *n >= EACH_AT_LEAST) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        let counts = counts();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*most <= 3 * *least, "some were served far more often than others: {counts:?}");
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await.unwrap());
        }
        let pools = table(&boss, "show pools").await;
        assert_eq!(pools.number("database", "shop", "cl_active"), CLIENTS as u64);
        assert_eq!(pools.number("database", "shop", "cl_waiting"), 0);
        // And the administrator.
        assert_eq!(table(&boss, "show clients").await.rows.len(), CLIENTS + 1);
    });
}

#[test]
fn a_limit_that_pools_share_is_shared_fairly() {
    told(async {
        let lines = "admin.users = [\"boss\"]\n[limits]\ndatabase_connections = 2\n";
        let stage = Stage::open(lines, |_| {}).await;
        let boss = stage.console("boss").await;
        let direct = crate::stage::connect(stage.postgres.port, "postgres", "template1").await.unwrap();
        direct.batch_execute("create role other login").await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let (client, over) = (stage.client("postgres", "postgres").await, over.clone());
            tasks.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    client.simple_query("select pg_sleep(0.001)").await.unwrap();
                }
            }));
        }
        // Those never rest, and still another user gets in, and gets its answers.
        let other = stage.client("other", "postgres").await;
        for _ in 0..EACH_AT_LEAST {
            other.simple_query("select 1").await.unwrap();
            // Not as the server sees them: a process of its lives a moment longer than its connection.
            let servers = table(&boss, "show servers").await.rows.len();
            assert!(servers <= 2, "{servers} connections");
        }
        over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn half_a_message_keeps_no_server_from_others() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        let mut halves = Vec::new();
        for _ in 0..CLIENTS {
            let mut raw = stage.raw("postgres", "shop").await;
            raw.write_all(b"Q\0\0\x01\0select").await.unwrap();
            halves.push(raw);
        }
        let client = stage.client("postgres", "shop").await;
        for _ in 0..EACH_AT_LEAST {
            client.simple_query("select 1").await.unwrap();
        }
    });
}

#[test]
fn a_cancel_finds_its_client_on_any_thread() {
    told(async {
        let stage = Stage::open(LINES, |_| {}).await;
        for _ in 0..6 {
            let client = stage.client("postgres", "shop").await;
            let token = client.cancel_token();
            let sleeping = tokio::spawn(async move { client.simple_query("select pg_sleep(600)").await });
            // Before it runs a cancel has nothing to stop.
            let looks = crate::stage::connect(stage.postgres.port, "postgres", "postgres").await.unwrap();
            let runs =
                "select 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
            while table(&looks, runs).await.rows.is_empty() {}
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
            let error = sleeping.await.unwrap().err().unwrap();
            assert_eq!(crate::stage::said(&error).0, "57014");
        }
    });
}
