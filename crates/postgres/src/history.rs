//! Timeline history files: `00000007.history`, one line per ancestor.
//!
//! PostgreSQL writes one at promotion and believes whichever it finds, also a
//! false one. So after a promotion its bytes are compared with the only forms
//! that they may have (C6): the parent's file and one line more, or with our
//! placeholders between (protocol (k)). A placeholder is a history file for a
//! timeline that was given out and may never have been opened; PostgreSQL
//! chooses the number after the highest it finds.
//!
//! Never removes the history of a timeline that was opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cluster::lineage::Branch;
use cluster::{Lineage, Lsn, Timeline};

use crate::durable;
use crate::error::Error;
use crate::os_user::RunAs;

/// What PostgreSQL gives as the reason of every promotion on request.
pub const PROMOTED: &str = "no recovery target specified";
/// What our placeholders give as their reason.
pub const RESERVED: &str = "reserved by tanist";
/// Longest history that is read: 100,000 promotions.
const HISTORY_BYTES_MAX: usize = 8 << 20;

/// Why a history can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system said no.
    #[error("can't {deed} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        deed: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be made durable.
    #[error(transparent)]
    NotDurable(#[from] Error),
    /// It is no history.
    #[error("the history of timeline {timeline} is damaged in line {line}: {why}")]
    Damaged {
        /// Whose.
        timeline: Timeline,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A promoted server wrote another history than the one it must have.
    #[error("the history of timeline {timeline} does not grow from timeline {parent} at {switch}")]
    Unexpected {
        /// The new timeline.
        timeline: Timeline,
        /// What it must grow from.
        parent: Timeline,
        /// And where.
        switch: Lsn,
    },
}

impl HistoryError {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            HistoryError::File { .. } => "TAN0450",
            HistoryError::NotDurable(e) => e.code(),
            HistoryError::Damaged { .. } => "TAN0456",
            HistoryError::Unexpected { .. } => "TAN0457",
        }
    }
}

/// The name of a timeline's history file.
#[must_use]
pub fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// The past that ends on `timeline`, out of the text of its history file, by
/// PostgreSQL's own rules: `#` and blank lines are comments, timelines rise,
/// and what follows the switch point is for people.
///
/// # Errors
/// `Damaged`.
pub fn parse(timeline: Timeline, text: &[u8]) -> Result<Lineage, HistoryError> {
    let mut ancestors: Vec<Branch> = Vec::new();
    for (i, line) in text.split(|b| *b == b'\n').enumerate() {
        let damaged = |why| HistoryError::Damaged { timeline, line: i + 1, why };
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let branch = parse_line(line).map_err(damaged)?;
        let rises = ancestors.last().is_none_or(|b| b.timeline < branch.timeline && b.end <= branch.end);
        if !rises {
            return Err(damaged("it does not come after the line before"));
        }
        if branch.timeline.0 == 0 || branch.timeline >= timeline {
            return Err(damaged("that timeline can't be an ancestor"));
        }
        ancestors.push(branch);
    }
    Ok(Lineage { ancestors, timeline })
}

fn parse_line(line: &[u8]) -> Result<Branch, &'static str> {
    // Only what follows the second field may be something else than ASCII.
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
    let mut field = || fields.next().and_then(|f| std::str::from_utf8(f).ok());
    let timeline = field().and_then(|f| f.parse().ok()).ok_or("it begins with no timeline id")?;
    let end = field().and_then(|f| f.parse().ok()).ok_or("it has no switch point")?;
    Ok(Branch { timeline: Timeline(timeline), end })
}

/// One more line behind `parent`'s text, as PostgreSQL writes it: `timeline`
/// was left at `end`. The blank line between is PostgreSQL's.
#[must_use]
pub fn extend(parent: Option<&[u8]>, timeline: Timeline, end: Lsn, reason: &str) -> Vec<u8> {
    let mut text = parent.map(<[u8]>::to_vec).unwrap_or_default();
    if parent.is_some() {
        text.push(b'\n');
    }
    text.extend_from_slice(format!("{}\t{end}\t{reason}\n", timeline.0).as_bytes());
    text
}

