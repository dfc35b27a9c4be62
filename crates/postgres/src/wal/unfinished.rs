//! A record that its leader never finished, at the end of a standby's log.
//!
//! The leader died in the middle of a long record. The new leader's timeline
//! begins where the last whole record ends, but a standby that holds the torn
//! one goes on reading it, and asks for the page on which it would continue:
//! where that lies in a segment beyond the place where the new timeline begins,
//! it is refused for ever ("requested starting point is ahead of the WAL flush
//! position"; seen on PostgreSQL 15, and a restart alone reads the same bytes
//! again), or, from 15.20 on and less than a segment ahead, waits for ever, called
//! `streaming`. What follows the last whole record was never acknowledged, and the
//! stream brings again whatever the new leader has of it.
//!
//! When the new leader has written so far, it is worse: the standby streams from behind
//! the hole, and acknowledges commits that it does not have, until its startup process
//! reads on and the server ends with a PANIC (seen on 15 to 18). So such a record is cut
//! off before the first connection to a new leader.
//!
//! Any other end needs no cut: at a leftover of a recycled file, at zeros or at a
//! wrong checksum PostgreSQL gives the record up, goes back to the page on which it
//! begins and asks for that. Nor do the segments behind it: nothing leads to them
//! once the record's first bytes are gone, and the next leader's have other names.
//!
//! Never touches a byte before the end of the last whole record. What it cuts off
//! is kept elsewhere where there is room: a file of ours in the data directory
//! that the server's user can't read would break the next rewind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cluster::Lsn;

use super::WalError;
use super::page::Form;
use super::record::End;
use super::scan::{self, ScanStart, WalEnd};
use super::segment::Segment;
use crate::control_file::ControlFile;

/// Most tails that are kept; the oldest goes first.
pub const KEPT_FILES_MAX: usize = 4;
/// Most bytes that are kept of one tail, its first.
pub const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Zeros that are written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Cuts off the record that begins at the end of the log and is not all there. The
/// server must be down. What is cut off is copied into `keep` first, as far as there
/// is room. Returns whether there was such a record.
///
/// # Errors
/// As `scan_end`; `Write` or `Sync` of the file concerned.
pub fn cut_off(pgdata: &Path, keep: &Path) -> Result<bool, WalError> {
    let end = scan::scan_end(pgdata, ScanStart::Redo)?;
    if !matches!(end.after, End::Torn(_)) {
        return Ok(false);
    }
    let form = ControlFile::read(pgdata)?.form()?;
    let path = file_of(&end, &form).expect("a record that begins was read from some file");
    let offset = end.end.0 - form.segment_start(form.segment_of(end.end.0));
    if let Err(why) = keep_tail(keep, path, offset) {
        tracing::warn!(%why, "what is cut off could not be kept aside");
    }
    blank(path, offset, u64::from(form.segment_bytes))?;
    Ok(true)
}

/// Whether PostgreSQL would ask another leader for a segment behind a hole: the record
/// that begins at the end of the log and is not all there goes on in a later segment.
/// In the same one it asks for that segment from its start, and nothing is left out.
///
/// # Errors
/// As `scan_end`.
pub fn leads_behind_a_hole(pgdata: &Path, from: ScanStart) -> Result<bool, WalError> {
    let end = scan::scan_end(pgdata, from)?;
    let form = ControlFile::read(pgdata)?.form()?;
    let later = |page: Lsn| form.segment_of(page.0) > form.segment_of(end.end.0);
    Ok(matches!(end.after, End::Torn(page) if later(page)))
}

/// The file in which the next record would begin. Say timeline 2 begins at `end`:
/// the last whole record is timeline 1's, and the torn one stands in timeline 2's file.
fn file_of<'a>(end: &'a WalEnd, form: &Form) -> Option<&'a PathBuf> {
    let number = form.segment_of(end.end.0);
    let segment = |p: &PathBuf| Segment::from_file_name(p.file_name()?.to_str()?, form.segment_bytes);
    end.files.iter().find(|p| segment(p).is_some_and(|s| s.number == number))
}

/// Copies what stands in `path` from `offset` on, durably.
fn keep_tail(keep: &Path, path: &Path, offset: u64) -> io::Result<()> {
    fs::create_dir_all(keep)?;
    forget_oldest(keep)?;
    let mut from = File::open(path)?;
    from.seek(SeekFrom::Start(offset))?;
    let segment = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = keep.join(format!("{segment}.from-{offset:08X}"));
    let copied = File::create(&kept).and_then(|mut to| {
        io::copy(&mut from.take(KEPT_BYTES_MAX), &mut to)?;
        to.sync_all()
    });
    if copied.is_err() {
        // Half a tail on a full disk helps nobody.
        let _ = fs::remove_file(&kept);
    }
    copied.and_then(|()| File::open(keep)?.sync_all())
}

/// Makes room for one more.
fn forget_oldest(keep: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(keep)? {
        let entry = entry?;
        kept.push((entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
    }
    kept.sort();
    let surplus = (kept.len() + 1).saturating_sub(KEPT_FILES_MAX);
    kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Zeros from `offset` to the end of the file, which has `bytes`.
fn blank(path: &Path, offset: u64, bytes: u64) -> Result<(), WalError> {
    let zeros = vec![0; CHUNK_BYTES];
    let file = OpenOptions::new().write(true).open(path).map_err(WalError::write("open", path))?;
    let mut at = offset;
    while at < bytes {
        let chunk = usize::try_from(bytes - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        file.write_all_at(&zeros[..chunk], at).map_err(WalError::write("blank", path))?;
        at += chunk as u64;
    }
    file.sync_all().map_err(WalError::sync(path))
}
