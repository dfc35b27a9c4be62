//! What an administrator has closed: databases that stand still or take nobody in, and the proxy itself.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::threads::lock;

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

/// One proxy's, for all its threads.
#[derive(Debug, Default)]
pub struct Gates {
    all_paused: AtomicBool,
    paused: Mutex<BTreeSet<String>>,
    disabled: Mutex<BTreeSet<String>>,
    stop: AtomicU8,
}

impl Gates {
    /// Whether everything stands still (PAUSE).
    #[must_use]
    pub fn all_paused(&self) -> bool {
        self.all_paused.load(Ordering::Relaxed)
    }

    /// Everything stands still, or goes on; whether that is new.
    pub fn set_all_paused(&self, paused: bool) -> bool {
        self.all_paused.swap(paused, Ordering::Relaxed) != paused
    }

    /// One database stands still (PAUSE db, KILL db); whether that is new.
    pub fn pause(&self, database: &str) -> bool {
        lock(&self.paused).insert(database.to_string())
    }

    /// It goes on.
    pub fn resume(&self, database: &str) {
        lock(&self.paused).remove(database);
    }

    /// Whether this database, by its name, stands still.
    #[must_use]
    pub fn is_paused_itself(&self, database: &str) -> bool {
        lock(&self.paused).contains(database)
    }

    /// Whether a database stands still.
    #[must_use]
    pub fn is_paused(&self, database: &str) -> bool {
        self.all_paused() || self.is_paused_itself(database)
    }

    /// A database takes nobody in (DISABLE db), or does again.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        let mut all = lock(&self.disabled);
        if disabled {
            all.insert(database.to_string())
        } else {
            all.remove(database)
        };
    }

    /// Whether a database takes nobody in.
    #[must_use]
    pub fn is_disabled(&self, database: &str) -> bool {
        lock(&self.disabled).contains(database)
    }

    /// How far its end is (SHUTDOWN).
    #[must_use]
    pub fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::WithLastClient,
            _ => Stop::Now,
        }
    }

    /// Its end comes.
    pub fn set_stop(&self, stop: Stop) {
        self.stop.store(stop as u8, Ordering::Relaxed);
    }
}
