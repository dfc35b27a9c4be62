//! One line an event, for people; and a number that two equal runs share.

use std::fmt::Write as _;

use crate::clock::Us;
use crate::world::What;

/// How to read a trace.
pub const LEGEND: &str = "\
# time     who    what
# +12.345s n1     begins Recruit ...   a deed on the own server begins; 'done'/'failed' when it ends
#          n1     asks / agreed:       a command to the store, and what was agreed; 'refused' with the reason
#          n1     ! ...                a fault; 'ends' when a lasting one is over
#          n1     acks w12             a client was told that its write is committed
#          -      LAW ...              what was broken
";

/// What happened.
#[derive(Debug, Default)]
pub struct Trace {
    kept: Option<String>,
    digest: u64,
}

impl Trace {
    /// Keeps lines from here on.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_with(|| LEGEND.to_string());
    }

    /// Whether lines are kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Adds a line.
    pub fn line(&mut self, now: Us, who: &str, what: &str) {
        if let Some(kept) = &mut self.kept {
            let (s, rest) = (now / 1_000_000, now % 1_000_000);
            let _ = writeln!(kept, "+{s}.{rest:06}s {who:<6} {what}");
        }
    }

    /// Counts an event into the digest (FNV-1a over moment and kind).
    pub fn count(&mut self, now: Us, what: &What) {
        let kind = match what {
            What::Word(at, _) => 1 + (*at as u64) * 64,
            What::Turn(at, _) => 2 + (*at as u64) * 64,
            What::Probe(at, _) => 3 + (*at as u64) * 64,
            What::Commit(at, ..) => 4 + (*at as u64) * 64,
            What::Deed(at, ..) => 5 + (*at as u64) * 64,
            What::Chunk { id, .. } => 6 + id * 64,
            What::Reply { id, .. } => 7 + id * 64,
            What::Client(c) => 8 + (*c as u64) * 64,
            _ => 9,
        };
        self.digest = (self.digest ^ now).wrapping_mul(0x0000_0100_0000_01B3);
        self.digest = (self.digest ^ kind).wrapping_mul(0x0000_0100_0000_01B3);
    }

    /// The number that two equal runs share.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn text(&self) -> &str {
        self.kept.as_deref().unwrap_or("")
    }
}
