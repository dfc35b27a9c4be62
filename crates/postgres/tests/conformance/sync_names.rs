//! `synchronous_standby_names`: who is counted, and when a change of it is in force where.
//!
//! Protocol: findings 5 and 6, C-6 to C-9, (i).

use nix::sys::signal::Signal;

use crate::real::{Server, wait_until};
use crate::stage::process::{self, Frozen};
use crate::stage::receiver::Receiver;
use crate::stage::session::Session;
use crate::stage::{Stage, flushed, set, wait_until_sure};

const NAMES: &str = "synchronous_standby_names";

fn walsender(eye: &Session, name: &str) -> i32 {
    eye.sql(&format!("select pid from pg_stat_replication where application_name = '{name}'"))
        .parse()
        .unwrap()
}

/// The rule as the walsender of `name` counts it: `0` when its standby is not named.
fn priority(eye: &Session, name: &str) -> String {
    let asked = "select sync_priority from pg_stat_replication where application_name";
    eye.sql(&format!("{asked} = '{name}'"))
}

#[test]
fn an_empty_list_releases_all_who_wait_and_the_checkpointer_does_it() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 1 (nobody)'"));
    let eye = Session::open(&primary);
    let clients: Vec<Session> = (0..4).map(|_| Session::open(&primary)).collect();
    let waiting: Vec<_> =
        clients.iter().map(|c| c.begin_waiting("insert into t values ('x')", &eye)).collect();
    let checkpointer = Frozen::new(process::find(&primary, "checkpointer").unwrap());
    set(&primary, NAMES, "");
    wait_until_sure("all wait for the checkpointer", || waiting.iter().all(|w| !w.is_over()));
    drop(checkpointer);
    for one in waiting {
        one.outcome().unwrap();
    }
    assert_eq!(eye.sql("select count(*) from t"), "4");
}

/// C-8: PostgreSQL counts connections by their name.
#[test]
fn two_receivers_of_one_name_count_twice() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 2 (b, c)'"));
    let from = flushed(&primary);
    let mut both = [Receiver::attach(&primary, "c", from), Receiver::attach(&primary, "c", from)];
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('x')", &eye);
    let end = flushed(&primary);
    both[0].receive_to(end);
    both[0].acknowledge(end);
    wait_until_sure("one of two is too few", || !waiting.is_over());
    both[1].receive_to(end);
    both[1].acknowledge(end);
    waiting.outcome().expect("b has nothing, and it counts as acknowledged");
}

/// Finding 6, why changes are elementary (C-6): k of the new rule, members of both.
#[test]
fn a_frozen_walsenders_standby_counts_for_the_next_rule() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 2 (b, c)'"));
    let from = flushed(&primary);
    let (mut b, mut c) = (Receiver::attach(&primary, "b", from), Receiver::attach(&primary, "c", from));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('x')", &eye);
    let end = flushed(&primary);
    b.receive_to(end);
    b.acknowledge(end);
    let reached =
        format!("select flush_lsn >= '{end}' from pg_stat_replication where application_name = 'b'");
    wait_until("the reply of b", || eye.sql(&reached) == "t");
    c.acknowledge(from);

    let frozen = Frozen::new(walsender(&eye, "b"));
    set(&primary, NAMES, "ANY 1 (c)");
    assert_eq!((priority(&eye, "b").as_str(), priority(&eye, "c").as_str()), ("1", "1"));
    // What c says is older than the commit, and it is c's walsender that counts to one.
    c.acknowledge(from);
    waiting.outcome().expect("acknowledged, and c has not one byte of it");
    drop(frozen);
    wait_until("b to be told", || priority(&eye, "b") == "0");
}

/// (i), why a reply of L or more proves the rule: a walsender takes up a reload before it
/// reads a reply, also one that came first.
#[test]
fn a_reply_read_after_the_reload_is_counted_by_the_new_rule() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 1 (b)'"));
    let mut b = Receiver::attach(&primary, "b", flushed(&primary));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    for _ in 0..5 {
        let waiting = client.begin_waiting("insert into t values ('x')", &eye);
        let end = flushed(&primary);
        b.receive_to(end);
        let frozen = Frozen::new(walsender(&eye, "b"));
        b.acknowledge(end);
        set(&primary, NAMES, "ANY 1 (nobody)");
        drop(frozen);
        let read = "select flush_lsn from pg_stat_replication where application_name = 'b'";
        wait_until("the reply to be read", || eye.sql(read) == end.to_string());
        assert_eq!(priority(&eye, "b"), "0");
        assert!(eye.waits(client.pid) && !waiting.is_over(), "b is no longer named");
        set(&primary, NAMES, "ANY 1 (b)");
        b.acknowledge(end);
        waiting.outcome().unwrap();
    }
}

