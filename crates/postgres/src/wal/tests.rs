//! The reader against a log written by hand: every shape that the real log can
//! take, and bytes that no server wrote. The real log is in `tests/wal.rs`.

use std::convert::Infallible;

use cluster::lineage::Branch;
use cluster::{Lineage, Lsn, Timeline};
use proptest::prelude::*;

use super::page::{BadPage, Form, LONG_HEADER, SHORT_HEADER};
use super::record::{End, Pages, Record, Walk};

const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;
const SYSID: u64 = 42;

fn form() -> Form {
    Form::new(15, SYSID, PAGE as u32, SEGMENT as u32).unwrap()
}

/// Writes a log into memory, from the start of segment 1 on.
struct Writer {
    bytes: Vec<u8>,
    timeline: u32,
    previous: u64,
}

impl Writer {
    fn new(timeline: u32) -> Writer {
        Writer { bytes: Vec::new(), timeline, previous: 0 }
    }

    fn at(&self) -> u64 {
        SEGMENT + self.bytes.len() as u64
    }

    fn begin_page(&mut self, flags: u16, remaining: u32) {
        let first = self.at().is_multiple_of(SEGMENT);
        let mut head = Vec::new();
        head.extend(0xD110_u16.to_le_bytes());
        head.extend((flags | if first { 2 } else { 0 }).to_le_bytes());
        head.extend(self.timeline.to_le_bytes());
        head.extend(self.at().to_le_bytes());
        head.extend(remaining.to_le_bytes());
        head.extend([0; 4]);
        if first {
            head.extend(SYSID.to_le_bytes());
            head.extend((SEGMENT as u32).to_le_bytes());
            head.extend((PAGE as u32).to_le_bytes());
        }
        assert_eq!(head.len(), if first { LONG_HEADER } else { SHORT_HEADER });
        self.bytes.extend(head);
    }

    /// Appends a record with that many bytes behind its header; returns where it starts and ends.
    fn record(&mut self, manager: u8, info: u8, body: usize) -> (u64, u64) {
        if self.at().is_multiple_of(PAGE) {
            self.begin_page(0, 0);
        }
        let start = self.at();
        let bytes = record_bytes(self.previous, manager, info, body);
        self.previous = start;
        self.put(&bytes);
        while !self.at().is_multiple_of(8) {
            self.bytes.push(0);
        }
        (start, self.at())
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.at().is_multiple_of(PAGE) {
                self.begin_page(1, bytes.len() as u32);
            }
            let room = (PAGE - self.at() % PAGE) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend(now);
            bytes = later;
        }
    }

    fn zeros_to(&mut self, unit: u64) {
        while !self.at().is_multiple_of(unit) {
            self.bytes.push(0);
        }
    }
}

fn record_bytes(previous: u64, manager: u8, info: u8, body: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((24 + body as u32).to_le_bytes());
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend(previous.to_le_bytes());
    bytes.extend([info, manager, 0, 0]);
    let body: Vec<u8> = (0..body).map(|i| (i % 251) as u8).collect();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(body);
    bytes
}

struct Memory<'a>(&'a [u8]);

impl Pages for Memory<'_> {
    type Error = Infallible;
    fn page(&mut self, at: u64) -> Result<Option<&[u8]>, Infallible> {
        let from = at.checked_sub(SEGMENT).map(|f| f as usize);
        let rest = from.and_then(|f| self.0.get(f..)).filter(|r| !r.is_empty());
        Ok(rest.map(|r| &r[..r.len().min(PAGE as usize)]))
    }
}

fn walk(bytes: &[u8], lineage: &Lineage, start: u64) -> (Vec<Record>, End) {
    let form = form();
    let mut walk = Walk::new(&form, lineage, Lsn(start));
    let mut records = Vec::new();
    loop {
        let Ok(next) = walk.next(&mut Memory(bytes));
        match next {
            Ok(record) => records.push(record),
            Err(end) => return (records, end),
        }
    }
}

fn ends(records: &[Record]) -> Vec<(u64, u64)> {
    records.iter().map(|r| (r.start.0, r.end.0)).collect()
}

fn timeline_1() -> Lineage {
    Lineage::initdb()
}

#[test]
fn records_of_every_length_are_read_across_pages_and_segments() {
    let mut log = Writer::new(1);
    // Lengths that put the next header on each place before a page's end, and
    // bodies over several pages and over the end of a segment.
    let bodies = (0..2000).map(|i| i * 7 % 400).chain([8128, 8136, 20_000, 1_200_000, 0, 1]);
    let written: Vec<_> = bodies.map(|body| log.record(10, 0, body)).collect();
    log.zeros_to(PAGE);
    let (records, end) = walk(&log.bytes, &timeline_1(), SEGMENT);
    assert_eq!(ends(&records), written);
    assert_eq!(end, End::Length(0));
}

#[test]
fn a_torn_or_damaged_tail_ends_the_log_before_it() {
    let mut log = Writer::new(1);
    let whole = log.record(10, 0, 100);
    let (start, end) = log.record(10, 0, 10_000);
    log.zeros_to(PAGE);
    let at = |lsn: u64| (lsn - SEGMENT) as usize;
    for cut in [start + 2, start + 24, start + 5000, SEGMENT + PAGE, SEGMENT + PAGE + 30, end - 17] {
        let mut zeroed = log.bytes.clone();
        zeroed[at(cut)..].fill(0);
        let (records, _) = walk(&zeroed, &timeline_1(), SEGMENT);
        assert_eq!(ends(&records), [whole], "zeros from {cut}");
    }
    let (records, end) = walk(&log.bytes[..PAGE as usize], &timeline_1(), SEGMENT);
    assert_eq!((ends(&records), end), (vec![whole], End::Torn(Lsn(SEGMENT + PAGE))));
    let (records, end) = walk(&log.bytes[..PAGE as usize - 1], &timeline_1(), SEGMENT);
    assert_eq!((records.len(), end), (0, End::Page(BadPage::Short)), "PostgreSQL reads whole pages only");
    let mut flipped = log.bytes.clone();
    flipped[at(start) + 9000] ^= 1;
    assert_eq!(walk(&flipped, &timeline_1(), SEGMENT).1, End::Checksum);
}

