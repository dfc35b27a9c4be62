//! What the threads of one proxy share, and how they speak to each other.
//!
//! ```text
//!   thread 0                     thread 1
//!   doors, signals, follower
//!   clients, pools, sockets      clients, pools, sockets
//!        │  jobs ────────────────────▶│      a fresh client, a cancel, a connection that is handed over
//!        └──────── Threads ───────────┘      limits, gates, who waits since when
//! ```
//! A client stays on its thread, and a query never waits for another thread. Only
//! what is counted for all is shared: a few numbers, locked at a login at most.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::facts::micros;
use crate::follow::Follower;
use crate::gates::Gates;
use crate::limits::is_full;
use crate::pool::Key;
use crate::reactor::Reactor;
use crate::share::{self, Share};

/// Something to be done on another thread.
pub type Job = Box<dyn FnOnce(&Rc<Reactor>) + Send>;

/// Threads at most.
pub const THREADS_MAX: usize = 64;
/// Jobs that may wait for one thread; what does not fit is not done, as if that thread were gone.
pub const JOBS_MAX: usize = 16_384;
/// How much longer somebody in another pool must wait than anybody in this one before a connection of this one is
/// closed, so that one of that can be opened: a login takes some milliseconds.
pub const YIELD_AFTER: Duration = Duration::from_millis(50);
/// Longest that somebody who looks waits for the other threads; who has not answered then is left out.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// One proxy's.
pub struct Threads {
    mailboxes: Box<[mpsc::Sender<Job>]>,
    clients: Box<[AtomicUsize]>,
    turn: AtomicUsize,
    shares: Mutex<BTreeMap<Key, Arc<Share>>>,
    drained: Mutex<Drained>,
    follower: Option<Follower>,
    /// Bytes that clients have said who wait for a server.
    pub held: AtomicUsize,
    /// What an administrator has closed.
    pub gates: Gates,
    /// A connection to a server has ended, or a client has left, or a tick has passed.
    pub emptied: Notify,
    /// It ends.
    pub stops: Notify,
    /// When it started, to measure by.
    pub started: Instant,
}

/// The term in which each thread has no transaction on the leader any more, and what the agents were told.
struct Drained {
    threads: Box<[Option<u64>]>,
    told: Option<u64>,
}

/// So many connections at most (0: no limit), of all pools for which this holds.
pub type Limit<'a> = (usize, &'a dyn Fn(&Key) -> bool);

fn taken(shares: &BTreeMap<Key, Arc<Share>>, (_, ours): &Limit<'_>) -> usize {
    shares.iter().filter(|(key, _)| ours(key)).map(|(_, share)| share.taken()).sum()
}

/// Whether somebody in another pool within a limit has waited for longer than those of `share` do, who do since
/// `since`, by more than a login is worth.
fn starves(
    shares: &BTreeMap<Key, Arc<Share>>,
    share: &Arc<Share>,
    (_, ours): &Limit<'_>,
    since: Option<u64>,
) -> bool {
    let others = shares.iter().filter(|(key, other)| ours(key) && !Arc::ptr_eq(other, share));
    let longest = others.filter_map(|(_, other)| other.waits_since()).min();
    let patience = micros(YIELD_AFTER);
    longest.is_some_and(|longest| since.is_none_or(|since| longest.saturating_add(patience) < since))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after every statement, also where somebody panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that fit this machine: one for every two cores, as whoever is relayed, or asks, needs the other.
#[must_use]
pub fn fitting() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, THREADS_MAX)
}

impl Threads {
    /// So many, and the mailbox of each.
    #[must_use]
    pub fn new(count: usize, follower: Option<Follower>) -> (Arc<Threads>, Vec<mpsc::Receiver<Job>>) {
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(JOBS_MAX)).unzip();
        let threads = Threads {
            mailboxes: mailboxes.into(),
            clients: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            turn: AtomicUsize::new(0),
            shares: Mutex::default(),
            drained: Mutex::new(Drained { threads: vec![None; count].into(), told: None }),
            follower,
            held: AtomicUsize::new(0),
            gates: Gates::default(),
            emptied: Notify::new(),
            stops: Notify::new(),
            started: Instant::now(),
        };
        (Arc::new(threads), inboxes)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// What tells where the servers are.
    #[must_use]
    pub fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// Has something done on one thread, soon; whether it was taken.
    pub fn post(&self, to: usize, job: impl FnOnce(&Rc<Reactor>) + Send + 'static) -> bool {
        self.mailboxes.get(to).is_some_and(|mailbox| mailbox.try_send(Box::new(job)).is_ok())
    }

    /// Has something done on all threads but one.
    pub fn post_others(&self, but: usize, job: impl Fn(&Rc<Reactor>) + Clone + Send + 'static) {
        for to in (0..self.count()).filter(|to| *to != but) {
            let job = job.clone();
            self.post(to, move |reactor| job(reactor));
        }
    }

    /// Has something done on every thread.
    pub fn post_all(&self, job: impl Fn(&Rc<Reactor>) + Clone + Send + 'static) {
        self.post_others(self.count(), job);
    }

