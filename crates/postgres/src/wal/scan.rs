//! Where a server's log ends, and on which timeline (C-1).
//!
//! Each past that the server may be on is walked by itself, from a place that
//! is known good to the last whole record. The best end wins: the newest
//! timeline that owns a record, then the highest place. Worked example: a
//! follower on timeline 1 holds records up to 150; the leader of timeline 2
//! branched off at 160, and the follower has fetched `00000002.history` and
//! re-streamed timeline 2's file up to 120 when it crashes. Through timeline
//! 2's file the log ends at 120, through timeline 1's at 150, and no record
//! belongs to timeline 2: so the end is 150 on timeline 1, and the history file
//! counts for nothing.
//!
//! Never takes trouble for an end: a file that can't be read is an error, and
//! so is an end before a place the server is known to have reached.

use std::path::{Path, PathBuf};

use cluster::{Lineage, Lsn, Timeline};

use super::WalError;
use super::page::{self, BadPage, Form};
use super::record::{End, Pages as _, Record, Walk};
use super::segment::{self, View};
use crate::control_file::{ControlFile, DbState};
use crate::history;

/// How far back from the replayed place a record is looked for, before the walk
/// begins at the redo pointer instead.
const BACK_BYTES_MAX: u64 = 64 << 20;
/// Scans before we give up on a server that removes segments meanwhile.
const SCAN_ATTEMPTS_MAX: u32 = 5;

/// From where to walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStart {
    /// The redo pointer of the control file: always right, and up to a
    /// checkpoint's distance of log to read.
    Redo,
    /// `pg_last_wal_replay_lsn()`: a place where a record ends.
    Replayed(Lsn),
}

/// Where the log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalEnd {
    /// The past up to the timeline that owns the last record.
    pub lineage: Lineage,
    /// That timeline.
    pub timeline: Timeline,
    /// The last whole record.
    pub record: Record,
    /// Its end: the next record would begin here.
    pub end: Lsn,
    /// What is there instead of a next record.
    pub after: End,
    /// The files that were relied upon.
    pub files: Vec<PathBuf>,
}

impl WalEnd {
    /// Makes all that this end relies on durable: to be called before anybody
    /// hears of it.
    ///
    /// # Errors
    /// `Sync`.
    pub fn sync(&self, pgdata: &Path) -> Result<(), WalError> {
        segment::sync(&pgdata.join("pg_wal"), &self.files)
    }
}

/// The end of a cleanly shut down primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanShutdown {
    /// Start of the shutdown checkpoint, by `pg_control`.
    pub checkpoint: Lsn,
    /// The end of that record, which is the last: whoever holds the log up to
    /// here holds all of it.
    pub wal: WalEnd,
}

/// Finds the end of the log below `pgdata`, with the server down or running as
/// a standby whose walreceiver is gone.
///
/// # Errors
/// Any `WalError` of reading; `NoRecord`, `EndsEarly`. The server then has no position.
pub fn scan_end(pgdata: &Path, from: ScanStart) -> Result<WalEnd, WalError> {
    let mut attempt = 1;
    loop {
        let before = ControlFile::read(pgdata)?;
        let found = scan_all(pgdata, &before, from);
        // A running standby removes segments behind its redo pointer: if that
        // moved, we may have met a gap instead of the end.
        let after = ControlFile::read(pgdata)?;
        let judged = found.and_then(|end| not_early(end, &after, from));
        if judged.is_ok() || before == after || attempt == SCAN_ATTEMPTS_MAX {
            return judged;
        }
        attempt += 1;
    }
}

/// The end of the log if the server was shut down cleanly as a primary, and
/// nothing follows the shutdown checkpoint; else `None`.
///
/// # Errors
/// As `scan_end`.
pub fn clean_shutdown(pgdata: &Path) -> Result<Option<CleanShutdown>, WalError> {
    let control = ControlFile::read(pgdata)?;
    if control.state != DbState::ShutDown {
        return Ok(None);
    }
    let wal = scan_end(pgdata, ScanStart::Redo)?;
    let last = wal.record.start == control.checkpoint && wal.record.is_shutdown_checkpoint();
    Ok(last.then_some(CleanShutdown { checkpoint: control.checkpoint, wal }))
}

