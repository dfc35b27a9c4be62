//! Databases and users that have names, limits or modes of their own.
//!
//! Once one database is configured, those that are not are refused, as PgBouncer
//! does; one named `*` stands for them.

use serde::Deserialize;

use crate::auth::Denied;
use crate::config::{Config, PoolMode};
use crate::forced::Password;
use crate::gates::Stop;
use crate::pool::{Key, Pool};
use crate::reactor::Reactor;
use crate::routing::Choice;
use crate::share::{self, Share};
use crate::strict::ReadConsistency;
use crate::threads::Limit;
use crate::timeouts::{Own, Timeouts};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The name that stands for every database, or user, that has no entry.
pub const ANY: &str = "*";

/// The section `[limits]`: what counts where a `[[database]]` or a `[[user]]` says nothing; 0: no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections to servers for one database, of all its users together.
    pub database_connections: usize,
    /// Clients of one database.
    pub database_clients: usize,
    /// Connections to servers for one user, for all databases together.
    pub user_connections: usize,
    /// Clients of one user.
    pub user_clients: usize,
}

/// One database as clients name it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name for clients; `*` for all that are not named.
    pub name: String,
    /// Its name at the servers; without it the same.
    #[serde(default)]
    pub dbname: Option<String>,
    /// Who its clients are at the servers; without it each is itself.
    #[serde(default)]
    pub user: Option<String>,
    /// That user's password, where `auth.file` does not have it.
    #[serde(default)]
    pub password: Option<Password>,
    /// Run on each new connection to a server, before its first client comes.
    #[serde(default)]
    pub connect_query: Option<String>,
    /// Instead of `pool.size`.
    #[serde(default)]
    pub pool_size: Option<usize>,
    /// Instead of `pool.reserve_size`.
    #[serde(default)]
    pub reserve_pool_size: Option<usize>,
    /// Instead of `pool.min_size`.
    #[serde(default)]
    pub min_pool_size: Option<usize>,
    /// Instead of `pool.lifetime_s`; 0: connections are never closed for their age.
    #[serde(default, rename = "lifetime_s", deserialize_with = "crate::timeouts::own")]
    pub lifetime: Option<Option<std::time::Duration>>,
    /// Instead of `pool.mode`.
    #[serde(default)]
    pub mode: Option<PoolMode>,
    /// Instead of `pool.lag_ms_max`.
    #[serde(default)]
    pub lag_ms_max: Option<u64>,
    /// Instead of `pool.read_consistency`.
    #[serde(default)]
    pub read_consistency: Option<ReadConsistency>,
    /// Connections to servers at most, of all its users together; 0: no limit. Warm ones are not counted.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// Clients at most; 0: no limit.
    #[serde(default)]
    pub max_clients: Option<usize>,
    /// Timeouts of its clients.
    #[serde(default)]
    pub timeouts: Own,
    /// Instead of `auth.query_user`.
    #[serde(default)]
    pub query_user: Option<String>,
    /// Instead of `auth.query_database`.
    #[serde(default)]
    pub query_database: Option<String>,
    /// Instead of `auth.query`.
    #[serde(default)]
    pub query: Option<String>,
}

/// One user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLimits {
    /// Its name; `*` for each that is not named.
    pub name: String,
    /// Connections to servers at most, for all databases together; 0: no limit.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// Clients at most; 0: no limit.
    #[serde(default)]
    pub max_clients: Option<usize>,
    /// Connections of each of its pools, before those of its databases.
    #[serde(default)]
    pub pool_size: Option<usize>,
    /// The reserve of each of its pools, before those of its databases.
    #[serde(default)]
    pub reserve_pool_size: Option<usize>,
    /// How long its clients keep their servers, before what their databases say.
    #[serde(default)]
    pub mode: Option<PoolMode>,
    /// Timeouts of its clients, before those of their databases.
    #[serde(default)]
    pub timeouts: Own,
}

/// The entry of one database, or none.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(pub Option<&'a Database>);

impl<'a> Entry<'a> {
    /// The database's name at the servers.
    #[must_use]
    pub fn dbname(self, name: &'a str) -> &'a str {
        self.0.and_then(|d| d.dbname.as_deref()).unwrap_or(name)
    }

    /// Connections of one of its pools.
    #[must_use]
    pub fn size(self, config: &Config) -> usize {
        self.0.and_then(|d| d.pool_size).unwrap_or(config.pool.size)
    }

    /// How old what its readers are shown may be, in milliseconds.
    #[must_use]
    pub fn lag_ms_max(self, config: &Config) -> u64 {
        self.0.and_then(|d| d.lag_ms_max).unwrap_or(config.pool.lag_ms_max)
    }

    /// How long its clients keep their servers.
    #[must_use]
    pub fn mode(self, config: &Config) -> PoolMode {
        self.0.and_then(|d| d.mode).unwrap_or(config.pool.mode)
    }
}

impl Config {
    /// What is configured for a database.
    #[must_use]
    pub fn database(&self, name: &str) -> Entry<'_> {
        let by = |name: &str| self.databases.iter().find(|d| d.name == name);
        Entry(by(name).or_else(|| by(ANY)))
    }

