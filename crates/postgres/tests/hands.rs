//! Conversations that the hands keep with a real server: one each, however often they
//! ask, in nobody's way, and made anew after a restart.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod real;

use std::collections::BTreeMap;

use cluster::report::ServerState;
use cluster::{Lsn, MemberId, Rule, Timeline};
use postgres::guard::tree;
use postgres::perform::PromoteOrder;
use postgres::{RunAs, history};
use real::hands::hands;
use real::{Server, bin15, scratch, wait_until};

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

/// What ALTER SYSTEM has set is out of the file, and the signal was lost: the next look
/// sends it, though it finds nothing to take out.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_signal_about_overrides_is_sent_again() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    let hands = hands(dir.path(), &server).await;
    // An agent before this one may have died between the file and the signal.
    assert!(hands.take_back_overrides().await.unwrap());
    assert!(!hands.take_back_overrides().await.unwrap());
    server.sql("alter system set synchronous_standby_names = 'x'");
    server.sql("select pg_reload_conf()");
    let names = || server.sql("show synchronous_standby_names");
    wait_until("the override", || names() == "x");
    hands.take_back_overrides().await.unwrap_err();
    assert!(!server.pgdata_text("postgresql.auto.conf").contains("synchronous_standby_names"));
    assert_eq!(names(), "x", "on disk only");
    assert!(hands.take_back_overrides().await.unwrap());
    wait_until("the reload", || names().is_empty());
    assert!(!hands.take_back_overrides().await.unwrap());
}

/// Ends what a guard has started.
struct Ended(std::path::PathBuf);

impl Drop for Ended {
    fn drop(&mut self) {
        tree::kill_all(&self.0);
    }
}

/// It has fetched the histories of leaders that came to nothing, follows the last of them
/// already, and would be promoted from there: on a past that nobody elected.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_follows_a_timeline_of_nobody_is_promoted_from_its_own() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    server.sql("create table t(v text)");
    server.stop_fast();
    server.start_standby(None);
    let hands = hands(dir.path(), &server).await;
    let _ended = Ended(server.pgdata.clone());
    let (owner, pg_wal) = (RunAs::for_server().unwrap(), server.pgdata.join("pg_wal"));
    for (parent, timeline) in [(1, 2), (2, 3)] {
        let parent = Timeline(parent);
        let grown = history::extend(
            history::read(&pg_wal, parent).unwrap().as_deref(),
            parent,
            Lsn(0x3_0000_0000),
            history::PROMOTED,
        );
        history::install(&pg_wal, Timeline(timeline), &grown, owner).unwrap();
    }
    wait_until("it to follow them", || server.log().contains("new target timeline is 3"));
    let order = PromoteOrder { timeline: Timeline(6), rule: Rule::leader_only() };
    hands.promote(order, |_| async { Ok(()) }).await.unwrap();
    let pasts = history::lineage(&pg_wal, Timeline(6)).unwrap();
    assert!(!pasts.contains(Timeline(2)) && !pasts.contains(Timeline(3)), "{pasts:?}");
    let probe = hands.probe().await.server;
    assert_eq!((probe.state, probe.lineage.timeline), (ServerState::Primary, Timeline(6)));
}
