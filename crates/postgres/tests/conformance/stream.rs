//! Walsenders: what they send, whom they admit, and how they leave at a shutdown.
//!
//! Protocol: C-8, 1.6, (f) P1 and P2, (i) (iii), (k).

use cluster::Lsn;
use nix::sys::signal::Signal;
use postgres::control_file::{ControlFile, DbState};
use postgres::wal::{ScanStart, clean_shutdown, scan_end};

use crate::real::wait_until;
use crate::stage::process::{self, Frozen, send, wait_until_gone};
use crate::stage::receiver::Receiver;
use crate::stage::session::Session;
use crate::stage::{Stage, flushed, wait_until_caught_up, wait_until_sure};

/// (k): a standby is never ahead of what its primary has on disk.
#[test]
fn walsenders_send_only_what_is_flushed() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let standby = stage.standby("n2", &primary, "");
    let (client, replica) = (Session::open(&primary), Session::open(&standby));
    client.sql("set synchronous_commit = off");
    wait_until_caught_up(&primary, &standby);
    // Nobody else writes out what has not been asked for.
    let walwriter = Frozen::new(process::find(&primary, "walwriter").unwrap());
    client.sql("insert into t values ('in memory only')");
    let lsn = |what: &str| client.sql(&format!("select pg_current_wal_{what}_lsn()")).parse::<Lsn>().unwrap();
    let received = || replica.sql("select pg_last_wal_receive_lsn()").parse::<Lsn>().unwrap();
    wait_until_sure("the standby has no more than what is flushed", || {
        let (received, flushed, inserted) = (received(), lsn("flush"), lsn("insert"));
        assert!(flushed < inserted, "else this shows nothing: flushed {flushed}, written {inserted}");
        received <= flushed && replica.sql("select count(*) from t") == "0"
    });
    drop(walwriter);
    wait_until("the row", || replica.sql("select count(*) from t") == "1");
}

#[test]
fn a_fast_shutdown_waits_until_all_that_was_sent_is_flushed_there() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let mut standby = Receiver::attach(&primary, "n2", flushed(&primary));
    send(primary.pid(), Signal::SIGINT);
    let control = || ControlFile::read(&primary.pgdata).unwrap();
    wait_until("the shutdown checkpoint", || control().state == DbState::ShutDown);
    let end = clean_shutdown(&primary.pgdata).unwrap().unwrap().wal.end;
    standby.receive_to(end);
    standby.acknowledge(Lsn(end.0 - 1));
    let walsender = process::find(&primary, "walsender").unwrap();
    wait_until_sure("it waits for the last byte", || {
        process::all(&primary.pgdata).contains(&walsender) && primary.pgdata.join("postmaster.pid").exists()
    });
    standby.acknowledge(end);
    standby.receive_to_end();
    primary.wait_until_ended();
    assert_eq!(standby.received, end, "and nothing follows the checkpoint");
}

#[test]
fn wal_sender_timeout_bounds_a_shutdown_that_waits_for_a_silent_standby() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "wal_sender_timeout = '1s'");
    let silent = Receiver::attach(&primary, "n2", flushed(&primary));
    primary.stop_fast();
    assert_eq!(ControlFile::read(&primary.pgdata).unwrap().state, DbState::ShutDown);
    drop(silent);
}

/// (f) P2: the last record is the shutdown checkpoint, and the standby has all of it; with
/// an archive too, where the segment is switched first.
#[test]
fn a_fast_shutdown_under_load_leaves_the_standby_with_its_checkpoint() {
    for archive in ["", "archive_mode = on\narchive_command = 'true'"] {
        let stage = Stage::new();
        let mut primary = stage.primary("n1", archive);
        let mut standby = stage.standby("n2", &primary, "");
        let client = Session::open(&primary);
        let load = client
            .begin("do $$ begin loop insert into t values (repeat('x', 3000)); commit; end loop; end $$");
        let eye = Session::open(&standby);
        wait_until("the load to arrive", || eye.sql("select count(*) > 50 from t") == "t");
        primary.stop_fast();
        load.outcome().expect_err("it never ends by itself");
        let shutdown = clean_shutdown(&primary.pgdata).unwrap().expect("a clean shutdown");
        assert_eq!(shutdown.wal.record.start, shutdown.checkpoint);
        let control = ControlFile::read(&primary.pgdata).unwrap();
        assert_eq!((control.state, control.checkpoint), (DbState::ShutDown, shutdown.checkpoint));
        let first_page = shutdown.checkpoint.0 % (1 << 20) < 8192;
        assert!(archive.is_empty() || first_page, "after a switch: {}", shutdown.checkpoint);
        standby.crash();
        assert_eq!(scan_end(&standby.pgdata, ScanStart::Redo).unwrap().end, shutdown.wal.end);
    }
}

/// C-8.
#[test]
fn c8_a_physical_slot_admits_one_walsender() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let eye = Session::open(&primary);
    eye.sql("select pg_create_physical_replication_slot('tanist_b')");
    let from = flushed(&primary);
    let first = Receiver::try_attach(&primary, "b", Some("tanist_b"), from).unwrap();
    let Err(refused) = Receiver::try_attach(&primary, "b", Some("tanist_b"), from) else {
        panic!("two at one slot");
    };
    assert!(refused.contains("is active for PID"), "{refused}");
    drop(first);
    wait_until("the slot to be free", || eye.sql("select active from pg_replication_slots") == "f");
    Receiver::try_attach(&primary, "b", Some("tanist_b"), from).unwrap();
}

/// (i) (iii): what is done to one that lags. When its standby reads nothing any more, it takes
/// two: at the first it says goodbye, and waits until that can be sent.
#[test]
fn a_walsender_that_can_not_send_ends_at_the_second_termination() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let stuck = Receiver::attach(&primary, "b", flushed(&primary));
    let client = Session::open(&primary);
    client.sql("alter table t alter v set storage external");
    client.sql("insert into t select repeat('x', 100000) from generate_series(1, 200)");
    let end = flushed(&primary);
    let pid: i32 = client.sql("select pid from pg_stat_replication").parse().unwrap();
    let behind = format!("select sent_lsn < '{end}' from pg_stat_replication");
    wait_until_sure("it is stuck", || client.sql(&behind) == "t");
    assert_eq!(client.sql(&format!("select pg_terminate_backend({pid})")), "t");
    wait_until("it to try to say goodbye", || {
        process::all(&primary.pgdata).contains(&pid) && primary.log().contains("administrator command")
    });
    wait_until_sure("it still tries", || process::all(&primary.pgdata).contains(&pid));
    assert_eq!(client.sql("select count(*) from pg_stat_replication"), "1");
    client.sql(&format!("select pg_terminate_backend({pid})"));
    wait_until_gone(pid);
    assert_eq!(client.sql("select count(*) from pg_stat_replication"), "0");
    drop(stuck);
}
