//! Connections of those who write to servers that do not lead yet.
//!
//! A pool that has clients keeps `pool.warm` connections open to each standby. When one
//! of those is elected they are logged in already: one question shows that recovery is
//! over, and the first transactions of the term need no login.
//!
//! ```text
//!   standby ▶ warm ─ it is elected ▶ "in recovery?" ▶ no: idle, for whoever waits first
//!                  └ it streams no more, or nobody writes ▶ closed
//! ```
//! They come on top of the pool's size, and wait behind all other logins.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::connect_query;
use crate::idle::Servers;
use crate::login;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::server::{Place, Server};
use crate::waiter::Refusal;

/// Warm connections of one thread at most.
pub const WARM_MAX: usize = 128;
/// A standby that let nobody in is asked again after so long.
pub const RETRY: Duration = Duration::from_secs(10);
/// Longest that a server may take to say that its recovery is over.
pub const CHECK_LIMIT: Duration = Duration::from_millis(500);
/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// One pool's.
#[derive(Default)]
pub struct Warm {
    kept: RefCell<Servers>,
    opening: Cell<usize>,
    refused: RefCell<BTreeMap<Rc<str>, Instant>>,
}

impl Warm {
    /// How many there are, those that are being opened among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.borrow().len() + self.opening.get()
    }

    /// Closes all.
    pub fn close(&self) {
        let kept = std::mem::take(&mut *self.kept.borrow_mut());
        drop(kept);
    }

    fn at(&self, address: &Rc<str>) -> usize {
        self.kept.borrow().iter().filter(|s| s.address == *address).count()
    }

    fn take(&self, address: &Rc<str>) -> Servers {
        let all = std::mem::take(&mut *self.kept.borrow_mut());
        let (taken, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|s| s.address == *address);
        *self.kept.borrow_mut() = rest;
        taken
    }
}

impl Pool {
    /// Opens what is missing and closes what is of no use. One login at a time, and none while others log in.
    pub fn warm_up(self: &Rc<Pool>, reactor: &Rc<Reactor>) {
        let most = reactor.config.pool.warm;
        let wanted = self.key.target == Target::Primary && self.share.clients() > 0 && !self.paused.get();
        if !wanted || most == 0 {
            self.warm.close();
            return;
        }
        let standbys = reactor.routing.borrow().standbys.clone();
        let lifetime = reactor.config.pool.lifetime;
        let good = |server: &mut Server| {
            let old = lifetime.is_some_and(|limit| server.opened.elapsed() > limit);
            standbys.contains(&server.address)
                && !old
                && !server.facts.close_needed.get()
                && server.is_alive()
        };
        let mut kept = std::mem::take(&mut *self.warm.kept.borrow_mut());
        kept.retain_mut(|server| good(server));
        self.warm.kept.borrow_mut().append(&mut kept);
        self.warm.refused.borrow_mut().retain(|_, at| at.elapsed() < RETRY);
        if self.warm.opening.get() > 0 || reactor.logs_in() || reactor.warm() >= WARM_MAX {
            return;
        }
        let lacking = |s: &&Rc<str>| self.warm.at(s) < most && !self.warm.refused.borrow().contains_key(*s);
        let lacks = standbys.iter().find(lacking).cloned();
        if let Some(address) = lacks {
            self.open_warm(reactor, address);
        }
    }

    fn open_warm(self: &Rc<Pool>, reactor: &Rc<Reactor>, address: Rc<str>) {
        self.warm.opening.set(self.warm.opening.get() + 1);
        let (pool, reactor, login) = (self.clone(), reactor.clone(), reactor.log_in());
        tokio::task::spawn_local(async move {
            let opened = open_beside(&reactor, &pool, &address).await;
            drop(login);
            pool.warm.opening.set(pool.warm.opening.get() - 1);
            match opened {
                Ok(server) => {
                    server.facts.warm.set(true);
                    pool.warm.kept.borrow_mut().push(server);
                    // It may have been elected meanwhile.
                    pool.use_warm(&reactor);
                }
                Err(refusal) => {
                    tracing::debug!(%address, why = %refusal.message, "no warm connection to a standby");
                    pool.warm.refused.borrow_mut().insert(address, Instant::now());
                }
            }
            reactor.pump_soon();
        });
    }

    /// Takes those into use that lead to whoever leads now.
    pub fn use_warm(self: &Rc<Pool>, reactor: &Rc<Reactor>) {
        let Some(primary) = reactor.routing.borrow().primary.clone() else { return };
        for mut server in self.warm.take(&primary) {
            // Whoever waits need not log in for as long as this may be for it.
            self.opening.set(self.opening.get() + 1);
            let (pool, reactor) = (self.clone(), reactor.clone());
            tokio::task::spawn_local(async move {
                let leads = timeout(CHECK_LIMIT, leads(&mut server)).await;
                pool.opening.set(pool.opening.get() - 1);
                let leads = matches!(leads, Ok(Ok(()))) && !pool.paused.get();
                if let Some(place) = if leads { reactor.take_place(&pool) } else { None } {
                    server.facts.warm.set(false);
                    server.place.count(place);
                    pool.opened(server);
                }
                reactor.pump_all();
            });
        }
    }
}

/// Waits until a server's recovery is over. With the answer it reports, from PostgreSQL 14 on, that
/// `in_hot_standby` is off.
async fn leads(server: &mut Server) -> io::Result<()> {
    loop {
        if let Some(timeline) = server.timeline().await? {
            server.backend.timeline = timeline;
            return Ok(());
        }
        sleep(ASK_AGAIN).await;
    }
}

async fn open_beside(
    reactor: &Rc<Reactor>,
    pool: &Rc<Pool>,
    address: &Rc<str>,
) -> Result<Box<Server>, Refusal> {
    let place = Place::beside(pool, address);
    let mut server = login::open_with(reactor, pool, address.clone(), place, &[]).await?;
    timeout(reactor.config.timeouts.server_connect, connect_query::run(&reactor.config, &mut server))
        .await
        .unwrap_or_else(|_| Err(Refusal::for_now("08006", "connect_query took too long".to_string())))?;
    Ok(server)
}