/// C-7: when a second fresh connection is open, every child has been signalled.
#[test]
fn c7_a_second_fresh_connection_proves_that_all_were_signalled() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "max_connections = 120");
    // The oldest and the newest children, and a crowd between them, as slow to signal as can be.
    let first = Receiver::attach(&primary, "b", flushed(&primary));
    let crowd: Vec<Session> = (0..60).map(|_| Session::open(&primary)).collect();
    let last = Receiver::attach(&primary, "c", flushed(&primary));
    let eye = &crowd[0];
    let watched = [
        walsender(eye, "b"),
        walsender(eye, "c"),
        process::find(&primary, "checkpointer").unwrap(),
        crowd[1].pid,
        crowd[59].pid,
    ];
    for round in 0..12 {
        let signalled = |pid: &i32| process::has_pending(*pid, Signal::SIGHUP);
        wait_until("the round before to be taken up", || !watched.iter().any(signalled));
        let frozen: Vec<Frozen> = watched.iter().map(|pid| Frozen::new(*pid)).collect();
        assert!(!watched.iter().any(signalled));
        let value = format!("ANY 1 (r{round})");
        eye.sql(&format!("alter system set {NAMES} = '{value}'"));
        process::send(primary.pid(), Signal::SIGHUP);
        wait_until("a new session to see it", || {
            Session::open(&primary).sql(&format!("show {NAMES}")) == value
        });
        Session::open(&primary);
        let all = watched.iter().all(signalled);
        assert!(all, "round {round}: a child was not signalled before the second connection");
        drop(frozen);
    }
    drop((first, last));
}

/// C-9: whether commits wait at all is the checkpointer's to say.
#[test]
fn c9_names_are_in_force_when_the_checkpointer_has_them() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = ''"));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let checkpointer = Frozen::new(process::find(&primary, "checkpointer").unwrap());
    set(&primary, NAMES, "ANY 1 (nobody)");
    for _ in 0..20 {
        client.sql("insert into t values ('nobody has this')");
        Session::open(&primary).sql("insert into t values ('nor this')");
    }
    drop(checkpointer);
    eye.sql("checkpoint");
    let waiting = client.begin_waiting("insert into t values ('waits')", &eye);
    wait_until_sure("it waits", || !waiting.is_over());
    set(&primary, NAMES, "");
    waiting.outcome().unwrap();
    // The proof of the protocol, without a frozen process: a checkpoint that was asked for after C-7.
    for _ in 0..5 {
        set(&primary, NAMES, "ANY 1 (nobody)");
        eye.sql("checkpoint");
        let waiting = client.begin_waiting("insert into t values ('waits')", &eye);
        set(&primary, NAMES, "");
        waiting.outcome().unwrap();
    }
}

/// C-9: a standby's placeholder makes the very first commit after its promotion wait.
#[test]
fn c9_a_promoted_standbys_first_commit_waits_for_its_placeholder() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, &format!("{NAMES} = 'ANY 1 (nobody)'"));
    let client = Session::open(&standby);
    assert_eq!(Session::open(&standby).sql("select pg_promote(false)"), "t");
    // The first that is not refused.
    let mut tried = client.begin("insert into t values ('first')");
    let eye = Session::open(&standby);
    wait_until("a commit that waits", || {
        if tried.is_over() {
            let again = client.begin("insert into t values ('first')");
            let refused = std::mem::replace(&mut tried, again).outcome();
            assert!(refused.is_err(), "a commit was acknowledged, and nobody has it");
        }
        eye.waits(client.pid)
    });
    wait_until_sure("it waits", || !tried.is_over());
    set(&standby, NAMES, "");
    tried.outcome().unwrap();
}

/// Finding 5: a rule that becomes satisfiable releases at the next reply, and a nudge brings one.
#[test]
fn who_waits_is_released_by_the_next_reply_and_not_by_the_rule() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 2 (b, c)'"));
    let mut b = Receiver::attach(&primary, "b", flushed(&primary));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('x')", &eye);
    let end = flushed(&primary);
    b.receive_to(end);
    b.acknowledge(end);
    let read = "select flush_lsn from pg_stat_replication where application_name = 'b'";
    wait_until("the reply to be read", || eye.sql(read) == end.to_string());
    set(&primary, NAMES, "ANY 1 (b)");
    wait_until_sure("all that it waits for is there, and it waits", || !waiting.is_over());
    b.acknowledge(end);
    waiting.outcome().unwrap();
}

#[test]
fn a_nudge_brings_a_reply_long_before_the_status_interval() {
    let stage = Stage::new();
    let primary = stage.primary("n1", &format!("{NAMES} = 'ANY 2 (n2, nobody)'"));
    let standby = stage.standby("n2", &primary, "wal_receiver_status_interval = '1h'");
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('x')", &eye);
    wait_until_replied(&primary, &eye);
    set(&primary, NAMES, "ANY 1 (n2)");
    eye.sql("set synchronous_commit = local; select pg_logical_emit_message(true, 'nudge', '')");
    waiting.outcome().expect("released by the reply to the nudge");
    drop(standby);
}

/// The standby has said all that it will say before the next hour.
fn wait_until_replied(primary: &Server, eye: &Session) {
    let end = flushed(primary);
    let all = format!("select replay_lsn >= '{end}' from pg_stat_replication");
    wait_until("the standby's replies", || eye.sql(&all) == "t");
}
