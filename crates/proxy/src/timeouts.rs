//! How long clients may take over what they do, and who takes longer.
//!
//! Nobody has a timer: on each tick the times that are kept for the console anyway are
//! compared, and only where a timeout is set at all. So a timeout is late by up to
//! two ticks, and costs a client nothing for each of its messages.
//!
//! ```text
//!   tick ▶ overdue? ▶ Order::Late ▶ the client's own task looks again ▶ FATAL, and it ends
//! ```
//! SQLSTATEs and words are PostgreSQL's own, for those it has.

use std::time::{Duration, Instant};

use serde::Deserialize;
use wire::back::Words;

use crate::config::{needed_seconds, seconds};
use crate::control::Order;
use crate::facts::ClientFacts;
use crate::pool::Key;
use crate::reactor::Reactor;

/// What a client may take; `None`: as long as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For one request, from its being read to the end of its answer.
    pub query: Option<Duration>,
    /// For sitting in a transaction without asking for anything.
    pub idle_transaction: Option<Duration>,
    /// For a whole transaction, or a statement outside of any.
    pub transaction: Option<Duration>,
    /// For sitting between two transactions.
    pub client_idle: Option<Duration>,
}

/// The section `[timeouts]`: those of all clients, and those of what is not a client's.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// As in `Timeouts`.
    #[serde(rename = "query_s", deserialize_with = "seconds")]
    pub query: Option<Duration>,
    /// As in `Timeouts`.
    #[serde(rename = "idle_transaction_s", deserialize_with = "seconds")]
    pub idle_transaction: Option<Duration>,
    /// As in `Timeouts`.
    #[serde(rename = "transaction_s", deserialize_with = "seconds")]
    pub transaction: Option<Duration>,
    /// As in `Timeouts`.
    #[serde(rename = "client_idle_s", deserialize_with = "seconds")]
    pub client_idle: Option<Duration>,
    /// Longest that a client may take to prove itself (PostgreSQL's `authentication_timeout`).
    #[serde(rename = "client_login_s", deserialize_with = "needed_seconds")]
    pub client_login: Duration,
    /// Longest that connecting and logging in at a server may take.
    #[serde(rename = "server_connect_s", deserialize_with = "needed_seconds")]
    pub server_connect: Duration,
    /// Longest that passing on a cancel may take.
    #[serde(rename = "cancel_s", deserialize_with = "needed_seconds")]
    pub cancel: Duration,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            query: None,
            idle_transaction: None,
            transaction: None,
            client_idle: None,
            client_login: Duration::from_secs(60),
            server_connect: Duration::from_secs(5),
            cancel: Duration::from_secs(5),
        }
    }
}

/// The table `timeouts` of a `[[database]]` or a `[[user]]`: what is named there counts instead; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// As in `Timeouts`.
    #[serde(rename = "query_s", deserialize_with = "own")]
    pub query: Option<Option<Duration>>,
    /// As in `Timeouts`.
    #[serde(rename = "idle_transaction_s", deserialize_with = "own")]
    pub idle_transaction: Option<Option<Duration>>,
    /// As in `Timeouts`.
    #[serde(rename = "transaction_s", deserialize_with = "own")]
    pub transaction: Option<Option<Duration>>,
    /// As in `Timeouts`.
    #[serde(rename = "client_idle_s", deserialize_with = "own")]
    pub client_idle: Option<Option<Duration>>,
}

/// A time in seconds that stands instead of another; 0: none.
///
/// # Errors
/// What is no time.
pub fn own<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Duration>>, D::Error> {
    seconds(from).map(Some)
}

