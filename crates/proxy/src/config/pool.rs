//! Connections to servers, and who waits for them, as they are configured.

use std::time::Duration;

use route::Mode;
use serde::Deserialize;

use super::{needed_seconds, seconds};
use crate::strict::ReadConsistency;

/// Connections to servers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolRules {
    /// How long a client keeps its server: `session`, `transaction` or `statement`.
    pub mode: PoolMode,
    /// Connections for one user and database, to one kind of server.
    pub size: usize,
    /// Connections that are kept for one user and database while a client is there, if `size` allows it.
    pub min_size: usize,
    /// Connections on top of `size`, for those who have waited for `reserve_timeout_s`.
    pub reserve_size: usize,
    /// Who has waited for so many seconds may have one of the reserve; 0: nobody.
    #[serde(rename = "reserve_timeout_s", deserialize_with = "seconds")]
    pub reserve_timeout: Option<Duration>,
    /// Statements kept prepared on one connection.
    pub prepared_max: usize,
    /// Idle connections are closed after so many seconds; 0: never.
    #[serde(rename = "idle_timeout_s", deserialize_with = "seconds")]
    pub idle_timeout: Option<Duration>,
    /// Connections are closed after so many seconds, once they are free; 0: never.
    #[serde(rename = "lifetime_s", deserialize_with = "seconds")]
    pub lifetime: Option<Duration>,
    /// The number of a transaction is asked for before its COMMIT, so that a lost answer can be settled.
    pub settle_commits: bool,
    /// A single writing statement is put into a transaction of its own, so that its fate can be settled too.
    pub resolve_autocommit: bool,
    /// Readers are kept from replicas that show older data than this, in milliseconds.
    pub lag_ms_max: u64,
    /// What a leader may show: `relaxed` or `strict`.
    pub read_consistency: ReadConsistency,
    /// Connections that a pool in use keeps to each standby, for when that leads.
    pub warm: usize,
    /// Longest wait for a replica to replay what `tanist.read_after` asks for, in seconds.
    #[serde(rename = "read_after_timeout_s", deserialize_with = "needed_seconds")]
    pub read_after_timeout: Duration,
    /// What becomes of readers for whom that was too short.
    pub read_after_late: Late,
}

/// What becomes of a reader whose replica does not show in time what it must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// It is sent to the leader.
    #[default]
    Leader,
    /// Its statement fails (57014).
    Fail,
}

impl Default for PoolRules {
    fn default() -> PoolRules {
        PoolRules {
            mode: PoolMode::default(),
            size: 20,
            min_size: 0,
            reserve_size: 0,
            reserve_timeout: Some(Duration::from_secs(5)),
            prepared_max: route::backend::PREPARED_MAX,
            idle_timeout: Some(Duration::from_secs(600)),
            lifetime: Some(Duration::from_secs(3600)),
            settle_commits: true,
            resolve_autocommit: false,
            lag_ms_max: 10_000,
            read_consistency: ReadConsistency::default(),
            warm: 1,
            read_after_timeout: Duration::from_secs(1),
            read_after_late: Late::default(),
        }
    }
}

/// `Mode`, as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolMode {
    /// Until the client leaves.
    Session,
    /// Until its transaction ends.
    #[default]
    Transaction,
    /// Until its statement ends.
    Statement,
}

impl From<PoolMode> for Mode {
    fn from(mode: PoolMode) -> Mode {
        match mode {
            PoolMode::Session => Mode::Session,
            PoolMode::Transaction => Mode::Transaction,
            PoolMode::Statement => Mode::Statement,
        }
    }
}

/// What waits while nobody leads, or while no connection is free.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Longest wait for a connection, in seconds; then the client gets an error and may go on.
    #[serde(rename = "timeout_s", deserialize_with = "needed_seconds")]
    pub timeout: Duration,
    /// A client that waits for longer is told so, by a NOTICE, in seconds; 0: never.
    #[serde(rename = "notify_s", deserialize_with = "seconds")]
    pub notify: Option<Duration>,
    /// Clients that may wait at a time; more are refused at once.
    pub clients_max: usize,
    /// Bytes of statements that may wait at a time, of all clients; whoever has more is refused at once.
    pub bytes_max: usize,
}

impl Default for Hold {
    fn default() -> Hold {
        Hold {
            timeout: Duration::from_secs(60),
            notify: Some(Duration::from_secs(5)),
            clients_max: 10_000,
            bytes_max: 256 << 20,
        }
    }
}
