//! Logs that end in the middle of something: of a record, or of a segment that is fetched again.
//!
//! What we do about them is tested beside the code that does it; here stands what PostgreSQL
//! does when nobody helps.
//!
//! Protocol: (h) and its fifth case, (k), C-1.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use cluster::{Lsn, Timeline};
use postgres::RunAs;
use postgres::control_file::ControlFile;
use postgres::history;
use postgres::wal::record::End;
use postgres::wal::segment::Segment;
use postgres::wal::{ScanStart, WalEnd, scan_end};

use crate::real::{Server, wait_until};
use crate::stage::process::{self, Frozen};
use crate::stage::relay::Relay;
use crate::stage::session::Session;
use crate::stage::{
    Stage, conninfo, flushed, set, wait_until_caught_up, wait_until_streams, wait_until_sure,
};

/// Of the template.
const SEGMENT: u64 = 1 << 20;

fn end_of(server: &Server) -> WalEnd {
    scan_end(&server.pgdata, ScanStart::Redo).unwrap()
}

fn segment(server: &Server, timeline: u32, number: u64) -> PathBuf {
    let name = Segment { timeline: Timeline(timeline), number }.file_name(SEGMENT as u32);
    server.pgdata.join("pg_wal").join(name)
}

/// Copies a file of the log, with the server's user as its owner.
fn fetch(from: &Server, to: &Server, name: &str) -> PathBuf {
    let path = to.pgdata.join("pg_wal").join(name);
    fs::copy(from.pgdata.join("pg_wal").join(name), &path).unwrap();
    RunAs::for_server().unwrap().own(&path).unwrap();
    path
}

/// A standby with the beginning of a record that its dead primary did not finish, and with
/// none of the segments from the second boundary on that it crosses. Gives the next leader,
/// which has none of it, the standby, where the record begins, and what is asked for next.
fn half_a_record(stage: &Stage) -> (Server, Server, Lsn, Lsn) {
    let mut primary = stage.primary("n1", "");
    let leader = stage.standby("n2", &primary, "");
    let mut standby = stage.standby("n3", &primary, "");
    set(&leader, "primary_conninfo", "");
    wait_until("no walreceiver", || process::find(&leader, "walreceiver").is_none());
    let emit = "select pg_logical_emit_message(true, 'x', repeat('y', 3000000))";
    let behind: Lsn = Session::open(&primary).sql(emit).parse().unwrap();
    wait_until_caught_up(&primary, &standby);
    primary.crash();
    standby.crash();
    // As if the connection had ended within the message.
    let missing = behind.0 / SEGMENT;
    for number in (missing..).take_while(|n| segment(&standby, 1, *n).exists()) {
        fs::remove_file(segment(&standby, 1, number)).unwrap();
    }
    let end = end_of(&standby);
    assert_eq!(end.after, End::Torn(Lsn(missing * SEGMENT)));
    leader.promote();
    Session::open(&leader).sql("insert into t values ('of the next term')");
    (leader, standby, end.end, Lsn(missing * SEGMENT))
}

/// (h), a fifth case: it asks the next leader for what comes after the part that it has, and
/// gets nothing until the leader has come so far.
#[test]
fn a_standby_with_half_a_record_asks_for_what_does_not_exist() {
    let stage = Stage::new();
    let (leader, mut standby, message, asked) = half_a_record(&stage);
    assert!(flushed(&leader) < asked);
    for _ in 0..2 {
        standby.start_standby(Some(&conninfo(&leader, "n3")));
        // It is refused, or (the newest minors) waits in the walreceiver.
        let words = ["ahead of the WAL flush position", "ahead of the upstream server's flush position"];
        wait_until("what it is told", || words.iter().any(|w| standby.log().contains(w)));
        let eye = Session::open(&standby);
        wait_until_sure("it stands still", || {
            eye.sql("select pg_last_wal_replay_lsn()") == message.to_string()
                && eye.sql("select count(*) from t") == "0"
        });
        standby.stop_fast();
    }
}

/// When the leader has come so far, it streams from behind the hole, and acknowledges commits
/// that it does not have, until its startup process reads on and the server ends (PANIC).
/// Started again, it asks from the switch on and is well.
#[test]
fn a_standby_with_half_a_record_acknowledges_commits_that_it_does_not_have() {
    let stage = Stage::new();
    let (leader, mut standby, message, asked) = half_a_record(&stage);
    let (client, eye) = (Session::open(&leader), Session::open(&leader));
    while flushed(&leader) < asked {
        client.sql("select pg_logical_emit_message(true, 'x', repeat('y', 100000))");
    }
    set(&leader, "synchronous_standby_names", "ANY 1 (n3)");
    let waiting = client.begin_waiting("insert into t values ('acknowledged')", &eye);

    // The startup process is slow to read what the walreceiver brings.
    let relay = Relay::new(&stage.folder("relay"), &leader);
    relay.close();
    standby.make_standby(Some(&relay.conninfo("n3")));
    standby.spawn();
    wait_until("WAL on its way", || relay.is_holding());
    let startup = Frozen::new(process::find(&standby, "startup").unwrap());
    relay.open();
    waiting.outcome().expect("acknowledged by a standby with a hole");
    drop(startup);
    standby.wait_until_ended();
    assert!(standby.log().contains("PANIC:  could not open file \"pg_wal/00000002"));
    assert_eq!(end_of(&standby).end, message, "this is all that it has");

    standby.start();
    wait_until_caught_up(&leader, &standby);
    assert_eq!(Session::open(&standby).sql("select count(*) from t where v = 'acknowledged'"), "1");
}