/// A whole history file for `lineage`, as if PostgreSQL had written each step.
/// Empty for a timeline without ancestors.
#[must_use]
pub fn format(lineage: &Lineage, reason: &str) -> Vec<u8> {
    let mut text: Option<Vec<u8>> = None;
    for b in &lineage.ancestors {
        text = Some(extend(text.as_deref(), b.timeline, b.end, reason));
    }
    text.unwrap_or_default()
}

/// What a promotion must have come from.
#[derive(Clone, Copy, Debug)]
pub struct Growth<'a> {
    /// The timeline that was left.
    pub parent: Timeline,
    /// The parent's own history file, as it was before the promotion.
    pub parent_text: Option<&'a [u8]>,
    /// End of the last record replayed.
    pub switch: Lsn,
    /// The placeholder with the highest number, if any was laid.
    pub placeholder: Option<Timeline>,
}

impl Growth<'_> {
    /// Checks the history that the new `timeline` was given, byte by byte, and
    /// returns the past it says.
    ///
    /// # Errors
    /// `Unexpected`: the server must be stopped, its term given up (C6).
    pub fn verify(&self, timeline: Timeline, text: &[u8]) -> Result<Lineage, HistoryError> {
        let plain = extend(self.parent_text, self.parent, self.switch, PROMOTED);
        let through = self.placeholder.map(|p| {
            let reserved = extend(self.parent_text, self.parent, self.switch, RESERVED);
            extend(Some(&reserved), p, self.switch, PROMOTED)
        });
        if text != plain && Some(text) != through.as_deref() {
            return Err(HistoryError::Unexpected { timeline, parent: self.parent, switch: self.switch });
        }
        parse(timeline, text)
    }
}

/// The history file of `timeline` in `pg_wal`; `None` when there is none, as
/// for the timeline that `initdb` makes.
///
/// # Errors
/// `File`.
pub fn read(pg_wal: &Path, timeline: Timeline) -> Result<Option<Vec<u8>>, HistoryError> {
    let path = pg_wal.join(file_name(timeline));
    match fs::read(&path) {
        Ok(text) if text.len() > HISTORY_BYTES_MAX => {
            Err(file_error("read", path)(io::ErrorKind::FileTooLarge.into()))
        }
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error("read", path)(e)),
    }
}

/// The past that ends on `timeline`, by the files in `pg_wal`. Without a file
/// it has no ancestors, as PostgreSQL reads it.
///
/// # Errors
/// `File`, `Damaged`.
pub fn lineage(pg_wal: &Path, timeline: Timeline) -> Result<Lineage, HistoryError> {
    parse(timeline, &read(pg_wal, timeline)?.unwrap_or_default())
}

/// Every timeline that has a history file in `pg_wal`, lowest first.
///
/// # Errors
/// `File`.
pub fn list(pg_wal: &Path) -> Result<Vec<Timeline>, HistoryError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(pg_wal).map_err(file_error("read", pg_wal))? {
        let name = entry.map_err(file_error("read", pg_wal))?.file_name();
        let timeline = name.to_str().and_then(|n| n.strip_suffix(".history"));
        let timeline = timeline.filter(|n| n.len() == 8).and_then(|n| u32::from_str_radix(n, 16).ok());
        found.extend(timeline.map(Timeline));
    }
    found.sort_unstable();
    Ok(found)
}

/// Puts a history file into `pg_wal`, durably and whole.
///
/// # Errors
/// `NotDurable`.
pub fn install(pg_wal: &Path, timeline: Timeline, text: &[u8], owner: RunAs) -> Result<(), HistoryError> {
    Ok(durable::replace(&pg_wal.join(file_name(timeline)), text, owner)?)
}

