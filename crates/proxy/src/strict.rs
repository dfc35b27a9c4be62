//! Strict reads: what a client sends to the leader goes only while a lease says that nobody else leads
//! (docs/protocol.md, C-20).
//!
//! ```text
//!   a statement has come in ▶ its database is strict, and no lease covers the term ▶ it waits
//!                                a lease comes, each 75 ms ◀ the leader's agent has asked the others
//! ```
//! Looked at for every statement, after it came in: whatever was acknowledged before, the server has.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Instant;

use peers::clock;
use route::lease::Lease;
use serde::Deserialize;
use tokio::sync::watch;

use crate::config::Config;
use crate::control::{Control, Order};
use crate::facts::count;
use crate::limits::Entry;
use crate::reactor::Reactor;

/// What may be read from a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadConsistency {
    /// What it has. One that is cut off with this proxy, and was replaced, may show old data for some seconds.
    #[default]
    Relaxed,
    /// What was acknowledged before the statement came in, always; it waits while nobody can say so.
    Strict,
}

impl ReadConsistency {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ReadConsistency::Relaxed => "relaxed",
            ReadConsistency::Strict => "strict",
        }
    }
}

impl Entry<'_> {
    /// What clients of this database may be shown by a leader.
    #[must_use]
    pub fn read_consistency(self, config: &Config) -> ReadConsistency {
        self.0.and_then(|d| d.read_consistency).unwrap_or(config.pool.read_consistency)
    }

    /// Whether its writers' pools need a lease.
    #[must_use]
    pub fn is_strict(self, config: &Config) -> bool {
        self.read_consistency(config) == ReadConsistency::Strict
    }
}

impl Config {
    /// Whether any database needs a lease.
    #[must_use]
    pub fn needs_leases(&self) -> bool {
        let strict = |c: ReadConsistency| c == ReadConsistency::Strict;
        strict(self.pool.read_consistency)
            || self.databases.iter().filter_map(|d| d.read_consistency).any(strict)
    }
}

/// Without agents nobody can say who leads.
///
/// # Errors
/// That it is asked for.
pub fn check(config: &Config) -> Result<(), String> {
    match (&config.cluster, config.needs_leases()) {
        (None, true) => Err(
            "read_consistency = \"strict\" needs a [cluster]: a [[server]] can't say whether it still leads"
                .to_string(),
        ),
        (_, _) => Ok(()),
    }
}

/// One thread's.
#[derive(Debug, Default)]
pub struct Strict {
    lease: Cell<Lease>,
    /// Who waits for one, by the numbers of the clients.
    waiting: RefCell<BTreeMap<u32, Rc<Control>>>,
    /// Statements that waited for one.
    pub waits: Cell<u64>,
}

impl Strict {
    /// Whether what has come in may go to the leader of `term`.
    #[must_use]
    pub fn covers(&self, term: u64) -> bool {
        self.lease.get().covers(term, clock::now())
    }

    /// Client `id` looks again when there is a lease, and on every tick. Since when it waits.
    pub fn wait(&self, id: u32, control: &Rc<Control>, since: Option<Instant>) -> Instant {
        self.waiting.borrow_mut().insert(id, control.clone());
        since.unwrap_or_else(|| {
            count(&self.waits);
            Instant::now()
        })
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Those who wait look again.
    pub fn look_again(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.values().for_each(|control| control.give(Order::Look));
    }
}

/// Keeps one thread's lease as new as the proxy's.
pub async fn keep(reactor: Weak<Reactor>, mut held: watch::Receiver<Lease>) {
    while held.changed().await.is_ok() {
        let Some(reactor) = reactor.upgrade() else { return };
        reactor.strict.lease.set(*held.borrow_and_update());
        reactor.strict.look_again();
    }
}
