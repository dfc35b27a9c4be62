//! Which of several servers gets the next work, and the next connection.
//!
//! The one with the fewest connections in use (and logins under way) comes first, and
//! among equals the one whose turn is longest ago: a slow replica has more in use and
//! so gets less. Counted for all pools of a thread together.
//!
//! A pool's connections are moved as well, a few at a time (`MOVES_MAX`): one that was
//! filled while a replica was away would else never know that it is back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::facts::micros;
use crate::pool::Pool;
use crate::reactor::{Reactor, TICK};
use crate::routing::Target;
use crate::server::{Place, Server};
use crate::waiter::Refusal;

/// Connections of a pool that may be moved to another replica per tick.
pub const MOVES_MAX: usize = 1;

/// One server's.
#[derive(Debug, Default)]
pub struct Load {
    in_use: Cell<u32>,
    opening: Cell<u32>,
    turn: Cell<u64>,
}

/// Counts one connection in use, or one login that is under way, until it is dropped.
pub struct Use {
    load: Rc<Load>,
    counter: Counter,
}

type Counter = fn(&Load) -> &Cell<u32>;

impl Use {
    /// A connection is in use from now on.
    #[must_use]
    pub fn of(load: &Rc<Load>) -> Use {
        Use::counted(load, |load| &load.in_use)
    }

    /// A login is under way from now on.
    #[must_use]
    pub fn login(load: &Rc<Load>) -> Use {
        Use::counted(load, |load| &load.opening)
    }

    fn counted(load: &Rc<Load>, counter: Counter) -> Use {
        counter(load).update(|n| n + 1);
        Use { load: load.clone(), counter }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        (self.counter)(&self.load).update(|n| n - 1);
    }
}

impl Load {
    /// What is compared, the least first.
    fn rank(&self) -> (u32, u64) {
        (self.in_use.get() + self.opening.get(), self.turn.get())
    }

    /// Connections in use.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.in_use.get()
    }
}

/// Where the connections of a pool lead, on all threads together.
#[derive(Debug, Default)]
pub struct Spread {
    counts: Mutex<BTreeMap<String, usize>>,
    moved_at_us: AtomicU64,
}

impl Spread {
    fn change(&self, address: &str, by: isize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let n = counts.get(address).copied().unwrap_or(0).saturating_add_signed(by);
        if n == 0 {
            counts.remove(address);
        } else {
            counts.insert(address.to_string(), n);
        }
    }

    /// One more, or it is about to be opened.
    pub fn taken(&self, address: &str) {
        self.change(address, 1);
    }

    /// One less.
    pub fn free(&self, address: &str) {
        self.change(address, -1);
    }

    /// How many lead there.
    #[must_use]
    pub fn count(&self, address: &str) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied().unwrap_or(0)
    }

    /// Whether this thread may move some now, so many microseconds after the start: one at a time does.
    #[must_use]
    pub fn may_move(&self, now_us: u64) -> bool {
        let last = self.moved_at_us.load(Ordering::Relaxed);
        let due = now_us >= last.saturating_add(micros(TICK));
        due && self.moved_at_us.compare_exchange(last, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// All servers' loads, as one thread knows them.
#[derive(Debug, Default)]
pub struct Loads {
    all: RefCell<BTreeMap<Rc<str>, Rc<Load>>>,
    turn: Cell<u64>,
}

impl Loads {
    /// One server's.
    #[must_use]
    pub fn of(&self, address: &Rc<str>) -> Rc<Load> {
        self.all.borrow_mut().entry(address.clone()).or_default().clone()
    }

    /// It was given work: others come before it now, if they have as little to do.
    pub fn took(&self, load: &Load) {
        self.turn.set(self.turn.get() + 1);
        load.turn.set(self.turn.get());
    }

    /// Where the next connection leads.
    #[must_use]
    pub fn least<'a>(&self, candidates: impl Iterator<Item = &'a Rc<str>>) -> Option<(Rc<str>, Rc<Load>)> {
        let best = candidates.map(|address| (address, self.of(address))).min_by_key(|(_, load)| load.rank());
        best.map(|(address, load)| (address.clone(), load))
    }

    /// The place in a list of the load that has least to do; the last of several that are the same load.
    #[must_use]
    pub fn pick<'a>(&self, loads: impl Iterator<Item = &'a Rc<Load>>) -> Option<usize> {
        let mut best: Option<(usize, (u32, u64))> = None;
        for (at, load) in loads.enumerate() {
            let rank = load.rank();
            if best.is_none_or(|(_, least)| rank <= least) {
                best = Some((at, rank));
            }
        }
        best.map(|(at, _)| at)
    }

    /// Forgets those that nobody is connected to.
    pub fn tidy(&self) {
        self.all.borrow_mut().retain(|_, load| Rc::strong_count(load) > 1);
    }
}

