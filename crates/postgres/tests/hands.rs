//! Conversations that the hands keep with a real server: one each, however often they
//! ask, in nobody's way, and made anew after a restart.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod real;

use std::collections::BTreeMap;
use std::path::Path;

use cluster::report::ServerState;
use cluster::{Lsn, MemberId};
use postgres::config::{ServerConfig, Transport};
use postgres::guard::client::Client;
use postgres::guard::protocol::{Answer, Event, Request, Status};
use postgres::perform::{Hands, Site};
use postgres::{NodeDir, Programs, RunAs, Secrets};
use real::{Server, bin15, scratch, wait_until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

/// A guard that has one answer: the postmaster lives.
async fn guard(socket: &Path, pid: i32) -> Client {
    let listener = UnixListener::bind(socket).unwrap();
    let (client, _news) = Client::connect(socket).await.unwrap();
    let (read, mut write) = listener.accept().await.unwrap().0.into_split();
    tokio::spawn(async move {
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let asked: Request<serde_json::Value> = serde_json::from_str(&line).unwrap();
            let answer = Answer::Status(Status { postmaster: Some(pid), deadline_ms: None, fired: false });
            let event = Event::Numbered { number: asked.number, answer };
            let said = serde_json::to_string(&event).unwrap() + "\n";
            write.write_all(said.as_bytes()).await.unwrap();
        }
    });
    client
}

async fn hands(dir: &Path, server: &Server) -> Hands {
    let node = NodeDir::with_sockets(server.dir.clone(), server.dir.clone()).unwrap();
    let config = ServerConfig {
        node: "n1".to_string(),
        listen: vec!["127.0.0.1".to_string()],
        port: server.port,
        tls: None,
        members: 3,
        parameters: BTreeMap::new(),
        floor: postgres::config::Floor::default(),
    };
    let site = Site {
        log: node.log_file(),
        dir: node,
        programs: Programs::find(&bin15()).unwrap(),
        run_as: RunAs::for_server().unwrap(),
        secrets: Secrets::generate().unwrap(),
        transport: Transport::Plain,
        guard: guard(&dir.join("guard.sock"), server.pid()).await,
    };
    Hands::new(site, config)
}

fn ours(server: &Server) -> Vec<String> {
    let pids = server.sql(
        "select pid || ' ' || state || ' ' || coalesce(backend_xmin::text, 'no snapshot') \
         from pg_stat_activity where application_name = 'tanist' order by pid",
    );
    pids.lines().map(ToString::to_string).collect()
}

fn slots(server: &Server) -> String {
    server.sql("select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conversations_are_kept_and_made_anew_after_a_restart() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    let hands = hands(dir.path(), &server).await;
    let mut wanted: BTreeMap<MemberId, Lsn> = BTreeMap::new();
    wanted.insert("n2_1".parse().unwrap(), Lsn::ZERO);
    wanted.insert("n3_1".parse().unwrap(), Lsn::ZERO);
    hands.keep_slots(&wanted).await.unwrap();
    let probe = hands.probe().await;
    assert!(probe.server.state == ServerState::Primary && probe.server.sysid != 0, "{probe:?}");
    assert_eq!(slots(&server), "tanist_n2_1 tanist_n3_1");
    wait_until("an idle server", || ours(&server).iter().all(|l| l.ends_with("idle no snapshot")));
    let first = ours(&server);
    assert_eq!(first.len(), 2);
    wanted.remove(&"n3_1".parse().unwrap());
    for _ in 0..20 {
        hands.keep_slots(&wanted).await.unwrap();
        assert_eq!(hands.probe().await.server.state, ServerState::Primary);
    }
    assert_eq!(slots(&server), "tanist_n2_1");
    wait_until("the same two", || ours(&server) == first);

    // A fast shutdown waits for neither, and the next life of the server is asked at once.
    server.stop_fast();
    assert!(hands.keep_slots(&wanted).await.is_err());
    server.start_standby(None);
    hands.keep_slots(&wanted).await.unwrap();
    let probe = hands.probe().await;
    assert_eq!((probe.server.state, probe.server.trouble.clone()), (ServerState::Standby, None), "{probe:?}");
    assert_eq!(probe.server.end, server.replayed());
    // A promotion neither ends them nor waits for them.
    let before = ours(&server);
    assert_eq!(before.len(), 2);
    server.promote();
    let probe = hands.probe().await;
    assert_eq!(probe.server.state, ServerState::Primary);
    assert_eq!(probe.leading.unwrap().end, probe.server.end);
    hands.keep_slots(&wanted).await.unwrap();
    let pids =
        |all: Vec<String>| all.iter().map(|l| l.split(' ').next().unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(pids(ours(&server)), pids(before));
}

/// A deed that is broken off while it is asking leaves nothing behind that the next
/// would take for its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_broken_off_is_closed() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    let hands = hands(dir.path(), &server).await;
    let mut wanted: BTreeMap<MemberId, Lsn> = BTreeMap::new();
    for i in 0..10 {
        wanted.insert(format!("n{i}_1").parse().unwrap(), Lsn::ZERO);
        let deed = hands.keep_slots(&wanted);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300 * i), deed).await;
    }
    hands.keep_slots(&wanted).await.unwrap();
    assert_eq!(slots(&server).split(' ').count(), 10);
    wait_until("those that were given up to be gone", || ours(&server).len() == 1);
}
