//! Which settings are ours, which are only our defaults, and which the cluster
//! may choose (protocol 1.6).
//!
//! Never touches a file.

use crate::config::ServerConfig;
use crate::config::host::Host;
use crate::error::{Error, Result};
use crate::layout::NodeDir;
use crate::version::Differences;

/// What a standby must have at least, as the primary's WAL says (its control
/// file holds it): below it, recovery pauses (14 and newer) or stops. 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

/// Fewest walsenders and slots. A restart to raise them is an outage, so a
/// small cluster gets room to grow: each idle one costs about a kilobyte.
const SENDERS_MIN: usize = 24;

/// Half-open walsenders of a vanished standby live on for this long at most.
const STREAM_TIMEOUT: &str = "5s";

/// One stream and one clone (two walsenders) for each member, a half-open old
/// one each, and a few for others.
fn senders(members: usize) -> usize {
    SENDERS_MIN.max(members * 4 + 8)
}

/// What we set unless the cluster's settings say otherwise.
#[must_use]
pub fn defaults(config: &ServerConfig, differences: &Differences, host: Host) -> Vec<(String, String)> {
    let mut lines = vec![
        // 4 MB segments make initdb choose small limits, and so many checkpoints.
        ("max_wal_size", "1GB"),
        ("min_wal_size", "80MB"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %q%a "),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "3"),
        ("tcp_keepalives_count", "3"),
        ("wal_level", "replica"),
    ];
    if host.syncfs_tells && differences.init_sync_method {
        // After a crash every file is made durable first: by opening each, a big directory
        // takes minutes before it recovers at all.
        lines.push(("recovery_init_sync_method", "syncfs"));
    }
    if host.copy_on_write && differences.settings_of_12 {
        // There, writing a segment twice only writes it to two places.
        lines.extend([("wal_init_zero", "off"), ("wal_recycle", "off")]);
    }
    if differences.wal_limits {
        // Enough for a rewind without the archive, and a bound to what a lost member may hold.
        lines.extend([("wal_keep_size", "128MB"), ("max_slot_wal_keep_size", "4GB")]);
    } else {
        lines.push(("wal_keep_segments", "32"));
    }
    let floor = [
        ("max_connections", 200, config.floor.max_connections),
        ("max_worker_processes", 8, config.floor.max_worker_processes),
        ("max_prepared_transactions", 0, config.floor.max_prepared_transactions),
        ("max_locks_per_transaction", 64, config.floor.max_locks_per_transaction),
    ];
    let floor =
        floor.into_iter().map(|(name, least, floor)| (name.to_string(), floor.max(least).to_string()));
    lines.into_iter().map(|(n, v)| (n.to_string(), v.to_string())).chain(floor).collect()
}

/// What nobody else may set: `defaults` and cluster-wide parameters come before it.
#[must_use]
pub fn owned(config: &ServerConfig, dir: &NodeDir, differences: &Differences) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> =
        INSISTED.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut set = |name: &str, value: String| lines.push((name.to_string(), value));
    set("cluster_name", config.node.clone());
    set("listen_addresses", config.listen.join(","));
    set("port", config.port.to_string());
    set("unix_socket_directories", dir.sockets().display().to_string());
    set("max_wal_senders", at_least(config, "max_wal_senders", config.floor.max_wal_senders));
    set("max_replication_slots", at_least(config, "max_replication_slots", 0));
    for (name, floor) in raised(config) {
        set(name, floor.to_string());
    }
    if differences.standby_signal {
        set("recovery_target_timeline", "latest".to_string());
        set("recovery_min_apply_delay", "0".to_string());
    }
    if differences.settings_of_12 {
        set("tcp_user_timeout", STREAM_TIMEOUT.to_string());
    }
    if differences.allow_alter_system {
        set("allow_alter_system", "off".to_string());
    }
    match &config.tls {
        None => set("ssl", "off".to_string()),
        Some(tls) => {
            set("ssl", "on".to_string());
            set("ssl_cert_file", tls.cert.display().to_string());
            set("ssl_key_file", tls.key.display().to_string());
            set("ssl_ca_file", tls.ca.display().to_string());
            if differences.settings_of_12 {
                set("ssl_min_protocol_version", "TLSv1.2".to_string());
            }
        }
    }
    lines
}

