//! Connections that are kept though nobody needs them now, and those that have become too old.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::pool::Pool;

/// How old the connections of a pool may become, and how few they may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Those that are older are closed, once they are free; `None`: never.
    pub lifetime: Option<Duration>,
    /// So many are kept while a client is there.
    pub least: usize,
}

impl Age {
    /// Whether a connection that was opened then is too old now.
    #[must_use]
    pub fn is_old(self, opened: Instant, now: Instant) -> bool {
        self.lifetime.is_some_and(|limit| opened.checked_add(limit).is_some_and(|end| now > end))
    }
}

impl Config {
    /// Of the pools of a database.
    #[must_use]
    pub fn age(&self, database: &str) -> Age {
        let own = self.database(database).0;
        Age {
            lifetime: own.and_then(|d| d.lifetime).unwrap_or(self.pool.lifetime),
            least: own.and_then(|d| d.min_pool_size).unwrap_or(self.pool.min_size),
        }
    }
}

impl Pool {
    /// Closes idle connections that nobody may use any more, or that nobody has used for long.
    pub fn tidy(&self) {
        let Some(reactor) = self.owner() else { return };
        let idle = self.idle.take();
        let routing = reactor.routing.borrow();
        let (limit, age) = (reactor.config.pool.idle_timeout, self.age.get());
        let kept = idle.into_iter().filter_map(|mut server| {
            let needed = self.share.taken() <= age.least;
            let fresh = needed || limit.is_none_or(|limit| server.used.elapsed() < limit);
            let good = fresh && !age.is_old(server.opened, reactor.now.get());
            (routing.admits(self.wants.get(), &server.address) && good && server.is_alive()).then_some(server)
        });
        self.idle.put_back(kept.collect());
    }

    /// Closes those that are idle and wanted no more.
    pub fn close_unwanted(&self) {
        let idle = self.idle.take();
        self.idle.put_back(idle.into_iter().filter(|server| !server.facts.close_needed.get()).collect());
    }

    /// Opens one connection if there are fewer than are to be kept: on each tick one, so that no server is stormed.
    pub fn keep_least(self: &Rc<Pool>) {
        let too_few = self.share.taken() < self.age.get().least;
        if too_few
            && self.share.clients() > 0
            && self.logins() == 0
            && let Some(reactor) = self.owner()
        {
            self.open_one(&reactor);
        }
    }
}
