//! All that one thread has: its pools, its clients, where the servers are.
//!
//! Nothing here is shared with another thread, so nothing is locked; what is, is
//! in `threads`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::rc::Weak;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use route::{Out, Rules, Shelf};
use tokio::sync::{Notify, mpsc, watch};

use crate::balance::Loads;
use crate::config::Config;
use crate::control::{Control, Order};
use crate::facts::{ClientFacts, Counters, ServerFacts, count};
use crate::fresh::Fresh;
use crate::gates::Stop;
use crate::links::Links;
use crate::live::Live;
use crate::pool::{Key, Pool};
use crate::routing::{Choice, Routing, Wants};
use crate::secrets::Secrets;
use crate::strict::{self, Strict};
use crate::threads::{Job, Threads};
use crate::waiter::Refusal;
use route::merge::Merged;

/// Logins at servers that are under way at a time, of all threads: after a failover all pools are empty at once.
pub const LOGINS_MAX: usize = 16;
/// Jobs of other threads that are done in one go, before clients are looked at again.
const JOBS_AT_ONCE: usize = 64;
/// How often clocks are read and queues looked through.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at idle connections.
const TIDY_TICKS: u32 = 10;
/// Averages are of so long a time (PgBouncer's `stats_period`).
pub const STATS_PERIOD: Duration = Duration::from_secs(60);

/// One client, for whoever wants something of it.
pub struct Listed {
    /// Its orders.
    pub control: Rc<Control>,
    /// What a cancel must show.
    pub secret: Vec<u8>,
    /// Its user and database.
    pub key: Key,
    /// Its pool.
    pub pool: Rc<Pool>,
    /// What is told of it.
    pub facts: Rc<ClientFacts>,
}

/// One thread's.
pub struct Reactor {
    /// Its number, from 0 on.
    pub index: usize,
    /// What it shares with the others.
    pub threads: Arc<Threads>,
    /// As configured.
    pub config: Live,
    /// What pools ask of sessions.
    pub rules: Rules,
    /// Users and their secrets.
    pub secrets: RefCell<Rc<Secrets>>,
    /// TLS towards clients, as it was read last.
    pub client_tls: RefCell<Option<crate::client_tls::FrontTls>>,
    /// What is counted for all.
    pub counters: Counters,
    /// Consoles that are open, by the numbers that they were given for cancelling.
    pub consoles: RefCell<BTreeMap<u32, crate::admin::Console>>,
    /// When it started.
    pub started: SystemTime,
    /// Those that listen, to be ended; only the first thread has any.
    pub doors: RefCell<Vec<tokio::task::AbortHandle>>,
    /// When the last period of averages began, and the one before it.
    pub periods: Cell<(Instant, Instant)>,
    servers: RefCell<Vec<Weak<ServerFacts>>>,
    server_id: Cell<u64>,
    /// TLS towards servers.
    pub server_tls: Option<tokio_rustls::TlsConnector>,
    /// Where the servers are.
    pub routing: RefCell<Routing>,
    /// Prepared statements.
    pub shelf: RefCell<Shelf>,
    /// Where plans are made.
    pub out: RefCell<Out>,
    /// Clients by the number that they were given for cancelling.
    pub clients: RefCell<BTreeMap<u32, Listed>>,
    /// The time of the last tick.
    pub now: Cell<Instant>,
    /// Cancels that are being passed on to other proxies.
    pub forwards: Cell<usize>,
    /// Clients with a transaction on the leader.
    pub busy: Cell<usize>,
    pools: RefCell<BTreeMap<Key, Rc<Pool>>>,
    logins: Cell<usize>,
    /// What each server has to do.
    pub loads: Loads,
    /// For how long the leader surely leads.
    pub strict: Strict,
    /// Whether each can be reached.
    pub links: Links,
    /// When each standby was last seen to stream.
    pub fresh: RefCell<Fresh>,
    pumps: Notify,
    routes: Option<watch::Receiver<Arc<Merged>>>,
    told_drained: Cell<bool>,
    /// It ends as soon as the job that said so is over.
    pub over: Cell<bool>,
}

