//! Somebody who waits for a connection to a server, and what comes of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::control::{Control, Order};
use crate::server::Server;
use crate::threads::Threads;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The client must go: it could never be served.
    pub ends: bool,
}

impl Refusal {
    /// One after which the client may try again.
    #[must_use]
    pub fn for_now(code: &str, message: impl Into<String>) -> Refusal {
        Refusal { code: code.to_string(), message: message.into(), ends: false }
    }
}

/// Somebody who waits.
pub struct Waiter {
    /// What came of it.
    pub got: RefCell<Option<Result<Box<Server>, Refusal>>>,
    /// Nobody waits here any more.
    pub gone: Cell<bool>,
    /// Since when.
    pub since: Instant,
    /// It was told that it waits.
    pub(crate) told: Cell<bool>,
    /// What it has said and nobody has heard yet.
    pub(crate) held: RefCell<Option<Held>>,
    pub(crate) control: Rc<Control>,
}

/// Leaves the queue when it is dropped.
pub struct Leaves<'a>(pub &'a Waiter);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.gone.set(true);
    }
}

/// Bytes that wait with their client, counted for as long as they do.
pub struct Held(Arc<Threads>, usize);

impl Held {
    /// So many more, unless that is too much for the proxy.
    #[must_use]
    pub fn take(threads: &Arc<Threads>, bytes: usize, bytes_max: usize) -> Option<Held> {
        let more = |held: usize| held.checked_add(bytes).filter(|all| *all <= bytes_max);
        threads.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Held(threads.clone(), bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Waiter {
    /// One whose `control` is told when something came of it.
    #[must_use]
    pub fn new(control: &Rc<Control>) -> Rc<Waiter> {
        Rc::new(Waiter {
            got: RefCell::new(None),
            gone: Cell::new(false),
            since: Instant::now(),
            told: Cell::new(false),
            held: RefCell::default(),
            control: control.clone(),
        })
    }

    /// Something came of it.
    pub fn give(&self, got: Result<Box<Server>, Refusal>) {
        *self.got.borrow_mut() = Some(got);
        self.control.give(Order::Look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_wait_have_a_limit() {
        let (threads, _inboxes) = Threads::new(1, None);
        let one = Held::take(&threads, 60, 100);
        assert!(one.is_some() && Held::take(&threads, 41, 100).is_none());
        assert!(Held::take(&threads, usize::MAX, 100).is_none());
        drop(one);
        assert!(Held::take(&threads, 100, 100).is_some());
    }
}
