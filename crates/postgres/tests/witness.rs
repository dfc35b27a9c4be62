//! WAL without a server: what a witness keeps ends where the server's own log does,
//! and a standby that is given it has that log, and nothing that is damaged.

#![allow(clippy::unwrap_used)] // a panic in a test is its report

mod real;

use std::path::{Path, PathBuf};

use cluster::{Lineage, Lsn, Timeline};
use postgres::control_file::ControlFile;
use postgres::history;
use postgres::salvage::{Piece, Shelf, Stage};
use postgres::wal::{ScanStart, WalEnd, scan_end};
use postgres::witness::{Origin, Store};
use postgres::{Error, RunAs};
use real::{Server, bin15, copy_wal, scratch, wait_until};
use tempfile::TempDir;

/// Bytes that come in at once: no divisor of anything.
const CHUNK: u64 = 70_001;

/// A log at three moments: on timeline 1, further on it, and on timeline 2.
struct Logs {
    _dir: TempDir,
    server: Server,
    early: PathBuf,
    later: PathBuf,
}

fn end_of(pgdata: &Path) -> WalEnd {
    scan_end(pgdata, ScanStart::Redo).unwrap()
}

fn logs() -> Logs {
    let dir = scratch();
    let mut server = Server::initdb(&bin15(), dir.path(), "n1", 1);
    let grow = |server: &mut Server, name: &str| {
        server.start();
        server.load(2);
        server.crash();
        let to = dir.path().join(name);
        std::fs::create_dir(&to).unwrap();
        RunAs::for_server().unwrap().own(&to).unwrap();
        copy_wal(server, &to)
    };
    let early = grow(&mut server, "early");
    let later = grow(&mut server, "later");
    let end = end_of(&server.pgdata).end;
    server.start_standby(None);
    wait_until("replay", || server.replayed() == end);
    server.promote();
    server.load(2);
    server.crash();
    Logs { _dir: dir, server, early, later }
}

/// Everything that `pgdata` has up to `to`, as a leader would send it.
fn feed(store: &mut Store, pgdata: &Path, from: Lsn, to: &WalEnd, seen: &mut dyn FnMut(&Store, Lsn)) {
    let shelf = Shelf::of_server(pgdata).unwrap();
    for (timeline, text) in shelf.histories().unwrap() {
        store.keep_history(timeline, &text).unwrap();
    }
    let (form, mut at) = (store.form(), from);
    for branch in &to.lineage.ancestors {
        while at < branch.end {
            at = step(store, &shelf, branch.timeline, at, branch.end);
            seen(store, at);
        }
        at = Lsn(form.segment_start(form.segment_of(branch.end.0)));
    }
    while at < to.end {
        at = step(store, &shelf, to.timeline, at, to.end);
        seen(store, at);
    }
}

fn step(store: &mut Store, shelf: &Shelf, timeline: Timeline, at: Lsn, end: Lsn) -> Lsn {
    let piece = shelf.read(timeline, at, CHUNK.min(end.bytes_past(at)) as u32).unwrap();
    store.write(piece.timeline, at, &piece.bytes).unwrap();
    store.sync().unwrap();
    Lsn(at.0 + piece.bytes.len() as u64)
}

/// An empty store that begins with the oldest segment of `pgdata`.
fn empty(dir: &Path, pgdata: &Path) -> Store {
    let control = ControlFile::read(pgdata).unwrap();
    let form = control.form().unwrap();
    let begin = Lsn(form.segment_start(form.segment_of(control.redo.0.min(end_of(pgdata).end.0))));
    let (page_bytes, segment_bytes) = (form.page_bytes, form.segment_bytes);
    let (major, timeline) = (control.major(), 1);
    let origin = Origin { sysid: control.sysid, major, page_bytes, segment_bytes, begin, timeline };
    Store::anew(&dir.join("kept"), RunAs::current(), origin).unwrap()
}