#[test]
fn a_leftover_record_that_does_not_continue_the_chain_ends_the_log() {
    let mut log = Writer::new(1);
    let whole = log.record(10, 0, 8);
    log.previous = 12_345 * 8;
    log.record(10, 0, 8);
    log.zeros_to(PAGE);
    let (records, end) = walk(&log.bytes, &timeline_1(), SEGMENT);
    assert_eq!((ends(&records), end), (vec![whole], End::Previous(Lsn(12_345 * 8))));
}

#[test]
fn a_segment_switch_reaches_to_the_next_segment() {
    let mut log = Writer::new(1);
    let (start, _) = log.record(0, 0x40, 0);
    log.zeros_to(SEGMENT);
    let next = log.record(10, 0, 8);
    log.zeros_to(PAGE);
    let (records, _) = walk(&log.bytes, &timeline_1(), SEGMENT);
    assert_eq!(ends(&records), [(start, 2 * SEGMENT), next]);
}

/// 13.5, 14.1 and later: a crash left a record half-written over a page's end,
/// and the next life of the server replaced its second half.
#[test]
fn an_overwritten_continuation_is_skipped() {
    let mut log = Writer::new(1);
    let before = log.record(10, 0, 8);
    let torn = record_bytes(log.previous, 10, 0, 20_000);
    let room = (PAGE - log.at() % PAGE) as usize;
    log.bytes.extend(&torn[..room]);
    log.begin_page(8, 0);
    let replaced = log.record(0, 0xD0, 16);
    let after = log.record(10, 0, 50);
    log.zeros_to(PAGE);
    let (records, end) = walk(&log.bytes, &timeline_1(), SEGMENT);
    assert_eq!((ends(&records), end), (vec![before, replaced, after], End::Length(0)));

    let mut other = log.bytes.clone();
    other.truncate(PAGE as usize);
    let mut log = Writer { bytes: other, timeline: 1, previous: before.0 };
    log.begin_page(8, 0);
    log.record(10, 0, 16);
    log.zeros_to(PAGE);
    assert_eq!(ends(&walk(&log.bytes, &timeline_1(), SEGMENT).0), [before], "only its own kind may replace");
}

/// Timeline 2 begins at `switch`, on a page that timeline 1 began.
fn promoted() -> (Vec<u8>, Lineage, u64, (u64, u64)) {
    let mut log = Writer::new(1);
    let (_, switch) = log.record(10, 0, 100);
    log.timeline = 2;
    let first = log.record(0, 0x90, 100);
    log.record(10, 0, 10_000);
    log.zeros_to(PAGE);
    let ancestors = vec![Branch { timeline: Timeline(1), end: Lsn(switch) }];
    (log.bytes, Lineage { ancestors, timeline: Timeline(2) }, switch, first)
}

#[test]
fn c1_bytes_below_the_switch_count_for_the_parent() {
    let (bytes, lineage, switch, first) = promoted();
    let (records, _) = walk(&bytes, &lineage, SEGMENT);
    let owners: Vec<u32> = records.iter().map(|r| r.timeline.0).collect();
    assert_eq!(owners, [1, 2, 2]);
    assert_eq!((records[0].end.0, records[1].start.0), (switch, first.0));
}

#[test]
fn a_page_of_another_branch_is_no_page_of_this_past() {
    let (bytes, lineage, ..) = promoted();
    let (records, end) = walk(&bytes, &timeline_1(), SEGMENT);
    assert_eq!(
        (records.len(), end),
        (2, End::Torn(Lsn(SEGMENT + PAGE))),
        "timeline 1 never wrote the second page"
    );
    let mut overrun = lineage;
    overrun.ancestors[0].end.0 += 8;
    assert_eq!(walk(&bytes, &overrun, SEGMENT).1, End::PastSwitch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_bytes_never_panic_and_never_gain_records(
        seed in prop::collection::vec((0_usize..40_000, any::<u8>()), 1..20),
        start in 0_u64..50_000,
    ) {
        let mut log = Writer::new(1);
        let written: Vec<_> = (0..60).map(|i| log.record(10, 0, i * 31 % 900)).collect();
        let sound = log.bytes.clone();
        for (at, byte) in seed {
            let at = at % log.bytes.len();
            log.bytes[at] = byte;
        }
        let (records, _) = walk(&log.bytes, &timeline_1(), SEGMENT);
        for (record, good) in ends(&records).iter().zip(&written) {
            prop_assert_eq!(record, good);
        }
        let _ = walk(&log.bytes, &timeline_1(), SEGMENT + start);
        let _ = walk(&sound, &timeline_1(), SEGMENT + start);
    }

    #[test]
    fn noise_is_no_log(bytes in prop::collection::vec(any::<u8>(), 0..20_000), start in any::<u64>()) {
        prop_assert!(walk(&bytes, &timeline_1(), SEGMENT).0.is_empty());
        prop_assert!(walk(&bytes, &timeline_1(), start).0.is_empty());
        prop_assert!(crate::control_file::ControlFile::parse(&bytes).is_err());
        let _ = crate::history::parse(Timeline(9), &bytes);
    }
}
