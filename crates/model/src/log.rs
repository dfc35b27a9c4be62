//! A write-ahead log as a row of records, each with its term.
//!
//! The n-th record ends at LSN n. Sixteen records fit into one number, four
//! bits each: three for the term, one for "a client wrote it".

use cluster::lineage::{Branch, INITDB_TIMELINE};
use cluster::state::Election;
use cluster::{Lineage, Lsn, Position, Term, Timeline};
use serde::{Deserialize, Serialize};

/// Where `initdb`'s timeline is left by term 1.
pub const FIRST_SWITCH: u64 = 0;
const WRITE: u64 = 8;

/// What a node has on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Log(u64);

impl Log {
    /// Its end: how many records.
    pub fn len(self) -> u8 {
        (u64::BITS.div_ceil(4) - self.0.leading_zeros() / 4) as u8
    }

    /// With one more record.
    pub fn with(self, term: u8, write: bool) -> Log {
        let record = u64::from(term) | if write { WRITE } else { 0 };
        Log(self.0 | record << (4 * u32::from(self.len())))
    }

    fn record(self, lsn: u8) -> u64 {
        if lsn == 0 { 0 } else { self.0 >> (4 * (u32::from(lsn) - 1)) & 0xF }
    }

    /// The term of the record that ends at `lsn`; 0 if there is none.
    pub fn term_at(self, lsn: u8) -> u8 {
        (self.record(lsn) & !WRITE) as u8
    }

    /// The term of the last record.
    pub fn last_term(self) -> u8 {
        self.term_at(self.len())
    }

    /// The first `len` records.
    pub fn prefix(self, len: u8) -> Log {
        if usize::from(len) >= 16 { self } else { Log(self.0 & ((1 << (4 * u32::from(len))) - 1)) }
    }

    /// Whether `other` begins with all of this.
    pub fn is_prefix_of(self, other: Log) -> bool {
        other.prefix(self.len()) == self
    }

    /// This with the next record of `other`, of which it is a prefix.
    pub fn streamed(self, other: Log) -> Log {
        other.prefix(self.len() + 1)
    }

    /// The last of a client's writes in `term` that ends at or before `lsn`; 0 if none.
    pub fn last_write(self, term: u8, lsn: u8) -> u8 {
        let wanted = u64::from(term) | WRITE;
        (1..=lsn).rev().find(|at| self.record(*at) == wanted).unwrap_or(0)
    }

    /// C-1, with every term's LSNs counted in records.
    pub fn position(self) -> Position {
        Position::new(Term(self.last_term().into()), Lsn(self.len().into()))
    }

    /// The history that the last record lies on; `timeline` numbers the terms.
    pub fn lineage(self, timeline: impl Fn(u8) -> Timeline) -> Lineage {
        let mut ancestors = vec![Branch { timeline: INITDB_TIMELINE, end: Lsn(FIRST_SWITCH) }];
        for lsn in 1..self.len() {
            let (term, next) = (self.term_at(lsn), self.term_at(lsn + 1));
            if term != next {
                ancestors.push(Branch { timeline: timeline(term), end: Lsn(lsn.into()) });
            }
        }
        Lineage { ancestors, timeline: timeline(self.last_term()) }
    }

    /// Whether a server with this log may follow one with `leader`'s, by the code that ships.
    pub fn can_follow(self, leader: Log) -> bool {
        let any = |term: u8| Timeline(u32::from(term) + INITDB_TIMELINE.0);
        self.lineage(any).can_follow(Lsn(self.len().into()), &leader.lineage(any))
    }
}

/// The timeline that `elections` gave to `term`; 0 if none.
pub fn timeline_of(elections: &[Election], term: u8) -> Timeline {
    elections.iter().find(|e| e.term.0 == u64::from(term)).map_or(Timeline(0), |e| e.tli)
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for lsn in 1..=self.len() {
            let mark = if self.record(lsn) & WRITE != 0 { "w" } else { "" };
            write!(f, "{}{}{mark}", if lsn > 1 { " " } else { "" }, self.term_at(lsn))?;
        }
        Ok(())
    }
}
