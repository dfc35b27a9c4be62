//! The configuration of one host: TOML, unknown keys refused.
//!
//! Everything that concerns the whole cluster is agreed, not configured; a few
//! values here are only used by the node that makes the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::command::{Addresses, Kind, Registration, Tags};
use cluster::{Durability, NodeId};
use serde::{Deserialize, Serialize};

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Our name in it.
    pub name: NodeId,
    /// What we are.
    #[serde(default)]
    pub kind: Kind,
    /// The folder that holds everything of this node.
    pub data_dir: PathBuf,
    /// The host under which others reach us.
    pub address: String,
    /// Agents to ask for a seat, `host:port`.
    #[serde(default)]
    pub join: Vec<String>,
    /// File whose existence lets this node make the cluster, once.
    #[serde(default)]
    pub bootstrap: Option<PathBuf>,
    /// Durability of a cluster made here.
    #[serde(default)]
    pub durability: Durability,
    /// File that holds the token for changing verbs.
    pub token_file: PathBuf,
    /// Whether faults may be made here on request.
    #[serde(default)]
    pub allow_drills: bool,
    /// Where this node stands.
    #[serde(default)]
    pub zone: String,
    /// Among equals the highest leads.
    #[serde(default)]
    pub priority: i32,
    /// A witness that keeps WAL wants out of the commit rule when it keeps more than so many megabytes.
    #[serde(default = "wal_max_mb")]
    pub wal_max_mb: u64,
    /// Where we listen.
    pub listen: Listen,
    /// Our certificates.
    pub tls: Tls,
    /// Our server; not on a witness.
    #[serde(default)]
    pub postgres: Option<Postgres>,
    /// A proxy on this host; none without it.
    #[serde(default)]
    pub proxy: Option<ProxyPorts>,
    /// Everybody else, for a cluster made here.
    #[serde(default, rename = "member")]
    pub members: Vec<Listed>,
}

/// Where an agent listens, `host:port` each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// HTTP API and dashboard.
    pub api: String,
    /// Other agents.
    pub peers: String,
}

/// Certificate files, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
}

/// Our PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Where its programs are.
    pub bin_dir: PathBuf,
    /// Its port.
    pub port: u16,
    /// Addresses it listens on.
    #[serde(default = "loopback")]
    pub listen: Vec<String>,
    /// Folder for its unix socket, where the data folder's path is too long.
    #[serde(default)]
    pub socket_dir: Option<PathBuf>,
}

/// A proxy beside the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyPorts {
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Port for those who write.
    #[serde(default = "write_port")]
    pub write_port: u16,
    /// Port for those who read.
    #[serde(default = "read_port")]
    pub read_port: u16,
    /// Addresses it listens on.
    #[serde(default = "loopback")]
    pub listen: Vec<String>,
    /// Certificate and key for its clients, PEM; without them TLS is not offered.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// The key, mode 0600.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

fn write_port() -> u16 {
    6432
}

fn read_port() -> u16 {
    6433
}

/// What a witness that keeps WAL may keep unless its host says otherwise: 16 GB.
#[must_use]
pub fn wal_max_mb() -> u64 {
    16 * 1024
}

fn loopback() -> Vec<String> {
    vec!["127.0.0.1".to_string()]
}

/// Another node, as known beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: NodeId,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Where its agent listens for others.
    pub peers: String,
    /// Where its API is.
    pub api: String,
    /// Where its PostgreSQL is; empty on a witness.
    #[serde(default)]
    pub postgres: String,
}

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("TAN0001: the configuration '{path}' can't be read: {why}. Give an existing file with --config")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It says something that is not understood.
    #[error("TAN0002: the configuration '{path}' is not right: {why}. Nothing was started or changed")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What and where.
        why: String,
    },
}

impl ConfigError {
    /// `Unreadable`.
    #[must_use]
    pub fn unreadable(path: &Path, why: &std::io::Error) -> ConfigError {
        ConfigError::Unreadable { path: path.to_owned(), why: why.to_string() }
    }

    /// `Wrong`.
    #[must_use]
    pub fn wrong(path: &Path, why: impl Into<String>) -> ConfigError {
        ConfigError::Wrong { path: path.to_owned(), why: why.into() }
    }
}

impl HostConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// `Unreadable` or `Wrong`, in one sentence.
    pub fn load(path: &Path) -> Result<HostConfig, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::unreadable(path, &e))?;
        let wrong = |why: String| ConfigError::wrong(path, why);
        let config: HostConfig =
            toml::from_str(&text).map_err(|e| wrong(e.to_string().trim().replace('\n', " ")))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if !self.data_dir.is_absolute() {
            return Err("data_dir must be an absolute path".into());
        }
        if self.kind == Kind::Data && self.postgres.is_none() {
            return Err(
                "a node with data needs a [postgres] section; a witness says kind = \"witness\" or \"wal-witness\"".into()
            );
        }
        let addresses = [("listen.api", &self.listen.api), ("listen.peers", &self.listen.peers)];
        for (key, address) in addresses.into_iter().chain(self.join.iter().map(|a| ("join", a))) {
            check_address(address).map_err(|why| format!("{key} = \"{address}\": {why}"))?;
        }
        Ok(())
    }

    /// Where others reach us.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let at = |address: &str| {
            address.rsplit_once(':').map_or(String::new(), |(_, port)| format!("{}:{port}", self.address))
        };
        let postgres =
            self.postgres.as_ref().map_or(String::new(), |p| format!("{}:{}", self.address, p.port));
        Addresses { peers: at(&self.listen.peers), api: at(&self.listen.api), postgres }
    }

    /// The members of a cluster made here, ourselves among them.
    #[must_use]
    pub fn registrations(&self) -> BTreeMap<NodeId, Registration> {
        let tags = Tags { no_failover: false, priority: self.priority, zone: self.zone.clone() };
        let own = Registration { kind: self.kind, addresses: self.addresses(), tags };
        let other = |m: &Listed| {
            let addresses =
                Addresses { peers: m.peers.clone(), api: m.api.clone(), postgres: m.postgres.clone() };
            (m.name.clone(), Registration { kind: m.kind, addresses, tags: Tags::default() })
        };
        self.members.iter().map(other).chain([(self.name.clone(), own)]).collect()
    }
}

/// Whether `address` is a `host:port`; IPv6 addresses stand in brackets.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_address(address: &str) -> Result<(), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("it is no host:port")?;
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match bracketed {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_err() => {
            return Err("no IPv6 address is in the brackets");
        }
        None if host.is_empty() || !host.chars().all(plain) => return Err("it is no host:port"),
        Some(_) | None => {}
    }
    port.parse::<u16>().map(|_| ()).map_err(|_| "its port is no number from 0 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["127.0.0.1:8008", "db-1.example.com:1", "[::1]:8009", "n_1:0"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in
            ["", ":1", "host", "host:", "host:x", "host:70000", "::1:8009", "[::z]:1", "a b:1", "u@h:1"]
        {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
