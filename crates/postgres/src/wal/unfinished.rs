//! A record that its leader never finished, at the end of a standby's log.
//!
//! The leader died in the middle of a long record. The new leader's timeline
//! begins where the last whole record ends, but a standby that holds the torn
//! one goes on reading it, and asks for the segment in which it would continue:
//! beyond the place where the new timeline begins, so it is refused for ever
//! ("requested starting point is ahead of the WAL flush position"; seen on
//! PostgreSQL 15, and a restart alone reads the same bytes again). What follows
//! the last whole record was never acknowledged, and the stream brings again
//! whatever the new leader has of it.
//!
//! Never touches a byte before the end of the last whole record. What it cuts off
//! is kept elsewhere where there is room: a file of ours in the data directory
//! that the server's user can't read would break the next rewind.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::WalError;
use super::record::End;
use super::scan::{self, ScanStart};
use super::segment;
use crate::control_file::ControlFile;

/// Cuts off what follows the last whole record. The server must be down. Files
/// that lose something are copied into `keep` first, as far as there is room.
/// Returns whether there was anything.
///
/// # Errors
/// As `scan_end`; `Read` or `Write` of the files concerned.
pub fn cut_off(pgdata: &Path, keep: &Path) -> Result<bool, WalError> {
    let pg_wal = pgdata.join("pg_wal");
    let end = scan::scan_end(pgdata, ScanStart::Redo)?;
    if end.after == End::Length(0) {
        return Ok(false);
    }
    let form = ControlFile::read(pgdata)?.form()?;
    let (number, bytes) = (form.segment_of(end.end.0), u64::from(form.segment_bytes));
    let mut files = segment::list(&pg_wal, form.segment_bytes)?;
    files.retain(|s| s.timeline == end.timeline && s.number >= number);
    let offset = end.end.0 - form.segment_start(number);
    let mut cut = false;
    for segment in files {
        let path = pg_wal.join(segment.file_name(form.segment_bytes));
        let torn = segment.number == number && offset > 0;
        if !torn && !is_of_this_log(&path, form.segment_start(segment.number))? {
            continue; // A recycled file: PostgreSQL takes it for none.
        }
        if let Err(why) = copy_into(keep, &path) {
            tracing::warn!(%why, "what is cut off could not be kept aside");
        }
        if torn {
            blank(&path, offset, bytes)?;
        } else {
            fs::remove_file(&path).map_err(WalError::write("remove", &path))?;
        }
        cut = true;
    }
    File::open(&pg_wal).and_then(|d| d.sync_all()).map_err(WalError::sync(&pg_wal))?;
    Ok(cut)
}

fn copy_into(keep: &Path, path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(keep)?;
    fs::copy(path, keep.join(path.file_name().unwrap_or_default())).map(|_| ())
}

/// Zeros from `offset` to the end of the file.
fn blank(path: &Path, offset: u64, bytes: u64) -> Result<(), WalError> {
    let zeros = vec![0; usize::try_from(bytes - offset).unwrap_or(0)];
    let file = OpenOptions::new().write(true).open(path).map_err(WalError::write("open", path))?;
    file.write_all_at(&zeros, offset).map_err(WalError::write("blank", path))?;
    file.sync_all().map_err(WalError::sync(path))
}

/// Whether the file's first page names its own address (`xlp_pageaddr`, 8 bytes
/// into the header of xlog_internal.h).
fn is_of_this_log(path: &Path, start: u64) -> Result<bool, WalError> {
    let file = File::open(path).map_err(WalError::read(path))?;
    let mut address = [0; 8];
    let whole = file.read_exact_at(&mut address, 8).is_ok();
    Ok(whole && u64::from_le_bytes(address) == start)
}
