//! The section [pgbouncer]: which of its keys are ours, which mean nothing here, which can't be done.

use toml::Value;

use super::ini::File;
use super::{Draft, auth, doors};

/// Numbers and times: PgBouncer's key, our section and key, PgBouncer's default where ours is another.
const NUMBERS: [(&str, &str, &str, Option<i64>); 8] = [
    ("default_pool_size", "pool", "size", None),
    ("min_pool_size", "pool", "min_size", None),
    ("reserve_pool_size", "pool", "reserve_size", None),
    ("max_client_conn", "", "clients_max", Some(100)),
    ("max_db_connections", "limits", "database_connections", None),
    ("max_db_client_connections", "limits", "database_clients", None),
    ("max_user_connections", "limits", "user_connections", None),
    ("max_user_client_connections", "limits", "user_clients", None),
];
const TIMES: [(&str, &str, &str, Option<f64>); 12] = [
    ("server_idle_timeout", "pool", "idle_timeout_s", None),
    ("server_lifetime", "pool", "lifetime_s", None),
    ("reserve_pool_timeout", "pool", "reserve_timeout_s", None),
    ("query_wait_timeout", "hold", "timeout_s", Some(120.0)),
    ("query_wait_notify", "hold", "notify_s", None),
    ("query_timeout", "timeouts", "query_s", None),
    ("idle_transaction_timeout", "timeouts", "idle_transaction_s", None),
    ("transaction_timeout", "timeouts", "transaction_s", None),
    ("client_idle_timeout", "timeouts", "client_idle_s", None),
    ("client_login_timeout", "timeouts", "client_login_s", None),
    ("server_connect_timeout", "timeouts", "server_connect_s", Some(15.0)),
    ("cancel_wait_timeout", "timeouts", "cancel_s", Some(10.0)),
];

/// Times that have an end here, where 0 means none with PgBouncer.
const BOUNDED: [&str; 4] =
    ["query_wait_timeout", "client_login_timeout", "server_connect_timeout", "cancel_wait_timeout"];
/// What such a time is then, in seconds: a day.
const LONGEST_S: f64 = 86_400.0;

/// Keys that are read by name below.
const READ: [&str; 23] = [
    "listen_addr",
    "listen_port",
    "auth_type",
    "auth_file",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "auth_hba_file",
    "auth_ident_file",
    "unix_socket_dir",
    "unix_socket_mode",
    "unix_socket_group",
    "peer_id",
    "so_reuseport",
    "client_tls_ca_file",
    "pool_mode",
    "max_prepared_statements",
    "client_tls_sslmode",
    "client_tls_cert_file",
    "client_tls_key_file",
    "server_tls_sslmode",
    "admin_users",
    "stats_users",
];

/// Keys that mean nothing here, and why leaving them out does no harm. The value that says nothing is not worth a word.
const IDLE: [(&str, &str, &str); 36] = [
    ("pkt_buf", "", "its buffers are of another kind"),
    ("ignore_startup_parameters", "", "every setting of a startup message is applied"),
    ("track_extra_parameters", "", "every setting of a client is followed"),
    ("server_reset_query", "DISCARD ALL", "a server with something left in it is cleaned or closed"),
    ("server_reset_query_always", "0", "a server with something left in it is cleaned or closed"),
    ("server_check_query", "", "an idle server is looked at before it is given out"),
    ("server_check_delay", "30", "an idle server is looked at before it is given out"),
    ("server_fast_close", "0", "servers are closed as soon as they are free"),
    ("server_login_retry", "15", "a server that refuses is tried again within 0.25 s"),
    ("server_round_robin", "0", "the connection used last is used next"),
    ("suspend_timeout", "10", "there is no SUSPEND"),
    ("autodb_idle_timeout", "3600", "databases are not forgotten"),
    ("auth_ldap_options", "", "it counts with auth_type = ldap only"),
    ("scram_iterations", "4096", "SCRAM has 4096 iterations"),
    ("application_name_add_host", "0", "SHOW CLIENTS has the addresses"),
    ("disable_pqexec", "0", "simple queries are passed on"),
    ("max_packet_size", "2147483647", "PostgreSQL's own limit of 1 GB holds"),
    ("logfile", "", "the log goes to stderr"),
    ("log_connections", "", "the log level is set by TANIST_LOG"),
    ("log_disconnections", "", "the log level is set by TANIST_LOG"),
    ("log_pooler_errors", "", "the log level is set by TANIST_LOG"),
    ("log_stats", "", "figures are in SHOW STATS and /metrics"),
    ("stats_period", "60", "averages are of 60 s"),
    ("verbose", "0", "the log level is set by TANIST_LOG"),
    ("syslog", "0", "the log goes to stderr"),
    ("syslog_ident", "", "the log goes to stderr"),
    ("syslog_facility", "", "the log goes to stderr"),
    ("pidfile", "", "it stays in the foreground: the service manager knows its process"),
    ("user", "", "the service manager chooses its user"),
    ("job_name", "", "it is a service of Windows"),
    ("listen_backlog", "", "4096 connections may wait to be accepted"),
    ("sbuf_loopcnt", "", "its buffers are of another kind"),
    ("resolv_conf", "", "the system's resolver is asked"),
    ("tcp_user_timeout", "", "a server that falls silent is noticed within 3 s"),
    ("conffile", "", "it is this file"),
    ("load_balance_hosts", "", "there is one host"),
];

