//! What is known of every client and server, for whoever looks: the console, the metrics.
//!
//! Kept in cells that the client's own task sets on its way, without a lock, an
//! allocation or a clock: times are those of the reactor's last tick. A time is
//! so off by a tick, but a sum of many is right, as ticks know nothing of queries.
//!
//! Nothing here decides anything.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use route::session::Counts;
use route::{Pins, Session};
use wire::start::Replication;

use crate::pool::{Key, Pool};
use crate::server::Server;

/// What is counted per pool, in the order of PgBouncer's SHOW STATS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A server was given to a client.
    Assignments,
    /// Transactions, and statements outside of any.
    Transactions,
    /// Queries, and batches up to Sync.
    Queries,
    /// Bytes from clients.
    Received,
    /// Bytes to clients.
    Sent,
    /// Microseconds with a transaction on a server.
    TransactionUs,
    /// Microseconds in which a client waited for an answer.
    QueryUs,
    /// Microseconds in which a client waited for a server.
    WaitUs,
    /// Statements that clients prepared.
    ClientParses,
    /// Statements that were prepared at servers.
    ServerParses,
    /// Portals that were bound.
    Binds,
    /// Connections to servers that were closed.
    Closed,
    /// Microseconds that those had lived.
    LifetimeUs,
}

/// Kinds of `Count`.
pub const COUNTS: usize = Count::LifetimeUs as usize + 1;

/// All counts at one time.
pub type Sample = [u64; COUNTS];

/// The counts of one pool since the start.
#[derive(Debug, Default)]
pub struct Totals {
    counts: [Cell<u64>; COUNTS],
    older: Cell<Sample>,
    newer: Cell<Sample>,
}

impl Totals {
    /// Adds.
    #[inline]
    pub fn add(&self, what: Count, n: u64) {
        let cell = &self.counts[what as usize];
        cell.set(cell.get().wrapping_add(n));
    }

    /// Adds a time, for those counts that are times.
    #[inline]
    pub fn add_time(&self, what: Count, time: Duration) {
        self.add(what, micros(time));
    }

    /// As they are.
    #[must_use]
    pub fn now(&self) -> Sample {
        std::array::from_fn(|i| self.counts[i].get())
    }

    /// As they were when the period before the present one began.
    #[must_use]
    pub fn before(&self) -> Sample {
        self.older.get()
    }

    /// A period ends.
    pub fn roll(&self) {
        self.older.set(self.newer.replace(self.now()));
    }
}

/// A time in microseconds.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is counted for the whole proxy, on one thread of it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Cancels that clients sent and that named one of ours.
    pub cancels: Cell<u64>,
    /// Logins that were refused.
    pub logins_failed: Cell<u64>,
    /// Changes of the term after the first: elections that clients rode through.
    pub terms: Cell<u64>,
    /// Commits whose answer was lost: found committed, not committed, unknown.
    pub settled: [Cell<u64>; 3],
}

/// One more.
pub fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// One client.
#[derive(Debug)]
pub struct ClientFacts {
    /// The number by which it cancels, and by which it is named on the console.
    pub id: u32,
    /// Its address and ours.
    pub addresses: (Option<SocketAddr>, Option<SocketAddr>),
    /// Version and cipher; empty in clear.
    pub tls: String,
    /// `application_name` of its startup message.
    pub application_name: String,
    /// When it logged in.
    pub connected: SystemTime,
    /// When it last asked for something.
    pub requested: Cell<Instant>,
    /// The `id` of the server that it has; 0: none.
    pub server: Cell<u64>,
    /// Since when it waits for one.
    pub waits: Cell<Option<Instant>>,
    /// Why it keeps its server.
    pub pins: Cell<Pins>,
    /// Statements that it has prepared.
    pub prepared: Cell<usize>,
    /// Whether, and what, it replicates.
    pub replication: Cell<Replication>,
    seen: Cell<Counts>,
    busy_since: Cell<Option<Instant>>,
    open_since: Cell<Option<Instant>>,
    rests_since: Cell<Instant>,
}

impl ClientFacts {
    /// One that has just logged in.
    #[must_use]
    pub fn new(
        id: u32,
        origin: &crate::origin::Origin,
        application_name: String,
        now: Instant,
    ) -> Rc<ClientFacts> {
        Rc::new(ClientFacts {
            id,
            addresses: origin.addresses,
            tls: origin.tls.clone(),
            application_name,
            connected: SystemTime::now(),
            requested: Cell::new(now),
            server: Cell::new(0),
            waits: Cell::new(None),
            pins: Cell::default(),
            prepared: Cell::new(0),
            replication: Cell::new(Replication::Off),
            seen: Cell::default(),
            busy_since: Cell::new(None),
            open_since: Cell::new(None),
            rests_since: Cell::new(now),
        })
    }

    /// Since when it waits for the answer to a request.
    #[must_use]
    pub fn busy_since(&self) -> Option<Instant> {
        self.busy_since.get()
    }

    /// Since when it has a transaction, or a statement, on a server.
    #[must_use]
    pub fn open_since(&self) -> Option<Instant> {
        self.open_since.get()
    }

    /// When its last request was over, or it came in.
    #[must_use]
    pub fn rests_since(&self) -> Instant {
        self.rests_since.get()
    }

