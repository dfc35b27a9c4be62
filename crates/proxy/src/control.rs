//! What others ask of a client's task: to stop what it does, to let go of its server, to end.
//!
//! Flags and a waker; the task looks at them first on every turn.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// One client's.
#[derive(Debug, Default)]
pub struct Control {
    orders: Cell<u8>,
    waker: RefCell<Option<Waker>>,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Cancel what is under way.
    Cancel = 1,
    /// The server that it has is not the leader any more.
    Cut = 2,
    /// End; this client was killed, or we stop.
    End = 4,
    /// End between two transactions: we are about to stop.
    Leave = 16,
    /// It has taken too long over something.
    Late = 32,
    /// It waits for long: its client is to be told.
    Wait = 64,
    /// Look again: something that it waits for has come.
    Look = 8,
}

impl Control {
    /// Asks.
    pub fn give(&self, order: Order) {
        self.orders.set(self.orders.get() | order as u8);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether this was asked since the last look.
    pub fn take(&self, order: Order) -> bool {
        let was = self.orders.get();
        self.orders.set(was & !(order as u8));
        was & order as u8 != 0
    }

    /// Whether anything was asked.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.orders.get() == 0
    }

    /// Wakes this task from now on.
    pub fn wakes(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        if own.as_ref().is_none_or(|own| !own.will_wake(waker)) {
            *own = Some(waker.clone());
        }
    }
}
