//! What clients of lists did and saw: each appends a value that nobody else
//! appends, and is given the whole list as it was then.
//!
//! A list tells the order of everything that was done to it, which is why no
//! search is needed to judge one (K. Kingsbury and P. Alvaro, "Elle", 2020).

use alloc::vec::Vec;
use core::time::Duration;

use crate::history::Fate;

/// One appending by one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// To which list.
    pub key: u32,
    /// What; unique in a history.
    pub value: u64,
    /// The list as it was given back, `value` last; empty without an answer.
    pub seen: Vec<u64>,
    /// When it was sent, since the history began.
    pub sent: Duration,
    /// When its fate was known.
    pub ended: Duration,
    /// Its fate.
    pub fate: Fate,
    /// The timeline of the server that acknowledged it; 0 where none did.
    pub timeline: u32,
}
