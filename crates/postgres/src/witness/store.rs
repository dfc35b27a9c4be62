//! The segment files of a witness that keeps WAL.
//!
//! ```text
//! <dir>/origin                      whose log it is, and where our part of it begins
//! <dir>/000000020000000000000003    segments, by PostgreSQL's names
//! <dir>/00000002.history
//! ```
//! A segment's file is fsynced before the next one is made: so all but the last
//! are whole, and only the end has to be looked for after a crash.
//!
//! Never removes WAL by itself, and never writes over a record that is whole with
//! another timeline's: those go to files of their own.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cluster::{Lineage, Lsn, Timeline};
use serde::{Deserialize, Serialize};

use crate::durable::{self, PRIVATE};
use crate::error::{Error, Result};
use crate::history;
use crate::os_user::RunAs;
use crate::perform::WalEnd;
use crate::wal::page::Form;
use crate::wal::scan;
use crate::wal::segment::{self, Segment, holders};

/// Name of the file that tells whose log it is.
const ORIGIN: &str = "origin";
/// Zeros that are written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Whose log a store keeps, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// System identifier of the database.
    pub sysid: u64,
    /// PostgreSQL's major version, 11 to 18.
    pub major: u32,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Start of the first segment that is kept.
    pub begin: Lsn,
    /// Whose file that segment is in.
    pub timeline: u32,
}

impl Origin {
    /// What all pages of it have in common.
    ///
    /// # Errors
    /// `BadAnswer` where a number is impossible.
    pub fn form(&self) -> Result<Form> {
        let form = Form::new(self.major, self.sysid, self.page_bytes, self.segment_bytes);
        form.ok_or_else(|| Error::BadAnswer(format!("no WAL has the form {self:?}")))
    }
}

/// WAL on our own disk.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    owner: RunAs,
    origin: Origin,
    form: Form,
    open: Option<(Segment, File)>,
    /// An fsync failed: the kernel may have thrown away what was to be written and call
    /// it clean, so what is read from now on may not be on the disk.
    doubted: Cell<bool>,
}

impl Store {
    /// What is in `dir`; `None` when there is nothing, or nothing that was finished.
    ///
    /// # Errors
    /// `File`, `BadAnswer`.
    pub fn open(dir: &Path, owner: RunAs) -> Result<Option<Store>> {
        let Some(text) = durable::read_if_there(&dir.join(ORIGIN))? else { return Ok(None) };
        let origin: Origin = serde_json::from_slice(&text)
            .map_err(|e| Error::BadAnswer(format!("{} is damaged: {e}", dir.join(ORIGIN).display())))?;
        let form = origin.form()?;
        Ok(Some(Store { dir: dir.to_owned(), owner, origin, form, open: None, doubted: Cell::new(false) }))
    }

