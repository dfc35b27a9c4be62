//! What an administrator has closed: databases that stand still or take nobody in, and the proxy itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// How far the proxy's end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It goes on.
    #[default]
    No,
    /// It takes nobody in, and ends when the last client has left.
    WithLastClient,
    /// It ends now.
    Now,
}

/// One proxy's.
#[derive(Debug, Default)]
pub struct Gates {
    /// Everything stands still (PAUSE).
    pub all_paused: Cell<bool>,
    /// Databases that stand still (PAUSE db, KILL db).
    pub paused: RefCell<BTreeSet<String>>,
    /// Databases that take nobody in (DISABLE db).
    pub disabled: RefCell<BTreeSet<String>>,
    /// How far its end is (SHUTDOWN).
    pub stop: Cell<Stop>,
}

impl Gates {
    /// Whether a database stands still.
    #[must_use]
    pub fn is_paused(&self, database: &str) -> bool {
        self.all_paused.get() || self.paused.borrow().contains(database)
    }

    /// Whether a database takes nobody in.
    #[must_use]
    pub fn is_disabled(&self, database: &str) -> bool {
        self.disabled.borrow().contains(database)
    }
}
