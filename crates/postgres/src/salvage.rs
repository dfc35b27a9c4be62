//! WAL handed from one member's disk to another's ((a) 5, (g) of the protocol).
//!
//! The giver reads whole stretches of segment files off its `Shelf`. The taker
//! puts them beside its log, walks them record by record over their checksums up
//! to where they must reach, fsyncs them, and only then renames them into its
//! `pg_wal`: so neither a running startup process nor a crash sees half of it.
//!
//! Never touches the log of a server that is not a standby without a receiver:
//! whoever calls has seen to that.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cluster::{Lineage, Lsn, Timeline};

use crate::control_file::ControlFile;
use crate::durable::{self, PRIVATE};
use crate::error::{Error, Result};
use crate::history;
use crate::os_user::RunAs;
use crate::wal::page::Form;
use crate::wal::segment::{Segment, holders, read_up_to};
use crate::wal::{WalError, scan};
use crate::witness::Store;

/// Most bytes that are handed over at once.
pub const PIECE_BYTES_MAX: u32 = 1 << 20;
/// Where pieces wait, in `pg_wal`, so that a rename brings them into their place.
const STAGE: &str = "tanist-salvage";

/// A stretch of one segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose file.
    pub timeline: Timeline,
    /// Where the bytes begin.
    pub at: Lsn,
    /// The bytes; never over a segment's end.
    pub bytes: Vec<u8>,
}

/// The log of a member, to be read by others.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    form: Form,
}

impl Shelf {
    /// What a witness keeps in `dir`.
    ///
    /// # Errors
    /// `File`, `BadAnswer`: it keeps nothing yet.
    pub fn of_witness(dir: &Path) -> Result<Shelf> {
        let store = Store::open(dir, RunAs::current())?;
        let store = store.ok_or_else(|| Error::BadAnswer("no WAL is kept here yet".to_string()))?;
        Ok(Shelf { dir: dir.to_owned(), form: store.form() })
    }

    /// The log of a server.
    ///
    /// # Errors
    /// What the control file says.
    pub fn of_server(pgdata: &Path) -> Result<Shelf> {
        Ok(Shelf { dir: pgdata.join("pg_wal"), form: ControlFile::read(pgdata)?.form()? })
    }

    /// Every history file that is here, lowest timeline first.
    ///
    /// # Errors
    /// `File`.
    pub fn histories(&self) -> Result<Vec<(Timeline, Vec<u8>)>> {
        let mut all = Vec::new();
        for timeline in history::list(&self.dir)? {
            all.extend(history::read(&self.dir, timeline)?.map(|text| (timeline, text)));
        }
        Ok(all)
    }

    /// At most `bytes_max` bytes from `at` on, as the past that ends on `timeline` sees them.
    ///
    /// # Errors
    /// `BadAnswer` when they are not here; `File`.
    pub fn read(&self, timeline: Timeline, at: Lsn, bytes_max: u32) -> Result<Piece> {
        let lineage = history::lineage(&self.dir, timeline)?;
        let number = self.form.segment_of(at.0);
        let offset = at.0 - self.form.segment_start(number);
        let room = u64::from(self.form.segment_bytes) - offset;
        let wanted = u64::from(bytes_max.min(PIECE_BYTES_MAX)).min(room);
        for segment in holders(&lineage, &self.form, number) {
            let path = self.dir.join(segment.file_name(self.form.segment_bytes));
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::file("open", path)(e)),
            };
            let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
            let got = read_up_to(&file, &mut bytes, offset).map_err(Error::file("read", &path))?;
            bytes.truncate(got);
            if bytes.is_empty() {
                break;
            }
            return Ok(Piece { timeline: segment.timeline, at, bytes });
        }
        Err(WalError::Gone { from: at }.into())
    }
}

/// WAL on its way into a standby's log.
#[derive(Debug)]
pub struct Stage {
    pg_wal: PathBuf,
    dir: PathBuf,
    form: Form,
    owner: RunAs,
    /// Our own end, and whose the last record before it is.
    from: Lsn,
    timeline: Timeline,
    segments: Vec<(Segment, File)>,
    histories: Vec<(Timeline, Vec<u8>)>,
}

impl Stage {
    /// Begins to take WAL that follows `from`, where our log ends, on `timeline`.
    ///
    /// # Errors
    /// `File`, what the control file says.
    pub fn begin(pgdata: &Path, timeline: Timeline, from: Lsn, owner: RunAs) -> Result<Stage> {
        let (pg_wal, form) = (pgdata.join("pg_wal"), ControlFile::read(pgdata)?.form()?);
        let dir = pg_wal.join(STAGE);
        clear(&dir)?;
        durable::make_dir(&dir, 0o700, owner)?;
        Ok(Stage { pg_wal, dir, form, owner, from, timeline, segments: Vec::new(), histories: Vec::new() })
    }

