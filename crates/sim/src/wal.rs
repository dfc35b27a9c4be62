//! A log: records of one length, each the only one of its number.
//!
//! Two logs that have the same record at the same place have the same past, as
//! long as nobody copies what does not belong: that is law I11's to find.

use cluster::lineage::Branch;
use cluster::{Lineage, Lsn, Timeline};

/// Bytes per model record.
pub const RECORD: u64 = 100;
/// Records in a model segment. A standby that comes to a new timeline receives
/// the segment of the switch once more, from its beginning.
pub const SEGMENT: usize = 64;

/// What a record does for the write that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Everything: a transaction of one record.
    #[default]
    Whole,
    /// It is the first of its transaction, which has its number from then on.
    Begins,
    /// It commits one that has begun before.
    Commits,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Never given twice in a world.
    pub id: u32,
    /// The timeline that wrote it.
    pub timeline: Timeline,
    /// The client's write that it belongs to; `None` for the server's own.
    pub write: Option<u32>,
    /// What it does for that.
    pub step: Step,
}

impl Record {
    /// The write whose transaction has its number by this record.
    #[must_use]
    pub fn begins(&self) -> Option<u32> {
        self.write.filter(|_| self.step != Step::Commits)
    }

    /// The write that it commits.
    #[must_use]
    pub fn commits(&self) -> Option<u32> {
        self.write.filter(|_| self.step != Step::Begins)
    }
}

/// A directory's log and past.
#[derive(Clone, Debug, Default)]
pub struct Wal {
    /// What is written, in the page cache at least.
    pub records: Vec<Record>,
    /// How many of them are on disk.
    pub flushed: usize,
    /// The past, as history files tell it.
    pub lineage: Lineage,
    /// After the last whole record lies one that its leader has not finished. A start
    /// reads it again; it asks for the rest, which no later timeline has.
    pub torn: bool,
    /// The switch segment is being received anew, from this record on: a file that is
    /// shorter than the older timeline's and would hide it after a crash (protocol (k)).
    pub half_streamed: Option<usize>,
}

impl Wal {
    /// Position behind `count` records.
    #[must_use]
    pub fn lsn(count: usize) -> Lsn {
        Lsn(count as u64 * RECORD)
    }

    /// How many records end at or before `lsn`.
    #[must_use]
    pub fn count(lsn: Lsn) -> usize {
        usize::try_from(lsn.0 / RECORD).unwrap_or(usize::MAX)
    }

    /// End of what is written.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Wal::lsn(self.records.len())
    }

    /// The timeline that owns the last record, which is whose position this is (C-1).
    #[must_use]
    pub fn owner(&self) -> Timeline {
        self.records.last().map_or(self.lineage.timeline, |r| r.timeline)
    }

    /// The past by the records alone: a history file without a record of its
    /// timeline counts for nothing (C-1). What a look at a server finds that streams
    /// from nobody.
    #[must_use]
    pub fn log_lineage(&self) -> Lineage {
        let owner = self.owner();
        let mut lineage = self.lineage.clone();
        if let Some(at) = lineage.ancestors.iter().position(|b| b.timeline == owner) {
            lineage.ancestors.truncate(at);
            lineage.timeline = owner;
        }
        lineage
    }

    /// Writes a record on the newest timeline.
    pub fn append(&mut self, id: u32, write: Option<u32>) {
        self.append_step(id, write, Step::Whole);
    }

    /// Writes a record that is one step of its transaction.
    pub fn append_step(&mut self, id: u32, write: Option<u32>, step: Step) {
        self.records.push(Record { id, timeline: self.lineage.timeline, write, step });
    }

    /// Leaves the timeline for `next` at the log's end.
    pub fn switch(&mut self, next: Timeline) {
        self.lineage = self.log_lineage();
        let (timeline, end) = (self.lineage.timeline, self.end());
        self.lineage.ancestors.push(Branch { timeline, end });
        self.lineage.timeline = next;
        self.torn = false;
        self.half_streamed = None;
    }

    /// Everything on disk.
    pub fn sync(&mut self) {
        self.flushed = self.records.len();
    }

    /// Keeps only the first `count` records.
    pub fn truncate(&mut self, count: usize) {
        self.records.truncate(count);
        self.flushed = self.flushed.min(self.records.len());
    }

    /// Whether all that `self` has, `other` has too.
    #[must_use]
    pub fn is_prefix_of(&self, other: &Wal) -> bool {
        let n = self.records.len();
        n <= other.records.len() && self.records[..n] == other.records[..n]
    }

    /// How many records both have in common.
    #[must_use]
    pub fn common(&self, other: &Wal) -> usize {
        self.records.iter().zip(&other.records).take_while(|(a, b)| a == b).count()
    }

    /// Whether it holds the record that commits `write`.
    #[must_use]
    pub fn holds(&self, write: u32) -> bool {
        self.records.iter().any(|r| r.commits() == Some(write))
    }

    /// The first transaction id that has not been given out in this past.
    #[must_use]
    pub fn next_xid(&self) -> u64 {
        3 + self.records.iter().filter(|r| r.begins().is_some()).count() as u64
    }

    /// Whether the transaction of that number has committed in this past; `None` for one that was
    /// never given out in it.
    #[must_use]
    pub fn status(&self, xid: u64) -> Option<bool> {
        let nth = usize::try_from(xid.checked_sub(3)?).ok()?;
        self.records.iter().filter_map(Record::begins).nth(nth).map(|write| self.holds(write))
    }
}
