//! The console: whoever asks for the database `tanist` or `pgbouncer` talks to the proxy itself.
//!
//! ```text
//!   login as everywhere ▶ named in [admin]? ▶ talk: messages ▶ command: words
//!                              │ no                               │
//!                              ▼                     show: tables ┴ change: deeds
//!                        FATAL 28000
//! ```
//! Commands, columns and tags are PgBouncer's, so that its exporters and scripts
//! go on working; what is ours comes after them. Nobody may use it unless the
//! configuration names them, also where everybody is trusted.

use std::rc::Rc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::start::Startup;

use crate::accept::{self, Door};
use crate::auth::{self, Asker, Denied};
use crate::cancel_key::Owner;
use crate::facts::{ClientFacts, count};
use crate::line::Line;
use crate::origin::Origin;
use crate::reactor::Reactor;

pub mod change;
pub mod command;
pub mod config;
pub mod set;
pub mod show;
pub mod sockets;
pub mod stats;
pub mod table;
pub mod talk;
pub mod tally;

/// What the console is called, as a database.
pub const NAMES: [&str; 2] = ["tanist", "pgbouncer"];
/// How long PAUSE and WAIT_CLOSE wait unless the configuration says otherwise.
pub const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// Consoles that may be open at a time.
pub const CONSOLES_MAX: usize = 100;
/// The words of SHOW VERSION.
pub const VERSION: &str = concat!("Tanist ", env!("CARGO_PKG_VERSION"), " (console of PgBouncer 1.25)");

/// What its user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Everything.
    All,
    /// Look.
    Look,
}

/// Whether a database of that name is the console.
#[must_use]
pub fn is_console(database: &[u8]) -> bool {
    NAMES.iter().any(|name| name.as_bytes() == database)
}

/// Serves one administrator to the end.
pub async fn serve(door: &Door, mut line: Line, startup: &Startup, origin: &Origin) {
    let reactor = &door.reactor;
    let mut words = Vec::new();
    let limit = reactor.config.timeouts.client_login;
    match timeout(limit, enter(door, &mut line, startup, origin)).await {
        Ok(Ok((may, open, interrupt))) => {
            talk::talk(reactor, &mut line, may, &interrupt).await;
            drop(open);
            return;
        }
        Ok(Err(denied)) => {
            count(&reactor.counters.logins_failed);
            denied.log(startup, origin);
            denied.put(&mut words);
        }
        Err(_) => Denied::Told("08006", "authentication took too long".to_string()).put(&mut words),
    }
    let _ = timeout(Duration::from_secs(5), line.tell(&words)).await;
}

/// What stops a command that waits: a cancel of its administrator, or that this one left.
pub type Interrupt = Rc<Notify>;

/// A console that is open, for whoever cancels what it waits for, and for SHOW CLIENTS.
pub struct Console {
    /// Its administrator.
    pub user: String,
    /// What is told of it.
    pub facts: Rc<ClientFacts>,
    secret: [u8; 4],
    interrupt: Interrupt,
}

/// Lists a console until it is dropped.
struct Open(Rc<Reactor>, u32);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.consoles.borrow_mut().remove(&self.1);
    }
}

/// A cancel came; whether it was for a console.
pub fn cancel(reactor: &Reactor, pid: u32, secret: &[u8]) -> bool {
    let consoles = reactor.consoles.borrow();
    let console = consoles.get(&pid).filter(|c| bool::from(c.secret.as_slice().ct_eq(secret)));
    console.map(|c| c.interrupt.notify_one()).is_some()
}

/// Lists a console under a number that nobody has, and gives its secret.
fn list(
    reactor: &Rc<Reactor>,
    user: &str,
    origin: &Origin,
    application: String,
) -> Result<Option<(Open, [u8; 4], Interrupt)>, getrandom::Error> {
    let mut secret = [0; 4];
    getrandom::fill(&mut secret)?;
    let owner = Owner::at(reactor.config.peer_id, reactor.index);
    let is_free = |pid: u32| {
        !reactor.consoles.borrow().contains_key(&pid) && !reactor.clients.borrow().contains_key(&pid)
    };
    let Some(pid) = owner.free_pid(is_free)? else { return Ok(None) };
    let interrupt = Interrupt::default();
    let facts = ClientFacts::new(pid, origin, application, reactor.now.get());
    let console = Console { user: user.to_string(), facts, secret, interrupt: interrupt.clone() };
    reactor.consoles.borrow_mut().insert(pid, console);
    Ok(Some((Open(reactor.clone(), pid), secret, interrupt)))
}

async fn enter(
    door: &Door,
    line: &mut Line,
    startup: &Startup,
    origin: &Origin,
) -> Result<(May, Open, Interrupt), Denied> {
    let reactor = &door.reactor;
    accept::begin(line, startup, door.tls_required()).await?;
    let user = String::from_utf8(startup.user().to_vec())
        .map_err(|_| Denied::Told("22021", "the user must be named in UTF-8".to_string()))?;
    if reactor.consoles.borrow().len() >= CONSOLES_MAX {
        return Err(Denied::Told("53300", "too many consoles are open".to_string()));
    }
    // First who it is, then whether it may: nobody learns the names of administrators without a password.
    let asker = Asker { origin, user: &user, database: NAMES[1], target: door.way.target };
    auth::authenticate(reactor, line, asker).await?;
    let may = may(reactor, &user)?;
    tracing::info!(user, ?may, "an administrator is at the console");
    let told = TOLD.map(|(name, value)| (name.to_string(), value.to_string()));
    let no_random = |e: getrandom::Error| Denied::Told("58000", format!("no random bytes: {e}"));
    let application = accept::application_name(startup);
    let listed = list(reactor, &user, origin, application).map_err(no_random)?;
    let full = || Denied::Told("53300", "sorry, too many clients already".to_string());
    let (open, secret, interrupt) = listed.ok_or_else(full)?;
    let mut out = Vec::new();
    auth::greeting(&mut out, told.iter().map(|(n, v)| (n, v)), open.1, &secret);
    line.tell(&out).await?;
    Ok((may, open, interrupt))
}

/// What drivers want to know of a server before they say anything.
const TOLD: [(&str, &str); 8] = [
    ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/tanist")),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
];

fn may(reactor: &Reactor, user: &str) -> Result<May, Denied> {
    let admin = &reactor.config.admin;
    let named = |list: &[String]| list.iter().any(|u| u == user);
    match (named(&admin.users), named(&admin.stats_users)) {
        (true, _) => Ok(May::All),
        (false, true) => Ok(May::Look),
        (false, false) => Err(Denied::Told(
            "28000",
            format!(
                "user \"{user}\" may not use the console: name it in admin.users or admin.stats_users of the proxy's configuration"
            ),
        )),
    }
}
