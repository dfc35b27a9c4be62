//! What goes on when the postmaster does not: backends that outlive it, and what the next
//! start makes of them.
//!
//! Protocol: finding 3, C-4, (a), §4.

use std::fs;

use nix::sys::signal::Signal;

use crate::real::{Server, wait_until};
use crate::stage::process::{self, send, wait_until_gone};
use crate::stage::session::{Session, Underway};
use crate::stage::{Stage, refusal};

/// A backend that runs until the file `go` is there, never looks up, and then commits.
fn begin_busy(client: &Session, server: &Server) -> Underway {
    let running = client.begin(
        "do $$ begin \
           while pg_stat_file('go', true) is null loop end loop; \
           insert into t values ('of an orphan'); \
         end $$",
    );
    let eye = Session::open(server);
    let active = format!("select state from pg_stat_activity where pid = {}", client.pid);
    wait_until("a busy backend", || eye.sql(&active) == "active");
    running
}

/// The postmaster and nobody else; it stays a zombie until it is waited for.
fn kill_postmaster(server: &Server) {
    send(server.pid(), Signal::SIGKILL);
    let status = format!("/proc/{}/status", server.pid());
    wait_until("a zombie", || fs::read_to_string(&status).unwrap().contains("(zombie)"));
}

#[test]
fn a_busy_backend_outlives_its_postmaster_and_acknowledges() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let client = Session::open(&primary);
    let busy = begin_busy(&client, &primary);
    kill_postmaster(&primary);
    let said = refusal(&primary);
    assert!(said.contains("lock file \"postmaster.pid\" already exists"), "of a zombie: {said}");
    primary.wait_until_ended();
    let said = refusal(&primary);
    assert!(said.contains("pre-existing shared memory block"), "of an orphan: {said}");
    wait_until("only the busy one to be left", || process::all(&primary.pgdata) == [client.pid]);

    fs::write(primary.pgdata.join("go"), "").unwrap();
    busy.outcome().expect("acknowledged by a server that has no postmaster");
    wait_until_gone(client.pid);
    primary.start_standby(None);
    assert_eq!(Session::open(&primary).sql("select v from t"), "of an orphan");
}

#[test]
fn an_orphan_that_would_wait_for_standbys_acknowledges_nothing() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "synchronous_standby_names = 'ANY 1 (nobody)'");
    let client = Session::open(&primary);
    let busy = begin_busy(&client, &primary);
    kill_postmaster(&primary);
    fs::write(primary.pgdata.join("go"), "").unwrap();
    primary.wait_until_ended();
    busy.outcome().expect_err("the connection is closed");
    wait_until_gone(client.pid);
    primary.start_standby(None);
    assert_eq!(Session::open(&primary).sql("select v from t"), "of an orphan", "it is there all the same");
}

/// (a): who waits for something, or does nothing, goes by itself.
#[test]
fn idle_processes_follow_their_postmaster() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "synchronous_standby_names = 'ANY 1 (nobody)'");
    let (client, idle) = (Session::open(&primary), Session::open(&primary));
    let waiting = client.begin_waiting("insert into t values ('waits')", &idle);
    kill_postmaster(&primary);
    primary.wait_until_ended();
    wait_until("no process to be left", || process::all(&primary.pgdata).is_empty());
    waiting.outcome().expect_err("not acknowledged");
    primary.start_standby(None);
    assert_eq!(Session::open(&primary).sql("select v from t"), "waits");
}

/// (a) 4: a standby need not wait for a time limit to miss its primary.
#[test]
fn a_standby_sees_at_once_that_its_primarys_postmaster_was_killed() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "wal_receiver_timeout = '1h'");
    let old = process::find(&standby, "walreceiver").unwrap();
    kill_postmaster(&primary);
    primary.wait_until_ended();
    wait_until_gone(old);
}

#[test]
fn a_killed_backend_ends_the_postmaster_unless_it_may_restart_by_itself() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    send(Session::open(&primary).pid, Signal::SIGKILL);
    primary.wait_until_ended();
    wait_until("no process to be left", || process::all(&primary.pgdata).is_empty());

    // The default: the same postmaster opens again, read-write, and what waited is there.
    let on = "restart_after_crash = on\nsynchronous_standby_names = 'ANY 1 (nobody)'";
    let reopens = stage.primary("n2", on);
    let (client, eye) = (Session::open(&reopens), Session::open(&reopens));
    let waiting = client.begin_waiting("insert into t values ('waited')", &eye);
    send(eye.pid, Signal::SIGKILL);
    waiting.outcome().expect_err("not acknowledged");
    wait_until("it opens by itself", || {
        Session::try_open(&reopens).is_ok_and(|s| s.try_sql("select v from t").is_ok_and(|v| v == "waited"))
    });
    assert_eq!(Session::open(&reopens).sql("select pg_is_in_recovery()"), "f");
}
