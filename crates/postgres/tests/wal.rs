//! The WAL scanner and the control file against PostgreSQL's own opinion: what
//! recovery replays, and what `pg_waldump` and `pg_controldata` print.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod real;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use cluster::{Lsn, Timeline};
use postgres::control_file::{ControlFile, DbState};
use postgres::wal::segment::Segment;
use postgres::wal::{ScanStart, WalEnd, clean_shutdown, half_streamed, scan_end};
use real::{Server, all_bins, bin15, copy_wal, run_ok, scratch, wait_until, waldump_last};

fn redo_end(pgdata: &Path) -> WalEnd {
    scan_end(pgdata, ScanStart::Redo).unwrap()
}

fn controldata(bin: &Path, pgdata: &Path) -> impl Fn(&str) -> String {
    let text = run_ok(Command::new(bin.join("pg_controldata")).arg(pgdata));
    move |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{key} in {text}")).trim().to_string()
    }
}

fn check_control(bin: &Path, pgdata: &Path) {
    if !bin.join("pg_controldata").exists() {
        return;
    }
    let (ours, theirs) = (ControlFile::read(pgdata).unwrap(), controldata(bin, pgdata));
    let state = match ours.state {
        DbState::Startup => "starting up",
        DbState::ShutDown => "shut down",
        DbState::ShutDownInRecovery => "shut down in recovery",
        DbState::ShuttingDown => "shutting down",
        DbState::InCrashRecovery => "in crash recovery",
        DbState::InArchiveRecovery => "in archive recovery",
        DbState::InProduction => "in production",
    };
    for (key, value) in [
        ("Database cluster state", state.to_string()),
        ("Database system identifier", ours.sysid.to_string()),
        ("Catalog version number", ours.catalog.to_string()),
        ("Latest checkpoint location", ours.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", ours.redo.to_string()),
        ("Latest checkpoint's TimeLineID", ours.timeline.to_string()),
        ("Latest checkpoint's PrevTimeLineID", ours.previous_timeline.to_string()),
        ("Minimum recovery ending location", ours.min_recovery.to_string()),
        ("Min recovery ending loc's timeline", ours.min_recovery_timeline.to_string()),
        ("Backup start location", ours.backup_start.to_string()),
        ("End-of-backup record required", if ours.backup_end_required { "yes" } else { "no" }.to_string()),
        ("wal_log_hints setting", if ours.wal_log_hints { "on" } else { "off" }.to_string()),
        ("WAL block size", ours.page_bytes.to_string()),
        ("Bytes per WAL segment", ours.segment_bytes.to_string()),
        ("Data page checksum version", ours.checksum_version.to_string()),
    ] {
        assert_eq!(theirs(key), value, "{key}");
    }
}

/// Every version and several segment sizes: our end is where recovery ends, by
/// either start, and after a promotion.
#[test]
fn the_end_is_where_recovery_ends() {
    for (i, bin) in all_bins().into_iter().enumerate() {
        for segment_mb in if i == 0 { vec![1, 4] } else { vec![1] } {
            follow_recovery(&bin, segment_mb);
        }
    }
}

fn follow_recovery(bin: &Path, segment_mb: u32) {
    let dir = scratch();
    let mut server = Server::initdb(bin, dir.path(), "n1", segment_mb);
    server.start();
    server.load(6);
    let control = ControlFile::read(&server.pgdata).unwrap();
    assert_eq!(control.major(), server.major());
    assert_eq!(control.form().unwrap().segment_bytes, segment_mb << 20);
    let flushed = server.lsn("pg_current_wal_flush_lsn()");
    check_control(bin, &server.pgdata);
    server.crash();

    let end = redo_end(&server.pgdata);
    println!("PostgreSQL {}, {segment_mb} MB segments: {} to {}", server.major(), control.redo, end.end);
    assert!(end.end >= flushed, "{} < {flushed}", end.end);
    assert_eq!((end.timeline, end.lineage.timeline), (Timeline(1), Timeline(1)));
    assert!(end.files.len() > 3 / segment_mb as usize);
    end.sync(&server.pgdata).unwrap();
    check_waldump(bin, &server.pgdata, &end, ControlFile::read(&server.pgdata).unwrap().redo);

    server.start_standby(None);
    wait_until("replay", || server.replayed() == end.end);
    for from in [ScanStart::Redo, ScanStart::Replayed(end.end), ScanStart::Replayed(Lsn::ZERO)] {
        let again = scan_end(&server.pgdata, from).unwrap();
        assert_eq!((again.end, again.record), (end.end, end.record), "{from:?}");
    }
    check_control(bin, &server.pgdata);

    server.promote();
    server.load(2);
    server.crash();
    let second = redo_end(&server.pgdata);
    assert_eq!((second.timeline, second.lineage.end_of(Timeline(1))), (Timeline(2), Some(end.end)));
    check_waldump(bin, &server.pgdata, &second, end.end);
    server.start_standby(None);
    wait_until("replay", || server.replayed() == second.end);
    server.stop_fast();
    assert_eq!(ControlFile::read(&server.pgdata).unwrap().state, DbState::ShutDownInRecovery);
    assert_eq!(redo_end(&server.pgdata).end, second.end);
    check_control(bin, &server.pgdata);
}

fn check_waldump(bin: &Path, pgdata: &Path, end: &WalEnd, start: Lsn) {
    if bin.join("pg_waldump").exists() {
        let last = waldump_last(bin, &pgdata.join("pg_wal"), end.timeline, start);
        assert_eq!(last, Some(end.record.start));
    }
}

/// Tails cut, zeroed and flipped at many places: the last record is the one
/// that `pg_waldump` prints last.
#[test]
fn a_damaged_tail_ends_where_pg_waldump_ends() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    server.load(5);
    server.crash();
    let whole = redo_end(&server.pgdata);
    let redo = ControlFile::read(&server.pgdata).unwrap().redo;
    // The same places in every run: spread by a multiplicative generator.
    let mut seed = 0x2545_F491_u64;
    let mut told = 0;
    for round in 0..24 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = redo.0 + 1000 + (seed >> 33) % (whole.end.0 - redo.0 - 1000);
        let pgdata = copy_wal(&server, dir.path());
        damage(&pgdata, at, round);
        let ours = scan_end(&pgdata, ScanStart::Redo).map(|e| e.record.start).ok();
        let theirs = waldump_last(&bin15(), &pgdata.join("pg_wal"), Timeline(1), redo);
        // Damage before the checkpoint's own record: we say that the log ends too early.
        let checkpoint = ControlFile::read(&pgdata).unwrap().checkpoint;
        assert_eq!(ours, theirs.filter(|t| *t >= checkpoint), "round {round} at {}", Lsn(at));
        told += u32::from(ours.is_some());
    }
    assert!(told > 12, "too few rounds had an end to compare: {told}");
}

