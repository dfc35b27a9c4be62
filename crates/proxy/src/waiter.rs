//! Somebody who waits for a connection to a server, and what comes of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::control::{Control, Order};
use crate::server::Server;

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
    pub got: RefCell<Option<Result<Server, Refusal>>>,
    /// Nobody waits here any more.
    pub gone: Cell<bool>,
    /// Since when.
    pub since: Instant,
    /// It was told that it waits.
    pub(crate) told: Cell<bool>,
    pub(crate) control: Rc<Control>,
}

/// Leaves the queue when it is dropped.
pub struct Leaves<'a>(pub &'a Waiter);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.gone.set(true);
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
            control: control.clone(),
        })
    }

    /// Something came of it.
    pub fn give(&self, got: Result<Server, Refusal>) {
        *self.got.borrow_mut() = Some(got);
        self.control.give(Order::Look);
    }
}
