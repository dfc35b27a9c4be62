//! The segment files of `pg_wal`: their names, and pages read out of them.
//!
//! Several files may hold the same stretch of log, one per timeline. A `View`
//! reads it as PostgreSQL would when it follows one past: the newest timeline's
//! file that exists. Which past is the right one to read by is decided above.
//!
//! Never writes, and never takes an unreadable file for the end of the log.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cluster::{Lineage, Timeline};

use super::WalError;
use super::page::Form;
use super::record::Pages;

/// How much is read at once: a few hundred records' worth, and a power of two
/// so that no window spans two segments.
const WINDOW_BYTES: usize = 256 << 10;

/// One segment of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Whose file it is; it may begin with an ancestor's bytes.
    pub timeline: Timeline,
    /// Counted from the log's first byte.
    pub number: u64,
}

impl Segment {
    /// The 24 hexadecimal digits that PostgreSQL calls it by.
    #[must_use]
    pub fn file_name(&self, segment_bytes: u32) -> String {
        let per_4gb = (1_u64 << 32) / u64::from(segment_bytes);
        format!("{:08X}{:08X}{:08X}", self.timeline.0, self.number / per_4gb, self.number % per_4gb)
    }

    /// The segment that a file is called by; `None` for any other name.
    #[must_use]
    pub fn from_file_name(name: &str, segment_bytes: u32) -> Option<Segment> {
        let upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if name.len() != 24 || !name.bytes().all(upper_hex) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(name.get(at..at + 8)?, 16).ok();
        let per_4gb = (1_u64 << 32) / u64::from(segment_bytes);
        let (high, low) = (u64::from(part(8)?), u64::from(part(16)?));
        (low < per_4gb).then_some(Segment { timeline: Timeline(part(0)?), number: high * per_4gb + low })
    }
}

/// Every segment file in `pg_wal`, sorted by timeline and number.
///
/// # Errors
/// `Read` of the directory.
pub fn list(pg_wal: &Path, segment_bytes: u32) -> Result<Vec<Segment>, WalError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(pg_wal).map_err(WalError::read(pg_wal))? {
        let entry = entry.map_err(WalError::read(pg_wal))?;
        let segment = entry.file_name().to_str().and_then(|n| Segment::from_file_name(n, segment_bytes));
        found.extend(segment);
    }
    found.sort_unstable();
    Ok(found)
}

/// The file of `segment` of the past `lineage` that PostgreSQL would open, were
/// all `timelines` there: newest first, but none before its timeline began.
pub fn holders(lineage: &Lineage, form: &Form, number: u64) -> Vec<Segment> {
    let newest = std::iter::once((lineage.timeline, lineage.ancestors.last()));
    let older = (0..lineage.ancestors.len()).rev().map(|i| {
        let birth = i.checked_sub(1).and_then(|p| lineage.ancestors.get(p));
        (lineage.ancestors[i].timeline, birth)
    });
    newest
        .chain(older)
        .filter(|(_, birth)| birth.is_none_or(|b| form.segment_of(b.end.0) <= number))
        .map(|(timeline, _)| Segment { timeline, number })
        .collect()
}

/// Pages of the log as one past sees it.
pub struct View<'a> {
    pg_wal: &'a Path,
    form: &'a Form,
    lineage: &'a Lineage,
    open: Option<(u64, Option<(File, PathBuf)>)>,
    window: Vec<u8>,
    window_at: Option<u64>,
    used: Vec<(Segment, PathBuf)>,
}

impl<'a> View<'a> {
    /// The log in `pg_wal` as `lineage` sees it.
    #[must_use]
    pub fn new(pg_wal: &'a Path, form: &'a Form, lineage: &'a Lineage) -> View<'a> {
        View { pg_wal, form, lineage, open: None, window: Vec::new(), window_at: None, used: Vec::new() }
    }

    /// The files that pages came from, in the order of first use.
    #[must_use]
    pub fn files(self) -> Vec<PathBuf> {
        self.used.into_iter().map(|(_, path)| path).collect()
    }

    /// Whose file pages of segment `number` came from, if any did.
    #[must_use]
    pub fn timeline_of(&self, number: u64) -> Option<Timeline> {
        self.used.iter().rev().find(|(s, _)| s.number == number).map(|(s, _)| s.timeline)
    }

    /// Opens the file of segment `number`, if it is not the one at hand.
    fn turn_to(&mut self, number: u64) -> Result<(), WalError> {
        if self.open.as_ref().is_some_and(|(n, _)| *n == number) {
            return Ok(());
        }
        self.open = None;
        self.window_at = None;
        let mut found = None;
        for segment in holders(self.lineage, self.form, number) {
            let path = self.pg_wal.join(segment.file_name(self.form.segment_bytes));
            match File::open(&path) {
                Ok(file) => {
                    if !self.used.iter().any(|(s, _)| *s == segment) {
                        self.used.push((segment, path.clone()));
                    }
                    found = Some((file, path));
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(WalError::read(path)(e)),
            }
        }
        self.open = Some((number, found));
        Ok(())
    }

    fn load(&mut self, window_at: u64) -> Result<(), WalError> {
        let Some((number, Some((file, path)))) = &self.open else { return Ok(()) };
        let offset = window_at - self.form.segment_start(*number);
        self.window.resize(WINDOW_BYTES, 0);
        let got = read_up_to(file, &mut self.window, offset).map_err(WalError::read(path))?;
        self.window.truncate(got);
        self.window_at = Some(window_at);
        Ok(())
    }
}

impl Pages for View<'_> {
    type Error = WalError;

    fn page(&mut self, at: u64) -> Result<Option<&[u8]>, WalError> {
        self.turn_to(self.form.segment_of(at))?;
        if !matches!(self.open, Some((_, Some(_)))) {
            return Ok(None);
        }
        let window_at = at & !(WINDOW_BYTES as u64 - 1);
        if self.window_at != Some(window_at) {
            self.load(window_at)?;
        }
        let from = (at - window_at) as usize;
        let to = (from + self.form.page_bytes as usize).min(self.window.len());
        Ok(self.window.get(from..to))
    }
}

/// Reads until `buffer` is full or the file ends; returns how much that was.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Makes the bytes of `files` and their names durable.
///
/// # Errors
/// `Sync`: nothing may be promised on them.
pub fn sync(pg_wal: &Path, files: &[PathBuf]) -> Result<(), WalError> {
    for path in files {
        File::open(path).and_then(|f| f.sync_data()).map_err(WalError::sync(path))?;
    }
    File::open(pg_wal).and_then(|d| d.sync_all()).map_err(WalError::sync(pg_wal))
}
