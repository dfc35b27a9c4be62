//! One record after another, verified, out of pages.
//!
//! A record counts when all of its bytes are there and its CRC-32C is right.
//! The rules are those of PostgreSQL's own reader, because the two must agree
//! on where the log ends: an acknowledged commit that we overlooked would be
//! lost by the next election, and one that we imagined would block it.
//!
//! Never allocates for a length that was read: a torn length of 4 GB costs
//! nothing, and bytes are fed to the checksum page by page.

use cluster::{Lineage, Lsn, Timeline};

use super::page::{self, BadPage, Form, PageHeader, u32_at, u64_at};

/// Bytes of a record's header (`SizeOfXLogRecord`).
pub const RECORD_HEADER: usize = 24;
/// Bytes of the header that the checksum covers: all before the checksum.
const CHECKED_HEADER: usize = 20;
/// Resource manager of the log itself (`RM_XLOG_ID`).
pub const RM_XLOG: u8 = 0;
/// The half of `xl_info` that says which kind of record it is.
const KIND_MASK: u8 = 0xF0;
/// Kind of a shutdown checkpoint (`XLOG_CHECKPOINT_SHUTDOWN`).
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
/// Kind of the record that leaves the rest of its segment empty (`XLOG_SWITCH`).
const SWITCH: u8 = 0x40;
/// Kind of the record that replaces an unfinished one (`XLOG_OVERWRITE_CONTRECORD`).
const OVERWRITE_CONTRECORD: u8 = 0xD0;

/// Where pages come from.
pub trait Pages {
    /// What can go wrong other than there being no such page.
    type Error;

    /// The page that begins at `at`, or as much of it as there is; `None`
    /// where there is none.
    ///
    /// # Errors
    /// When the page may exist and can't be read: never to be taken for the end.
    fn page(&mut self, at: u64) -> Result<Option<&[u8]>, Self::Error>;
}

/// A whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its first byte.
    pub start: Lsn,
    /// Where the next one may begin: 8-byte aligned; for a segment switch the next segment.
    pub end: Lsn,
    /// Start of the record before it.
    pub previous: Lsn,
    /// The timeline that owns it, by its start (C-1).
    pub timeline: Timeline,
    /// Which resource manager wrote it.
    pub manager: u8,
    /// What `xl_info` says.
    pub info: u8,
}

impl Record {
    /// Whether it is the checkpoint with which a clean shutdown ends.
    #[must_use]
    pub fn is_shutdown_checkpoint(&self) -> bool {
        self.is(CHECKPOINT_SHUTDOWN)
    }

    fn is(&self, kind: u8) -> bool {
        self.manager == RM_XLOG && self.info & KIND_MASK == kind
    }
}

/// Why the walk ends: what is found after the last whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No segment file goes on.
    NoPage,
    /// The next page is none of this log.
    Page(BadPage),
    /// Zeros, or a length that no record has.
    Length(u32),
    /// The start is none: inside a page header, or inside a record.
    NotAStart,
    /// The record begins and is not all there: its rest would stand on this page.
    Torn(Lsn),
    /// It does not continue the record before it, so it is a leftover.
    Previous(Lsn),
    /// Its checksum is wrong.
    Checksum,
    /// It reaches past the point where its timeline was left.
    PastSwitch,
}

/// Walks from record to record.
#[derive(Debug)]
pub struct Walk<'a> {
    form: &'a Form,
    lineage: &'a Lineage,
    next: u64,
    previous: Option<u64>,
}

/// A record whose bytes are being gathered.
struct Gathering {
    total: usize,
    got: usize,
    header: [u8; RECORD_HEADER],
    crc: u32,
}

/// One try at a record.
enum Try {
    Whole(Record),
    Ended(End),
    /// The record was given up by its writer: reading goes on at this page.
    Replaced(u64),
}

