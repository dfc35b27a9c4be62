//! Connections of a pool that nobody uses, the one used last on top: those at the bottom grow old and are closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::Loads;
use crate::server::Server;
use crate::share::Share;

/// Each stays where it is in memory while it changes hands.
pub(crate) type Servers = Vec<Box<Server>>;

/// On one thread.
pub struct Idle {
    servers: RefCell<Servers>,
    share: Arc<Share>,
    thread: usize,
}

impl Idle {
    /// None yet.
    #[must_use]
    pub fn new(share: Arc<Share>, thread: usize) -> Idle {
        Idle { servers: RefCell::default(), share, thread }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.servers.borrow().len()
    }

    /// One more.
    pub fn push(&self, server: Box<Server>) {
        self.servers.borrow_mut().push(server);
        self.tell();
    }

    /// The one used last.
    #[must_use]
    pub fn pop(&self) -> Option<Box<Server>> {
        let server = self.servers.borrow_mut().pop();
        self.tell();
        server
    }

    /// One whose server has least to do.
    #[must_use]
    pub fn least(&self, loads: &Loads) -> Option<Box<Server>> {
        self.remove(|servers| loads.pick(servers.iter().map(|s| &s.load)))
    }

    /// One that leads to `address`.
    #[must_use]
    pub fn one_at(&self, address: &Rc<str>) -> Option<Box<Server>> {
        self.remove(|servers| servers.iter().position(|s| s.address == *address))
    }

    /// The one unused longest.
    #[must_use]
    pub fn oldest(&self) -> Option<Box<Server>> {
        self.remove(|servers| (!servers.is_empty()).then_some(0))
    }

    fn remove(&self, which: impl FnOnce(&[Box<Server>]) -> Option<usize>) -> Option<Box<Server>> {
        let mut servers = self.servers.borrow_mut();
        let found = which(&servers).map(|at| servers.remove(at));
        drop(servers);
        self.tell();
        found
    }

    /// All of them, the one unused longest first.
    #[must_use]
    pub(crate) fn take(&self) -> Servers {
        let all = self.servers.take();
        self.tell();
        all
    }

    /// Those that are kept of what `take` gave; what has come in meanwhile was used later.
    pub(crate) fn put_back(&self, mut kept: Servers) {
        let mut servers = self.servers.borrow_mut();
        kept.append(&mut servers);
        *servers = kept;
        drop(servers);
        self.tell();
    }

    #[inline]
    fn tell(&self) {
        self.share.idle_is(self.thread, self.servers.borrow().len());
    }
}