/// The same for whole families of keys.
const IDLE_FAMILIES: [(&str, &str); 4] = [
    ("dns_", "the system's resolver is asked"),
    ("tcp_", "sockets are kept alive in a way of their own"),
    ("client_tls", "TLS 1.2 and 1.3 are spoken with safe ciphers only"),
    ("server_tls", "servers that no cluster manages are reached without TLS"),
];

/// Translates the section.
pub fn translate(file: &File, draft: &mut Draft) {
    let get = |key: &str| {
        file.of("pgbouncer").find(|e| e.key == key).map(|e| e.value.as_str()).filter(|v| !v.is_empty())
    };
    for entry in file.of("pgbouncer") {
        other(&entry.key, &entry.value, draft);
    }
    for (key, section, ours, default) in NUMBERS {
        if let Some(n) = get(key).and_then(|v| number(key, v, draft)).or(default) {
            draft.set(section, ours, n);
        }
    }
    for (key, section, ours, default) in TIMES {
        if let Some(s) = get(key).and_then(|v| time(key, v, draft)).or(default) {
            let s = bounded(key, s, draft);
            draft.set(section, ours, s);
        }
    }
    doors::listen(&get, draft);
    auth::translate(file, &get, draft);
    doors::client_tls(&get, draft);
    if let Some(id) = get("peer_id").and_then(|v| number("peer_id", v, draft)).filter(|id| *id != 0) {
        draft.set("", "peer_id", id);
    }
    if get("so_reuseport") == Some("1") {
        draft.set("", "reuse_port", true);
    }
    server_tls(get("server_tls_sslmode"), draft);
    for (key, ours) in [("admin_users", "users"), ("stats_users", "stats_users")] {
        let names = get(key).unwrap_or_default().split(',').map(str::trim).filter(|n| !n.is_empty());
        draft.set("admin", ours, names.map(Value::from).collect::<Vec<_>>());
    }
    match get("max_prepared_statements").and_then(|v| number("max_prepared_statements", v, draft)) {
        Some(0) => draft.warn("max_prepared_statements = 0: prepared statements follow their clients anyway"),
        Some(n) => draft.set("pool", "prepared_max", n),
        None => {}
    }
    let pool_mode = get("pool_mode").unwrap_or("session").to_string();
    if let Some(mode) = mode("pool_mode", &pool_mode, draft) {
        draft.set("pool", "mode", mode);
    }
}

/// Why a key means nothing here; `None` for those that mean something, or are none.
#[must_use]
pub fn idle(key: &str) -> Option<&'static str> {
    let one = IDLE.iter().find(|(k, ..)| *k == key).map(|(.., why)| *why);
    one.or_else(|| IDLE_FAMILIES.iter().find(|(start, _)| key.starts_with(start)).map(|(_, why)| *why))
}

/// Keys that are not read by name: they mean nothing, or are none.
fn other(key: &str, value: &str, draft: &mut Draft) {
    let known = NUMBERS.iter().map(|n| n.0).chain(TIMES.iter().map(|t| t.0)).chain(READ);
    if known.into_iter().any(|k| k == key) {
        return;
    }
    let one = IDLE.iter().find(|(k, ..)| *k == key).map(|(_, nothing, why)| (*nothing, *why));
    let family = || IDLE_FAMILIES.iter().find(|(start, _)| key.starts_with(start)).map(|(_, why)| ("", *why));
    match one.or_else(family) {
        Some((nothing, _)) if value == nothing || value.is_empty() => {}
        Some((_, why)) => draft.warn(format!("{key}: {why}")),
        None => draft.fail(format!("{key} is no setting of PgBouncer's that is known here")),
    }
}

/// A whole number from 0 on.
pub fn number(key: &str, value: &str, draft: &mut Draft) -> Option<i64> {
    match value.parse::<u32>() {
        Ok(n) => Some(n.into()),
        Err(_) => {
            draft.fail(format!("{key} = {value} is no number"));
            None
        }
    }
}

fn bounded(key: &str, seconds: f64, draft: &mut Draft) -> f64 {
    if seconds > 0.0 || !BOUNDED.contains(&key) {
        return seconds;
    }
    draft.warn(format!("{key} = 0: it has an end here, after a day"));
    LONGEST_S
}

/// A time in seconds from 0 on.
pub fn time(key: &str, value: &str, draft: &mut Draft) -> Option<f64> {
    match value.parse::<f64>() {
        Ok(s) if s.is_finite() && s >= 0.0 => Some(s),
        _ => {
            draft.fail(format!("{key} = {value} is no time in seconds"));
            None
        }
    }
}

/// The word of a pool mode.
pub fn mode(key: &str, value: &str, draft: &mut Draft) -> Option<String> {
    let value = value.to_ascii_lowercase();
    if ["session", "transaction", "statement"].contains(&value.as_str()) {
        return Some(value);
    }
    draft.fail(format!("{key} = {value} is no pool mode"));
    None
}

fn server_tls(mode: Option<&str>, draft: &mut Draft) {
    match mode {
        Some("disable" | "allow") => {}
        None | Some("prefer") => {
            draft
                .warn("server_tls_sslmode = prefer: servers that no cluster manages are reached without TLS");
        }
        Some(other) => draft.fail(format!(
            "server_tls_sslmode = {other} can't be done: TLS to servers is spoken within a [cluster] only"
        )),
    }
}
