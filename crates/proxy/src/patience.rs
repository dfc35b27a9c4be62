//! Those who wait for a server: what they are told meanwhile, so that a psql that stands still says why, and when
//! they have waited in vain.
//!
//! Each time that one waits it is told once. A NOTICE may come at any time, and
//! changes nothing for a driver.

use std::time::Duration;

use wire::back::{Severity, Words};

use crate::control::Order;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::waiter::Refusal;

impl Pool {
    /// Nobody here can be served.
    pub fn refuse_all(&self, refusal: &Refusal) {
        let all = std::mem::take(&mut *self.waiters.borrow_mut());
        all.iter().filter(|w| !w.gone.get()).for_each(|w| w.give(Err(refusal.clone())));
    }

    /// Whoever has waited longer than `limit` is refused.
    pub fn refuse_late(&self, limit: Duration, refusal: &Refusal) {
        loop {
            let first = {
                let mut waiters = self.waiters.borrow_mut();
                match waiters.front() {
                    Some(first) if first.gone.get() || first.since.elapsed() > limit => waiters.pop_front(),
                    _ => None,
                }
            };
            match first {
                Some(first) if !first.gone.get() => first.give(Err(refusal.clone())),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Whoever has waited for longer than this is told so, once.
    pub fn tell_waiting(&self, longer_than: Duration) {
        let waiters = self.waiters.borrow();
        // Those who came first wait longest.
        let long = waiters.iter().take_while(|waiter| waiter.since.elapsed() > longer_than);
        for waiter in long.filter(|waiter| !waiter.gone.get() && !waiter.told.replace(true)) {
            waiter.control.give(Order::Wait);
        }
    }
}

/// The words, by what it waits for.
#[must_use]
pub fn words(reactor: &Reactor, pool: &Pool) -> Words<'static> {
    let text = match reactor.routing.borrow().holds(pool.wants.get()) {
        true => "waiting for a server that takes this statement",
        false => "waiting for a connection to a server: all are in use",
    };
    Words { severity: Severity::Notice, ..Words::error("00000", text) }
}