/// The pasts that a server with this control file may be on: its own timeline,
/// and every one with a history file that leads through its last checkpoint.
///
/// # Errors
/// `History`.
pub(super) fn pasts(pg_wal: &Path, control: &ControlFile) -> Result<Vec<Lineage>, WalError> {
    let mut pasts = vec![history::lineage(pg_wal, control.timeline)?];
    for timeline in history::list(pg_wal)? {
        if timeline > control.timeline {
            pasts.push(history::lineage(pg_wal, timeline)?);
        }
    }
    pasts.retain(|p| {
        let is_own = p.timeline == control.timeline;
        is_own || (p.owner_of(control.checkpoint) == control.timeline && fits_recovery(p, control))
    });
    Ok(pasts)
}

/// PostgreSQL refuses a past in which its minimum recovery point lies on
/// another timeline.
fn fits_recovery(past: &Lineage, control: &ControlFile) -> bool {
    control.min_recovery == Lsn::ZERO
        || past.owner_of(Lsn(control.min_recovery.0 - 1)) == control.min_recovery_timeline
}

fn scan_all(pgdata: &Path, control: &ControlFile, from: ScanStart) -> Result<WalEnd, WalError> {
    let pg_wal = pgdata.join("pg_wal");
    let form = control.form()?;
    let pasts = pasts(&pg_wal, control)?;
    let best = |replayed: Option<Lsn>| -> Result<Option<WalEnd>, WalError> {
        let mut best: Option<WalEnd> = None;
        for past in &pasts {
            let found = scan_past(&pg_wal, &form, past, control.redo, replayed)?;
            best = best.into_iter().chain(found).max_by_key(|e| (e.timeline, e.end));
        }
        Ok(best)
    };
    let near = match from {
        ScanStart::Replayed(lsn) if lsn > Lsn::ZERO => best(Some(lsn))?,
        ScanStart::Replayed(_) | ScanStart::Redo => None,
    };
    let found = if near.is_some() { near } else { best(None)? };
    found.ok_or(WalError::NoRecord(control.redo))
}

/// Walks one past, from shortly before `replayed` or else from `redo`; `None`
/// when no record is found there.
pub(super) fn scan_past(
    pg_wal: &Path,
    form: &Form,
    past: &Lineage,
    redo: Lsn,
    replayed: Option<Lsn>,
) -> Result<Option<WalEnd>, WalError> {
    let mut view = View::new(pg_wal, form, past);
    let start = match replayed {
        Some(lsn) => record_before(&mut view, form, past, lsn)?,
        None => Some(redo),
    };
    match start {
        Some(start) => walk_on(view, form, past, start, replayed),
        None => Ok(None),
    }
}

/// The end of a log that no control file tells of, along one past: walked from a
/// record shortly before `near`, or else from the first one at or after `begin`.
/// All between the two must be known to be whole.
///
/// # Errors
/// `Read`.
pub(crate) fn end_near(
    pg_wal: &Path,
    form: &Form,
    past: &Lineage,
    begin: Lsn,
    near: Lsn,
) -> Result<Option<WalEnd>, WalError> {
    let mut view = View::new(pg_wal, form, past);
    let found = if near > begin { record_before(&mut view, form, past, near)? } else { None };
    let start = match found.filter(|lsn| *lsn >= begin) {
        Some(start) => Some(start),
        None => first_record(&mut view, form, past, begin)?,
    };
    match start {
        Some(start) => walk_on(view, form, past, start, None),
        None => Ok(None),
    }
}

/// Start of the first record at or after `begin`, over pages that are believed.
fn first_record(
    view: &mut View<'_>,
    form: &Form,
    past: &Lineage,
    begin: Lsn,
) -> Result<Option<Lsn>, WalError> {
    let mut at = form.page_start(begin.0);
    // Bounded by the log on this disk.
    loop {
        let Some(bytes) = view.page(at)? else { return Ok(None) };
        if page::judge(bytes, at, form, past).is_err() {
            return Ok(None);
        }
        if let Some(start) = first_start(view, form, past, at)? {
            return Ok(Some(start));
        }
        at += u64::from(form.page_bytes);
    }
}

