//! Connections to servers for one user, database and kind of work, and who waits for one.
//!
//! First come, first served. A connection that is given back goes to whoever
//! waits longest; nobody overtakes, but for a few milliseconds between threads
//! (`share`). Connections that lead to a server which does not lead any more are
//! closed and not given out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::age::Age;
use crate::balance::Use;
use crate::config::Config;
use crate::connect_query;
use crate::control::{Control, Order};
use crate::facts::{Totals, micros};
use crate::idle::Idle;
use crate::login;
use crate::reactor::Reactor;
use crate::reserve::Reserve;
use crate::retry::Retries;
use crate::routing::{Target, Wants, is_same};
use crate::secrets::Proof;
use crate::server::{Place, Server};
use crate::share::Share;
use crate::timeouts::Timeouts;
use crate::waiter::{Leaves, Refusal, Waiter};
use crate::warm::Warm;

/// Longest that DISCARD ALL may take.
const WASH_LIMIT: Duration = Duration::from_secs(5);

/// Whose connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// What for.
    pub target: Target,
}

/// One pool.
pub struct Pool {
    /// Whose.
    pub key: Key,
    /// Where they lead.
    pub wants: Cell<Wants>,
    /// The database's name at its servers.
    pub dbname: RefCell<String>,
    /// What it has in common with the same pool on other threads.
    pub share: Arc<Share>,
    /// What was done here.
    pub totals: Totals,
    reactor: Weak<Reactor>,
    pub(crate) idle: Idle,
    pub(crate) waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Connections that exist or are being opened.
    total: Cell<usize>,
    pub(crate) opening: Cell<usize>,
    /// A server that has more than its share: the next connection to it that comes back is not kept.
    pub(crate) shed: RefCell<Option<Rc<str>>>,
    /// Connections to standbys, for when one of them leads.
    pub(crate) warm: Warm,
    /// Stands still on request (PAUSE).
    pub paused: Cell<bool>,
    /// What its clients say goes to the leader only while a lease says that it leads.
    pub strict: Cell<bool>,
    /// When it was last looked whether it must make room for other pools.
    pub(crate) yielded: Cell<Instant>,
    /// How old its connections may become, and how few they may be.
    pub age: Cell<Age>,
    /// Connections on top of its size, for those who have waited for long.
    pub reserve: Cell<Reserve>,
    /// What its clients may take.
    pub timeouts: Cell<Timeouts>,
    /// Addresses that have just refused it.
    pub retries: Retries,
    /// How to log in to a server as this user.
    pub credential: RefCell<Option<Proof>>,
}

impl Pool {
    /// An empty one.
    #[must_use]
    pub fn new(reactor: &Rc<Reactor>, key: Key) -> Rc<Pool> {
        let config: &Config = &reactor.config;
        let place = config.database(&key.database);
        let dbname = place.dbname(&key.database).to_string();
        let share = reactor.threads.share(&key, config.pool_size(&key.database, &key.user));
        let idle = Idle::new(share.clone(), reactor.index);
        Rc::new(Pool {
            strict: Cell::new(place.is_strict(config)),
            wants: Cell::new(Wants { target: key.target, lag_ms_max: place.lag_ms_max(config) }),
            key,
            dbname: RefCell::new(dbname),
            share,
            totals: Totals::default(),
            reactor: Rc::downgrade(reactor),
            idle,
            waiters: RefCell::default(),
            total: Cell::new(0),
            opening: Cell::new(0),
            shed: RefCell::default(),
            warm: Warm::default(),
            paused: Cell::new(false),
            yielded: Cell::new(Instant::now()),
            age: Cell::default(),
            reserve: Cell::default(),
            timeouts: Cell::default(),
            retries: Retries::default(),
            credential: RefCell::default(),
        })
    }

    /// The reactor that it belongs to, unless that is gone.
    #[must_use]
    pub fn owner(&self) -> Option<Rc<Reactor>> {
        self.reactor.upgrade()
    }

