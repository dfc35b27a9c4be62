//! A standby's upstream: what ends its walreceiver, what the next one does, and what the
//! views say of it meanwhile.
//!
//! Protocol: findings 1 and 2, C-5, 2.1.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use cluster::Lsn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::RunAs;
use postgres::wal::{ScanStart, scan_end};

use crate::real::{Server, wait_until};
use crate::stage::process::{self, send, wait_until_gone};
use crate::stage::relay::Relay;
use crate::stage::session::Session;
use crate::stage::{
    Stage, conninfo, flushed, set, wait_until_caught_up, wait_until_streams, wait_until_sure,
};

const QUICK: &str = "wal_receiver_status_interval = '1s'";

fn receiver(standby: &Server) -> Option<i32> {
    process::find(standby, "walreceiver")
}

fn pause(standby: &Server) {
    let eye = Session::open(standby);
    eye.sql("select pg_wal_replay_pause()");
    wait_until("replay to pause", || eye.sql("select pg_get_wal_replay_pause_state()") == "paused");
}

/// Finding 1, and why pausing replay revokes nothing.
#[test]
fn an_emptied_conninfo_does_not_end_a_walreceiver_while_replay_is_paused() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, QUICK);
    set(&primary, "synchronous_standby_names", "ANY 1 (n2)");
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    client.sql("insert into t values ('before')");
    pause(&standby);
    let old = receiver(&standby).unwrap();
    set(&standby, "primary_conninfo", "");
    wait_until_sure("it receives and acknowledges", || {
        client.sql("insert into t values ('acknowledged')");
        receiver(&standby) == Some(old)
    });

    // Only a superuser's own backends can be terminated by SQL: a walreceiver is none.
    let terminated = Session::open(&standby).try_sql(&format!("select pg_terminate_backend({old})"));
    assert_eq!(terminated.unwrap(), "f");
    send(old, Signal::SIGTERM);
    wait_until("no walreceiver", || receiver(&standby).is_none());
    let waiting = client.begin_waiting("insert into t values ('never')", &eye);
    wait_until_sure("none comes back, nothing is acknowledged", || {
        receiver(&standby).is_none() && !waiting.is_over()
    });
    Session::open(&standby).sql("select pg_wal_replay_resume()");
    wait_until_sure("nor when replay goes on", || receiver(&standby).is_none() && !waiting.is_over());
    set(&primary, "synchronous_standby_names", "");
    waiting.outcome().unwrap();
}

#[test]
fn an_emptied_conninfo_ends_a_walreceiver_while_replay_runs() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, QUICK);
    set(&standby, "primary_conninfo", "");
    wait_until("no walreceiver", || receiver(&standby).is_none());
    wait_until_sure("none comes back", || receiver(&standby).is_none());
}

/// C-5: the credential is read when a connection is made, and only then.
#[test]
fn c5_a_walreceiver_without_its_credential_does_not_come_back() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let passwords = stage.folder("passwords");
    let eye = Session::open(&primary);
    eye.sql("create role repl replication login password 'one'");
    let hba = "local replication repl scram-sha-256\nlocal all all trust\n";
    fs::write(primary.pgdata.join("pg_hba.conf"), hba).unwrap();
    eye.sql("select pg_reload_conf()");
    let (first, second) = (passwords.join("repl-t1.pass"), passwords.join("repl-t2.pass"));
    write_password(&first, "one");
    let upstream = |passfile: &Path| {
        format!(
            "host={} port={} user=repl application_name=n2 passfile={}",
            primary.dir.display(),
            primary.port,
            passfile.display()
        )
    };
    let mut standby = stage.server("n2", QUICK);
    standby.start_standby(Some(&upstream(&first)));
    wait_until_streams(&primary, "n2");

    let old = receiver(&standby).unwrap();
    fs::remove_file(&first).unwrap();
    eye.sql("insert into t values ('after it was removed')");
    wait_until_caught_up(&primary, &standby);
    assert_eq!(receiver(&standby), Some(old), "who is connected stays connected");
    send(old, Signal::SIGTERM);
    wait_until("a refusal", || standby.log().contains("no password supplied"));
    let none = "select count(*) from pg_stat_replication";
    wait_until_sure("nobody streams", || eye.sql(none) == "0");

    write_password(&second, "one");
    set(&standby, "primary_conninfo", &upstream(&second));
    wait_until_streams(&primary, "n2");
}

