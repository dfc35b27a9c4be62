//! Applications that reach the servers through proxies.
//!
//! ```text
//!   app ──bytes──▶ proxy: route::Session, queue, merge ◀──pushed routes── agents
//!                       │ one connection for a transaction
//!                       ▼ bytes, late, lost with their link, ended by FIN or reset
//!                  backend: PostgreSQL's protocol on the model of its server
//! ```
//! `Session`, `merge`, `routes` and `fate` are the code that ships. What holds a socket
//! in the proxy (its queue, its pool, how it asks for a fate) is modelled here, call for call.
//!
//! A world without a proxy has none of this. Its chance is a stream of its own.

pub mod app;
mod backend;
mod conn;
mod language;
mod lease;
mod pool;
pub mod proxy;
mod push;
mod settle;
pub mod told;
pub mod words;

use std::collections::BTreeMap;
use std::rc::Rc;

use cluster::Term;
use cluster::report::Report;
use route::lease::Given;
use route::routes::Routes;

use crate::clock::Us;
use crate::network::At;
use crate::rng::Rng;
use crate::world::World;

pub use app::App;
pub use conn::Conn;
pub use proxy::Proxy;
pub use told::{Op, Told};

/// What is due at the front.
#[derive(Debug)]
pub enum Due {
    /// An agent says again where clients may go.
    KeepAlive(At),
    /// It reaches that proxy.
    Routes(usize, At, Rc<Routes>),
    /// A proxy looks at its clock.
    Tick(usize),
    /// "No transaction of mine runs in this term", or not any more, reaches an agent.
    Drained(usize, At, Option<Term>),
    /// A proxy asks for its next lease.
    LeaseTick(usize),
    /// That reaches an agent.
    LeaseAsked(usize, At, u64),
    /// The answer reaches the proxy.
    LeaseGiven(usize, Given),
    /// An application goes on with its operation of that number.
    App(usize, u64),
    /// An application cancels what its operation of that number waits for.
    Cancels(usize, u64),
    /// Bytes for a server may have arrived.
    Up(u64),
    /// Bytes for a proxy may have.
    Down(u64),
    /// A login is over, or takes longer.
    LoggedIn(u64, u32),
    /// A backend looks at what it has to do.
    Work(u64),
    /// A cancel reaches a server, and its connection is closed again.
    Cancel(u64),
    /// The proxy sees that.
    CancelDone(u64),
    /// The fate of an application's transaction is asked for again.
    LookAgain(usize),
}

/// Everything before the servers.
#[derive(Debug)]
pub struct Front {
    /// Chance.
    pub rng: Rng,
    /// Proxies.
    pub proxies: Vec<Proxy>,
    /// Applications.
    pub apps: Vec<App>,
    /// Connections from proxies to servers.
    pub conns: BTreeMap<u64, Conn>,
    /// All that applications wanted.
    pub ops: Vec<Op>,
    /// For which of these a write is.
    pub op_of: BTreeMap<u32, usize>,
    /// Those that a story named.
    pub named: BTreeMap<String, usize>,
    /// When everything that was wrong last ended.
    pub calmed_at: Us,
    next_conn: u64,
    said: BTreeMap<At, Rc<Report>>,
    told: BTreeMap<At, Routes>,
    handing_over: BTreeMap<At, Term>,
    drained: BTreeMap<(usize, At), Term>,
}

impl Front {
    /// Nobody.
    #[must_use]
    pub fn new(seed: Option<u64>) -> Front {
        Front {
            rng: Rng::new(seed.unwrap_or(0) ^ 0xF207),
            proxies: Vec::new(),
            apps: Vec::new(),
            conns: BTreeMap::new(),
            ops: Vec::new(),
            op_of: BTreeMap::new(),
            named: BTreeMap::new(),
            calmed_at: 0,
            next_conn: 0,
            said: BTreeMap::new(),
            told: BTreeMap::new(),
            handing_over: BTreeMap::new(),
            drained: BTreeMap::new(),
        }
    }

    /// What each proxy knows, and what it has; for who looks for a mistake.
    #[must_use]
    pub fn describe(&self) -> String {
        let one = |(i, p): (usize, &Proxy)| {
            let conns: Vec<String> =
                self.conns.iter().filter(|(_, c)| c.proxy == i).map(|(id, c)| c.describe(*id)).collect();
            let leader = p.merged.leader.as_ref().map(|l| l.name.to_string());
            format!(
                "  {}: term {} leader {leader:?} handing over {} waiting {:?} connections {}\n",
                p.name,
                p.merged.term,
                p.merged.handing_over,
                p.queue.len(),
                conns.join(", ")
            )
        };
        self.proxies.iter().enumerate().map(one).collect()
    }

    /// Whether there is any proxy.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.proxies.is_empty()
    }
}

impl World {
    pub(crate) fn front(&mut self, due: Due) {
        match due {
            Due::KeepAlive(at) => self.keep_alive(at),
            Due::Routes(proxy, at, routes) => self.hear_routes(proxy, at, &routes),
            Due::Tick(proxy) => self.proxy_tick(proxy),
            Due::Drained(proxy, at, term) => self.hear_drained(proxy, at, term),
            Due::LeaseTick(proxy) => self.lease_tick(proxy),
            Due::LeaseAsked(proxy, at, seq) => self.lease_asked(proxy, at, seq),
            Due::LeaseGiven(proxy, given) => self.lease_given(proxy, given),
            Due::App(app, number) => self.app_goes_on(app, number),
            Due::Cancels(app, number) => self.app_cancels(app, number),
            Due::Up(conn) => self.arrive_up(conn),
            Due::Down(conn) => self.arrive_down(conn),
            Due::LoggedIn(conn, tries) => self.logged_in(conn, tries),
            Due::Work(conn) => self.work(conn),
            Due::Cancel(conn) => self.cancel_backend(conn),
            Due::CancelDone(conn) => self.cancel_done(conn),
            Due::LookAgain(app) => self.ask_fate(app),
        }
    }

    /// From `low` to `high` by the front's own chance, or the middle where chance has no part.
    fn front_span(&mut self, low: Us, high: Us) -> Us {
        if self.chancy { self.front.rng.range(low, high) } else { low.midpoint(high) }
    }

    /// How long one way takes this time.
    fn front_delay(&mut self) -> Us {
        self.network.delay(&mut self.front.rng)
    }

    fn front_chance(&mut self, per_mille: u64) -> bool {
        self.chancy && self.front.rng.chance(per_mille)
    }
}
