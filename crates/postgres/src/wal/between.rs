//! The switch segment of timelines that came to nothing.
//!
//! A walsender that sends an older timeline reads the segment in which it ends from
//! the *next* timeline's file (`WalSndSegmentOpen` in walsender.c). Between two of
//! ours lies a placeholder (protocol (k)), which never had a file: a standby that is
//! behind by one record would ask for it without end ("requested WAL segment ... has
//! already been removed"). So each gets the bytes that it shares with its parent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use cluster::Timeline;

use super::WalError;
use super::segment::Segment;
use crate::control_file::ControlFile;
use crate::{RunAs, durable, history};

/// What PostgreSQL removes at a start if we end in the middle (`RemoveTempXlogFiles`).
const NEW: &str = "xlogtemp.tanist";

/// Gives every timeline of the past that ends on `timeline` the segment in which it
/// began, if that is still here under another's name. Returns how many were made.
///
/// On a primary, after its promotion: one that still looks for a timeline to follow
/// could take a placeholder with a segment for it.
///
/// # Errors
/// `Read`, `Write`, `Control`, `History`.
pub fn fill(pgdata: &Path, timeline: Timeline, owner: RunAs) -> Result<usize, WalError> {
    let pg_wal = pgdata.join("pg_wal");
    let form = ControlFile::read(pgdata)?.form()?;
    let past = history::lineage(&pg_wal, timeline)?;
    let all: Vec<Timeline> = past.ancestors.iter().map(|b| b.timeline).chain([past.timeline]).collect();
    let mut made = 0;
    for (i, branch) in past.ancestors.iter().enumerate() {
        let (number, shared) = (form.segment_of(branch.end.0), branch.end.0 % u64::from(form.segment_bytes));
        let path = |timeline| pg_wal.join(Segment { timeline, number }.file_name(form.segment_bytes));
        // Whoever grew later begins with the same bytes, and so does the parent.
        let (older, later) = all.split_at(i + 1);
        let source = later.iter().chain(older.last()).map(|t| path(*t)).find(|p| p.exists());
        let Some(wanted) = later.first().map(|t| path(*t)) else { continue };
        let Some(source) = source.filter(|_| shared > 0 && !wanted.exists()) else { continue };
        copy(&source, &pg_wal.join(NEW), shared, u64::from(form.segment_bytes), owner)?;
        fs::rename(pg_wal.join(NEW), &wanted).map_err(WalError::write("rename to", &wanted))?;
        made += 1;
    }
    if made > 0 {
        durable::sync_dir(&pg_wal).map_err(|e| WalError::Write {
            deed: "fsync",
            path: pg_wal.clone(),
            source: io::Error::other(e.to_string()),
        })?;
    }
    Ok(made)
}

/// The first `shared` bytes, and nothing after them.
fn copy(from: &Path, to: &Path, shared: u64, whole: u64, owner: RunAs) -> Result<(), WalError> {
    let _ = fs::remove_file(to);
    let source = File::open(from).map_err(WalError::read(from))?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut new = new.map_err(WalError::write("create", to))?;
    let written = io::copy(&mut source.take(shared), &mut new)
        .and_then(|_| new.set_len(whole))
        .and_then(|()| new.sync_all());
    written.map_err(WalError::write("write", to))?;
    owner.own(to).map_err(|e| WalError::Write {
        deed: "give away",
        path: to.to_path_buf(),
        source: io::Error::other(e.to_string()),
    })
}