impl<'a> Walk<'a> {
    /// A walk that begins with the record at `start`, or at the first byte of
    /// the page there.
    #[must_use]
    pub fn new(form: &'a Form, lineage: &'a Lineage, start: Lsn) -> Walk<'a> {
        Walk { form, lineage, next: start.0, previous: None }
    }

    /// The next whole record, or what is there instead. Asking again after an
    /// end gives the same end.
    ///
    /// # Errors
    /// The pages' own.
    pub fn next<P: Pages>(&mut self, pages: &mut P) -> Result<Result<Record, End>, P::Error> {
        // Each turn moves at least one page on, so the log's own length bounds the loop.
        loop {
            match self.attempt(pages)? {
                Try::Whole(record) => {
                    self.next = record.end.0;
                    self.previous = Some(record.start.0);
                    return Ok(Ok(record));
                }
                Try::Ended(end) => return Ok(Err(end)),
                Try::Replaced(page) => self.next = page,
            }
        }
    }

    fn attempt<P: Pages>(&self, pages: &mut P) -> Result<Try, P::Error> {
        let mut page_at = self.form.page_start(self.next);
        let Some(page) = pages.page(page_at)? else { return Ok(Try::Ended(End::NoPage)) };
        let head = match page::judge(page, page_at, self.form, self.lineage) {
            Ok(head) => head,
            Err(bad) => return Ok(Try::Ended(End::Page(bad))),
        };
        let Some(offset) = self.offset_of_start(page_at, &head) else {
            return Ok(Try::Ended(End::NotAStart));
        };
        let start = page_at + offset as u64;
        let total = u32_at(page, offset);
        if (total as usize) < RECORD_HEADER {
            return Ok(Try::Ended(End::Length(total)));
        }
        let mut record = Gathering::new(total as usize);
        let mut used = offset + record.feed(page.get(offset..).unwrap_or_default());
        loop {
            if let Some(end) = self.misfit(&record, start) {
                return Ok(Try::Ended(end));
            }
            if record.got == record.total {
                return Ok(self.judge_whole(&record, start, page_at + used as u64, head.overwrites));
            }
            let Some(next) = page_at.checked_add(u64::from(self.form.page_bytes)) else {
                return Ok(Try::Ended(End::Torn(Lsn(page_at))));
            };
            page_at = next;
            match self.continue_on(pages, page_at, &mut record)? {
                Ok(u) => used = u,
                Err(instead) => return Ok(instead),
            }
        }
    }

    /// Where on its page the record begins; `None` where none can.
    fn offset_of_start(&self, page_at: u64, head: &PageHeader) -> Option<usize> {
        let offset = (self.next - page_at) as usize;
        if !self.next.is_multiple_of(8) {
            return None;
        }
        let offset = if offset == 0 { head.bytes } else { offset };
        let inside_header = offset < head.bytes;
        let inside_record = head.continued && offset == head.bytes;
        (!inside_header && !inside_record).then_some(offset)
    }

    /// Takes the record's bytes off the next page. Returns how many bytes of
    /// that page are used up, its header included.
    fn continue_on<P: Pages>(
        &self,
        pages: &mut P,
        page_at: u64,
        record: &mut Gathering,
    ) -> Result<Result<usize, Try>, P::Error> {
        let torn = Try::Ended(End::Torn(Lsn(page_at)));
        let Some(page) = pages.page(page_at)? else { return Ok(Err(torn)) };
        let Ok(head) = page::judge(page, page_at, self.form, self.lineage) else {
            return Ok(Err(torn));
        };
        if head.overwrites {
            return Ok(Err(Try::Replaced(page_at)));
        }
        let expected = record.total - record.got;
        if !head.continued || head.remaining as usize != expected {
            return Ok(Err(torn));
        }
        Ok(Ok(head.bytes + record.feed(page.get(head.bytes..).unwrap_or_default())))
    }

    /// What betrays a leftover as soon as its header is there.
    fn misfit(&self, record: &Gathering, start: u64) -> Option<End> {
        if record.got < RECORD_HEADER {
            return None;
        }
        let previous = u64_at(&record.header, 8);
        let fits = match self.previous {
            Some(expected) => previous == expected,
            None => previous < start,
        };
        (!fits).then_some(End::Previous(Lsn(previous)))
    }

    fn judge_whole(&self, record: &Gathering, start: u64, after: u64, overwrites: bool) -> Try {
        let crc = crc32c::crc32c_append(record.crc, &record.header[..CHECKED_HEADER]);
        if crc != u32_at(&record.header, CHECKED_HEADER) {
            return Try::Ended(End::Checksum);
        }
        let timeline = self.lineage.owner_of(Lsn(start));
        let mut whole = Record {
            start: Lsn(start),
            end: Lsn(after),
            previous: Lsn(u64_at(&record.header, 8)),
            timeline,
            manager: record.header[17],
            info: record.header[16],
        };
        let first_on_replacing_page = overwrites && self.next == self.form.page_start(start);
        if first_on_replacing_page && !whole.is(OVERWRITE_CONTRECORD) {
            return Try::Ended(End::NotAStart);
        }
        let end = if whole.is(SWITCH) {
            self.form.segment_round_up(after)
        } else {
            after.checked_next_multiple_of(8)
        };
        let Some(end) = end else { return Try::Ended(End::Torn(Lsn(after))) };
        whole.end = Lsn(end);
        match self.lineage.end_of(timeline) {
            Some(switch) if whole.end > switch => Try::Ended(End::PastSwitch),
            Some(_) | None => Try::Whole(whole),
        }
    }
}

impl Gathering {
    fn new(total: usize) -> Gathering {
        Gathering { total, got: 0, header: [0; RECORD_HEADER], crc: 0 }
    }

    /// Takes what belongs to the record off the front of `bytes`; returns how much.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.total - self.got);
        let bytes = bytes.get(..n).unwrap_or_default();
        let of_header = RECORD_HEADER.saturating_sub(self.got).min(n);
        let (head, body) = bytes.split_at(of_header);
        if let Some(slot) = self.header.get_mut(self.got..self.got + of_header) {
            slot.copy_from_slice(head);
        }
        self.crc = crc32c::crc32c_append(self.crc, body);
        self.got += n;
        n
    }
}