    /// Whether a database may be asked for.
    #[must_use]
    pub fn has_database(&self, name: &str) -> bool {
        self.databases.is_empty() || self.database(name).0.is_some()
    }

    /// Connections to servers for a database at most; 0: no limit.
    #[must_use]
    pub fn connections_of_database(&self, name: &str) -> usize {
        let own = self.database(name).0.and_then(|d| d.max_connections);
        own.unwrap_or(self.limits.database_connections)
    }

    /// Clients of a database at most; 0: no limit.
    #[must_use]
    pub fn clients_of_database(&self, name: &str) -> usize {
        self.database(name).0.and_then(|d| d.max_clients).unwrap_or(self.limits.database_clients)
    }

    /// Connections to servers for a user at most; 0: no limit.
    #[must_use]
    pub fn connections_of_user(&self, name: &str) -> usize {
        self.user(name).and_then(|u| u.max_connections).unwrap_or(self.limits.user_connections)
    }

    /// Clients of a user at most; 0: no limit.
    #[must_use]
    pub fn clients_of_user(&self, name: &str) -> usize {
        self.user(name).and_then(|u| u.max_clients).unwrap_or(self.limits.user_clients)
    }

    /// What clients of a user of a database may take.
    #[must_use]
    pub fn timeouts(&self, database: &str, user: &str) -> Timeouts {
        let own = |o: Option<Own>| o.unwrap_or_default();
        let database = own(self.database(database).0.map(|d| d.timeouts));
        Timeouts::of(&self.timeouts, database, own(self.user(user).map(|u| u.timeouts)))
    }

    /// Connections of the pool of a user of a database.
    #[must_use]
    pub fn pool_size(&self, database: &str, user: &str) -> usize {
        let own = self.user(user).and_then(|u| u.pool_size);
        own.unwrap_or_else(|| self.database(database).size(self))
    }

    /// How long clients of a user of a database keep their servers.
    #[must_use]
    pub fn mode(&self, database: &str, user: &str) -> PoolMode {
        let own = self.user(user).and_then(|u| u.mode);
        own.unwrap_or_else(|| self.database(database).mode(self))
    }

    /// How readers choose.
    #[must_use]
    pub fn choice(&self) -> Choice<'_> {
        let own = self.databases.iter().filter_map(|d| d.lag_ms_max);
        let limits = own.chain([self.pool.lag_ms_max]).collect();
        Choice { limits, zone: &self.zone, ..Choice::default() }
    }

    /// What is configured for a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserLimits> {
        let by = |name: &str| self.users.iter().find(|u| u.name == name);
        by(name).or_else(|| by(ANY))
    }
}

/// What can't be of databases and users.
///
/// # Errors
/// The first, in words.
pub fn check(config: &Config) -> Result<(), String> {
    if !config.read_suffix.is_empty() && config.read_suffix == config.write_suffix {
        return Err("read_suffix and write_suffix are the same: one of them must go".to_string());
    }
    let mut seen = BTreeSet::new();
    for database in &config.databases {
        if crate::admin::is_console(database.name.as_bytes()) {
            return Err(format!("a database can't be named \"{}\": that is the console", database.name));
        }
        if database.name == ANY && database.dbname.is_some() {
            return Err("the database \"*\" has a dbname: it can't stand for several then".to_string());
        }
        if !seen.insert(database.name.as_str()) {
            return Err(format!("the database \"{}\" is there twice", database.name));
        }
    }
    let mut seen = BTreeSet::new();
    match config.users.iter().find(|u| !seen.insert(u.name.as_str())) {
        Some(twice) => Err(format!("the user \"{}\" is there twice", twice.name)),
        None => Ok(()),
    }
}

/// Whether `count` is as many as there may be; 0: no limit.
pub(crate) fn is_full(max: usize, count: usize) -> bool {
    max != 0 && count >= max
}

impl Reactor {
    /// What sessions of a user of a database follow.
    #[must_use]
    pub fn rules_of(&self, database: &str, user: &str) -> route::Rules {
        let mode = self.config.mode(database, user);
        route::Rules { mode: mode.into(), ..self.rules }
    }

    /// Whether a client that has proven itself may come in, or, if it is `seated`, stay.
    ///
    /// # Errors
    /// Why not.
    pub fn may_enter(&self, database: &str, user: &str, seated: bool) -> Result<(), Denied> {
        if self.threads.gates.stop() != Stop::No {
            return Err(Denied::Told("57P03", "this proxy is shutting down".to_string()));
        }
        if !self.config.has_database(database) {
            return Err(Denied::Told(
                "3D000",
                format!("database \"{database}\" does not exist in this proxy"),
            ));
        }
        if self.threads.gates.is_disabled(database) {
            let words = format!("database \"{database}\" was disabled by an administrator");
            return Err(Denied::Told("55000", words));
        }
        let clients =
            |ours: &dyn Fn(&Key) -> bool| self.threads.sum(ours, Share::clients) - usize::from(seated);
        let most = self.config.clients_of_database(database);
        if is_full(most, clients(&|key| key.database == database)) {
            let words =
                format!("too many clients for database \"{database}\" already (max_db_client_connections)");
            return Err(Denied::Told("53300", words));
        }
        let most = self.config.clients_of_user(user);
        if is_full(most, clients(&|key| key.user == user)) {
            return Err(Denied::Told(
                "53300",
                format!("too many clients of user \"{user}\" already (max_user_client_connections)"),
            ));
        }
        self.has_seat(seated)
    }

