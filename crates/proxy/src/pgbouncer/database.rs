//! The sections [databases] and [users].

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::ini::{Entry, File, connection};
use super::settings::{mode, number, time};
use super::{Draft, auth};

/// Keys that mean nothing here, and why.
const IDLE: [(&str, &str); 2] =
    [("application_name", "clients name themselves"), ("load_balance_hosts", "there is one host")];

/// Keys that change what clients get, and can't be done.
const IMPOSSIBLE: [(&str, &str); 3] = [
    ("client_encoding", "ALTER DATABASE ... SET does the same"),
    ("datestyle", "ALTER DATABASE ... SET does the same"),
    ("timezone", "ALTER DATABASE ... SET does the same"),
];

/// Timeouts that a user may have of its own; ours are named alike, with `_s` for `_timeout`.
const TIMEOUTS: [&str; 4] =
    ["query_timeout", "idle_transaction_timeout", "transaction_timeout", "client_idle_timeout"];

/// Translates both sections.
pub fn translate(file: &File, draft: &mut Draft) {
    let mut servers = BTreeSet::new();
    let mut some = false;
    for entry in file.of("databases") {
        some = true;
        let (table, server) = database(entry, draft);
        draft.push("database", table);
        servers.extend(server);
    }
    match (servers.len(), servers.first()) {
        (1, Some(server)) => {
            let table = Table::from_iter([("address".to_string(), Value::from(server.as_str()))]);
            draft.push("server", table);
        }
        (0, _) if !some => draft.fail("[databases] has no database"),
        (0, _) => {}
        (_, _) => {
            let all = servers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            draft.fail(format!(
                "databases are on several servers ({all}): one proxy serves one, so run one for each"
            ));
        }
    }
    users(file, draft);
}

fn database(entry: &Entry, draft: &mut Draft) -> (Table, Option<String>) {
    let name = entry.key.as_str();
    let mut table = Table::from_iter([("name".to_string(), Value::from(name))]);
    let pairs = connection(&entry.value).unwrap_or_else(|why| {
        draft.fail(format!("database {name}: {why}"));
        Vec::new()
    });
    let (mut host, mut port) = (None, "5432".to_string());
    for (key, value) in &pairs {
        let at = format!("database {name}: {key}");
        match key.as_str() {
            "user" | "password" | "connect_query" => {
                drop(table.insert(key.clone(), Value::from(value.as_str())))
            }
            "dbname" => drop(table.insert("dbname".to_string(), Value::from(value.as_str()))),
            "host" => host = Some(value.clone()),
            "port" => port.clone_from(value),
            "pool_size" => {
                drop(number(&at, value, draft).map(|n| table.insert("pool_size".to_string(), n.into())))
            }
            "min_pool_size" | "reserve_pool_size" => {
                drop(number(&at, value, draft).map(|n| table.insert(key.clone(), n.into())))
            }
            // Its name before PgBouncer 1.24.
            "reserve_pool" => drop(
                number(&at, value, draft).map(|n| table.insert("reserve_pool_size".to_string(), n.into())),
            ),
            "server_lifetime" => {
                drop(time(&at, value, draft).map(|s| table.insert("lifetime_s".to_string(), s.into())))
            }
            "pool_mode" => drop(mode(&at, value, draft).map(|m| table.insert("mode".to_string(), m.into()))),
            "max_db_connections" | "max_db_client_connections" => {
                let ours = if key == "max_db_connections" { "max_connections" } else { "max_clients" };
                drop(number(&at, value, draft).map(|n| table.insert(ours.to_string(), n.into())))
            }
            "auth_user" | "auth_dbname" | "auth_query" => match auth::looks_up(draft) {
                true => drop(table.insert(lookup(key).to_string(), Value::from(value.as_str()))),
                false => draft.warn(format!("{at}: clients are not asked for a secret")),
            },
            other => left_out(name, other, draft),
        }
    }
    (table, server(name, host.as_deref(), &port, draft))
}

/// Our name of PgBouncer's key.
fn lookup(key: &str) -> &'static str {
    match key {
        "auth_user" => "query_user",
        "auth_dbname" => "query_database",
        _ => "query",
    }
}

fn left_out(name: &str, key: &str, draft: &mut Draft) {
    if let Some((_, why)) = IMPOSSIBLE.iter().find(|(k, _)| *k == key) {
        draft.fail(format!("database {name}: {key}= can't be done: {why}"));
    } else if let Some((_, why)) = IDLE.iter().find(|(k, _)| *k == key) {
        draft.warn(format!("database {name}: {key}: {why}"));
    } else {
        draft.fail(format!("database {name}: {key}= is nothing that PgBouncer has"));
    }
}

fn server(name: &str, host: Option<&str>, port: &str, draft: &mut Draft) -> Option<String> {
    let Some(host) = host else {
        draft.fail(format!("database {name} has no host, which means a unix socket somewhere: say host=/run/postgresql, or where it is"));
        return None;
    };
    if host.contains(',') {
        draft.fail(format!("database {name} has several hosts: name each as a [[server]] of our own configuration, replicas with replica = true"));
        return None;
    }
    if host.starts_with('@') {
        draft.fail(format!("database {name}: sockets without a file are not known here"));
        return None;
    }
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn users(file: &File, draft: &mut Draft) {
    for entry in file.of("users") {
        let name = entry.key.as_str();
        let (mut own, mut timeouts) = (Table::new(), Table::new());
        let pairs = connection(&entry.value).unwrap_or_else(|why| {
            draft.fail(format!("user {name}: {why}"));
            Vec::new()
        });
        for (key, value) in &pairs {
            let at = format!("user {name}: {key}");
            match key.as_str() {
                "max_user_connections" | "max_user_client_connections" => {
                    let ours = if key == "max_user_connections" { "max_connections" } else { "max_clients" };
                    drop(number(&at, value, draft).map(|n| own.insert(ours.to_string(), n.into())));
                }
                "pool_mode" => {
                    drop(mode(&at, value, draft).map(|m| own.insert("mode".to_string(), m.into())))
                }
                "pool_size" | "reserve_pool_size" => {
                    drop(number(&at, value, draft).map(|n| own.insert(key.clone(), n.into())));
                }
                other if TIMEOUTS.contains(&other) => {
                    let ours = other.replace("_timeout", "_s");
                    drop(time(&at, value, draft).map(|s| timeouts.insert(ours, s.into())));
                }
                other => draft.fail(format!("user {name}: {other}= is nothing that PgBouncer has")),
            }
        }
        if !timeouts.is_empty() {
            own.insert("timeouts".to_string(), timeouts.into());
        }
        own.insert("name".to_string(), Value::from(name));
        draft.push("user", own);
    }
}