    /// Connections that exist, that are idle, and clients that wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.total.get(), self.idle.count(), self.waiters.borrow().len())
    }

    /// Logins at servers that are under way.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.opening.get()
    }

    /// How long the first in the queue waits.
    #[must_use]
    pub fn longest_wait_ms(&self) -> u64 {
        let since = self.waiters.borrow().front().map(|w| w.since.elapsed());
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// A connection, if one is there for whoever comes now.
    pub fn try_get(&self) -> Option<Box<Server>> {
        if !self.waiters.borrow().is_empty() {
            return None;
        }
        self.take_idle()
    }

    fn take_idle(&self) -> Option<Box<Server>> {
        let reactor = self.reactor.upgrade()?;
        let routing = reactor.routing.borrow();
        if routing.holds(self.wants.get()) || self.paused.get() {
            return None;
        }
        let choose = routing.candidates(self.wants.get()).len() > 1;
        loop {
            let mut server = if choose { self.idle.least(&reactor.loads)? } else { self.idle.pop()? };
            if routing.admits(self.wants.get(), &server.address) && server.is_alive() {
                // From now on it works in this term; whatever it did before is over.
                server.backend.term = routing.term;
                server.led =
                    routing.primary.as_ref().is_some_and(|primary| is_same(primary, &server.address));
                server.in_use = Some(Use::of(&server.load));
                if choose {
                    reactor.loads.took(&server.load);
                }
                return Some(server);
            }
        }
    }

    /// Stands in the queue; `control` is told when something came of it.
    pub fn wait(self: &Rc<Pool>, control: &Rc<Control>) -> Rc<Waiter> {
        let waiter = Waiter::new(control);
        self.waiters.borrow_mut().push_back(waiter.clone());
        self.pump();
        waiter
    }

    /// A connection, as soon as there is one, in the order of the queue.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(self: &Rc<Pool>) -> Result<Box<Server>, Refusal> {
        if let Some(server) = self.try_get() {
            return Ok(server);
        }
        let control = Rc::new(Control::default());
        let waiter = self.wait(&control);
        // Whoever stops waiting must not be given a connection that nobody takes.
        let _leaves = Leaves(&waiter);
        std::future::poll_fn(|cx| {
            control.wakes(cx.waker());
            let _ = control.take(Order::Look);
            waiter.got.borrow_mut().take().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }

    /// Gives a connection back. It goes to the next in the queue, or rests.
    pub fn give_back(self: &Rc<Pool>, mut server: Box<Server>) {
        let Some(reactor) = self.reactor.upgrade() else { return };
        let admitted = {
            let routing = reactor.routing.borrow();
            routing.admits(self.wants.get(), &server.address)
        };
        server.in_use = None;
        let old = self.age.get().is_old(server.opened, reactor.now.get());
        server.facts.client.set(0);
        let too_many = self.share.taken() > self.most();
        let unwanted =
            server.facts.close_needed.get() || self.paused.get() || too_many || self.is_shed(&server);
        if !server.backend.clean || !admitted || old || unwanted {
            drop(server);
            return;
        }
        if reactor.must_yield(self) {
            drop(server);
            return reactor.threads.post_others(reactor.index, |reactor| reactor.pump_all());
        }
        if let Some(thread) = self.share.next_elsewhere(reactor.index, || self.oldest(&reactor)) {
            return self.hand_over(&reactor, server, thread);
        }
        if self.has_waiters() {
            self.idle.push(server);
            return self.pump();
        }
        server.used = reactor.now.get();
        self.rest(server);
    }

    /// A connection rests until somebody needs it; none does where an administrator has stopped the pool.
    pub(crate) fn rest(&self, server: Box<Server>) {
        if !self.paused.get() {
            self.idle.push(server);
        }
    }

    /// Takes one that rests.
    pub(crate) fn pop_idle(&self) -> Option<Box<Server>> {
        self.idle.pop()
    }

    /// Whether anybody waits.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// Since when the first waits, in microseconds since the start.
    pub(crate) fn oldest(&self, reactor: &Reactor) -> Option<u64> {
        let waiters = self.waiters.borrow();
        let first = waiters.iter().find(|w| !w.gone.get())?;
        Some(micros(first.since.saturating_duration_since(reactor.threads.started)))
    }

    /// Gives a connection back that one client had for all its life: what only it could know goes.
    pub async fn wash(self: Rc<Pool>, mut server: Box<Server>) {
        let Some(reactor) = self.owner() else { return };
        let washed = async {
            server.wash().await?;
            connect_query::run(&reactor.config, &mut server).await.map_err(|r| io::Error::other(r.message))
        };
        match tokio::time::timeout(WASH_LIMIT, washed).await {
            Ok(Ok(())) => self.give_back(server),
            Ok(Err(why)) => tracing::debug!(%why, "could not clean a connection"),
            Err(_) => tracing::debug!("cleaning a connection took too long"),
        }
    }

    /// Serves the queue with what there is, here and on other threads, and opens what is missing.
    pub fn pump(self: &Rc<Pool>) {
        self.serve(true);
    }

    /// Serves the queue; unless it `asks` other threads, what is missing is opened at once.
    pub(crate) fn serve(self: &Rc<Pool>, asks: bool) {
        let Some(reactor) = self.reactor.upgrade() else { return };
        loop {
            self.drop_gone();
            if self.waiters.borrow().is_empty() {
                return self.tell_others(&reactor, false);
            }
            let Some(server) = self.take_idle() else { break };
            let first = self.waiters.borrow_mut().pop_front();
            match first {
                Some(first) => first.give(Ok(server)),
                None => return,
            }
        }
        // One that is there is sooner here than one that is to be opened.
        let asks = asks && self.share.idle_elsewhere(reactor.index);
        if !asks {
            self.open_missing(&reactor);
        }
        self.tell_others(&reactor, asks);
    }

    /// Those who have left go from the head of the queue; the rest of it, which may be long, is swept on the tick.
    fn drop_gone(&self) {
        let mut waiters = self.waiters.borrow_mut();
        while waiters.front().is_some_and(|w| w.gone.get()) {
            waiters.pop_front();
        }
    }

    /// Those who have left go from all of the queue.
    pub(crate) fn sweep(&self) {
        self.waiters.borrow_mut().retain(|w| !w.gone.get());
    }

    fn open_missing(self: &Rc<Pool>, reactor: &Rc<Reactor>) {
        loop {
            let full = self.share.taken() >= self.most();
            let missing = !full && self.wanting() > self.opening.get();
            if !missing || !self.open_one(reactor) {
                return;
            }
        }
    }

    /// Begins to open one connection more, if that may be now.
    pub(crate) fn open_one(self: &Rc<Pool>, reactor: &Rc<Reactor>) -> bool {
        if self.paused.get() || !reactor.may_log_in() {
            return false;
        }
        let least = {
            let routing = reactor.routing.borrow();
            if routing.holds(self.wants.get()) {
                return false;
            }
            let (now, under_way) = (Instant::now(), self.opening.get());
            let candidates = routing.candidates(self.wants.get()).iter();
            reactor.loads.least(candidates.filter(|a| self.retries.may_try(a, now, under_way)))
        };
        // When the pause of the last of them is over, it is looked again.
        let Some((address, load)) = least else { return false };
        let Some(place) = reactor.take_place(self) else { return false };
        reactor.loads.took(&load);
        self.open(reactor, &address, Place::of(self, &address, place));
        true
    }

    pub(crate) fn open(self: &Rc<Pool>, reactor: &Rc<Reactor>, address: &Rc<str>, place: Place) {
        self.opening.set(self.opening.get() + 1);
        let (login, opening) = (reactor.log_in(), Use::login(&reactor.loads.of(address)));
        let (pool, reactor, address) = (self.clone(), reactor.clone(), address.clone());
        tokio::task::spawn_local(async move {
            let begun = Instant::now();
            let opened = tokio::select! {
                opened = login::open(&reactor, &pool, address.clone(), place) => opened,
                refusal = pool.given_up(&reactor, &address) => Err(refusal),
            };
            drop((login, opening));
            pool.opening.set(pool.opening.get() - 1);
            let pause = match opened {
                Ok(server) => {
                    pool.retries.succeeded(&address);
                    pool.opened(server);
                    None
                }
                Err(refusal) => {
                    tracing::debug!(database = %pool.key.database, why = %refusal.message, "no connection to a server");
                    if refusal.ends {
                        pool.refuse_all(&refusal);
                    } else {
                        reactor.missed(&address);
                    }
                    Some(pool.retries.failed(&address, begun, Instant::now()))
                }
            };
            reactor.pump_all();
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
                reactor.pump_soon();
            }
        });
    }

    pub(crate) fn opened(self: &Rc<Pool>, server: Box<Server>) {
        self.share.welcomes.opened(&server.backend.reported);
        // It may have been stopped during the login.
        self.rest(server);
        self.pump();
    }

    /// A place for a connection to `address` that is for one client only, if there is room; an idle one makes room.
    pub(crate) fn take_place(self: &Rc<Pool>, address: &Rc<str>) -> Option<Place> {
        let reactor = self.reactor.upgrade()?;
        if self.paused.get() {
            return None;
        }
        if self.share.taken() >= self.share.size() && !self.close_oldest() {
            let key = self.key.clone();
            reactor.threads.post_others(reactor.index, move |reactor| {
                let _ = reactor.pool_there(&key).map(|pool| pool.close_oldest());
            });
        }
        reactor.take_place(self).map(|place| Place::of(self, address, place))
    }

    /// There is one connection more, or it is about to be opened, to a server at `address`.
    pub(crate) fn place_taken(&self, address: &Rc<str>) {
        self.total.set(self.total.get() + 1);
        self.share.spread.taken(address);
    }

    /// A connection is gone, or went to another thread.
    pub(crate) fn place_free(&self, address: &Rc<str>) {
        self.total.set(self.total.get() - 1);
        self.share.spread.free(address);
        let Some(reactor) = self.reactor.upgrade() else { return };
        reactor.threads.emptied.notify_waiters();
        reactor.pump_soon();
        if let Some(thread) = self.share.next_elsewhere(reactor.index, || self.oldest(&reactor)) {
            let key = self.key.clone();
            reactor.threads.post(thread, move |reactor| reactor.pool(&key).pump());
        }
    }

    /// Closes the idle one that was unused longest; whether there was one.
    pub fn close_oldest(&self) -> bool {
        self.idle.oldest().is_some()
    }

    /// Closes an idle one that leads to `address`; whether there was one.
    pub(crate) fn close_one_at(&self, address: &Rc<str>) -> bool {
        self.idle.one_at(address).is_some()
    }

    /// Closes all that are idle.
    pub fn close_idle(&self) {
        self.warm.close();
        drop(self.idle.take());
    }
}