/// Lays placeholders so that the next promotion opens `reserved`: for every
/// timeline between `parent` and it that has no file yet, one that says "grew
/// from `parent` at `switch`". Returns the highest that is now there.
///
/// To be called with no walreceiver running and everything replayed: a server
/// that still looks for a timeline to follow could take one for it, and a wrong
/// `switch` would falsify the history of every later leader.
///
/// # Errors
/// `File`, `NotDurable`.
pub fn lay_placeholders(
    pg_wal: &Path,
    parent: Timeline,
    switch: Lsn,
    reserved: Timeline,
    owner: RunAs,
) -> Result<Option<Timeline>, HistoryError> {
    let text = extend(read(pg_wal, parent)?.as_deref(), parent, switch, RESERVED);
    for timeline in missing(pg_wal, parent, reserved)? {
        install(pg_wal, timeline, &text, owner)?;
    }
    Ok((reserved.0 > parent.0 + 1).then(|| Timeline(reserved.0 - 1)))
}

/// Those between `parent` and `reserved` that have no history yet, the highest first: a
/// server that waits for WAL looks for newer timelines from its own on, one after the other,
/// up to the first that has none (findNewestTimeLine of PostgreSQL's timeline.c). In this
/// order it finds none or all of them; one in the middle would become the parent.
fn missing(pg_wal: &Path, parent: Timeline, reserved: Timeline) -> Result<Vec<Timeline>, HistoryError> {
    let have = list(pg_wal)?;
    // Bounded by the number of elections since the parent's: each moves on by two.
    let between = (parent.0.saturating_add(1)..reserved.0).rev().map(Timeline);
    Ok(between.filter(|t| !have.contains(t)).collect())
}

/// Whether there are histories of timelines newer than `parent`, on which the log ends: a
/// server that has seen one may follow it already, and its promotion would grow from there.
///
/// # Errors
/// `File`.
pub fn has_strays(pg_wal: &Path, parent: Timeline) -> Result<bool, HistoryError> {
    Ok(list(pg_wal)?.iter().any(|t| *t > parent))
}

/// Takes back placeholders laid for a promotion that did not happen.
///
/// # Errors
/// `File`, `NotDurable`.
pub fn remove_placeholders(pg_wal: &Path) -> Result<(), HistoryError> {
    for timeline in list(pg_wal)? {
        let text = read(pg_wal, timeline)?.unwrap_or_default();
        let last = text.split(|b| *b == b'\n').rfind(|l| !l.is_empty()).unwrap_or_default();
        if last.ends_with(RESERVED.as_bytes()) {
            durable::remove(&pg_wal.join(file_name(timeline)))?;
        }
    }
    Ok(())
}

/// Removes the histories of timelines newer than `newest`, of which the log has no
/// record: a standby fetches them ahead of any WAL, and where such a timeline came to
/// nothing, it follows no other one for its sake ("is not a child of"). Whoever opened
/// one of them has it still. To be called with the server down; gives how many went.
///
/// # Errors
/// `File`, `NotDurable`.
pub fn forget_newer(pg_wal: &Path, newest: Timeline) -> Result<usize, HistoryError> {
    let strays: Vec<Timeline> = list(pg_wal)?.into_iter().filter(|t| *t > newest).collect();
    for timeline in &strays {
        durable::remove(&pg_wal.join(file_name(*timeline)))?;
    }
    Ok(strays.len())
}

