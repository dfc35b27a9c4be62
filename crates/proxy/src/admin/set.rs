//! SET: what an administrator changes while the proxy runs, under PgBouncer's names.
//!
//! It lasts until the next RELOAD or start, and stands in no file.

use std::time::Duration;

use super::command::Refused;
use crate::config::{Config, PoolMode};
use crate::pgbouncer::settings::idle;

/// How long what has an end lasts for whoever says 0, which with PgBouncer is without one.
const LONGEST: Duration = Duration::from_secs(86_400);

type Change = fn(&mut Config, &str) -> Option<()>;

/// What can be set.
const KEYS: [(&str, Change); 24] = [
    ("pool_mode", |c, v| mode(v).map(|m| c.pool.mode = m)),
    ("default_pool_size", |c, v| number(v).filter(|n| *n > 0).map(|n| c.pool.size = n)),
    ("min_pool_size", |c, v| number(v).map(|n| c.pool.min_size = n)),
    ("reserve_pool_size", |c, v| number(v).map(|n| c.pool.reserve_size = n)),
    ("reserve_pool_timeout", |c, v| time(v).map(|t| c.pool.reserve_timeout = t)),
    ("max_client_conn", |c, v| number(v).map(|n| c.clients_max = n)),
    ("max_db_connections", |c, v| number(v).map(|n| c.limits.database_connections = n)),
    ("max_db_client_connections", |c, v| number(v).map(|n| c.limits.database_clients = n)),
    ("max_user_connections", |c, v| number(v).map(|n| c.limits.user_connections = n)),
    ("max_user_client_connections", |c, v| number(v).map(|n| c.limits.user_clients = n)),
    ("max_prepared_statements", |c, v| match number(v)? {
        // Statements follow their clients anyway.
        0 => Some(()),
        n => {
            c.pool.prepared_max = n;
            Some(())
        }
    }),
    ("server_idle_timeout", |c, v| time(v).map(|t| c.pool.idle_timeout = t)),
    ("server_lifetime", |c, v| time(v).map(|t| c.pool.lifetime = t)),
    ("query_wait_timeout", |c, v| time(v).map(|t| c.hold.timeout = t.unwrap_or(LONGEST))),
    ("query_wait_notify", |c, v| time(v).map(|t| c.hold.notify = t)),
    ("query_timeout", |c, v| time(v).map(|t| c.timeouts.query = t)),
    ("idle_transaction_timeout", |c, v| time(v).map(|t| c.timeouts.idle_transaction = t)),
    ("transaction_timeout", |c, v| time(v).map(|t| c.timeouts.transaction = t)),
    ("client_idle_timeout", |c, v| time(v).map(|t| c.timeouts.client_idle = t)),
    ("client_login_timeout", |c, v| time(v).map(|t| c.timeouts.client_login = t.unwrap_or(LONGEST))),
    ("server_connect_timeout", |c, v| time(v).map(|t| c.timeouts.server_connect = t.unwrap_or(LONGEST))),
    ("cancel_wait_timeout", |c, v| time(v).map(|t| c.timeouts.cancel = t.unwrap_or(LONGEST))),
    ("admin_users", |c, v| names(v).map(|n| c.admin.users = n)),
    ("stats_users", |c, v| names(v).map(|n| c.admin.stats_users = n)),
];

/// Whether a setting can be changed while the proxy runs.
#[must_use]
pub fn is_changeable(key: &str) -> bool {
    KEYS.iter().any(|(name, _)| *name == key)
}

/// The configuration with one setting changed; the same, if it means nothing here.
///
/// # Errors
/// 22023 for a value that is none, 0A000 for what can't be set.
pub fn changed(config: &Config, key: &str, value: &str) -> Result<Config, Refused> {
    let mut config = config.clone();
    match KEYS.iter().find(|(name, _)| *name == key) {
        Some((_, change)) => change(&mut config, value)
            .ok_or_else(|| Refused::new("22023", format!("'{value}' can't be the value of {key}")))?,
        None if idle(key).is_some() => {}
        None => {
            let message =
                format!("'{key}' can't be set while the proxy runs: change its configuration and restart it");
            return Err(Refused::new("0A000", message));
        }
    }
    Ok(config)
}

/// Name and value of what follows SET: `name = value`, `name TO 'value'`.
#[must_use]
pub fn assignment(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let end = text.find(|c: char| c == '=' || c.is_whitespace())?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let word = rest
        .get(..3)
        .filter(|w| w.to_ascii_lowercase().starts_with("to") && w.ends_with(char::is_whitespace));
    let value = rest.strip_prefix('=').or_else(|| word.map(|w| &rest[w.len()..]))?.trim();
    let value = value.strip_prefix('\'').map_or(Some(value), |v| v.strip_suffix('\''))?;
    let whole = !value.contains([';', '\'']) && !name.is_empty();
    whole.then(|| (name.to_ascii_lowercase(), value.to_string()))
}

fn mode(value: &str) -> Option<PoolMode> {
    match value.to_ascii_lowercase().as_str() {
        "session" => Some(PoolMode::Session),
        "transaction" => Some(PoolMode::Transaction),
        "statement" => Some(PoolMode::Statement),
        _ => None,
    }
}

fn number(value: &str) -> Option<usize> {
    value.parse::<u32>().ok().and_then(|n| n.try_into().ok())
}

#[expect(clippy::option_option, reason = "none is a value")]
fn time(value: &str) -> Option<Option<Duration>> {
    let duration = Duration::try_from_secs_f64(value.parse().ok()?).ok()?;
    Some((!duration.is_zero()).then_some(duration))
}

fn names(value: &str) -> Option<Vec<String>> {
    Some(value.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        for (text, name, value) in [
            ("pool_mode=session", "pool_mode", "session"),
            (" Query_Timeout = 1.5 ", "query_timeout", "1.5"),
            ("admin_users='a, b'", "admin_users", "a, b"),
            ("pool_mode TO 'session'", "pool_mode", "session"),
            ("stats_users = ''", "stats_users", ""),
        ] {
            assert_eq!(assignment(text), Some((name.to_string(), value.to_string())), "{text}");
        }
        for text in ["", "pool_mode", "=1", "a = 'b", "a = b; show pools", "a too 1", "a é = 1", "a bé = 1"]
        {
            assert_eq!(assignment(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_set_counts_and_what_is_no_value_does_not() {
        let text = "auth.kind = \"trust\"\n[[server]]\naddress = \"db:5432\"\n";
        let config = Config::parse(text, std::path::Path::new("proxy.toml")).expect("it is right");
        let set = |key, value| changed(&config, key, value);
        assert_eq!(set("pool_mode", "Session").expect("it is one").pool.mode, PoolMode::Session);
        assert_eq!(set("query_timeout", "2").expect("a time").timeouts.query, Some(Duration::from_secs(2)));
        assert_eq!(set("query_wait_timeout", "0").expect("a time").hold.timeout, LONGEST);
        assert_eq!(set("admin_users", "a, b").expect("names").admin.users, ["a", "b"]);
        assert_eq!(set("server_login_retry", "3").expect("it means nothing").pool.size, config.pool.size);
        for (key, value, code) in [
            ("pool_mode", "often", "22023"),
            ("default_pool_size", "0", "22023"),
            ("query_timeout", "-1", "22023"),
            ("query_timeout", "nan", "22023"),
            ("listen_port", "1", "0A000"),
            ("nonsense", "1", "0A000"),
        ] {
            assert_eq!(set(key, value).map_err(|r| r.code).err(), Some(code), "{key} = {value}");
        }
    }
}