    /// Throws away what is in `dir` and begins at `origin`.
    ///
    /// # Errors
    /// `File`, `BadAnswer`.
    pub fn anew(dir: &Path, owner: RunAs, origin: Origin) -> Result<Store> {
        let form = origin.form()?;
        // Without it, nothing else in there counts.
        durable::remove(&dir.join(ORIGIN))?;
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
        }
        durable::make_dir(dir, 0o700, owner)?;
        durable::sync_dir(dir.parent().unwrap_or(dir))?;
        let store = Store { dir: dir.to_owned(), owner, origin, form, open: None, doubted: Cell::new(false) };
        store.write_origin().map(|()| store)
    }

    fn write_origin(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.origin).unwrap_or_default();
        durable::replace(&self.dir.join(ORIGIN), &text, self.owner)
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose log it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The form of its pages.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The past that ends on `timeline`, by the histories that are here.
    ///
    /// # Errors
    /// `Wal`.
    pub fn lineage(&self, timeline: Timeline) -> Result<Lineage> {
        Ok(history::lineage(&self.dir, timeline)?)
    }

    /// Whether the history of `timeline` is here.
    #[must_use]
    pub fn has_history(&self, timeline: Timeline) -> bool {
        self.dir.join(history::file_name(timeline)).exists()
    }

    /// Keeps the history of `timeline`.
    ///
    /// # Errors
    /// `File`, or that it is no history.
    pub fn keep_history(&self, timeline: Timeline, text: &[u8]) -> Result<()> {
        history::parse(timeline, text)?;
        durable::replace_if_other(&self.dir.join(history::file_name(timeline)), text, self.owner).map(|_| ())
    }

    /// Where the log ends (C-1), on disk when this returns; `None` while no record is whole.
    ///
    /// # Errors
    /// What the scan says: then there is no position.
    pub fn end(&self) -> Result<Option<WalEnd>> {
        self.refuse_doubted()?;
        let files: BTreeSet<Segment> =
            segment::list(&self.dir, self.form.segment_bytes)?.into_iter().collect();
        let mut best: Option<scan::WalEnd> = None;
        for past in self.pasts()? {
            let near = self.last_segment(&past, &files);
            let found = scan::end_near(&self.dir, &self.form, &past, self.origin.begin, near)?;
            best = best.into_iter().chain(found).max_by_key(|e| (e.timeline, e.end));
        }
        let Some(found) = best else { return Ok(None) };
        segment::sync(&self.dir, &found.files).inspect_err(|_| self.doubted.set(true))?;
        let (last_start, end) = (found.record.start, found.end);
        Ok(Some(WalEnd { lineage: found.lineage, last_start, end, replay: end }))
    }

    /// The pasts that lead through the place where our part begins.
    fn pasts(&self) -> Result<Vec<Lineage>> {
        let own = Timeline(self.origin.timeline);
        let mut pasts = vec![self.lineage(own)?];
        for timeline in history::list(&self.dir)?.into_iter().filter(|t| *t != own) {
            pasts.push(self.lineage(timeline)?);
        }
        pasts.retain(|p| p.contains(own));
        Ok(pasts)
    }

    /// Start of the last segment that `past` leads to without a gap.
    fn last_segment(&self, past: &Lineage, files: &BTreeSet<Segment>) -> Lsn {
        let first = self.form.segment_of(self.origin.begin.0);
        let there = |n: u64| holders(past, &self.form, n).iter().any(|s| files.contains(s));
        // Bounded by the files on this disk.
        let mut last = first;
        while there(last + 1) {
            last += 1;
        }
        Lsn(self.form.segment_start(last)).max(self.origin.begin)
    }

    /// Writes `bytes` of `timeline` at `at`; durable only after `sync`.
    ///
    /// # Errors
    /// `File`.
    pub fn write(&mut self, timeline: Timeline, at: Lsn, bytes: &[u8]) -> Result<()> {
        let (mut at, mut bytes) = (at.0, bytes);
        while !bytes.is_empty() {
            let number = self.form.segment_of(at);
            let offset = at - self.form.segment_start(number);
            let room = usize::try_from(u64::from(self.form.segment_bytes) - offset).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let (path, file) = self.turn_to(Segment { timeline, number })?;
            file.write_all_at(now, offset).map_err(Error::file("write", path))?;
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// `File`: nothing may be acknowledged then.
    pub fn sync(&mut self) -> Result<()> {
        self.refuse_doubted()?;
        let Some((segment, file)) = &self.open else { return Ok(()) };
        let path = self.dir.join(segment.file_name(self.form.segment_bytes));
        let synced = file.sync_data();
        // Trying again would succeed, and prove nothing.
        self.doubted.set(synced.is_err());
        synced.map_err(Error::file("fsync", path))
    }

    fn refuse_doubted(&self) -> Result<()> {
        let why = "an fsync of its WAL has failed: look at the disk, then 'tanist reinit' this witness";
        if self.doubted.get() { Err(Error::BadAnswer(why.to_string())) } else { Ok(()) }
    }

    fn turn_to(&mut self, segment: Segment) -> Result<(PathBuf, &File)> {
        let path = self.dir.join(segment.file_name(self.form.segment_bytes));
        if self.open.as_ref().is_none_or(|(s, _)| *s != segment) {
            self.sync()?;
            self.open = None;
            let file = if path.exists() { reopen(&path)? } else { self.make(&path)? };
            self.open = Some((segment, file));
        }
        let (_, file) = self.open.as_ref().expect("it was opened just now");
        Ok((path, file))
    }

    /// A file full of zeros: an fsync of bytes in it changes nothing else on the disk.
    fn make(&self, path: &Path) -> Result<File> {
        let beside = self.dir.join("segment.new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE)
            .open(&beside)
            .map_err(Error::file("create", &beside))?;
        let zeros = vec![0; CHUNK_BYTES.min(self.form.segment_bytes as usize)];
        for i in 0..u64::from(self.form.segment_bytes) / zeros.len() as u64 {
            file.write_all_at(&zeros, i * zeros.len() as u64).map_err(Error::file("write", &beside))?;
        }
        file.sync_all().map_err(Error::file("fsync", &beside))?;
        self.owner.own(&beside)?;
        fs::rename(&beside, path).map_err(Error::file("rename to", path))?;
        durable::sync_dir(&self.dir)?;
        Ok(file)
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// `Wal`.
    pub fn bytes(&self) -> Result<u64> {
        let files = segment::list(&self.dir, self.form.segment_bytes)?;
        Ok(files.len() as u64 * u64::from(self.form.segment_bytes))
    }

    /// Drops the segments that lie before `keep` as a whole, and those only.
    /// `timeline` is the one that is being received. Returns whether there were any.
    ///
    /// # Errors
    /// `File`, `Wal`.
    pub fn prune(&mut self, keep: Lsn, timeline: Timeline) -> Result<bool> {
        let first = self.form.segment_of(keep.0);
        let begin = Lsn(self.form.segment_start(first));
        if begin <= self.origin.begin {
            return Ok(false);
        }
        let files = segment::list(&self.dir, self.form.segment_bytes)?;
        let lineage = self.lineage(timeline)?;
        let there = |s: &Segment| files.contains(s);
        let Some(holder) = holders(&lineage, &self.form, first).into_iter().find(there) else {
            return Ok(false);
        };
        // What is kept is told before anything goes, or a crash between would leave a gap.
        (self.origin.begin, self.origin.timeline) = (begin, holder.timeline.0);
        self.write_origin()?;
        for old in files.iter().filter(|s| s.number < first) {
            let path = self.dir.join(old.file_name(self.form.segment_bytes));
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
        durable::sync_dir(&self.dir)?;
        Ok(true)
    }
}

fn reopen(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).map_err(Error::file("open", path))
}