fn file_error(deed: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.into();
    move |source| HistoryError::File { deed, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by PostgreSQL 15 after two promotions.
    const REAL: &[u8] =
        b"1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tno recovery target specified\n";

    fn real() -> Lineage {
        let branch = |t, end| Branch { timeline: Timeline(t), end: Lsn(end) };
        Lineage { ancestors: vec![branch(1, 0x300_0148), branch(2, 0x500_0060)], timeline: Timeline(3) }
    }

    #[test]
    fn a_real_history_is_read_and_written_byte_for_byte() {
        assert_eq!(parse(Timeline(3), REAL).unwrap(), real());
        assert_eq!(format(&real(), PROMOTED), REAL);
        assert_eq!(parse(Timeline(1), b"").unwrap(), Lineage::initdb());
    }

    #[test]
    fn damaged_histories_are_refused() {
        for bad in [
            "x\t0/1\tr\n",
            "1\n",
            "1\tzz\tr\n",
            "2\t0/5\tr\n1\t0/6\tr\n",
            "1\t0/6\tr\n2\t0/5\tr\n",
            "3\t0/1\tr",
            "0\t0/1",
        ] {
            assert!(matches!(parse(Timeline(3), bad.as_bytes()), Err(HistoryError::Damaged { .. })), "{bad}");
        }
        assert!(parse(Timeline(3), b"# why\n\n 1  0/00000006 any \xff words\n").is_ok());
    }

    #[test]
    fn a_promotion_has_two_legal_histories_and_no_third() {
        let parent_text = extend(None, Timeline(1), Lsn(0x10), PROMOTED);
        let switch = Lsn(0x20);
        let growth = Growth {
            parent: Timeline(2),
            parent_text: Some(&parent_text),
            switch,
            placeholder: Some(Timeline(4)),
        };
        let plain = extend(Some(&parent_text), Timeline(2), switch, PROMOTED);
        let reserved = extend(Some(&parent_text), Timeline(2), switch, RESERVED);
        let through = extend(Some(&reserved), Timeline(4), switch, PROMOTED);
        for legal in [&plain, &through] {
            let lineage = growth.verify(Timeline(5), legal).unwrap();
            assert_eq!(lineage.end_of(Timeline(2)), Some(switch));
        }
        let elsewhere = extend(Some(&parent_text), Timeline(2), Lsn(0x18), PROMOTED);
        let false_placeholder = extend(Some(&elsewhere), Timeline(4), switch, PROMOTED);
        for illegal in [&elsewhere, &false_placeholder, &reserved, &parent_text, &Vec::new()] {
            assert!(growth.verify(Timeline(5), illegal).is_err());
        }
    }

    #[test]
    fn histories_without_a_record_are_forgotten_and_older_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let owner = RunAs::current();
        for n in [2, 4, 6] {
            install(dir.path(), Timeline(n), REAL, owner).unwrap();
        }
        assert_eq!(forget_newer(dir.path(), Timeline(2)).unwrap(), 2);
        assert!(read(dir.path(), Timeline(2)).unwrap().is_some());
        assert_eq!(read(dir.path(), Timeline(4)).unwrap(), None);
        assert_eq!(forget_newer(dir.path(), Timeline(2)).unwrap(), 0);
    }

    #[test]
    fn a_server_that_looks_while_placeholders_are_laid_sees_none_or_all() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), Timeline(4), REAL, RunAs::current()).unwrap();
        assert!(has_strays(dir.path(), Timeline(2)).unwrap());
        assert!(!has_strays(dir.path(), Timeline(4)).unwrap());
        // In the order in which they are laid the one after the parent comes last.
        let laid = missing(dir.path(), Timeline(2), Timeline(7)).unwrap();
        assert_eq!(laid, [Timeline(6), Timeline(5), Timeline(3)]);
    }

    #[test]
    fn placeholders_fill_the_gap_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let owner = RunAs::current();
        install(dir.path(), Timeline(2), &extend(None, Timeline(1), Lsn(8), PROMOTED), owner).unwrap();
        assert_eq!(lay_placeholders(dir.path(), Timeline(2), Lsn(16), Timeline(3), owner).unwrap(), None);
        let highest = lay_placeholders(dir.path(), Timeline(2), Lsn(16), Timeline(5), owner).unwrap();
        assert_eq!(highest, Some(Timeline(4)));
        let laid = lineage(dir.path(), Timeline(4)).unwrap();
        assert_eq!((laid.end_of(Timeline(1)), laid.end_of(Timeline(2))), (Some(Lsn(8)), Some(Lsn(16))));
        remove_placeholders(dir.path()).unwrap();
        assert_eq!(list(dir.path()).unwrap(), [Timeline(2)]);
    }
}
