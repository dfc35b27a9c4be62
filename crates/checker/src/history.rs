//! What clients asked for and what they were told.

use alloc::vec::Vec;
use core::time::Duration;

/// How an operation ended, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server said that it is done.
    Acknowledged,
    /// The server said that it was not done.
    Failed,
    /// No answer, or none that can be trusted: it may have been done.
    Unknown,
}

/// One write of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Whose.
    pub client: u32,
    /// Its number; each client counts its own.
    pub seq: u64,
    /// When it was sent, since the history began.
    pub sent: Duration,
    /// When its fate was known.
    pub ended: Duration,
    /// Its fate.
    pub fate: Fate,
}

impl Operation {
    /// What it wrote, unique in a history.
    #[must_use]
    pub fn key(&self) -> (u32, u64) {
        (self.client, self.seq)
    }
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In no particular order.
    pub operations: Vec<Operation>,
}

impl History {
    /// Those that ended so.
    pub fn with(&self, fate: Fate) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |o| o.fate == fate)
    }
}
