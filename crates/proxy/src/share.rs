//! What pools of one database, user and kind have in common, each on its own thread: places for connections,
//! and who waits since when.
//!
//! A thread uses its own connections while its clients are the ones who wait
//! longest, within `FAIR_WITHIN`; else the next one that is free goes to the thread
//! whose client has waited longest. So the pool is one queue, but for a few
//! milliseconds which save moving connections to and fro.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::balance::Spread;
use crate::welcomes::Welcomes;

/// How much longer than any of its own somebody on another thread must wait to be served first.
pub const FAIR_WITHIN: Duration = Duration::from_millis(5);

/// Nobody waits.
const NOBODY: u64 = 0;

/// Of one pool.
#[derive(Debug)]
pub struct Share {
    /// How its clients are welcomed.
    pub welcomes: Welcomes,
    /// Where its connections lead.
    pub spread: Spread,
    size: AtomicUsize,
    taken: AtomicUsize,
    clients: AtomicUsize,
    /// Threads on which somebody waits for a connection that is not theirs.
    asking: AtomicUsize,
    threads: Box<[Thread]>,
}

/// What one thread tells the others; in a cache line of its own, as it tells it often.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Thread {
    /// Since when the first there waits, in microseconds since the start; `NOBODY`.
    since: AtomicU64,
    /// Connections that nobody uses.
    idle: AtomicUsize,
}

/// A place for one connection; free again when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// For so many connections and threads.
    #[must_use]
    pub fn new(size: usize, threads: usize) -> Share {
        Share {
            welcomes: Welcomes::default(),
            spread: Spread::default(),
            size: AtomicUsize::new(size.max(1)),
            taken: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            threads: (0..threads).map(|_| Thread::default()).collect(),
        }
    }

    /// Connections at most.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// So many from now on; those that are too many go as they become free.
    pub fn set_size(&self, size: usize) {
        self.size.store(size.max(1), Ordering::Relaxed);
    }

    /// Connections that exist or are being opened, on all threads.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Clients that are in, on all threads.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// A client came in.
    pub fn entered(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    /// A client left.
    pub fn left(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes one of so many places for one more connection, if it is there.
    #[must_use]
    pub fn take(self: &Arc<Share>, places: usize) -> Option<Place> {
        let more = |taken| (taken < places).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place(self.clone()))
    }

    /// Tells since when the first on a thread waits.
    pub fn waits(&self, thread: usize, since: Option<u64>) {
        let now = since.map_or(NOBODY, |since| since.max(1));
        let before = self.threads[thread].since.load(Ordering::Relaxed);
        if before == now
            || self.threads[thread]
                .since
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            // Somebody has just taken it on; what it sends is looked at when it comes.
            return;
        }
        match (before, now) {
            (NOBODY, _) => drop(self.asking.fetch_add(1, Ordering::Relaxed)),
            (_, NOBODY) => drop(self.asking.fetch_sub(1, Ordering::Relaxed)),
            (_, _) => {}
        }
    }

    /// Tells how many connections on a thread nobody uses.
    pub fn idle_is(&self, thread: usize, count: usize) {
        self.threads[thread].idle.store(count, Ordering::Relaxed);
    }

    /// Whether other threads have connections that nobody uses.
    #[must_use]
    pub fn idle_elsewhere(&self, here: usize) -> bool {
        let others = self.threads.iter().enumerate().filter(|(thread, _)| *thread != here);
        others.into_iter().any(|(_, told)| told.idle.load(Ordering::Relaxed) > 0)
    }

    /// Since when whoever waits longest does, on whatever thread.
    #[must_use]
    pub fn waits_since(&self) -> Option<u64> {
        let all = self.threads.iter().map(|told| told.since.load(Ordering::Relaxed));
        all.filter(|since| *since != NOBODY).min()
    }

    /// Which other thread gets what has just become free here, where the first waits since `own`: takes on to
    /// serve it, so that nobody else does.
    #[must_use]
    pub fn next_elsewhere(&self, here: usize, own: impl FnOnce() -> Option<u64>) -> Option<usize> {
        if self.asking.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let fair = u64::try_from(FAIR_WITHIN.as_micros()).unwrap_or(u64::MAX);
        let others = self.threads.iter().enumerate().filter(|(thread, _)| *thread != here);
        let others = others.map(|(thread, told)| (told.since.load(Ordering::Relaxed), thread));
        let (since, thread) = others.filter(|(since, _)| *since != NOBODY).min()?;
        if own().is_some_and(|own| since.saturating_add(fair) >= own) {
            return None;
        }
        self.threads[thread]
            .since
            .compare_exchange(since, NOBODY, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        self.asking.fetch_sub(1, Ordering::Relaxed);
        Some(thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_the_pool_is_large() {
        let share = Arc::new(Share::new(2, 2));
        let take = || share.take(share.size());
        let (one, two) = (take(), take());
        assert!(one.is_some() && two.is_some() && take().is_none());
        drop(one);
        assert!(share.taken() == 1 && take().is_some());
    }

    #[test]
    fn whoever_waits_longest_is_served_within_a_few_milliseconds() {
        let share = Share::new(1, 3);
        assert_eq!(share.next_elsewhere(0, || None), None);
        share.waits(1, Some(20_000));
        share.waits(2, Some(10_000));
        // Ours waits about as long.
        assert_eq!(share.next_elsewhere(0, || Some(14_000)), None);
        assert_eq!(share.next_elsewhere(0, || Some(15_001)), Some(2));
        // That one is being served already; nobody waits here.
        assert_eq!(share.next_elsewhere(0, || None), Some(1));
        assert_eq!(share.next_elsewhere(0, || None), None);
    }

    #[test]
    fn whoever_does_not_wait_any_more_is_given_nothing() {
        let share = Share::new(1, 2);
        share.waits(1, Some(7));
        share.waits(1, Some(9));
        share.waits(1, None);
        assert_eq!(share.next_elsewhere(0, || None), None);
    }

    #[test]
    fn idle_connections_are_known_everywhere() {
        let share = Share::new(3, 2);
        share.idle_is(0, 2);
        assert!(share.idle_elsewhere(1) && !share.idle_elsewhere(0));
    }
}
