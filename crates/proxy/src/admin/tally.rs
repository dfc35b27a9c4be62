//! How many clients and servers do what, pool by pool: counted in one walk when somebody asks, however
//! many pools there are, on each thread, and added up.

use std::collections::BTreeMap;

use crate::pool::Key;
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::threads::Threads;

/// Of one pool, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Clients.
    pub clients: usize,
    /// Of those, who waits for a server.
    pub waiting: usize,
    /// Connections to servers that a client has.
    pub active: usize,
    /// That nobody has.
    pub idle: usize,
    /// That a client has and that are being cancelled.
    pub active_cancel: usize,
    /// That nobody has and whose cancel is not over yet.
    pub being_canceled: usize,
    /// Of all those, the ones of readers.
    pub reads: usize,
    /// To standbys, kept for when one of those leads; in no other figure.
    pub warm: usize,
    /// Logins at servers that are under way.
    pub logins: usize,
    /// Connections at most.
    pub size: usize,
    /// How long the first of those who wait does.
    pub longest_wait_ms: u64,
    /// An administrator has paused it.
    pub paused: bool,
}

impl Tally {
    /// Connections to servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.active + self.idle + self.active_cancel + self.being_canceled
    }

    fn add(&mut self, other: &Tally) {
        self.clients += other.clients;
        self.waiting += other.waiting;
        self.active += other.active;
        self.idle += other.idle;
        self.active_cancel += other.active_cancel;
        self.being_canceled += other.being_canceled;
        self.warm += other.warm;
        self.reads += other.reads;
        self.logins += other.logins;
        self.size += other.size;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        self.paused |= other.paused;
    }
}

/// Pool by pool, of all threads together.
pub async fn by_key(threads: &Threads) -> BTreeMap<Key, Tally> {
    let mut all: BTreeMap<Key, Tally> = BTreeMap::new();
    for (key, tally) in threads.ask(|reactor| here(reactor)).await.into_iter().flatten() {
        let sum = all.entry(key).or_default();
        // A pool has its size once, on however many threads it is.
        let size = tally.size;
        sum.add(&Tally { size: 0, ..tally });
        sum.size = size;
    }
    all
}

/// Pool by pool, on this thread.
fn here(reactor: &Reactor) -> BTreeMap<Key, Tally> {
    let mut all: BTreeMap<Key, Tally> = BTreeMap::new();
    for pool in reactor.pools() {
        let tally = all.entry(pool.key.clone()).or_default();
        tally.logins = pool.logins();
        tally.size = pool.share.size();
        tally.longest_wait_ms = pool.longest_wait_ms();
        tally.paused = pool.paused.get();
    }
    for listed in reactor.clients.borrow().values() {
        let Some(tally) = all.get_mut(&listed.key) else { continue };
        tally.clients += 1;
        tally.waiting += usize::from(listed.facts.waits.get().is_some());
    }
    for server in reactor.servers() {
        let Some(tally) = all.get_mut(server.key()) else { continue };
        let place = match (server.client.get(), server.cancels.get()) {
            (0, 0) if server.warm.get() => &mut tally.warm,
            (0, 0) => &mut tally.idle,
            (0, _) => &mut tally.being_canceled,
            (_, 0) => &mut tally.active,
            (_, _) => &mut tally.active_cancel,
        };
        *place += 1;
        tally.reads += usize::from(server.key().target != Target::Primary);
    }
    all
}

/// Those together whose keys have the same part.
#[must_use]
pub fn by<K: Ord>(tallies: &BTreeMap<Key, Tally>, part: impl Fn(&Key) -> K) -> BTreeMap<K, Tally> {
    let mut all: BTreeMap<K, Tally> = BTreeMap::new();
    tallies.iter().for_each(|(key, tally)| all.entry(part(key)).or_default().add(tally));
    all
}
