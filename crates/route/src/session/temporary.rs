//! Whether anything temporary is left of a client that has made some: its server is asked, not its words.
//!
//! ```text
//!   CREATE TEMP TABLE ▶ pinned ─ ROLLBACK, DROP, DISCARD, an error ▶ asked once nothing is open
//!                         ▲            it made another meanwhile, or something is left │ nothing is left
//!                         └─────────────────────────────────────────────┘ ▶ free
//! ```
//! A table goes with its transaction, a savepoint, its schema, or a table that it hangs on: only the
//! catalog knows. Costs nothing for those who have made none, and a question for those who may have none left.

use wire::back::{self, Transaction};
use wire::front;

use super::Session;
use crate::backend::Backend;
use crate::expect::{Asker, Expect};
use crate::pin::Pin;
use crate::plan::Out;

/// Every object in a schema depends on it (`pg_depend`); without a temporary schema its number is 0, on which none
/// does.
pub(super) const QUESTION: &str = "SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend \
    WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
    AND refobjid = pg_catalog.pg_my_temp_schema())";

/// What is known of what is left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// Something has happened that may have been the end of it.
    doubted: bool,
    /// The question is under way, and nothing was made since it was sent.
    asked: bool,
    /// The answer was that there is none.
    none: bool,
}

impl Left {
    /// Something is about to be made.
    pub fn made(&mut self) {
        self.asked = false;
    }

    /// Whether the server is to be asked.
    pub fn is_doubted(self) -> bool {
        self.doubted
    }

    /// Something has happened that may have been the end of it, if `so`.
    pub fn may_be_gone(&mut self, so: bool) {
        self.doubted |= so;
    }
}

/// Whether what has that tag may end what is temporary.
pub(super) fn ends_some(tag: &[u8]) -> bool {
    matches!(tag, b"ROLLBACK" | b"DISCARD TEMP") || tag.starts_with(b"DROP ")
}

impl Session {
    /// Asks what is left, once nothing is open.
    pub(super) fn ask_temporary(&mut self, backend: &mut Backend, out: &mut Out) {
        if !self.temporary.doubted || self.transaction != Transaction::Idle {
            return;
        }
        if !self.owed.is_empty() || self.batch.open {
            return;
        }
        self.temporary = Left::default();
        if !self.pins.iter().any(|pin| pin == Pin::Temporary) {
            return;
        }
        self.temporary.asked = true;
        // A simple query destroys it.
        backend.unnamed = 0;
        out.to_server.make(|to| front::query(to, QUESTION.as_bytes()));
        self.owed.push_back(Expect::Query(Asker::Temporary));
    }

    /// One row of the answer.
    pub(super) fn temporary_row(&mut self, body: &[u8]) {
        self.temporary.none = back::values(body).next() == Some(Some(b"t".as_slice()));
    }

    /// The answer is whole.
    pub(super) fn temporary_told(&mut self) {
        if self.temporary.asked && self.temporary.none {
            self.pins.remove(Pin::Temporary);
        }
        self.temporary.asked = false;
        self.temporary.none = false;
    }

    /// DISCARD ALL is done. What was sent behind it in the same batch may have left something again; should that
    /// fail, what was temporary is there again on a PostgreSQL before 15.
    pub(super) fn discarded(&mut self) {
        self.temporary.may_be_gone(true);
        let temporary = self.pins.iter().any(|pin| pin == Pin::Temporary);
        let behind = self.owed.iter().skip(1).any(|expect| !matches!(expect, Expect::Sync { .. }));
        if !behind {
            self.pins.discard();
        }
        if temporary {
            self.pins.add(Pin::Temporary);
        }
    }
}