/// A login that is under way; over when it is dropped.
pub struct Login(Rc<Reactor>);

impl Drop for Login {
    fn drop(&mut self) {
        self.0.logins.set(self.0.logins.get() - 1);
    }
}

impl Reactor {
    /// One thread's, without a client.
    pub fn new(
        (index, threads): (usize, Arc<Threads>),
        config: Arc<Config>,
        secrets: Secrets,
        server_tls: Option<tokio_rustls::TlsConnector>,
        routing: Routing,
    ) -> Rc<Reactor> {
        let rides = config.cluster.is_some();
        let rules = Rules {
            mode: config.pool.mode.into(),
            rides,
            settle_commits: rides && config.pool.settle_commits,
            settle_autocommit: rides && config.pool.resolve_autocommit,
        };
        let routes = threads.follower().map(|follower| follower.routes());
        let shelf = Shelf::new(index as u64, threads.count() as u64);
        Rc::new(Reactor {
            index,
            threads,
            config: Live::new((*config).clone()),
            rules,
            secrets: RefCell::new(Rc::new(secrets)),
            client_tls: RefCell::default(),
            counters: Counters::default(),
            consoles: RefCell::default(),
            started: SystemTime::now(),
            doors: RefCell::default(),
            periods: Cell::new((Instant::now(), Instant::now())),
            servers: RefCell::default(),
            server_id: Cell::new(0),
            server_tls,
            routing: RefCell::new(routing),
            shelf: RefCell::new(shelf),
            out: RefCell::default(),
            clients: RefCell::default(),
            now: Cell::new(Instant::now()),
            forwards: Cell::new(0),
            busy: Cell::new(0),
            pools: RefCell::default(),
            logins: Cell::new(0),
            loads: Loads::default(),
            strict: Strict::default(),
            links: Links::default(),
            fresh: RefCell::default(),
            pumps: Notify::new(),
            routes,
            told_drained: Cell::new(false),
            over: Cell::new(false),
        })
    }

