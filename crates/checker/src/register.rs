//! What clients of single registers did and saw: one writer a key, which writes
//! 1, 2, 3 and so on, and any number of readers.
//!
//! With one writer a key and rising values "linearizable" needs no search: each
//! read has a least and a most value that it may give (law/register.rs).

use core::time::Duration;

use crate::history::Fate;

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// This value was written.
    Write(u64),
    /// This value was read; `None` if no answer came.
    Read(Option<u64>),
}

/// One deed of one client on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// On which key.
    pub key: u32,
    /// What.
    pub deed: Deed,
    /// When it was sent, since the history began.
    pub sent: Duration,
    /// When its fate was known.
    pub ended: Duration,
    /// Its fate.
    pub fate: Fate,
    /// The timeline of the server that acknowledged it; 0 where none did.
    pub timeline: u32,
}