    /// The same, as far as all clients together go.
    ///
    /// # Errors
    /// 53300 if not.
    pub fn has_seat(&self, seated: bool) -> Result<(), Denied> {
        if self.threads.clients() - usize::from(seated) >= self.config.clients_max {
            return Err(Denied::Told(
                "53300",
                "sorry, too many clients already (max_client_conn)".to_string(),
            ));
        }
        Ok(())
    }

    /// A place for one more connection of a pool, as far as its size, its database and its user go. Where one of
    /// those has as many as it may, a connection that is idle in another of its pools makes room.
    #[must_use]
    pub fn take_place(&self, pool: &Rc<Pool>) -> Option<share::Place> {
        let limited = self.within(pool, |limits| {
            for (_, ours) in self.threads.full(limits) {
                let mut pools = self.pools().into_iter().filter(|p| ours(&p.key) && !Rc::ptr_eq(p, pool));
                if !pools.any(|p| p.close_oldest()) {
                    self.ask_for_room(pool);
                }
            }
            self.threads.take_within(&pool.share, pool.places(), limits, pool.oldest(self))
        });
        limited.unwrap_or_else(|| pool.share.take(pool.places()))
    }

    /// Whether a connection of this pool that has just become free must make room for somebody who has waited
    /// longer in another pool of its database or its user. Looked at once in a tick.
    #[must_use]
    pub fn must_yield(&self, pool: &Pool) -> bool {
        if pool.yielded.replace(self.now.get()) == self.now.get() {
            return false;
        }
        let yields = |limits: &[Limit<'_>]| self.threads.must_yield(&pool.share, limits, pool.oldest(self));
        self.within(pool, yields).unwrap_or(false)
    }

    /// Does something with the limits that a pool is under; nothing if there are none.
    fn within<T>(&self, pool: &Pool, what: impl FnOnce(&[Limit<'_>]) -> T) -> Option<T> {
        let (database, user) = (&pool.key.database, &pool.key.user);
        let same_database = |key: &Key| key.database == *database;
        let same_user = |key: &Key| key.user == *user;
        let of_database = self.config.connections_of_database(database);
        let of_user = self.config.connections_of_user(user);
        let limits: [Limit<'_>; 2] = [(of_database, &same_database), (of_user, &same_user)];
        limits.iter().any(|(most, _)| *most > 0).then(|| what(&limits))
    }

    /// Other threads close an idle connection of the same database, and one of the same user.
    fn ask_for_room(&self, pool: &Rc<Pool>) {
        let key = pool.key.clone();
        self.threads.post_others(self.index, move |reactor| {
            let pools = reactor.pools();
            let others = || pools.iter().filter(|p| p.key != key);
            let _ = others().filter(|p| p.key.database == key.database).any(|p| p.close_oldest());
            let _ = others().filter(|p| p.key.user == key.user).any(|p| p.close_oldest());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let text = format!("auth.kind = \"trust\"\n[[server]]\naddress = \"db:5432\"\n{text}");
        Config::parse(&text, std::path::Path::new("proxy.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn databases_have_names_sizes_and_modes() {
        let given = "[[database]]\nname = \"shop\"\ndbname = \"shop_v2\"\npool_size = 5\n\
                     [[database]]\nname = \"*\"\nmode = \"session\"\n";
        let config = config(given).expect("it is right");
        let (shop, other) = (config.database("shop"), config.database("other"));
        assert_eq!(
            (shop.dbname("shop"), shop.size(&config), shop.mode(&config)),
            ("shop_v2", 5, PoolMode::Transaction)
        );
        assert_eq!(
            (other.dbname("other"), other.size(&config), other.mode(&config)),
            ("other", 20, PoolMode::Session)
        );
        assert!(config.has_database("other"));
    }

    #[test]
    fn without_a_star_others_do_not_exist() {
        let one = config("[[database]]\nname = \"shop\"\n").expect("it is right");
        assert!(one.has_database("shop") && !one.has_database("other"));
        assert!(config("").expect("it is right").has_database("other"));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (bad, why) in [
            ("[[database]]\nname = \"pgbouncer\"\n", "that is the console"),
            ("[[database]]\nname = \"*\"\ndbname = \"a\"\n", "stand for several"),
            ("[[database]]\nname = \"a\"\n[[database]]\nname = \"a\"\n", "twice"),
            ("[[user]]\nname = \"a\"\n[[user]]\nname = \"a\"\n", "twice"),
            ("[metrics]\nlisten = \"nowhere\"\n", "metrics.listen"),
            ("[admin]\nuser = [\"a\"]\n", "unknown field"),
            ("[pool]\nread_after_late = \"never\"\n", "unknown variant"),
        ] {
            let said = config(bad).expect_err(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
