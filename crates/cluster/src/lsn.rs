//! Places in the write-ahead log.
//!
//! An `Lsn` alone says nothing across timelines: a longer log on an older
//! timeline may miss commits. A `Position` puts the term that wrote the last
//! complete record first, so a later term beats a higher LSN (protocol 1.2).

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::mutant::{Mutant, on};
use crate::term::Term;

/// A byte position in the WAL, as PostgreSQL prints it: `16/B374D848`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first byte of any WAL.
    pub const ZERO: Lsn = Lsn(0);

    /// How many bytes `self` is ahead of `other`; 0 when it is not.
    #[must_use]
    pub fn bytes_past(self, other: Lsn) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no WAL position: expected two hexadecimal numbers with a slash between, as in 0/3000060")]
pub struct BadLsn(pub String);

impl FromStr for Lsn {
    type Err = BadLsn;
    fn from_str(s: &str) -> Result<Lsn, BadLsn> {
        let bad = || BadLsn(s.to_string());
        let (high, low) = s.split_once('/').ok_or_else(bad)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| bad())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| bad())?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

impl TryFrom<String> for Lsn {
    type Error = BadLsn;
    fn try_from(s: String) -> Result<Lsn, BadLsn> {
        s.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

/// A PostgreSQL timeline id (TLI). 0 stands for none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tli {}", self.0)
    }
}

/// How far a node's WAL reaches (C-1): the term of the timeline that owns the
/// last complete record, then the end of that record. Ordered by term first.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Term of the timeline that owns the last complete record.
    pub term: Term,
    /// End of the last complete record.
    pub lsn: Lsn,
}

impl Ord for Position {
    fn cmp(&self, other: &Position) -> core::cmp::Ordering {
        if on(Mutant::LsnBeforeTerm) {
            return (self.lsn, self.term).cmp(&(other.lsn, other.term));
        }
        (self.term, self.lsn).cmp(&(other.term, other.lsn))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Position) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Position {
    /// The position `lsn` in WAL written by `term`.
    #[must_use]
    pub fn new(term: Term, lsn: Lsn) -> Position {
        Position { term, lsn }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, self.lsn)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_what_it_prints() {
        for text in ["0/0", "0/3000060", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "0", "0/", "/0", "0/x", "0/100000000"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn c1_a_later_term_beats_a_higher_lsn() {
        assert!(Position::new(Term(2), Lsn(10)) > Position::new(Term(1), Lsn(1000)));
    }
}