fn damage(pgdata: &Path, at: u64, round: u32) {
    let segment = Segment { timeline: Timeline(1), number: at >> 20 };
    let path = pgdata.join("pg_wal").join(segment.file_name(1 << 20));
    let offset = at % (1 << 20);
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    match round % 4 {
        0 => file.write_all_at(&vec![0; ((1 << 20) - offset) as usize], offset).unwrap(),
        1 => file.write_all_at(&[0xA5; 3], offset).unwrap(),
        2 => fs::remove_file(&path).unwrap(),
        _ => file.write_all_at(&vec![0xFF; ((1 << 20) - offset) as usize], offset).unwrap(),
    }
}

/// Protocol (f) P2: the last record of a clean shutdown is its checkpoint, and
/// we know where that ends; nothing of the kind after a crash.
#[test]
fn a_clean_shutdown_ends_with_its_checkpoint() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 4);
    server.start();
    server.load(1);
    server.stop_fast();
    let shutdown = clean_shutdown(&server.pgdata).unwrap().expect("it was a clean shutdown");
    assert_eq!(shutdown.wal.record.start, shutdown.checkpoint);
    check_control(&bin15(), &server.pgdata);
    server.start_standby(None);
    assert_eq!(server.replayed(), shutdown.wal.end, "a standby replays exactly to the checkpoint's end");
    server.promote();
    server.crash();
    assert_eq!(clean_shutdown(&server.pgdata).unwrap(), None);
    let lineage = redo_end(&server.pgdata).lineage;
    assert_eq!(lineage.end_of(Timeline(1)), Some(shutdown.wal.end), "the switch is the record's end");
}