/// Walks from the record at `start` to the last whole one.
fn walk_on(
    mut view: View<'_>,
    form: &Form,
    past: &Lineage,
    start: Lsn,
    replayed: Option<Lsn>,
) -> Result<Option<WalEnd>, WalError> {
    let mut walk = Walk::new(form, past, start);
    let mut last: Option<Record> = None;
    // Bounded by the log on this disk: each turn reads at least 24 bytes of it.
    let after = loop {
        match walk.next(&mut view)? {
            // A record across the replayed place: not the log that was replayed.
            Ok(r) if replayed.is_some_and(|lsn| r.start < lsn && lsn < r.end) => return Ok(None),
            Ok(record) => match abandoned(&view, form, &record) {
                Some(after) => break after,
                None => last = Some(record),
            },
            Err(after) => break after,
        }
    };
    Ok(last.map(|record| WalEnd {
        lineage: up_to(past, record.timeline),
        timeline: record.timeline,
        record,
        end: record.end,
        after,
        files: view.files(),
    }))
}

/// A timeline writes its first record into a file of its own. What stands behind its
/// beginning in a file of an older one, on a page that begins before it, was abandoned:
/// its page header can't betray it. Say timeline 2 began at 150, and we hold its history
/// and timeline 1's file up to 180: our log ends at 180, on timeline 1.
fn abandoned(view: &View<'_>, form: &Form, record: &Record) -> Option<End> {
    let holder = view.timeline_of(form.segment_of(record.start.0))?;
    (holder < record.timeline).then_some(End::Page(BadPage::Timeline(holder)))
}

/// Start of a whole record that ends at or before `lsn`, by the first record of
/// the nearest page that has one.
fn record_before(
    view: &mut View<'_>,
    form: &Form,
    past: &Lineage,
    lsn: Lsn,
) -> Result<Option<Lsn>, WalError> {
    let mut page_at = form.page_start(lsn.0.saturating_sub(1));
    let floor = page_at.saturating_sub(BACK_BYTES_MAX);
    while page_at >= floor {
        if let Some(start) = first_start(view, form, past, page_at)? {
            let record = Walk::new(form, past, start).next(view)?;
            if record.is_ok_and(|r| r.end <= lsn) {
                return Ok(Some(start));
            }
        }
        let Some(before) = page_at.checked_sub(u64::from(form.page_bytes)) else { break };
        page_at = before;
    }
    Ok(None)
}

/// Where the first record on the page at `page_at` would begin.
fn first_start(
    view: &mut View<'_>,
    form: &Form,
    past: &Lineage,
    page_at: u64,
) -> Result<Option<Lsn>, WalError> {
    let Some(bytes) = view.page(page_at)? else { return Ok(None) };
    let Ok(head) = page::judge(bytes, page_at, form, past) else { return Ok(None) };
    let inside = if head.continued { u64::from(head.remaining).next_multiple_of(8) } else { 0 };
    let offset = head.bytes as u64 + inside;
    Ok((offset < u64::from(form.page_bytes)).then_some(Lsn(page_at + offset)))
}

fn not_early(found: WalEnd, control: &ControlFile, from: ScanStart) -> Result<WalEnd, WalError> {
    let replayed = match from {
        ScanStart::Replayed(lsn) => lsn,
        ScanStart::Redo => Lsn::ZERO,
    };
    // The checkpoint's record begins there, so the log goes on at least a byte.
    let known = replayed.max(control.min_recovery).max(Lsn(control.checkpoint.0.saturating_add(1)));
    if found.end < known { Err(WalError::EndsEarly { end: found.end, known }) } else { Ok(found) }
}

/// The past as it was while `timeline` was its newest.
fn up_to(past: &Lineage, timeline: Timeline) -> Lineage {
    let ancestors = past.ancestors.iter().copied().take_while(|b| b.timeline != timeline).collect();
    Lineage { ancestors, timeline }
}
