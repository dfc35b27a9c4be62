//! SHOW CONFIG: PgBouncer's keys where they mean the same here, then ours.

use std::path::Path;
use std::time::Duration;

use super::set::is_changeable;
use super::table::{Column, Kind, Row};
use crate::client_tls::Verify;
use crate::config::{AuthKind, Config, PoolMode, PoolRules};
use crate::hba::Method;

/// Its columns.
pub const COLUMNS: [Column; 4] =
    [("key", Kind::Text), ("value", Kind::Text), ("default", Kind::Text), ("changeable", Kind::Text)];

/// A mode in PgBouncer's word.
#[must_use]
pub fn mode_word(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

/// PgBouncer's word for how clients prove themselves; ours where it has none.
fn auth_word(config: &Config) -> &'static str {
    if config.auth.hba_file.is_some() || !config.hba.is_empty() {
        return "hba";
    }
    match (config.auth.kind, config.auth.method()) {
        (AuthKind::Cluster, _) => "cluster",
        (_, Method::Trust) => "trust",
        (_, Method::Reject) => "reject",
        (_, Method::Scram) => "scram-sha-256",
        (_, Method::Md5) => "md5",
        (_, Method::Password) => "plain",
        (_, Method::Cert) => "cert",
        (_, Method::Peer) => "peer",
    }
}

/// One row for each setting, and whether SET can change it.
#[must_use]
pub fn rows(config: &Config) -> Vec<Row> {
    let row = |(key, value, default): (&str, String, String)| {
        let changeable = if is_changeable(key) { "yes" } else { "no" };
        vec![key.into(), value.into(), default.into(), changeable.into()]
    };
    theirs(config).into_iter().chain(ours(config)).map(row).collect()
}

