//! A new timeline's segment that is shorter than the old one's (protocol (k)).
//!
//! A follower re-streams the segment in which its leader's timeline began from
//! that segment's start, into a file of the new timeline. If it crashes while
//! that file still ends below what the old timeline's file holds, PostgreSQL
//! prefers the newer file at the next start and stops early: below commits that
//! this server has acknowledged. So before each start such a file is renamed;
//! the same bytes come again with the stream.
//!
//! Never removes anything: the file keeps its bytes under another name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cluster::{Lineage, Timeline};

use super::WalError;
use super::page::Form;
use super::scan::{self, ScanStart, WalEnd};
use super::segment::{self, Segment};
use crate::control_file::ControlFile;

/// What is put behind the name of a file that is set aside. PostgreSQL knows
/// no such name and leaves it alone.
const ASIDE: &str = ".half-streamed";

/// Renames every segment file that would hide the end of the log from a server
/// that is about to start. The server must be down. Returns their old names.
///
/// # Errors
/// As `scan_end`; `Write` when a file can't be renamed.
pub fn set_aside(pgdata: &Path) -> Result<Vec<PathBuf>, WalError> {
    let pg_wal = pgdata.join("pg_wal");
    let best = scan::scan_end(pgdata, ScanStart::Redo)?;
    let control = ControlFile::read(pgdata)?;
    let form = control.form()?;
    let mut moved = Vec::new();
    for past in scan::pasts(&pg_wal, &control)? {
        let seen = scan::scan_past(&pg_wal, &form, &past, control.redo, None)?;
        if past.timeline <= best.timeline || seen.as_ref().is_some_and(|s| s.end >= best.end) {
            continue;
        }
        for segment in hiding(&pg_wal, &form, &past, best.timeline, seen.as_ref())? {
            moved.push(rename(&pg_wal.join(segment.file_name(form.segment_bytes)))?);
        }
    }
    if !moved.is_empty() {
        File::open(&pg_wal).and_then(|d| d.sync_all()).map_err(WalError::sync(&pg_wal))?;
    }
    Ok(moved)
}

/// The files of timelines younger than `owner` from where `past` stops seeing on.
fn hiding(
    pg_wal: &Path,
    form: &Form,
    past: &Lineage,
    owner: Timeline,
    seen: Option<&WalEnd>,
) -> Result<Vec<Segment>, WalError> {
    let from = seen.map_or(0, |s| form.segment_of(s.end.0));
    let mut files = segment::list(pg_wal, form.segment_bytes)?;
    files.retain(|s| s.timeline > owner && past.contains(s.timeline) && s.number >= from);
    Ok(files)
}

fn rename(path: &Path) -> Result<PathBuf, WalError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    fs::rename(path, &aside).map_err(WalError::write("set aside", path))?;
    Ok(path.to_path_buf())
}
