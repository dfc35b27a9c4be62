//! The configuration that counts now, and what follows when another comes.
//!
//! It is read everywhere and on every path, and changes a few times in the life of a
//! process, by RELOAD, SIGHUP or SET. So each one lives as long as the process, nobody counts who
//! reads it, and how many there may be has a limit.
//!
//! ```text
//!   file ▶ read and checked ▶ what only a start can change is kept ▶ pools, servers, timeouts follow
//! ```

use std::cell::Cell;
use std::fmt::Debug;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{AuthKind, Config};
use crate::reactor::Reactor;
use crate::routing::Wants;

/// Configurations that one process may have, one after the other: each is kept, a few kB.
pub const CONFIGS_MAX: usize = 10_000;

static CONFIGS: AtomicUsize = AtomicUsize::new(0);

/// One thread's view of it.
#[derive(Debug)]
pub struct Live(Cell<&'static Config>);

impl Deref for Live {
    type Target = Config;

    fn deref(&self) -> &Config {
        self.0.get()
    }
}

impl Live {
    /// The first.
    #[must_use]
    pub fn new(config: Config) -> Live {
        Live(Cell::new(Box::leak(Box::new(config))))
    }
}

/// Keeps a configuration for the rest of the process.
///
/// # Errors
/// There have been too many.
pub fn keep(config: Config) -> Result<&'static Config, String> {
    if CONFIGS.fetch_add(1, Ordering::Relaxed) >= CONFIGS_MAX {
        return Err(format!("its configuration has changed {CONFIGS_MAX} times: restart the proxy"));
    }
    Ok(Box::leak(Box::new(config)))
}

/// Reads the file anew. What only a start can change stays as it was, and is named in the log.
///
/// # Errors
/// What is wrong with it; nothing has changed then.
pub fn read_again(old: &Config) -> Result<Config, String> {
    let Some(path) = &old.path else { return Ok(old.clone()) };
    let mut new = Config::load(path).map_err(|e| e.to_string())?;
    let mut stays = Vec::new();
    keep_old("listen", &old.listen, &mut new.listen, &mut stays);
    keep_old("listen_read", &old.listen_read, &mut new.listen_read, &mut stays);
    keep_old("cluster", &old.cluster, &mut new.cluster, &mut stays);
    keep_old("metrics", &old.metrics, &mut new.metrics, &mut stays);
    keep_old("listener", &old.listeners, &mut new.listeners, &mut stays);
    keep_old("unix_socket", &old.unix_socket, &mut new.unix_socket, &mut stays);
    keep_old("reuse_port", &old.reuse_port, &mut new.reuse_port, &mut stays);
    // Clients that are in have it in their numbers.
    keep_old("peer_id", &old.peer_id, &mut new.peer_id, &mut stays);
    if [old.auth.kind, new.auth.kind].contains(&AuthKind::Cluster) {
        keep_old("auth.kind", &old.auth.kind, &mut new.auth.kind, &mut stays);
    }
    keep_old("pool.settle_commits", &old.pool.settle_commits, &mut new.pool.settle_commits, &mut stays);
    let resolve = (&old.pool.resolve_autocommit, &mut new.pool.resolve_autocommit);
    keep_old("pool.resolve_autocommit", resolve.0, resolve.1, &mut stays);
    if !stays.is_empty() {
        tracing::warn!(settings = stays.join(", "), "these change only when the proxy is started anew");
    }
    Ok(new)
}

/// Compared by what they look like: that is all that matters, and most are not made to be compared.
fn keep_old<T: Clone + Debug>(name: &'static str, old: &T, new: &mut T, stays: &mut Vec<&'static str>) {
    if format!("{old:?}") != format!("{new:?}") {
        stays.push(name);
        new.clone_from(old);
    }
}

impl Reactor {
    /// From now on this counts. Connections that lead elsewhere now are closed as soon as they are free.
    pub fn reconfigure(self: &Rc<Reactor>, new: &'static Config) {
        let old = self.config.0.replace(new);
        for pool in self.pools() {
            let (database, user) = (&pool.key.database, &pool.key.user);
            let entry = new.database(database);
            pool.share.set_size(new.pool_size(database, user));
            pool.timeouts.set(new.timeouts(database, user));
            pool.wants.set(Wants { lag_ms_max: entry.lag_ms_max(new), ..pool.wants.get() });
            pool.strict.set(entry.is_strict(new));
            pool.reserve.set(new.reserve(database, user));
            pool.age.set(new.age(database));
            let dbname = entry.dbname(database).to_string();
            let other_query = old.connect_query(database) != new.connect_query(database);
            if pool.dbname.replace(dbname.clone()) != dbname || other_query {
                self.close_when_free(|server| Rc::ptr_eq(&server.pool, &pool));
            }
        }
        if let Some(follower) = self.threads.follower() {
            follower.leases().want(new.needs_leases());
        }
        if new.cluster.is_none() {
            self.reroute_fixed();
        } else if let Some(merged) = self.merged() {
            self.follow(&merged);
        }
        self.pump_all();
    }

    /// Connections to servers that are closed as soon as nobody uses them.
    pub fn close_when_free(&self, which: impl Fn(&crate::facts::ServerFacts) -> bool) {
        self.servers().iter().filter(|server| which(server)).for_each(|server| server.close_needed.set(true));
        self.pools().iter().for_each(|pool| pool.close_unwanted());
    }
}