    /// Notes how it is now, and counts what was done since the last time.
    #[inline]
    pub fn note(&self, now: Instant, pool: &Pool, session: &Session, server: Option<&Server>) {
        let counts = session.counts();
        if counts != self.seen.get() {
            self.count(now, &pool.totals, counts);
        }
        let id = server.map_or(0, |s| s.facts.id);
        self.server.set(id);
        if let Some(server) = server {
            server.facts.client.set(self.id);
            server.facts.requested.set(self.requested.get());
            server.facts.prepared.set(server.backend.prepared());
            self.pins.set(session.pins());
        }
        let open = server.is_some() && !session.is_between();
        timed(&self.open_since, open, now, &pool.totals, Count::TransactionUs);
        let busy = session.is_busy();
        if !busy && self.busy_since.get().is_some() {
            self.rests_since.set(now);
        }
        timed(&self.busy_since, busy, now, &pool.totals, Count::QueryUs);
    }

    fn count(&self, now: Instant, totals: &Totals, counts: Counts) {
        let seen = self.seen.replace(counts);
        let more = |now: u32, then: u32| u64::from(now.wrapping_sub(then));
        let requests = more(counts.requests, seen.requests);
        if requests > 0 {
            self.requested.set(now);
        }
        totals.add(Count::Queries, requests);
        totals.add(Count::Transactions, more(counts.transactions, seen.transactions));
        totals.add(Count::ClientParses, more(counts.parses, seen.parses));
        totals.add(Count::ServerParses, more(counts.server_parses, seen.server_parses));
        totals.add(Count::Binds, more(counts.binds, seen.binds));
    }

    /// What it does: the words of PgBouncer's SHOW CLIENTS.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.waits.get(), self.server.get()) {
            (Some(_), _) => "waiting",
            (None, 0) => "idle",
            (None, _) => "active",
        }
    }
}

#[inline]
fn timed(since: &Cell<Option<Instant>>, is: bool, now: Instant, totals: &Totals, what: Count) {
    match (since.get(), is) {
        (None, true) => since.set(Some(now)),
        (Some(then), false) => {
            // Mostly both are the same tick.
            if now != then {
                totals.add_time(what, now.saturating_duration_since(then));
            }
            since.set(None);
        }
        (None, false) | (Some(_), true) => {}
    }
}

/// One connection to a server.
pub struct ServerFacts {
    /// Its number, from 1 on.
    pub id: u64,
    /// The pool that it belongs to.
    pub pool: Rc<Pool>,
    /// Where it leads, `host:port`.
    pub address: Rc<str>,
    /// Our own end.
    pub local: Option<SocketAddr>,
    /// Version and cipher; empty in clear.
    pub tls: String,
    /// PostgreSQL's process.
    pub pid: u32,
    /// When it was opened.
    pub connected: SystemTime,
    /// The same, to measure by.
    pub opened: Instant,
    /// When its client last asked for something.
    pub requested: Cell<Instant>,
    /// The `id` of the client that has it; 0: nobody.
    pub client: Cell<u32>,
    /// It goes on, on another thread.
    pub moved: Cell<bool>,
    /// To be closed as soon as it is given back.
    pub close_needed: Cell<bool>,
    /// It leads to a standby, and is kept for when that leads.
    pub warm: Cell<bool>,
    /// Statements that are prepared there.
    pub prepared: Cell<usize>,
    /// Whether, and what, is replicated by it.
    pub replication: Cell<Replication>,
    /// Cancels for it that are under way.
    pub cancels: Rc<Cell<u32>>,
}

impl ServerFacts {
    /// Whose it is.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.pool.key
    }

    /// What it does: the words of PgBouncer's SHOW SERVERS.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.client.get(), self.cancels.get()) {
            (0, 0) if self.warm.get() => "warm",
            (0, 0) => "idle",
            (0, _) => "being_canceled",
            (_, 0) => "active",
            (_, _) => "active_cancel",
        }
    }
}

impl Drop for ServerFacts {
    fn drop(&mut self) {
        if self.moved.get() {
            return;
        }
        self.pool.totals.add(Count::Closed, 1);
        self.pool.totals.add_time(Count::LifetimeUs, self.opened.elapsed());
    }
}

#[cfg(test)]
impl ClientFacts {
    /// One that has done things at these times.
    pub fn at(now: Instant, busy: Option<Instant>, open: Option<Instant>, rests: Instant) -> ClientFacts {
        let facts = ClientFacts::new(1, &crate::origin::Origin::default(), String::new(), now);
        facts.busy_since.set(busy);
        facts.open_since.set(open);
        facts.rests_since.set(rests);
        Rc::into_inner(facts).expect("nobody else has it yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_of_the_last_period() {
        let totals = Totals::default();
        totals.add(Count::Queries, 5);
        totals.roll();
        totals.add(Count::Queries, 7);
        assert_eq!(totals.before()[Count::Queries as usize], 0);
        totals.roll();
        assert_eq!(totals.before()[Count::Queries as usize], 5);
        assert_eq!(totals.now()[Count::Queries as usize], 12);
    }

    #[test]
    fn times_are_counted_from_the_first_tick_to_the_last() {
        let (totals, since, start) = (Totals::default(), Cell::new(None), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (ms, is) in [(0, true), (100, true), (300, false), (400, false)] {
            timed(&since, is, at(ms), &totals, Count::QueryUs);
        }
        assert_eq!(totals.now()[Count::QueryUs as usize], 300_000);
    }
}