    /// Where the first piece must begin: with its segment.
    #[must_use]
    pub fn first(&self) -> Lsn {
        Lsn(self.form.segment_start(self.form.segment_of(self.from.0)))
    }

    /// Takes the history of a timeline.
    ///
    /// # Errors
    /// That it is none.
    pub fn put_history(&mut self, timeline: Timeline, text: Vec<u8>) -> Result<()> {
        history::parse(timeline, &text)?;
        durable::replace(&self.dir.join(history::file_name(timeline)), &text, self.owner)?;
        self.histories.push((timeline, text));
        Ok(())
    }

    /// Takes a piece; returns where the next must begin.
    ///
    /// # Errors
    /// `BadAnswer` for one that is out of its place; `File`.
    pub fn put(&mut self, piece: &Piece) -> Result<Lsn> {
        let number = self.form.segment_of(piece.at.0);
        let offset = piece.at.0 - self.form.segment_start(number);
        let misplaced = |why| Error::from(WalError::Misplaced { at: piece.at, why });
        if piece.bytes.is_empty() || offset + piece.bytes.len() as u64 > u64::from(self.form.segment_bytes) {
            return Err(misplaced("it is empty or reaches over the end of a segment"));
        }
        let segment = Segment { timeline: piece.timeline, number };
        let path = self.dir.join(segment.file_name(self.form.segment_bytes));
        if !self.segments.iter().any(|(s, _)| *s == segment) {
            let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&path);
            let file = file.map_err(Error::file("create", &path))?;
            file.set_len(u64::from(self.form.segment_bytes)).map_err(Error::file("write", &path))?;
            self.owner.own(&path)?;
            self.segments.push((segment, file));
        }
        let Some((_, file)) = self.segments.iter().find(|(s, _)| *s == segment) else {
            return Err(misplaced("it has no file"));
        };
        file.write_all_at(&piece.bytes, offset).map_err(Error::file("write", &path))?;
        Ok(Lsn(piece.at.0 + piece.bytes.len() as u64))
    }

    /// Checks that what was taken is whole up to `to` on `lineage`, record by record,
    /// and puts it into its place, durably.
    ///
    /// # Errors
    /// `BadAnswer`: nothing was changed; `File`.
    pub fn finish(self, lineage: &Lineage, to: Lsn) -> Result<()> {
        let begin = self.first();
        let found = scan::end_near(&self.dir, &self.form, lineage, begin, begin)?;
        let end = found.map_or(begin, |e| e.end);
        if end < to {
            return Err(WalError::EndsEarly { end, known: to }.into());
        }
        for (segment, file) in &self.segments {
            let name = segment.file_name(self.form.segment_bytes);
            file.sync_all().map_err(Error::file("fsync", self.dir.join(&name)))?;
            self.check_beginning(*segment, &name)?;
        }
        // Oldest first, histories last: after a crash between, what is there is a log that ends earlier.
        let mut names: Vec<(u64, Timeline, String)> = Vec::new();
        for (segment, _) in &self.segments {
            let name = segment.file_name(self.form.segment_bytes);
            names.push((segment.number, segment.timeline, name));
        }
        names.sort();
        for (_, _, name) in names {
            let to = self.pg_wal.join(&name);
            fs::rename(self.dir.join(&name), &to).map_err(Error::file("rename to", &to))?;
        }
        durable::sync_dir(&self.pg_wal)?;
        for (timeline, text) in &self.histories {
            durable::replace_if_other(&self.pg_wal.join(history::file_name(*timeline)), text, self.owner)?;
        }
        Ok(())
    }

    /// What our log has in a file that is about to be replaced must be what came. In a
    /// younger timeline's file nothing is ours yet, though it may be there, half streamed.
    fn check_beginning(&self, segment: Segment, name: &str) -> Result<()> {
        if segment.timeline != self.timeline {
            return Ok(());
        }
        let start = self.form.segment_start(segment.number);
        let ours = usize::try_from(self.from.0.saturating_sub(start)).unwrap_or(usize::MAX);
        let ours = ours.min(self.form.segment_bytes as usize);
        let Ok(file) = File::open(self.pg_wal.join(name)) else { return Ok(()) };
        let theirs = File::open(self.dir.join(name)).map_err(Error::file("open", self.dir.join(name)))?;
        let (mut a, mut b) = (vec![0; ours], vec![0; ours]);
        let got = read_up_to(&file, &mut a, 0).map_err(Error::file("read", self.pg_wal.join(name)))?;
        read_up_to(&theirs, &mut b, 0).map_err(Error::file("read", self.dir.join(name)))?;
        if a.get(..got) != b.get(..got) {
            let why = "it is another log than ours before the place where ours ends";
            return Err(WalError::Misplaced { at: Lsn(start), why }.into());
        }
        Ok(())
    }
}

impl Drop for Stage {
    /// What was broken off would only take room.
    fn drop(&mut self) {
        let _ = clear(&self.dir);
    }
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
    }
    Ok(())
}