    /// Asks every thread, and gives their answers.
    pub async fn ask<T: Send + 'static>(
        &self,
        what: impl Fn(&Rc<Reactor>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut waits = Vec::new();
        for to in 0..self.count() {
            let (what, (tell, told)) = (what.clone(), oneshot::channel());
            self.post(to, move |reactor| drop(tell.send(what(reactor))));
            waits.push(told);
        }
        let mut answers = Vec::new();
        for told in waits {
            if let Ok(Ok(answer)) = timeout(ANSWER_LIMIT, told).await {
                answers.push(answer);
            }
        }
        answers
    }

    /// Asks one thread; `None` if it does not answer.
    pub async fn ask_one<T: Send + 'static>(
        &self,
        to: usize,
        what: impl FnOnce(&Rc<Reactor>) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.post(to, move |reactor| drop(tell.send(what(reactor))));
        timeout(ANSWER_LIMIT, told).await.ok()?.ok()
    }

    /// The thread with the fewest clients: the next is for that one. Those who are on their way in are not
    /// counted yet, so among equals they take turns.
    #[must_use]
    pub fn idlest(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let clients = self.clients.iter().map(|n| n.load(Ordering::Relaxed)).enumerate();
        let behind = |thread: usize| (thread + self.count() - turn % self.count()) % self.count();
        clients.min_by_key(|(thread, n)| (*n, behind(*thread))).map_or(0, |(thread, _)| thread)
    }

    /// Clients that are in, of all threads.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// A client has come in.
    pub fn entered(&self, thread: usize) {
        self.clients[thread].fetch_add(1, Ordering::Relaxed);
    }

    /// A client has left.
    pub fn left(&self, thread: usize) {
        self.clients[thread].fetch_sub(1, Ordering::Relaxed);
        self.emptied.notify_waiters();
    }

    /// What the pools with this key share, made when it is asked for first.
    #[must_use]
    pub fn share(&self, key: &Key, size: usize) -> Arc<Share> {
        let mut shares = lock(&self.shares);
        let share = shares.entry(key.clone()).or_insert_with(|| Arc::new(Share::new(size, self.count())));
        share.clone()
    }

    /// Adds something up over those that these keys share.
    pub fn sum(&self, ours: impl Fn(&Key) -> bool, what: impl Fn(&Share) -> usize) -> usize {
        lock(&self.shares).iter().filter(|(key, _)| ours(key)).map(|(_, share)| what(share)).sum()
    }

    /// Those limits that are reached.
    pub fn full<'a>(&self, limits: &'a [Limit<'a>]) -> Vec<&'a Limit<'a>> {
        let shares = lock(&self.shares);
        limits.iter().filter(|limit| is_full(limit.0, taken(&shares, limit))).collect()
    }

    /// Takes one of `places` for somebody who waits since `since`, unless one of these limits is reached, or the last
    /// place within it is for somebody else.
    pub fn take_within(
        &self,
        share: &Arc<Share>,
        places: usize,
        limits: &[Limit<'_>],
        since: Option<u64>,
    ) -> Option<share::Place> {
        let shares = lock(&self.shares);
        let full = |limit: &Limit<'_>| is_full(limit.0, taken(&shares, limit));
        let last = |limit: &Limit<'_>| is_full(limit.0, taken(&shares, limit) + 1);
        let yields = |limit: &Limit<'_>| last(limit) && starves(&shares, share, limit, since);
        if limits.iter().any(|limit| full(limit) || yields(limit)) { None } else { share.take(places) }
    }

    /// Whether a connection of this pool must make room: a limit is reached, and in another pool within it
    /// somebody waits for longer than whoever waits for this one, since `since`.
    pub fn must_yield(&self, share: &Arc<Share>, limits: &[Limit<'_>], since: Option<u64>) -> bool {
        let shares = lock(&self.shares);
        let reached = |limit: &&Limit<'_>| is_full(limit.0, taken(&shares, limit));
        limits.iter().filter(reached).any(|limit| starves(&shares, share, limit, since))
    }

    /// One thread has no transaction on the leader in this term, or has one again. The agents are told once
    /// this is so of all.
    pub fn drained(&self, thread: usize, term: Option<u64>) {
        let Some(follower) = &self.follower else { return };
        let mut drained = lock(&self.drained);
        drained.threads[thread] = term;
        let all = drained.threads.iter().all(|t| *t == term).then_some(term).flatten();
        if all != drained.told {
            drained.told = all;
            follower.set_drained(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_client_is_for_whoever_has_the_fewest() {
        let (threads, _inboxes) = Threads::new(3, None);
        assert_eq!((threads.idlest(), threads.idlest()), (0, 1), "they take turns");
        threads.entered(0);
        threads.entered(1);
        assert_eq!(threads.idlest(), 2);
        threads.entered(2);
        threads.left(1);
        assert_eq!((threads.idlest(), threads.clients()), (1, 2));
    }

    #[test]
    fn a_job_for_a_thread_that_is_gone_is_not_taken() {
        let (threads, mut inboxes) = Threads::new(2, None);
        assert!(threads.post(1, |_| ()));
        drop(inboxes.pop());
        assert!(!threads.post(1, |_| ()) && !threads.post(2, |_| ()));
    }
}
