//! Deeds on the own server, each one short, bounded and whole.
//!
//! `Hands` is what an agent acts with. Every deed may be repeated, and one that
//! was broken off leaves a state from which the next can go on.

mod life;
mod opening;
mod probe;
mod rebuild;
mod rule;
mod slots;
mod stream;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::{Lineage, Lsn, MemberId};

use crate::config::{ServerConfig, Transport};
use crate::error::{Error, Result};
use crate::guard::client::Client;
use crate::layout::NodeDir;
use crate::os_user::RunAs;
use crate::programs::Programs;
use crate::secrets::Secrets;
use crate::sql::Sql;

pub use opening::PromoteOrder;
pub use probe::Probe;
pub use slots::SlotNeed;

/// What a host's server is made of.
pub struct Site {
    /// Where everything is.
    pub dir: NodeDir,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// Whom they run as.
    pub run_as: RunAs,
    /// The cluster's passwords.
    pub secrets: Secrets,
    /// How standbys and clones connect to a leader.
    pub transport: Transport,
    /// What kills and starts.
    pub guard: Client,
    /// The guard's data directory, as the server knows it.
    pub log: PathBuf,
}

/// The hands of an agent.
pub struct Hands {
    site: Site,
    config: Mutex<ServerConfig>,
    me: Mutex<Option<MemberId>>,
    /// End of the WAL of a server that is down; read once.
    still: Mutex<Option<WalEnd>>,
    /// Why the last start failed, while it is down for that.
    why_down: Mutex<String>,
    /// The server may not have been told yet that settings of ours were put right on disk.
    /// Holds at first: an agent before this one may have died between the two.
    reload_owed: AtomicBool,
    /// Conversations that are kept: the probe's, and that about slots. Not one for both, as
    /// a server that is slow to make a slot would seem to hang.
    probing: tokio::sync::Mutex<Option<Sql>>,
    keeping: tokio::sync::Mutex<Option<Sql>>,
    /// Held while the log of a server that is down is being cut, also by a deed that
    /// nobody waits for any more: until then nothing starts or replaces the directory.
    cutting: Arc<tokio::sync::Mutex<()>>,
}

/// Where our log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalEnd {
    /// Our past.
    pub lineage: Lineage,
    /// Start of the last whole record, which says whose it is (C-1).
    pub last_start: Lsn,
    /// Its end.
    pub end: Lsn,
    /// How far it is replayed.
    pub replay: Lsn,
}

impl Hands {
    /// Hands on the server of `site`.
    #[must_use]
    pub fn new(site: Site, config: ServerConfig) -> Hands {
        Hands {
            site,
            config: Mutex::new(config),
            me: Mutex::default(),
            still: Mutex::default(),
            why_down: Mutex::default(),
            reload_owed: AtomicBool::new(true),
            probing: tokio::sync::Mutex::default(),
            keeping: tokio::sync::Mutex::default(),
            cutting: Arc::default(),
        }
    }

    /// Who we are, once we know.
    pub fn set_member(&self, me: Option<MemberId>) {
        *self.me.lock().unwrap_or_else(PoisonError::into_inner) = me;
    }

    /// What the cluster's settings say, for the next start or reload.
    pub fn set_config(&self, config: ServerConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The server's configuration, as it is to be.
    #[must_use]
    pub fn config(&self) -> ServerConfig {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the host's server is made of.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    fn me(&self) -> Result<MemberId> {
        let me = self.me.lock().unwrap_or_else(PoisonError::into_inner).clone();
        me.ok_or_else(|| Error::CalledOff("this node has no seat in the cluster yet".to_string()))
    }

    fn port(&self) -> u16 {
        self.config().port
    }

    async fn sql(&self) -> Result<Sql> {
        Sql::connect(&self.site.dir, self.port()).await
    }
}

/// `host:port` taken apart; IPv6 addresses stand in brackets.
///
/// # Errors
/// `BadAnswer` when it is neither.
pub fn split_address(address: &str) -> Result<(String, u16)> {
    let bad = || Error::BadAnswer(format!("'{address}' is no host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
    Ok((host, port.parse().map_err(|_| bad())?))
}
