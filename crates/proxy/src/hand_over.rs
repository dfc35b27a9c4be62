//! Moves a connection to a server from one thread to another, where somebody has waited longer.
//!
//! ```text
//!   given back ▶ packed: out of this thread's poll ▶ job ▶ unpacked: into that one's ▶ to its queue
//! ```
//! A connection in TLS can't be moved: it is closed, and the other thread opens one.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use route::Backend;

use crate::line::Line;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::server::{Place, Server};
use crate::share;
use crate::stream::Bare;

/// A connection on its way.
pub struct Parcel {
    socket: Bare,
    backend: Backend,
    address: String,
    key: (u32, Vec<u8>),
    opened: Instant,
    replayed: u64,
    place: share::Place,
}

impl Server {
    /// Takes it out of this thread; nothing if it can't be moved, and is closed.
    fn pack(mut self: Box<Self>) -> Option<Parcel> {
        let place = self.place.shared.take()?;
        let address = self.address.to_string();
        self.facts.moved.set(true);
        let socket = Bare::of(self.line.into_stream())?;
        let mut backend = self.backend;
        backend.moved();
        Some(Parcel {
            socket,
            backend,
            address,
            key: self.key,
            opened: self.opened,
            replayed: self.replayed,
            place,
        })
    }
}

impl Parcel {
    fn unpack(self, reactor: &Rc<Reactor>, pool: &Rc<Pool>) -> io::Result<Box<Server>> {
        let address: Rc<str> = self.address.into();
        let place = Place::of(pool, &address, self.place);
        let line = Line::new(self.socket.into_stream()?);
        let mut server = Server::new(reactor, line, self.backend, address, self.key, self.opened, place);
        server.replayed = self.replayed;
        Ok(server)
    }
}

impl Pool {
    /// Gives an idle connection to the same pool on another thread.
    pub(crate) fn hand_over(&self, reactor: &Rc<Reactor>, server: Box<Server>, thread: usize) {
        let key = self.key.clone();
        let parcel = server.pack();
        // Without a parcel a place has become free there.
        reactor.threads.post(thread, move |reactor| {
            let pool = reactor.pool(&key);
            match parcel.map(|parcel| parcel.unpack(reactor, &pool)).transpose() {
                Ok(Some(server)) => pool.give_back(server),
                Ok(None) => {}
                Err(why) => tracing::debug!(%why, "a connection was lost between two threads"),
            }
            pool.pump();
        });
    }

    /// Gives idle connections to other threads where somebody waits. Whoever `asks` and is given none opens one.
    fn lend(self: &Rc<Pool>, reactor: &Rc<Reactor>, asks: usize) {
        let mut served = false;
        while !self.has_waiters() {
            let Some(server) = self.pop_idle() else { break };
            match self.share.next_elsewhere(reactor.index, || None) {
                Some(thread) => {
                    self.hand_over(reactor, server, thread);
                    served |= thread == asks;
                }
                None => {
                    self.rest(server);
                    break;
                }
            }
        }
        if !served {
            let key = self.key.clone();
            reactor.threads.post(asks, move |reactor| reactor.pool(&key).serve(false));
        }
    }

    /// Tells the other threads since when somebody waits here; if it `asks`, whoever has an idle connection gives it.
    pub(crate) fn tell_others(&self, reactor: &Rc<Reactor>, asks: bool) {
        // Pools that share a limit want to know, on one thread as well.
        let served = !self.paused.get() && !reactor.routing.borrow().holds(self.wants.get());
        self.share.waits(reactor.index, self.oldest(reactor).filter(|_| served));
        if asks && reactor.threads.count() > 1 {
            let (key, here) = (self.key.clone(), reactor.index);
            reactor.threads.post_others(here, move |reactor| {
                if let Some(pool) = reactor.pool_there(&key) {
                    pool.lend(reactor, here);
                }
            });
        }
    }
}
