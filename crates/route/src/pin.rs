//! Why a client keeps its server although no transaction is open.

use core::fmt;

/// What can't be moved to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// It LISTENs.
    Listen,
    /// It made a temporary table.
    Temporary,
    /// It has a cursor WITH HOLD.
    HeldCursor,
    /// It holds an advisory lock of its session.
    AdvisoryLock,
    /// It prepared a statement by SQL's PREPARE.
    SqlPrepared,
    /// It LOADed a library.
    Loaded,
    /// It is another user than it logged in as.
    Authorization,
    /// A statement is too long to be said again.
    LongStatement,
    /// It speaks the replication protocol.
    Replication,
    /// It calls functions that change settings of the application's own, whose names are not known.
    Settings,
}

impl Pin {
    /// All of them.
    pub const ALL: [Pin; 10] = [
        Pin::Listen,
        Pin::Temporary,
        Pin::HeldCursor,
        Pin::AdvisoryLock,
        Pin::SqlPrepared,
        Pin::Loaded,
        Pin::Authorization,
        Pin::LongStatement,
        Pin::Replication,
        Pin::Settings,
    ];

    fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pin::Listen => "listens for notifications",
            Pin::Temporary => "has a temporary table",
            Pin::HeldCursor => "has a cursor WITH HOLD",
            Pin::AdvisoryLock => "holds an advisory lock",
            Pin::SqlPrepared => "prepared a statement with PREPARE",
            Pin::Loaded => "loaded a library",
            Pin::Authorization => "changed its user",
            Pin::LongStatement => "prepared a statement too long to keep",
            Pin::Replication => "speaks the replication protocol",
            Pin::Settings => "has settings that can't be followed",
        })
    }
}

/// All the reasons of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    /// Adds a reason.
    pub fn add(&mut self, pin: Pin) {
        self.0 |= pin.bit();
    }

    /// Takes a reason away.
    pub fn remove(&mut self, pin: Pin) {
        self.0 &= !pin.bit();
    }

    /// Takes all away that DISCARD ALL undoes.
    pub fn discard(&mut self) {
        let kept = Pin::Replication.bit() | Pin::Loaded.bit();
        self.0 &= kept;
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons.
    pub fn iter(self) -> impl Iterator<Item = Pin> {
        Pin::ALL.into_iter().filter(move |pin| self.0 & pin.bit() != 0)
    }
}