type Setting = (&'static str, String, String);

fn theirs(config: &Config) -> Vec<Setting> {
    let rules = PoolRules::default();
    let hold = crate::config::Hold::default();
    let (hosts, port) = listens(&config.listen);
    let query = config.auth.query.clone().unwrap_or_else(|| crate::lookup::QUERY.to_string());
    vec![
        ("listen_addr", hosts, "127.0.0.1".to_string()),
        ("listen_port", port, "6432".to_string()),
        ("auth_type", auth_word(config).to_string(), "cluster".to_string()),
        ("auth_file", file(config.auth.file.as_deref()), String::new()),
        ("auth_hba_file", file(config.auth.hba_file.as_deref()), String::new()),
        ("auth_ident_file", file(config.auth.ident_file.as_deref()), String::new()),
        ("auth_user", config.auth.query_user.clone().unwrap_or_default(), String::new()),
        ("auth_dbname", config.auth.query_database.clone().unwrap_or_default(), String::new()),
        ("auth_query", query, crate::lookup::QUERY.to_string()),
        ("unix_socket_dir", file(config.unix_socket.as_ref().map(|u| u.dir.as_path())), String::new()),
        ("peer_id", config.peer_id.to_string(), "0".to_string()),
        ("admin_users", config.admin.users.join(","), String::new()),
        ("stats_users", config.admin.stats_users.join(","), String::new()),
        ("pool_mode", mode_word(config.pool.mode).to_string(), mode_word(rules.mode).to_string()),
        ("default_pool_size", config.pool.size.to_string(), rules.size.to_string()),
        ("min_pool_size", config.pool.min_size.to_string(), "0".to_string()),
        ("reserve_pool_size", config.pool.reserve_size.to_string(), "0".to_string()),
        ("reserve_pool_timeout", seconds(config.pool.reserve_timeout), seconds(rules.reserve_timeout)),
        ("max_client_conn", config.clients_max.to_string(), "10000".to_string()),
        ("max_db_connections", config.limits.database_connections.to_string(), "0".to_string()),
        ("max_db_client_connections", config.limits.database_clients.to_string(), "0".to_string()),
        ("max_user_connections", config.limits.user_connections.to_string(), "0".to_string()),
        ("max_user_client_connections", config.limits.user_clients.to_string(), "0".to_string()),
        ("max_prepared_statements", config.pool.prepared_max.to_string(), rules.prepared_max.to_string()),
        ("server_idle_timeout", seconds(config.pool.idle_timeout), seconds(rules.idle_timeout)),
        ("server_lifetime", seconds(config.pool.lifetime), seconds(rules.lifetime)),
        ("query_wait_timeout", seconds(Some(config.hold.timeout)), seconds(Some(hold.timeout))),
        ("query_wait_notify", seconds(config.hold.notify), seconds(hold.notify)),
        ("query_timeout", seconds(config.timeouts.query), "0".to_string()),
        ("idle_transaction_timeout", seconds(config.timeouts.idle_transaction), "0".to_string()),
        ("transaction_timeout", seconds(config.timeouts.transaction), "0".to_string()),
        ("client_idle_timeout", seconds(config.timeouts.client_idle), "0".to_string()),
        ("client_login_timeout", seconds(Some(config.timeouts.client_login)), "60".to_string()),
        ("server_connect_timeout", seconds(Some(config.timeouts.server_connect)), "5".to_string()),
        ("cancel_wait_timeout", seconds(Some(config.timeouts.cancel)), "5".to_string()),
        ("client_tls_sslmode", tls_word(config).to_string(), "disable".to_string()),
        ("client_tls_cert_file", file(config.tls.as_ref().map(|t| t.cert.as_path())), String::new()),
        ("client_tls_ca_file", file(config.tls.as_ref().and_then(|t| t.client_ca.as_deref())), String::new()),
        ("client_tls_key_file", file(config.tls.as_ref().map(|t| t.key.as_path())), String::new()),
        ("stats_period", crate::reactor::STATS_PERIOD.as_secs().to_string(), "60".to_string()),
    ]
}

fn ours(config: &Config) -> Vec<Setting> {
    let rules = PoolRules::default();
    let hold = crate::config::Hold::default();
    let agents = config.cluster.as_ref().map(|c| c.agents.join(",")).unwrap_or_default();
    let servers: Vec<&str> = config.servers.iter().map(|s| s.address.as_str()).collect();
    let metrics = config.metrics.as_ref().map(|m| m.listen.clone()).unwrap_or_default();
    let pause = |d: Duration| seconds(Some(d));
    vec![
        ("listen", config.listen.join(","), "127.0.0.1:6432".to_string()),
        ("listen_read", config.listen_read.join(","), String::new()),
        ("cluster.agents", agents, String::new()),
        ("servers", servers.join(","), String::new()),
        ("hold.clients_max", config.hold.clients_max.to_string(), hold.clients_max.to_string()),
        ("pool.settle_commits", config.pool.settle_commits.to_string(), rules.settle_commits.to_string()),
        (
            "pool.resolve_autocommit",
            config.pool.resolve_autocommit.to_string(),
            rules.resolve_autocommit.to_string(),
        ),
        ("pool.lag_ms_max", config.pool.lag_ms_max.to_string(), rules.lag_ms_max.to_string()),
        ("pool.read_consistency", config.pool.read_consistency.word().to_string(), "relaxed".to_string()),
        ("admin.pause_timeout_s", pause(config.admin.pause_timeout), pause(super::PAUSE_LIMIT)),
        ("metrics.listen", metrics, String::new()),
    ]
}

fn tls_word(config: &Config) -> &'static str {
    match &config.tls {
        Some(tls) if tls.verify == Verify::Required => "verify-full",
        Some(tls) if tls.required => "require",
        Some(_) => "allow",
        None => "disable",
    }
}

fn file(path: Option<&Path>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("0".to_string(), |d| d.as_secs_f64().to_string())
}

/// Hosts, and the first port.
fn listens(all: &[String]) -> (String, String) {
    let split = |a: &String| super::sockets::split(a);
    let hosts: Vec<String> = all.iter().map(|a| split(a).0).collect();
    let port = all.first().map(|a| split(a).1.to_string()).unwrap_or_default();
    (hosts.join(","), port)
}