impl Timeouts {
    /// What counts for one user of one database: the user's own, else the database's, else those of all.
    #[must_use]
    pub fn of(common: &Common, database: Own, user: Own) -> Timeouts {
        let first = |user: Option<Option<Duration>>, database: Option<Option<Duration>>, all| {
            user.or(database).unwrap_or(all)
        };
        Timeouts {
            query: first(user.query, database.query, common.query),
            idle_transaction: first(
                user.idle_transaction,
                database.idle_transaction,
                common.idle_transaction,
            ),
            transaction: first(user.transaction, database.transaction, common.transaction),
            client_idle: first(user.client_idle, database.client_idle, common.client_idle),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Timeouts::default()
    }

    /// Whether a client has taken longer, and over what.
    #[must_use]
    pub fn overdue(&self, now: Instant, facts: &ClientFacts) -> Option<Late> {
        let over = |limit: Option<Duration>, since: Option<Instant>| match (limit, since) {
            (Some(limit), Some(since)) => now.saturating_duration_since(since) > limit,
            _ => false,
        };
        let (busy, open, rests) = (facts.busy_since(), facts.open_since(), Some(facts.rests_since()));
        if over(self.transaction, open) {
            return Some(Late::Transaction);
        }
        // One that waits at its server for a lease has asked for something.
        let busy = busy.or(open.and(facts.waits.get()));
        match (busy, open) {
            (Some(_), _) => over(self.query, busy).then_some(Late::Query),
            // It waits for a server: that is not its own doing, and its queue has a limit.
            (None, _) if facts.waits.get().is_some() => None,
            (None, Some(_)) => over(self.idle_transaction, rests).then_some(Late::IdleTransaction),
            (None, None) => over(self.client_idle, rests).then_some(Late::ClientIdle),
        }
    }
}

/// What a client has taken too long over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// One request.
    Query,
    /// A transaction in which it asks for nothing.
    IdleTransaction,
    /// A transaction.
    Transaction,
    /// The time between two transactions.
    ClientIdle,
}

impl Late {
    /// What this client is told at its end, which is logged, too: PostgreSQL's own words (`ProcessInterrupts` in
    /// tcop/postgres.c), but for the first, which has none there, and the name by which PgBouncer knows the limit, so
    /// that nobody looks for it in PostgreSQL.
    #[must_use]
    pub fn words(self, client: u32, key: &Key) -> Words<'static> {
        tracing::info!(client, user = key.user, database = key.database, late = ?self, "a client took too long");
        match self {
            Late::Query => Words::fatal("57014", QUERY),
            Late::IdleTransaction => Words::fatal(
                "25P03",
                "terminating connection due to idle-in-transaction timeout (idle_transaction_timeout)",
            ),
            Late::Transaction => Words::fatal(
                "25P04",
                "terminating connection due to transaction timeout (transaction_timeout)",
            ),
            Late::ClientIdle => Words::fatal(
                "57P05",
                "terminating connection due to idle-session timeout (client_idle_timeout)",
            ),
        }
    }
}

/// The words for a request that took too long, also while it waited for a server.
pub const QUERY: &str = "terminating connection due to query timeout (query_timeout)";

impl Reactor {
    /// Tells those that have taken too long.
    pub fn end_overdue(&self) {
        if self.pools().iter().all(|pool| pool.timeouts.get().is_none()) {
            return;
        }
        let now = self.now.get();
        for listed in self.clients.borrow().values() {
            if listed.pool.timeouts.get().overdue(now, &listed.facts).is_some() {
                listed.control.give(Order::Late);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_count_before_the_databases_and_those_before_all() {
        let s = |n| Some(Duration::from_secs(n));
        let common = Common { query: s(1), transaction: s(1), client_idle: s(1), ..Common::default() };
        let database = Own { query: Some(s(2)), transaction: Some(s(2)), ..Own::default() };
        let user = Own { query: Some(s(3)), client_idle: Some(None), ..Own::default() };
        let all = Timeouts::of(&common, database, user);
        assert_eq!(
            all,
            Timeouts { query: s(3), transaction: s(2), idle_transaction: None, client_idle: None }
        );
        assert!(!all.is_none() && Timeouts::default().is_none());
    }

    #[test]
    fn each_time_is_held_against_its_own_limit() {
        let s = |n| Some(Duration::from_secs(n));
        let limits =
            Timeouts { query: s(10), idle_transaction: s(5), transaction: s(30), client_idle: s(60) };
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_secs(n);
        for (busy, open, rests, now, late) in [
            (None, None, 0, 60, None),
            (None, None, 0, 61, Some(Late::ClientIdle)),
            (Some(0), Some(0), 0, 10, None),
            (Some(0), Some(0), 0, 11, Some(Late::Query)),
            (None, Some(0), 20, 25, None),
            (None, Some(0), 20, 26, Some(Late::IdleTransaction)),
            (Some(29), Some(0), 0, 31, Some(Late::Transaction)),
        ] {
            let facts = ClientFacts::at(start, busy.map(at), open.map(at), at(rests));
            assert_eq!(limits.overdue(at(now), &facts), late, "{busy:?} {open:?} {rests} {now}");
            assert_eq!(Timeouts::default().overdue(at(now), &facts), None);
            facts.waits.set(Some(at(0)));
            let waits = limits.overdue(at(now), &facts);
            assert!(matches!(waits, None | Some(Late::Query | Late::Transaction)), "{waits:?}");
        }
    }
}