#[test]
fn what_a_witness_keeps_ends_where_the_servers_log_does() {
    let logs = logs();
    let early = end_of(&logs.early);
    let dir = tempfile::tempdir().unwrap();
    let mut store = empty(dir.path(), &logs.early);
    assert_eq!(store.end().unwrap(), None, "nothing has come in");
    let begin = store.origin().begin;
    let whole = end_of(&logs.server.pgdata);
    assert_eq!(whole.timeline, Timeline(2));
    let mut last = (Timeline(0), Lsn::ZERO);
    feed(&mut store, &logs.server.pgdata, begin, &whole, &mut |store, at| {
        let Some(end) = store.end().unwrap() else { return };
        let now = (end.lineage.timeline, end.end);
        assert!(now >= last, "it went back from {last:?} to {now:?} when {at} came in");
        assert!(end.last_start < end.end && end.replay == end.end);
        last = now;
    });
    assert!(last.1 > early.end);
    let again = Store::open(store.dir(), RunAs::current()).unwrap().unwrap();
    for store in [&store, &again] {
        let end = store.end().unwrap().unwrap();
        assert_eq!((end.end, end.last_start, &end.lineage), (whole.end, whole.record.start, &whole.lineage));
    }
    let before = store.bytes().unwrap();
    assert!(store.prune(whole.end, Timeline(2)).unwrap());
    assert!(!store.prune(Lsn::ZERO, Timeline(2)).unwrap(), "nothing lies before the beginning");
    assert!(store.bytes().unwrap() < before);
    let end = Store::open(store.dir(), RunAs::current()).unwrap().unwrap().end().unwrap().unwrap();
    assert_eq!((end.end, end.lineage), (whole.end, whole.lineage));
}

/// As an agent does it: whole segments from the one of our end on, and what it checks.
fn take(shelf: &Shelf, pgdata: &Path, to: &WalEnd, spoil: impl Fn(&mut Piece)) -> Result<(), Error> {
    let ours = end_of(pgdata);
    let mut stage = Stage::begin(pgdata, ours.timeline, ours.end, RunAs::for_server().unwrap())?;
    let mut lineage = Lineage { ancestors: Vec::new(), timeline: to.timeline };
    for (timeline, text) in shelf.histories()? {
        if timeline == to.timeline {
            lineage = history::parse(timeline, &text)?;
        }
        stage.put_history(timeline, text)?;
    }
    let mut at = stage.first();
    while at < to.end {
        let mut piece = shelf.read(to.timeline, at, CHUNK.min(to.end.bytes_past(at)) as u32)?;
        spoil(&mut piece);
        at = stage.put(&piece)?;
    }
    stage.finish(&lineage, to.end)
}

#[test]
fn a_standby_that_is_given_wal_has_all_of_it_and_nothing_that_is_damaged() {
    let logs = logs();
    let whole = end_of(&logs.server.pgdata);
    let dir = tempfile::tempdir().unwrap();
    let mut store = empty(dir.path(), &logs.early);
    let begin = store.origin().begin;
    feed(&mut store, &logs.server.pgdata, begin, &whole, &mut |_, _| {});
    let shelf = Shelf::of_witness(store.dir()).unwrap();
    let (early, later) = (end_of(&logs.early), end_of(&logs.later));
    assert!(early.end < later.end && later.end < whole.end);
    // A byte that fell over, on the last piece of all.
    let flip = |piece: &mut Piece| {
        if piece.at.0 + piece.bytes.len() as u64 == whole.end.0 {
            *piece.bytes.last_mut().unwrap() ^= 1;
            let middle = piece.bytes.len().saturating_sub(200);
            piece.bytes[middle] ^= 1;
        }
    };
    assert!(take(&shelf, &logs.early, &whole, flip).is_err());
    assert_eq!(end_of(&logs.early), early, "what was damaged was taken");
    // Another log, before the place where ours ends.
    let foreign = |piece: &mut Piece| {
        if piece.at < early.end {
            piece.bytes[0] ^= 1;
        }
    };
    assert!(take(&shelf, &logs.early, &whole, foreign).is_err());
    assert_eq!(end_of(&logs.early), early, "another log was taken");
    // First on the same timeline, then over the switch.
    for to in [&later, &whole] {
        take(&shelf, &logs.early, to, |_| {}).unwrap();
        let end = end_of(&logs.early);
        assert_eq!((end.end, end.timeline, &end.lineage), (to.end, to.timeline, &to.lineage));
    }
    assert!(!logs.early.join("pg_wal/tanist-salvage").exists());
    assert!(shelf.read(Timeline(2), Lsn(begin.0 - 1), 1).is_err(), "what is not there is not given");
}
