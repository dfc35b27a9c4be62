//! The page headers of WAL, PostgreSQL 11 to 18.
//!
//! A log has no end mark: what follows the last record is whatever a recycled
//! file held before. A page is therefore believed only when it names its own
//! address, its server, and exactly the timeline that owns its first byte; the
//! last makes the leftovers of an abandoned timeline visible.
//!
//! Never reads a file: bytes in, judgement out.

use cluster::{Lineage, Lsn, Timeline};

/// First page of a file has the long header; `XLP_LONG_HEADER`.
const LONG: u16 = 0x0002;
/// The page begins inside a record; `XLP_FIRST_IS_CONTRECORD`.
const CONTINUED: u16 = 0x0001;
/// The page replaces the rest of a record that was never finished;
/// `XLP_FIRST_IS_OVERWRITE_CONTRECORD`.
const OVERWRITES: u16 = 0x0008;
/// Every flag that exists; 0x0004 (`XLP_BKP_REMOVABLE`) says nothing to us.
const ALL_FLAGS: u16 = 0x000F;

/// Bytes of the header on all pages but a file's first, padded to 8.
pub const SHORT_HEADER: usize = 24;
/// Bytes of the header on a file's first page.
pub const LONG_HEADER: usize = 40;
/// Smallest page a server can be built with.
pub const PAGE_BYTES_MIN: u32 = 1024;
/// Largest page a server can be built with.
pub const PAGE_BYTES_MAX: u32 = 65536;
/// Smallest segment `initdb` makes.
pub const SEGMENT_BYTES_MIN: u32 = 1 << 20;
/// Largest segment `initdb` makes.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// `XLOG_PAGE_MAGIC` of each major version, read off servers of all eight.
const MAGIC: [(u32, u16); 8] = [
    (11, 0xD098),
    (12, 0xD101),
    (13, 0xD106),
    (14, 0xD10D),
    (15, 0xD110),
    (16, 0xD113),
    (17, 0xD116),
    (18, 0xD118),
];

/// What all pages of one server's WAL have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// `XLOG_PAGE_MAGIC`.
    pub magic: u16,
    /// System identifier.
    pub sysid: u64,
    /// Bytes of a page (`XLOG_BLCKSZ`), a power of two.
    pub page_bytes: u32,
    /// Bytes of a segment file, a power of two of at least 1 MB.
    pub segment_bytes: u32,
}

impl Form {
    /// The form of a server's WAL; `None` where a number is impossible or the
    /// major version unknown.
    #[must_use]
    pub fn new(major: u32, sysid: u64, page_bytes: u32, segment_bytes: u32) -> Option<Form> {
        let magic = MAGIC.iter().find(|(m, _)| *m == major)?.1;
        let page_fits =
            page_bytes.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes);
        let segment_fits = segment_bytes.is_power_of_two()
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes);
        (page_fits && segment_fits).then_some(Form { magic, sysid, page_bytes, segment_bytes })
    }

    /// Where the page that holds `at` begins.
    #[must_use]
    pub fn page_start(&self, at: u64) -> u64 {
        at & !(u64::from(self.page_bytes) - 1)
    }

    /// Number of the segment that holds `at`.
    #[must_use]
    pub fn segment_of(&self, at: u64) -> u64 {
        at / u64::from(self.segment_bytes)
    }

    /// Where segment `number` begins; saturates at the end of the number space.
    #[must_use]
    pub fn segment_start(&self, number: u64) -> u64 {
        number.saturating_mul(u64::from(self.segment_bytes))
    }

    /// `at`, or the next segment's start when it lies inside one; `None` past the last.
    pub(super) fn segment_round_up(&self, at: u64) -> Option<u64> {
        at.checked_next_multiple_of(u64::from(self.segment_bytes))
    }
}

/// A page that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Bytes of the header.
    pub bytes: usize,
    /// The page begins inside a record.
    pub continued: bool,
    /// The page replaces the rest of an unfinished record.
    pub overwrites: bool,
    /// Bytes still to come of the record it begins inside, this page's included.
    pub remaining: u32,
}

/// Why a page is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPage {
    /// Shorter than a page: the file ends here.
    Short,
    /// No page of this major version: zeros, or anything.
    Magic(u16),
    /// Flags that do not exist, or not for a page in that place.
    Flags(u16),
    /// A leftover: the page belongs elsewhere.
    Address(Lsn),
    /// A page of another branch: the owner of its first byte is not this.
    Timeline(Timeline),
    /// Another server's, or one with other sizes.
    Server(u64),
}

/// Judges the page that should begin at `at` in the past `lineage`.
///
/// # Errors
/// Why it is not believed.
pub fn judge(page: &[u8], at: u64, form: &Form, lineage: &Lineage) -> Result<PageHeader, BadPage> {
    let head = page.get(..SHORT_HEADER).ok_or(BadPage::Short)?;
    if page.len() < form.page_bytes as usize {
        return Err(BadPage::Short);
    }
    let (magic, flags) = (u16_at(head, 0), u16_at(head, 2));
    if magic != form.magic {
        return Err(BadPage::Magic(magic));
    }
    let first_of_file = at.is_multiple_of(u64::from(form.segment_bytes));
    if flags & !ALL_FLAGS != 0 || (flags & LONG != 0) != first_of_file {
        return Err(BadPage::Flags(flags));
    }
    let address = u64_at(head, 8);
    if address != at {
        return Err(BadPage::Address(Lsn(address)));
    }
    let timeline = Timeline(u32_at(head, 4));
    if timeline != lineage.owner_of(Lsn(at)) {
        return Err(BadPage::Timeline(timeline));
    }
    if first_of_file {
        judge_long(page, form)?;
    }
    Ok(PageHeader {
        bytes: if first_of_file { LONG_HEADER } else { SHORT_HEADER },
        continued: flags & CONTINUED != 0,
        overwrites: flags & OVERWRITES != 0,
        remaining: u32_at(head, 16),
    })
}

fn judge_long(page: &[u8], form: &Form) -> Result<(), BadPage> {
    let head = page.get(..LONG_HEADER).ok_or(BadPage::Short)?;
    let sysid = u64_at(head, 24);
    let same =
        sysid == form.sysid && u32_at(head, 32) == form.segment_bytes && u32_at(head, 36) == form.page_bytes;
    if same { Ok(()) } else { Err(BadPage::Server(sysid)) }
}

/// Little-endian number at `at`, 0 past the end: a short header is never believed.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// As `u16_at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// As `u16_at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