/// Protocol (k): the new timeline's file was re-streamed only in part when the
/// follower died. PostgreSQL would stop early; the scan does not, and setting
/// the file aside heals it.
#[test]
fn c1_a_half_streamed_new_timeline_hides_nothing() {
    let dir = scratch();
    let mut leader = Server::initdb(&bin15(), dir.path(), "n1", 4);
    leader.start();
    leader.load(2);
    leader.crash();
    let old = redo_end(&leader.pgdata);
    run_ok(Command::new("cp").arg("-a").arg(&leader.dir).arg(dir.path().join("n2")));
    leader.start_standby(None);
    leader.promote();
    leader.sql("insert into t(v) values ('on timeline 2')");
    leader.crash();

    let mut follower = Server::at(&bin15(), dir.path(), "n2");
    follower.configure();
    let (ours, theirs) = (follower.pgdata.join("pg_wal"), leader.pgdata.join("pg_wal"));
    run_ok(Command::new("cp").arg("-p").arg(theirs.join("00000002.history")).arg(&ours));
    assert_eq!(redo_end(&follower.pgdata).end, old.end, "a history file alone counts for nothing");

    let number = old.end.0 / (4 << 20);
    let name = Segment { timeline: Timeline(2), number }.file_name(4 << 20);
    run_ok(Command::new("cp").arg("-p").arg(theirs.join(&name)).arg(&ours));
    let half = (old.end.0 % (4 << 20)) / 2;
    let file = fs::OpenOptions::new().write(true).open(ours.join(&name)).unwrap();
    file.write_all_at(&vec![0; (4 << 20) - half as usize], half).unwrap();

    let end = redo_end(&follower.pgdata);
    assert_eq!((end.timeline, end.end), (Timeline(1), old.end));
    assert_eq!(end.lineage, old.lineage);

    follower.start_standby(None);
    assert!(
        follower.replayed() < old.end,
        "PostgreSQL prefers the newer file: else this guards against nothing"
    );
    follower.crash();
    assert_eq!(half_streamed::set_aside(&follower.pgdata).unwrap(), [ours.join(&name)]);
    assert!(half_streamed::set_aside(&follower.pgdata).unwrap().is_empty());
    follower.start_standby(None);
    wait_until("replay of the old timeline's file", || follower.replayed() == old.end);
}

/// C-1: a server has the history of timeline 2, none of its bytes, and its own log goes on
/// behind the place where timeline 2 began. What stands there, on a page that begins before
/// that place, is timeline 1's still: it was taken for timeline 2's, which would win an
/// election over everybody who has some of it.
#[test]
fn c1_what_follows_the_switch_in_the_old_timelines_file_is_not_the_new_ones() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    server.start();
    server.load(1);
    server.sql("select pg_switch_wal()");
    server.sql("select pg_logical_emit_message(true, 'x', repeat('y', 100))");
    server.crash();
    let own = redo_end(&server.pgdata);
    let history = server.pgdata.join("pg_wal/00000002.history");
    let start = own.record.start;
    for switch in [start, own.record.previous] {
        assert!(!switch.0.is_multiple_of(8192) && switch.0 / 8192 == own.end.0 / 8192, "{switch}");
        fs::write(&history, format!("1\t{switch}\tno recovery target specified\n")).unwrap();
        assert_eq!(redo_end(&server.pgdata), own, "timeline 2 from {switch} on");
        let near = scan_end(&server.pgdata, ScanStart::Replayed(own.end)).unwrap();
        assert_eq!((near.timeline, near.end, near.record), (own.timeline, own.end, own.record));
    }
    // In a file of timeline 2 the same bytes are its own.
    let name = |timeline| Segment { timeline: Timeline(timeline), number: start.0 >> 20 }.file_name(1 << 20);
    let pg_wal = server.pgdata.join("pg_wal");
    fs::copy(pg_wal.join(name(1)), pg_wal.join(name(2))).unwrap();
    let end = redo_end(&server.pgdata);
    assert_eq!((end.timeline, end.end), (Timeline(2), own.end));
}