/// The same on every version and host.
const INSISTED: [(&str, &str); 14] = [
    // A crashed primary would open itself again within half a second.
    ("restart_after_crash", "off"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("password_encryption", "scram-sha-256"),
    // So that our reading of its log does not depend on the host's language.
    ("lc_messages", "C"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_timeout", STREAM_TIMEOUT),
    ("wal_sender_timeout", STREAM_TIMEOUT),
    // A candidate must not lag behind a reader for longer than a failover may take.
    ("max_standby_streaming_delay", "3s"),
    ("max_standby_archive_delay", "3s"),
    // The process list is how we know that no walreceiver is left (C-5).
    ("update_process_title", "on"),
];

/// On the command line of every start, where not even ALTER SYSTEM overrides them.
pub const ON_COMMAND_LINE: [(&str, &str); 5] = [
    ("restart_after_crash", "off"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
];

/// The larger of what we need, what the cluster asks for and what the WAL demands.
fn at_least(config: &ServerConfig, name: &str, floor: u32) -> String {
    let asked: usize = config.parameters.get(name).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
    senders(config.members).max(asked).max(floor as usize).to_string()
}

/// Cluster-wide parameters that are below the floor on this standby: the floor wins until
/// it has replayed the primary's own change.
fn raised(config: &ServerConfig) -> Vec<(&'static str, u32)> {
    let floors = [
        ("max_connections", config.floor.max_connections),
        ("max_worker_processes", config.floor.max_worker_processes),
        ("max_prepared_transactions", config.floor.max_prepared_transactions),
        ("max_locks_per_transaction", config.floor.max_locks_per_transaction),
    ];
    let asked = |name: &str| config.parameters.get(name).and_then(|v| v.trim().parse::<u32>().ok());
    floors.into_iter().filter(|(name, floor)| asked(name).is_some_and(|asked| asked < *floor)).collect()
}

/// Ours, though not always written: they are taken out of `postgresql.auto.conf`
/// and refused as cluster-wide parameters.
const RESERVED: [&str; 34] = [
    "allow_alter_system",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_file",
    "ssl_key_file",
    "ssl_min_protocol_version",
    "synchronous_standby_names",
    "tcp_user_timeout",
    "unix_socket_directories",
];

/// Whether only Tanist may set `name`.
#[must_use]
pub fn is_owned(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str()) || INSISTED.iter().any(|(owned, _)| *owned == name)
}

/// Refuses a cluster-wide parameter that is ours, would break a promise, or
/// can't be written on one line. Whether PostgreSQL knows it is for
/// `Programs::check_parameters` to say.
///
/// # Errors
/// `BadParameter`.
pub fn check(name: &str, value: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::BadParameter { name: name.to_string(), why: why.to_string() });
    let letter_first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let name_ok = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !letter_first || !name_ok || name.len() > 63 {
        return bad("that is no name of a setting");
    }
    if value.chars().any(char::is_control) {
        return bad("its value holds a control character");
    }
    if is_owned(name) {
        return bad("Tanist sets it itself, as its promises depend on it");
    }
    if name.eq_ignore_ascii_case("wal_level") && !matches!(value.trim(), "replica" | "logical") {
        return bad("a standby needs 'replica' or 'logical'");
    }
    let weakens =
        !matches!(value.trim().to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "remote_apply");
    if name.eq_ignore_ascii_case("synchronous_commit") && weakens {
        return bad(
            "anything below 'on' acknowledges commits that a failover may lose; durability is a setting of the cluster",
        );
    }
    Ok(())
}
