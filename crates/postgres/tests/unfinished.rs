//! A record that its leader never finished, on real servers: it is cut off where
//! it is, whatever a file is called and whatever stood there before, and nothing
//! else is. `pg_waldump` says where the log ends.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod real;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::{Lsn, Term, Timeline};
use postgres::control_file::ControlFile;
use postgres::perform::Hands;
use postgres::wal::record::End;
use postgres::wal::segment::Segment;
use postgres::wal::unfinished::{KEPT_BYTES_MAX, KEPT_FILES_MAX, cut_off};
use postgres::wal::{ScanStart, WalEnd, scan_end};
use real::hands::{hands, hands_on_stopped};
use real::{Server, bin15, copy_wal, run_ok, scratch, wait_until, waldump_last};

const SEGMENT_MB: u64 = 1;
const SEGMENT: u64 = SEGMENT_MB << 20;

fn end_of(pgdata: &Path) -> WalEnd {
    scan_end(pgdata, ScanStart::Redo).unwrap()
}

fn file(pgdata: &Path, timeline: u32, number: u64) -> PathBuf {
    let segment = Segment { timeline: Timeline(timeline), number };
    pgdata.join("pg_wal").join(segment.file_name(SEGMENT as u32))
}

fn write_at(path: &Path, bytes: &[u8], offset: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// A record's header: so many bytes in all, and the start of the one before.
fn header(total: u32, previous: Lsn) -> Vec<u8> {
    let mut bytes = total.to_le_bytes().to_vec();
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend(previous.0.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// A server that has crashed with a message of 3 MB as its last record but one.
/// Gives the message's start.
fn crashed_with_a_long_record(dir: &Path) -> (Server, Lsn) {
    let mut server = Server::initdb(&bin15(), dir, "n1", SEGMENT_MB as u32);
    server.start();
    server.load(1);
    server.sql("select pg_logical_emit_message(true, 'x', repeat('y', 3000000))");
    server.crash();
    // The last record is the commit, the one before it the message.
    let whole = end_of(&server.pgdata);
    let message = whole.record.previous;
    assert!(message.0 / SEGMENT + 2 < whole.record.start.0 / SEGMENT, "the message spans segments");
    (server, message)
}

/// Takes the last segments of timeline 1 away, as if they had never been received.
fn forget_from(pgdata: &Path, number: u64) {
    for n in (number..).take_while(|n| file(pgdata, 1, *n).exists()) {
        fs::remove_file(file(pgdata, 1, n)).unwrap();
    }
}

/// Cuts, and holds against `pg_waldump` that all before is there, byte for byte,
/// and that no record follows.
fn check_cut(what: &str, pgdata: &Path, keep: &Path) -> Vec<u8> {
    let (before, redo) = (end_of(pgdata), ControlFile::read(pgdata).unwrap().redo);
    assert!(matches!(before.after, End::Torn(_)), "{what}");
    let number = before.end.0 / SEGMENT;
    let own = before.files.iter().find(|p| p.to_str().unwrap().ends_with(&format!("{number:08X}"))).unwrap();
    let wal = |p: &PathBuf| fs::read(p).unwrap();
    let files = || {
        let names = fs::read_dir(pgdata.join("pg_wal")).unwrap().map(|e| e.unwrap().path());
        let mut names: Vec<PathBuf> = names.filter(|p| p.is_file()).collect();
        names.sort();
        names.into_iter().map(|p| (wal(&p), p)).collect::<Vec<_>>()
    };
    let all = files();
    assert!(cut_off(pgdata, keep).unwrap(), "{what}");
    let offset = (before.end.0 % SEGMENT) as usize;
    for ((old, path), (new, same)) in all.iter().zip(&files()) {
        assert_eq!(path, same, "{what}: a file came or went");
        if path == own {
            assert_eq!(old[..offset], new[..offset], "{what}");
            assert!(new.len() == old.len() && new[offset..].iter().all(|b| *b == 0), "{what}");
        } else {
            assert!(old == new, "{what}: {} was touched", path.display());
        }
    }
    let after = end_of(pgdata);
    assert_eq!(
        (after.end, after.record, &after.lineage),
        (before.end, before.record, &before.lineage),
        "{what}"
    );
    assert!(matches!(after.after, End::Length(0) | End::Page(_)), "{what}: {:?}", after.after);
    assert!(!cut_off(pgdata, keep).unwrap(), "{what}: once is enough");
    if offset == 0 {
        // pg_waldump takes the size of all segments from the first file it meets, also from a blank one.
        fs::remove_file(own).unwrap();
    }
    let last = waldump_last(&bin15(), &pgdata.join("pg_wal"), after.lineage.timeline, redo);
    assert_eq!(last, Some(after.record.start), "{what}");
    all.into_iter().find(|(_, p)| p == own).unwrap().0[offset..].to_vec()
}

/// The story for which this is there: the follower holds some segments of the record,
/// the new leader has gone on from where it began, and the follower asks for what
/// does not exist until the record is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_holds_half_a_record_comes_to_the_next_leader() {
    let dir = scratch();
    let (mut leader, message) = crashed_with_a_long_record(dir.path());
    let first = message.0 / SEGMENT;
    // What is asked for is more than a segment ahead of the leader, or less, when 15.20
    // and its like wait for the leader to come that far.
    for (name, held) in [("n2", 2), ("n3", 1)] {
        forget_from(&leader.pgdata, first + held);
        run_ok(Command::new("cp").arg("-a").arg(&leader.dir).arg(dir.path().join(name)));
    }
    // The next leader never received any of it.
    check_cut("the leader", &leader.pgdata, &dir.path().join("kept"));
    leader.start_standby(None);
    leader.promote();
    leader.sql("insert into t(v) values ('of the next term')");
    let flushed = leader.lsn("pg_current_wal_flush_lsn()");
    assert_eq!(flushed.0 / SEGMENT, first, "the follower must ask for more than there is");
    for name in ["n2", "n3"] {
        it_comes_to(&leader, name, dir.path(), message).await;
    }
}

async fn it_comes_to(leader: &Server, name: &str, dir: &Path, message: Lsn) {
    let mut follower = Server::at(&bin15(), dir, name);
    follower.configure();
    let upstream = format!("{} passfile={}/repl-t7.pass", leader.conninfo(), dir.display());
    follower.start_standby(Some(&upstream));
    gets_nothing(&follower, &hands(&follower.dir, &follower).await, message).await;
    assert_eq!(follower.replayed(), message);
    follower.stop_fast();
    let keep = dir.join("kept-of").join(name);
    fs::create_dir_all(&keep).unwrap();
    let cut = check_cut(name, &follower.pgdata, &keep);
    let first = u128::from(message.0 / SEGMENT);
    let kept = format!("{:024X}.from-{:08X}", (1_u128 << 64) + first, message.0 % SEGMENT);
    assert_eq!(fs::read(keep.join(kept)).unwrap(), cut, "what was cut off is kept");
    follower.start_standby(Some(&upstream));
    let flushed = leader.lsn("pg_current_wal_flush_lsn()");
    wait_until("replay", || follower.replayed() >= flushed);
    assert_eq!(follower.sql("select count(*) from t where v = 'of the next term'"), "1");
    fs::remove_file(follower.dir.join("guard.sock")).unwrap();
    let probe = hands(&follower.dir, &follower).await.probe().await;
    assert_eq!(probe.server.streaming, Some(Term(7)), "{probe:?}");
    assert!(probe.server.end >= flushed && probe.wal_silent_ms.is_some(), "{probe:?}");
}

/// The walreceiver is refused, or waits for its upstream to come that far (15.20 and its
/// like), which never happens: either way it does not stream, whatever its status says.
async fn gets_nothing(follower: &Server, hands: &Hands, whole: Lsn) {
    let refused = || follower.log().contains("ahead of the WAL flush position");
    let waits = || follower.log().contains("ahead of the upstream server's flush position");
    wait_until("what this is about", || refused() || waits());
    let row = "select status from pg_stat_wal_receiver";
    let mut called_streaming = 0;
    for _ in 0..40 {
        called_streaming += usize::from(follower.sql(row) == "streaming");
        let probe = hands.probe().await;
        assert_eq!((probe.server.streaming, probe.wal_silent_ms), (None, None), "{probe:?}");
        // And what it holds is what its old leader wrote, no matter what it asks for.
        assert_eq!((probe.server.end, probe.server.lineage.timeline), (whole, Timeline(1)), "{probe:?}");
    }
    assert!(refused() || called_streaming > 30, "{called_streaming}");
    eprintln!("refused: {}, waits: {}, called streaming {called_streaming} times of 40", refused(), waits());
}

/// PostgreSQL would ask the next leader for the segment after, get it when the leader has
/// come so far, and acknowledge it with a hole before it (conformance: torn).
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_goes_on_in_a_later_segment_is_cut_off_before_another_leader_is_asked() {
    let dir = scratch();
    let (server, message) = crashed_with_a_long_record(dir.path());
    let pgdata = &server.pgdata;
    let (first, own) = (message.0 / SEGMENT, file(pgdata, 1, message.0 / SEGMENT));
    forget_from(pgdata, first + 1);
    let torn = End::Torn(Lsn((first + 1) * SEGMENT));
    let whole = fs::read(&own).unwrap();
    let hands = hands_on_stopped(dir.path(), &server).await;
    // The log is looked at first, and then the address is none.
    let follow = async |term| assert!(hands.follow(Term(term), "nowhere").await.is_err());

    let upstream = pgdata.join("tanist.upstream.conf");
    let of_term_7 = "primary_conninfo = 'passfile=''/n1/secrets/repl-t7.pass'''\n";
    fs::write(&upstream, of_term_7).unwrap();
    follow(7).await;
    assert_eq!(end_of(pgdata).after, torn, "its own leader has the rest of it");

    // Within one segment nothing would be left out.
    let page = message.0 / 8192 * 8192 + 8192;
    write_at(&own, &vec![0; (SEGMENT - page % SEGMENT) as usize], page % SEGMENT);
    follow(8).await;
    assert_eq!(end_of(pgdata).after, End::Torn(Lsn(page)));

    for settings in [of_term_7, ""] {
        fs::write(&upstream, settings).unwrap();
        write_at(&own, &whole, 0);
        assert_eq!(end_of(pgdata).after, torn);
        follow(8).await;
        assert_eq!((end_of(pgdata).end, end_of(pgdata).after), (message, End::Length(0)));
    }
}

/// What stands behind the last whole record is a leftover, or nothing: PostgreSQL gives
/// it up by itself, so there is nothing to cut.
#[test]
fn other_ends_are_left_alone() {
    let dir = scratch();
    let (mut server, message) = crashed_with_a_long_record(dir.path());
    let whole = end_of(&server.pgdata);
    let at = |lsn: Lsn| (file(&server.pgdata, 1, lsn.0 / SEGMENT), lsn.0 % SEGMENT);
    let check = |what: &str, expected: &dyn Fn(End) -> bool| {
        let before = end_of(&server.pgdata);
        assert!(expected(before.after), "{what}: {:?}", before.after);
        assert!(!cut_off(&server.pgdata, &dir.path().join("kept")).unwrap(), "{what}");
        assert_eq!(end_of(&server.pgdata), before, "{what}");
    };
    check("zeros", &|e| e == End::Length(0));
    let (path, offset) = at(whole.end);
    write_at(&path, &header(100_000, Lsn(whole.record.start.0 - 8)), offset);
    check("the header of a leftover", &|e| matches!(e, End::Previous(_)));
    // A segment that was recycled: whole pages of another place behind half a record.
    forget_from(&server.pgdata, message.0 / SEGMENT + 1);
    let (path, offset) = at(message);
    write_at(&path, &vec![0; (SEGMENT - offset) as usize], offset);
    let recycled = file(&server.pgdata, 1, message.0 / SEGMENT + 1);
    fs::copy(file(&server.pgdata, 1, message.0 / SEGMENT - 1), &recycled).unwrap();
    check("zeros before a recycled segment", &|e| e == End::Length(0));
    assert!(!dir.path().join("kept").exists());
    server.start_standby(None);
    assert_eq!(server.replayed(), message);
}

#[test]
fn it_is_cut_off_before_a_recycled_segment_and_at_a_segments_start() {
    let dir = scratch();
    let keep = dir.path().join("kept");
    let (server, message) = crashed_with_a_long_record(dir.path());
    let first = message.0 / SEGMENT;

    let pgdata = copy_wal(&server, dir.path());
    forget_from(&pgdata, first + 2);
    fs::copy(file(&pgdata, 1, first - 1), file(&pgdata, 1, first + 1)).unwrap();
    check_cut("its rest is a recycled segment", &pgdata, &keep);

    let pgdata = copy_wal(&server, dir.path());
    forget_from(&pgdata, first + 1);
    check_cut("its rest is not there", &pgdata, &keep);
    // A log that ends with its segment, and the next record begins on the next one's first page.
    switched_then_torn(dir.path(), &keep);
}

fn switched_then_torn(dir: &Path, keep: &Path) {
    let mut server = Server::initdb(&bin15(), dir, "n2", SEGMENT_MB as u32);
    server.start();
    let both = "select pg_switch_wal(); select pg_logical_emit_message(true, 'x', repeat('y', 3000000))";
    let switch: Lsn = server.sql(both).lines().next().unwrap().parse().unwrap();
    server.crash();
    let pgdata = copy_wal(&server, dir);
    forget_from(&pgdata, switch.0 / SEGMENT + 2);
    let torn = end_of(&pgdata);
    assert_eq!(torn.end.0 % SEGMENT, 0, "the log ends with a segment: {}", torn.end);
    check_cut("it begins with a segment", &pgdata, keep);
}

/// The last whole record is timeline 1's, and the torn one stands in timeline 2's file.
#[test]
fn it_is_cut_off_in_the_file_in_which_it_stands() {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", SEGMENT_MB as u32);
    server.start();
    server.load(1);
    server.crash();
    let old = end_of(&server.pgdata);
    let control = fs::read(server.pgdata.join("global/pg_control")).unwrap();
    server.start_standby(None);
    server.promote();
    server.crash();
    let pgdata = copy_wal(&server, dir.path());
    // The first record of timeline 2 reached this follower only in part.
    fs::write(pgdata.join("global/pg_control"), control).unwrap();
    let (number, offset) = (old.end.0 / SEGMENT, old.end.0 % SEGMENT);
    let second = file(&pgdata, 2, number);
    fs::copy(&second, file(&pgdata, 1, number)).unwrap();
    for path in [&second, &file(&pgdata, 1, number)] {
        write_at(path, &vec![0; (SEGMENT - offset) as usize], offset);
    }
    write_at(&second, &header(100_000, old.record.start), offset);
    let torn = end_of(&pgdata);
    assert_eq!((torn.end, torn.timeline), (old.end, Timeline(1)));
    check_cut("two timelines", &pgdata, &dir.path().join("kept"));
    assert!(fs::read(&second).unwrap()[offset as usize..].iter().all(|b| *b == 0));
}

/// What is kept is bounded in number and in bytes, and the newest stays.
#[test]
fn what_is_kept_is_bounded() {
    let dir = scratch();
    let keep = dir.path().join("kept");
    fs::create_dir(&keep).unwrap();
    let (server, message) = crashed_with_a_long_record(dir.path());
    for i in 0..KEPT_FILES_MAX + 3 {
        let old = File::create(keep.join(format!("old-{i}"))).unwrap();
        old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(i as u64)).unwrap();
    }
    let pgdata = copy_wal(&server, dir.path());
    forget_from(&pgdata, message.0 / SEGMENT + 1);
    check_cut("with a full store", &pgdata, &keep);
    let kept: Vec<PathBuf> = fs::read_dir(&keep).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), KEPT_FILES_MAX);
    assert!(kept.iter().any(|p| p.to_str().unwrap().contains(".from-")));
    assert!(!keep.join("old-0").exists() && keep.join(format!("old-{}", KEPT_FILES_MAX + 2)).exists());
    assert!(kept.iter().all(|p| p.metadata().unwrap().len() <= KEPT_BYTES_MAX));

    // Where nothing can be kept, it is cut off all the same.
    let pgdata = copy_wal(&server, dir.path());
    forget_from(&pgdata, message.0 / SEGMENT + 1);
    let no_directory = dir.path().join("a file");
    File::create(&no_directory).unwrap();
    check_cut("with no store", &pgdata, &no_directory);
}
