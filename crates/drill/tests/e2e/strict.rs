//! Strict reads behind the proxy: given while the others stand by the leader, and only then.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use drill::fault::process::{Target, find, freeze};
use tokio_postgres::{Client, NoTls};

use crate::story::{Story, told, wait_until};

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The story's proxy, begun anew with strict reads: where its figures are.
fn begin_strictly(story: &Story) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut file = OpenOptions::new().append(true).open(story.stage.plan.dir.join("proxy.toml")).unwrap();
    write!(file, "read_consistency = \"strict\"\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n").unwrap();
    story.stage.stop_proxy();
    story.stage.start_proxy().unwrap();
    port
}

/// One of the proxy's figures.
fn figure(port: u16, name: &str) -> Option<u64> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("tanist_proxy_")?.strip_prefix(name));
    line?.trim().parse().ok()
}

#[test]
fn strict_reads_wait_while_nobody_stands_by_the_leader_and_ride_through_failovers() {
    told(async {
        let story = Story::begin_behind_proxy("proxy-strict").await;
        let port = begin_strictly(&story);
        let url = story.stage.document().write_url;
        let reader = client(&url).await;
        reader.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(figure(port, "lease_valid"), Some(1));
        story.whole().await;
        let leader = story.leader().await;
        let waits = figure(port, "lease_waits_total").unwrap();
        // Neither another agent that could stand by it, nor a guard that would start one anew.
        let others = story.stage.plan.nodes.iter().filter(|n| n.name != leader.name);
        let pids: Vec<i32> = others
            .flat_map(|n| [find(&story.stage, n, Target::Guard), find(&story.stage, n, Target::Agent)])
            .flatten()
            .collect();
        assert_eq!(pids.len(), 4);
        let frozen = freeze(&pids);
        wait_until(|| figure(port, "lease_valid") == Some(0), "the end of the lease").await;
        let reads = tokio::spawn(async move { reader.batch_execute("SELECT 2").await.map(|()| reader) });
        wait_until(|| figure(port, "lease_waits_total").is_some_and(|n| n > waits), "a read that waits")
            .await;
        assert!(!reads.is_finished(), "it was read though nobody stands by the leader");
        drop(frozen);
        let reader = reads.await.unwrap().unwrap();
        story.writes_flow().await;
        story.whole().await;
        story.hand_over().await;
        reader.batch_execute("SELECT 3").await.unwrap();
        story.whole().await;
        let (leader, term) = (story.leader().await, story.term().await);
        drill::fault::kill_node(&story.stage, &leader);
        story.next_term(term).await;
        reader.batch_execute("SELECT 4").await.unwrap();
        story.stage.start(&leader).unwrap();
        story.writes_flow().await;
        story.whole().await;
        story.end().await;
    });
}
