//! Places on top of a pool's size, for those who have waited for long.
//!
//! ```text
//!   all places are taken ▶ the first in the queue has waited `after` ▶ one of the reserve is opened for each who has
//! ```
//! As PgBouncer means it: a connection of the reserve is one like any other then, until it has been idle for long or
//! has become old. Costs nothing while the pool is not full.

use std::time::Duration;

use crate::config::Config;
use crate::pool::Pool;

/// The reserve of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Connections on top of the pool's size; 0: none.
    pub size: usize,
    /// They are for those who have waited for so long; `None`: for nobody.
    pub after: Option<Duration>,
}

impl Config {
    /// Of the pools of a user of a database: the user's own before the database's.
    #[must_use]
    pub fn reserve(&self, database: &str, user: &str) -> Reserve {
        let own = self.user(user).and_then(|u| u.reserve_pool_size);
        let size = own.unwrap_or_else(|| self.reserve_of_database(database));
        Reserve { size, after: self.pool.reserve_timeout }
    }

    /// Connections in reserve for each pool of a database.
    #[must_use]
    pub fn reserve_of_database(&self, database: &str) -> usize {
        let own = self.database(database).0.and_then(|d| d.reserve_pool_size);
        own.unwrap_or(self.pool.reserve_size)
    }
}

impl Pool {
    /// Connections that it may have at most, with all of its reserve.
    #[must_use]
    pub fn most(&self) -> usize {
        self.share.size() + self.reserve.get().size
    }

    /// Connections that it may have now.
    #[must_use]
    pub fn places(&self) -> usize {
        if self.late() > 0 { self.most() } else { self.share.size() }
    }

    /// For how many of those who wait one more connection may be opened.
    pub(crate) fn wanting(&self) -> usize {
        let full = self.share.taken() >= self.share.size();
        if full { self.late() } else { self.waiters.borrow().len() }
    }

    /// How many wait for so long that the reserve is for them.
    fn late(&self) -> usize {
        let Reserve { size, after: Some(after) } = self.reserve.get() else { return 0 };
        if size == 0 || self.share.taken() < self.share.size() {
            return 0;
        }
        // They stand in the order of their coming.
        let waiters = self.waiters.borrow();
        waiters.iter().take_while(|w| w.since.elapsed() >= after).filter(|w| !w.gone.get()).count()
    }
}