    /// Runs what nobody asks for: follows the cluster, serves queues, does jobs of other threads, lets time pass.
    pub async fn run(self: Rc<Reactor>, mut inbox: mpsc::Receiver<Job>) {
        let mut routes = self.routes.clone();
        if let Some(follower) = self.threads.follower() {
            follower.leases().want(self.config.needs_leases());
            tokio::task::spawn_local(strict::keep(Rc::downgrade(&self), follower.leases().held()));
        }
        let mut jobs = Vec::new();
        let mut ticks = tokio::time::interval(TICK);
        let mut count = 0_u32;
        let mut followed = Arc::<Merged>::default();
        loop {
            let changed = async {
                match routes.as_mut() {
                    Some(routes) => routes.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                there = changed => {
                    if !there {
                        return;
                    }
                    if let Some(routes) = routes.as_mut() {
                        followed = routes.borrow_and_update().clone();
                        self.follow(&followed);
                    }
                }
                () = self.pumps.notified() => self.pump_all(),
                _ = inbox.recv_many(&mut jobs, JOBS_AT_ONCE) => {
                    jobs.drain(..).for_each(|job| job(&self));
                    if self.over.get() {
                        return;
                    }
                }
                _ = ticks.tick() => {
                    // Lags and ages wake nobody.
                    let newest = routes.as_ref().map(|routes| routes.borrow().clone());
                    if let Some(newest) = newest.filter(|n| !n.members.is_empty()) {
                        self.watch_links(&newest);
                        if self.links.take_changed() || !Arc::ptr_eq(&newest, &followed) {
                            followed = newest;
                            self.follow(&followed);
                        }
                    }
                    count = count.wrapping_add(1);
                    self.tick(count.is_multiple_of(TIDY_TICKS));
                }
            }
        }
    }

    /// What the agents say now, if there are any.
    #[must_use]
    pub fn merged(&self) -> Option<Arc<Merged>> {
        self.routes.as_ref().map(|routes| routes.borrow().clone())
    }

    /// What the agents say is what counts from now on.
    pub fn follow(self: &Rc<Reactor>, merged: &Merged) {
        let now = Instant::now();
        self.fresh.borrow_mut().note(&merged.members, now);
        let (cut_off, fresh) = (self.links.cut_off(), self.fresh.borrow().clone());
        let choice = Choice { cut_off, fresh, ..self.config.choice() };
        self.rerouted(Routing::of(merged, &choice, now));
    }

    /// The servers are elsewhere, or do otherwise.
    pub fn rerouted(self: &Rc<Reactor>, routing: Routing) {
        let old = self.routing.replace(routing);
        let (changed, holds) = {
            let new = self.routing.borrow();
            if old == *new {
                return;
            }
            if old.term != 0 && old.term != new.term {
                count(&self.counters.terms);
            }
            if old.primary != new.primary || old.holding != new.holding || old.term != new.term {
                tracing::info!(term = new.term, primary = ?new.primary, holding = new.holding, "routes");
            }
            let led_away = old.primary != new.primary && new.primary.is_some();
            (led_away || !old.standing.is_subset(&new.standing), new.holding)
        };
        if !holds {
            self.say_drained(false);
        }
        // Whoever works on a server that does not lead any more, or can't be reached, lets go of it.
        let order = if changed { Order::Cut } else { Order::Look };
        let clients: Vec<Rc<Control>> = self.clients.borrow().values().map(|c| c.control.clone()).collect();
        clients.iter().for_each(|control| control.give(order));
        self.pools().iter().for_each(|pool| {
            pool.retries.forget();
            pool.tidy();
            pool.use_warm(self);
        });
        self.pump_all();
        self.account(0);
    }

    /// Clients with a transaction on the leader become more or less; the agents are told when none is left
    /// while the leader hands over.
    pub fn account(&self, change: isize) {
        self.busy.set(self.busy.get().saturating_add_signed(change));
        if self.busy.get() == 0 && self.routing.borrow().holding {
            self.say_drained(true);
        }
    }

    fn say_drained(&self, drained: bool) {
        if self.told_drained.replace(drained) != drained {
            let term = self.routing.borrow().term;
            self.threads.drained(self.index, drained.then_some(term));
        }
    }

    fn tick(self: &Rc<Reactor>, tidy: bool) {
        self.now.set(Instant::now());
        for pool in self.pools() {
            pool.sweep();
            if pool.has_waiters() {
                self.refuse_late(&pool);
            }
            pool.rebalance(self);
            pool.keep_least();
            self.config.hold.notify.into_iter().for_each(|notify| pool.tell_waiting(notify));
            if tidy {
                pool.tidy();
            }
            pool.warm_up(self);
        }
        if tidy {
            self.loads.tidy();
            self.servers.borrow_mut().retain(|s| s.strong_count() > 0);
            self.end_period();
        }
        self.end_overdue();
        self.strict.look_again();
        self.threads.emptied.notify_waiters();
        if self.threads.gates.stop() == Stop::WithLastClient && self.threads.clients() == 0 {
            self.threads.stops.notify_one();
        }
        self.pump_all();
    }

    /// Whoever has waited for too long is told why.
    fn refuse_late(&self, pool: &Pool) {
        let limit = self.config.hold.timeout;
        if let Some(query) = pool.timeouts.get().query.filter(|query| *query < limit) {
            let words = crate::timeouts::QUERY;
            pool.refuse_late(query, &Refusal { ends: true, ..Refusal::for_now("57014", words) });
        }
        let why = if pool.paused.get() {
            format!("database \"{}\" was paused by an administrator", pool.key.database)
        } else {
            self.why_waiting(pool.wants.get())
        };
        pool.refuse_late(limit, &Refusal::for_now("57P03", why));
    }

    fn end_period(&self) {
        let (newer, _) = self.periods.get();
        if newer.elapsed() >= STATS_PERIOD {
            self.periods.set((Instant::now(), newer));
            self.pools().iter().for_each(|pool| pool.totals.roll());
        }
    }

    /// A connection to a server begins its life.
    pub fn register(
        &self,
        pool: &Rc<Pool>,
        address: Rc<str>,
        stream: &crate::stream::Stream,
        pid: u32,
    ) -> Rc<ServerFacts> {
        // No two threads give the same number.
        let step = self.threads.count() as u64;
        let last = self.server_id.get();
        self.server_id.set(if last == 0 { self.index as u64 + 1 } else { last + step });
        let facts = Rc::new(ServerFacts {
            id: self.server_id.get(),
            pool: pool.clone(),
            address,
            local: stream.addresses().1,
            tls: stream.tls_words(),
            pid,
            connected: SystemTime::now(),
            opened: Instant::now(),
            requested: Cell::new(self.now.get()),
            client: Cell::new(0),
            moved: Cell::new(false),
            close_needed: Cell::new(false),
            warm: Cell::new(false),
            prepared: Cell::new(0),
            replication: Cell::new(wire::start::Replication::Off),
            cancels: Rc::default(),
        });
        self.servers.borrow_mut().push(Rc::downgrade(&facts));
        facts
    }

    /// All connections to servers.
    #[must_use]
    pub fn servers(&self) -> Vec<Rc<ServerFacts>> {
        self.servers.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// What a client that waited in vain is told.
    #[must_use]
    pub fn why_waiting(&self, wants: Wants) -> String {
        let routing = self.routing.borrow();
        let seconds = self.config.hold.timeout.as_secs_f64();
        if routing.candidates(wants).is_empty() {
            format!("no server could be reached that takes this statement, for {seconds} s")
        } else {
            format!("no connection to a server became free within {seconds} s")
        }
    }

    /// The pool of these, if there is one.
    #[must_use]
    pub fn pool_there(&self, key: &Key) -> Option<Rc<Pool>> {
        self.pools.borrow().get(key).cloned()
    }

    /// All pools.
    #[must_use]
    pub fn pools(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    /// The pool of these, made when it is asked for first.
    #[must_use]
    pub fn pool(self: &Rc<Reactor>, key: &Key) -> Rc<Pool> {
        if let Some(pool) = self.pools.borrow().get(key) {
            return pool.clone();
        }
        let pool = Pool::new(self, key.clone());
        pool.paused.set(self.threads.gates.is_paused(&key.database));
        pool.timeouts.set(self.config.timeouts(&key.database, &key.user));
        pool.age.set(self.config.age(&key.database));
        pool.reserve.set(self.config.reserve(&key.database, &key.user));
        self.pools.borrow_mut().insert(key.clone(), pool.clone());
        pool
    }

    /// Serves all queues, and first those in which somebody has waited longest: pools may share a limit.
    pub fn pump_all(&self) {
        let mut pools = self.pools();
        pools.sort_by_key(|pool| pool.oldest(self).unwrap_or(u64::MAX));
        pools.iter().for_each(Pool::pump);
    }

    /// Serves all queues as soon as nobody is in the middle of something.
    pub fn pump_soon(&self) {
        self.pumps.notify_one();
    }

    /// Whether one more login at a server may begin.
    #[must_use]
    pub fn may_log_in(&self) -> bool {
        self.logins.get() < LOGINS_MAX.div_ceil(self.threads.count())
    }

    /// A login at a server begins.
    #[must_use]
    pub fn log_in(self: &Rc<Reactor>) -> Login {
        self.logins.set(self.logins.get() + 1);
        Login(self.clone())
    }

    /// Whether a login at a server is under way.
    #[must_use]
    pub fn logs_in(&self) -> bool {
        self.logins.get() > 0
    }

    /// Warm connections of all pools.
    #[must_use]
    pub fn warm(&self) -> usize {
        self.pools().iter().map(|pool| pool.warm.count()).sum()
    }
}