/// From which server to which one a connection should move so that all have their share; `None` if they have.
#[must_use]
pub fn uneven(candidates: &[Rc<str>], count: impl Fn(&Rc<str>) -> usize) -> Option<(&Rc<str>, &Rc<str>)> {
    let most = candidates.iter().max_by_key(|a| count(a))?;
    let least = candidates.iter().min_by_key(|a| count(a))?;
    (count(most) >= count(least) + 2).then_some((most, least))
}

impl Pool {
    /// Ends when a login at `address` is of no use any more: nothing new may go there.
    pub(crate) async fn given_up(&self, reactor: &Reactor, address: &Rc<str>) -> Refusal {
        loop {
            reactor.threads.emptied.notified().await;
            if !reactor.routing.borrow().admits(self.wants.get(), address) {
                return Refusal::for_now(
                    "08006",
                    format!("the server at {address} takes no such work any more"),
                );
            }
        }
    }

    /// Whether this one is not to be kept, for its server has more than its share.
    pub(crate) fn is_shed(&self, server: &Server) -> bool {
        let sheds = self.shed.borrow().as_ref() == Some(&server.address) && !self.has_waiters();
        sheds && self.shed.replace(None).is_some()
    }

    fn may_open(&self, reactor: &Reactor) -> bool {
        !self.paused.get() && reactor.may_log_in()
    }

    /// Moves a few connections to replicas that have fewer than their share. Nobody waits for that: one is opened
    /// there, and closed elsewhere only while nobody uses it.
    pub fn rebalance(self: &Rc<Pool>, reactor: &Rc<Reactor>) {
        if self.key.target == Target::Primary {
            return;
        }
        for _ in 0..MOVES_MAX {
            let moves = {
                let routing = reactor.routing.borrow();
                let now = Instant::now();
                let open = |a: &Rc<str>| self.share.spread.count(a);
                let candidates: Vec<Rc<str>> = routing.candidates(self.wants.get()).to_vec();
                let up: Vec<Rc<str>> =
                    candidates.into_iter().filter(|a| self.retries.may_try(a, now, 0)).collect();
                uneven(&up, open).map(|(from, to)| (from.clone(), to.clone()))
            };
            let Some((from, to)) = moves else {
                self.shed.replace(None);
                return;
            };
            if !self.share.spread.may_move(micros(reactor.threads.started.elapsed())) {
                return;
            }
            let place = if self.may_open(reactor) { reactor.take_place(self) } else { None };
            if let Some(place) = place {
                self.open(reactor, &to, Place::of(self, &to, place));
            }
            if !self.has_waiters() && !self.close_one_at(&from) {
                // All are in use: the next that comes back is not kept.
                self.shed.replace(Some(from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(names: &[&str]) -> Vec<Rc<str>> {
        names.iter().map(|n| Rc::from(*n)).collect()
    }

    #[test]
    fn the_one_with_least_in_use_is_next_and_then_whose_turn_it_is() {
        let loads = Loads::default();
        let all = addresses(&["a", "b", "c"]);
        let mut uses = Vec::new();
        let mut order = String::new();
        for _ in 0..6 {
            let (address, load) = loads.least(all.iter()).expect("one is there");
            loads.took(&load);
            uses.push(Use::of(&load));
            order.push_str(&address);
        }
        assert_eq!(order, "abcabc");
        // Two of b's come back.
        uses.retain(|u| !Rc::ptr_eq(&u.load, &loads.of(&all[1])));
        assert_eq!(loads.least(all.iter()).expect("one is there").0, all[1]);
        let logins = [Use::login(&loads.of(&all[1])), Use::login(&loads.of(&all[1]))];
        assert_eq!(loads.least(all.iter()).expect("one is there").0, all[0], "logins count");
        drop(logins);
        let idle = [loads.of(&all[0]), loads.of(&all[1]), loads.of(&all[1]), loads.of(&all[2])];
        assert_eq!(loads.pick(idle.iter()), Some(2));
        assert_eq!(loads.pick([].iter()), None);
    }

    #[test]
    fn threads_move_connections_one_after_the_other() {
        let spread = Spread::default();
        spread.taken("a");
        spread.taken("a");
        spread.taken("b");
        spread.free("b");
        spread.free("b");
        assert_eq!((spread.count("a"), spread.count("b")), (2, 0));
        let tick = micros(TICK);
        assert!(spread.may_move(tick) && !spread.may_move(tick + 1) && spread.may_move(2 * tick));
    }

    #[test]
    fn a_pool_is_uneven_when_moving_one_helps() {
        let all = addresses(&["a", "b", "c"]);
        let check = |counts: [usize; 3], expect: Option<(&str, &str)>| {
            let of = |address: &Rc<str>| counts[all.iter().position(|a| a == address).expect("it is there")];
            let found = uneven(&all, of).map(|(from, to)| (from.to_string(), to.to_string()));
            assert_eq!(found, expect.map(|(a, b)| (a.to_string(), b.to_string())), "{counts:?}");
        };
        check([0, 0, 0], None);
        check([3, 2, 2], None);
        check([5, 5, 0], Some(("b", "c")));
        check([1, 0, 4], Some(("c", "b")));
        assert_eq!(uneven(&[], |_| 0), None);
    }
}