fn write_password(path: &Path, password: &str) {
    fs::write(path, format!("*:*:*:*:{password}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    RunAs::for_server().unwrap().own(path).unwrap();
}

#[test]
fn a_walreceiver_that_was_ended_comes_back_with_the_conninfo_of_then() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, QUICK);
    let old = receiver(&standby).unwrap();
    send(old, Signal::SIGTERM);
    wait_until_gone(old);
    wait_until_streams(&primary, "n2");
    // Its upstream's end of the connection: the same.
    let eye = Session::open(&primary);
    let old = receiver(&standby).unwrap();
    eye.sql("select pg_terminate_backend(pid) from pg_stat_replication");
    wait_until_gone(old);
    wait_until_streams(&primary, "n2");

    pause(&standby);
    let old = receiver(&standby).unwrap();
    set(&standby, "primary_conninfo", &conninfo(&primary, "renamed"));
    send(old, Signal::SIGTERM);
    wait_until_gone(old);
    wait_until_sure("a paused startup process asks for none", || receiver(&standby).is_none());
    Session::open(&standby).sql("select pg_wal_replay_resume()");
    wait_until_streams(&primary, "renamed");
}

/// C-5: "gone" is a question to the process table. An upstream that never answers.
#[test]
fn c5_the_view_is_empty_while_a_walreceiver_connects() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, QUICK);
    let silent = stage.folder("silent");
    let _listener = UnixListener::bind(silent.join(".s.PGSQL.5432")).unwrap();
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(silent.join(".s.PGSQL.5432"), all).unwrap();
    let old = receiver(&standby).unwrap();
    set(&standby, "primary_conninfo", &format!("host={} port=5432 user=postgres", silent.display()));
    wait_until_gone(old);
    wait_until("one that connects", || receiver(&standby).is_some());
    let eye = Session::open(&standby);
    wait_until_sure("a process and no row", || {
        eye.sql("select count(*) from pg_stat_wal_receiver") == "0" && receiver(&standby).is_some()
    });
    let connecting = receiver(&standby).unwrap();
    send(connecting, Signal::SIGTERM);
    wait_until_gone(connecting);
}

/// 2.1: acknowledged ≤ flushed ≤ what is reported, however a walreceiver ends.
#[test]
fn what_was_acknowledged_is_on_disk_when_a_walreceiver_has_ended() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let relay = Relay::new(&stage.folder("relay"), &primary);
    let mut standby = stage.server("n2", QUICK);
    standby.start_standby(Some(&relay.conninfo("n2")));
    let (client, eye) = (Session::open(&primary), Session::open(&primary));
    let mut last = Lsn(0);
    for round in 0..6 {
        wait_until_streams(&primary, "n2");
        let load = client
            .begin("do $$ begin loop insert into t values (repeat('x', 5000)); commit; end loop; end $$");
        wait_until("replies of this round", || relay.acknowledged() > last);
        let begun = relay.acknowledged();
        wait_until("replies under load", || relay.acknowledged() > begun);
        set(&standby, "primary_conninfo", "");
        if let Some(pid) = receiver(&standby) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        wait_until("no walreceiver", || receiver(&standby).is_none());
        wait_until("its last words", || relay.has_read_all());
        last = relay.acknowledged();
        let end = scan_end(&standby.pgdata, ScanStart::Redo).unwrap().end;
        let received: Lsn = Session::open(&standby).sql("select pg_last_wal_receive_lsn()").parse().unwrap();
        assert!(last <= received, "round {round}: acknowledged {last}, flushed {received}");
        // The last record may go on in what was not received.
        assert!(end <= received, "round {round}: {end} written, flushed {received}");
        eye.sql(&format!("select pg_cancel_backend({})", client.pid));
        load.outcome().expect_err("it never ends by itself");
        assert_eq!(relay.acknowledged(), last, "round {round}: a reply of a process that was gone");
        set(&standby, "primary_conninfo", &relay.conninfo("n2"));
    }
}

/// Finding 2.
#[test]
fn the_receive_position_is_null_after_a_restart_and_goes_back_to_a_segments_start() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let mut standby = stage.standby("n2", &primary, QUICK);
    Session::open(&primary).sql("insert into t select repeat('x', 1000) from generate_series(1, 300)");
    wait_until_caught_up(&primary, &standby);
    let received = "select coalesce(pg_last_wal_receive_lsn()::text, 'NULL')";
    let before: Lsn = Session::open(&standby).sql(received).parse().unwrap();
    assert!(before >= flushed(&primary));
    standby.stop_fast();
    standby.start_standby(None);
    let eye = Session::open(&standby);
    assert_eq!(eye.sql(received), "NULL");

    // Asked for from an upstream that never sends a byte: the place where it will begin.
    let silent = stage.folder("silent");
    let _listener = UnixListener::bind(silent.join(".s.PGSQL.5432")).unwrap();
    set(&standby, "primary_conninfo", &format!("host={} port=5432 user=postgres", silent.display()));
    wait_until("a position", || eye.sql(received) != "NULL");
    let asked: Lsn = eye.sql(received).parse().unwrap();
    let replayed = standby.replayed();
    assert_eq!(asked, Lsn(replayed.0 / (1 << 20) * (1 << 20)), "replayed {replayed}");
    assert!(asked < before && before <= replayed);
}