/// (k): the file of a new timeline that was fetched only in part is preferred to the whole one
/// of the old timeline, and hides what that has below the switch.
#[test]
fn a_half_fetched_file_of_a_new_timeline_hides_what_the_old_one_has() {
    let stage = Stage::new();
    let mut leader = stage.primary("n1", "");
    let session = Session::open(&leader);
    let small = "select pg_logical_emit_message(true, 'x', repeat('y', 20000))";
    while flushed(&leader).0 % SEGMENT > SEGMENT / 2 {
        session.sql(small);
    }
    session.sql("checkpoint");
    while flushed(&leader).0 % SEGMENT < SEGMENT * 3 / 4 {
        session.sql(small);
    }
    leader.crash();
    let old = end_of(&leader);
    let mut follower = stage.copy(&leader, "n2");
    leader.start_standby(None);
    leader.promote();
    Session::open(&leader).sql("insert into t values ('on timeline 2')");
    leader.crash();

    fetch(&leader, &follower, &history::file_name(Timeline(2)));
    // Behind the checkpoint, before the end.
    let checkpoint = ControlFile::read(&follower.pgdata).unwrap().checkpoint;
    let (number, half) = (old.end.0 / SEGMENT, (checkpoint.0 + old.end.0) / 2 % SEGMENT);
    assert_eq!(checkpoint.0 / SEGMENT, number);
    let name = Segment { timeline: Timeline(2), number }.file_name(SEGMENT as u32);
    let fetched = fetch(&leader, &follower, &name);
    let file = OpenOptions::new().write(true).open(&fetched).unwrap();
    file.write_all_at(&vec![0; (SEGMENT - half) as usize], half).unwrap();
    follower.start_standby(None);
    assert!(follower.replayed() < old.end, "{} of {}", follower.replayed(), old.end);
    follower.crash();
    fs::remove_file(&fetched).unwrap();
    follower.start_standby(None);
    wait_until("replay of the old timeline's file", || follower.replayed() == old.end);
}

/// C-1, the table's row: while a standby follows a new timeline, its control file names the
/// one of its last restartpoint.
#[test]
fn c1_a_followers_control_file_names_an_older_timeline_than_its_log() {
    let stage = Stage::new();
    let mut primary = stage.primary("n1", "");
    let leader = stage.standby("n2", &primary, "");
    let follower = stage.standby("n3", &primary, "");
    primary.crash();
    leader.promote();
    set(&follower, "primary_conninfo", &conninfo(&leader, "n3"));
    wait_until_streams(&leader, "n3");
    Session::open(&leader).sql("insert into t values ('on timeline 2')");
    wait_until_caught_up(&leader, &follower);
    assert_eq!(end_of(&follower).timeline, Timeline(2));
    assert_eq!(ControlFile::read(&follower.pgdata).unwrap().timeline, Timeline(1));
}

/// (k): a placeholder is believed by whoever finds it, and who has turned to its timeline
/// follows no leader that has not got so far.
#[test]
fn who_has_turned_to_a_placeholders_timeline_can_not_follow_a_lower_one() {
    let stage = Stage::new();
    let primary = stage.primary("n1", "");
    let mut standby = stage.standby("n2", &primary, "");
    wait_until_caught_up(&primary, &standby);
    set(&standby, "primary_conninfo", "");
    let end: Lsn = standby.replayed();
    let placeholder = standby.pgdata.join("pg_wal").join(history::file_name(Timeline(2)));
    fs::write(&placeholder, format!("1\t{end}\treserved\n")).unwrap();
    RunAs::for_server().unwrap().own(&placeholder).unwrap();
    wait_until("it to see it", || standby.log().contains("new target timeline is 2"));
    set(&standby, "primary_conninfo", &conninfo(&primary, "n2"));
    wait_until("a refusal", || {
        standby.log().contains("highest timeline 1 of the primary is behind recovery timeline 2")
    });
    let eye = Session::open(&primary);
    let nobody = || eye.sql("select count(*) from pg_stat_replication where state = 'streaming'") == "0";
    wait_until_sure("it does not follow", nobody);
    // Also after the file is gone, until it is restarted.
    fs::remove_file(&placeholder).unwrap();
    wait_until_sure("it does not forget", nobody);
    standby.stop_fast();
    standby.start_standby(Some(&conninfo(&primary, "n2")));
    wait_until_streams(&primary, "n2");
}
