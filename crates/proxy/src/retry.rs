//! How soon a server is asked again that has just refused a login.
//!
//! A postmaster that is down refuses within microseconds, and clients that wait
//! would have it asked in a loop. So each pool leaves an address alone for a
//! while after a failure, short at first and longer with every failure in a row:
//!
//! ```text
//!   refused ▶ 20 ms ▶ refused ▶ 40 ms ▶ … ▶ 250 ms ▶ 250 ms ▶ …
//! ```
//! PgBouncer waits 15 s (`server_login_retry`). Here a failover must be over within
//! milliseconds, so a new picture of the cluster ends all pauses at once, and
//! another address has none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Pause after the first failure; each further one in a row doubles it.
pub const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest: four logins in a second for one pool and address.
pub const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The failures of one pool, by address: as many at most as it has servers.
#[derive(Debug, Default)]
pub struct Retries(RefCell<BTreeMap<Rc<str>, Failure>>);

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: Instant,
    pause: Duration,
}

impl Retries {
    /// Whether a login may begin there, while so many of this pool are under way: after a failure one at a time.
    #[must_use]
    pub fn may_try(&self, address: &str, now: Instant, under_way: usize) -> bool {
        self.0.borrow().get(address).is_none_or(|f| under_way == 0 && now >= f.at + f.pause)
    }

    /// A login that began at `begun` has failed; for so long nobody is to try again.
    pub fn failed(&self, address: &Rc<str>, begun: Instant, now: Instant) -> Duration {
        let mut failures = self.0.borrow_mut();
        let pause = match failures.get(address) {
            None => PAUSE_FIRST,
            // Those that were under way together count as one.
            Some(last) if begun < last.at => last.pause,
            Some(last) => (last.pause * 2).min(PAUSE_MAX),
        };
        failures.insert(address.clone(), Failure { at: now, pause });
        pause
    }

    /// A login has succeeded.
    pub fn succeeded(&self, address: &str) {
        self.0.borrow_mut().remove(address);
    }

    /// The servers are other ones, or lead again: what was before says nothing.
    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_a_success() {
        let (retries, start) = (Retries::default(), Instant::now());
        let (a, b): (Rc<str>, Rc<str>) = ("a:1".into(), "b:1".into());
        let mut now = start;
        for ms in [20, 40, 80, 160, 250, 250] {
            assert!(retries.may_try(&a, now, 0));
            assert_eq!(retries.may_try(&a, now, 1), ms == 20, "one at a time after the first failure");
            let pause = retries.failed(&a, now, now);
            assert_eq!(pause, Duration::from_millis(ms));
            assert!(!retries.may_try(&a, now, 0) && retries.may_try(&b, now, 1));
            now += pause;
        }
        retries.succeeded(&a);
        assert_eq!(retries.failed(&a, now, now), PAUSE_FIRST);
        retries.forget();
        assert!(retries.may_try(&a, now, 1));
    }

    #[test]
    fn those_that_fail_together_count_once() {
        let (retries, start) = (Retries::default(), Instant::now());
        let a: Rc<str> = "a:1".into();
        for ms in 1..=16 {
            let now = start + Duration::from_millis(ms);
            assert_eq!(retries.failed(&a, start, now), PAUSE_FIRST);
        }
    }
}
