//! The configuration files of our server, all of which the agent owns.
//!
//! ```text
//! postgresql.conf          the distribution's and the operator's text, and as its LAST line:
//!   tanist.conf            defaults, cluster-wide parameters, then what Tanist insists on
//!     tanist.sync.conf     synchronous_standby_names
//!     tanist.upstream.conf primary_conninfo and its kin (PostgreSQL 12 and newer)
//! postgresql.auto.conf     ALTER SYSTEM; read after all that, so our names are taken out of it
//! ```
//!
//! Sync rule and upstream have files of their own, so that cutting an ack path
//! and changing a rule never write the same file. They are included strictly: if
//! one were missing, PostgreSQL would keep its old values, where the built-in
//! default of `synchronous_standby_names` would release every waiting commit.
//!
//! Never decides who follows whom.

pub mod hba;
pub mod host;
pub mod include;
pub mod parameters;
pub mod quote;
pub mod upstream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::durable;
use crate::error::{Error, Result};
use crate::layout::{MAIN_CONF, NodeDir, SYNC_CONF, UPSTREAM_CONF};
use crate::os_user::RunAs;
use crate::version::Differences;
use host::Host;
use quote::setting_line;

pub use parameters::Floor;
pub use upstream::{Transport, Upstream};

/// A name that no standby has: with it in force, no commit is acknowledged,
/// and `sync_standbys_defined` is true before the server is promoted (C-9).
pub const NOBODY: &str = "ANY 1 (\"tanist_nobody\")";

/// Certificates for connections from beyond this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key: mode 0600 and the server's user's own.
    pub key: PathBuf,
    /// The cluster's CA.
    pub ca: PathBuf,
}

/// What the host's configuration and the cluster's settings say about our server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The node's name, as `cluster_name`.
    pub node: String,
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Port to listen on.
    pub port: u16,
    /// Needed as soon as an address of `listen` is not a loopback one.
    pub tls: Option<Tls>,
    /// How many members the cluster has, to size walsenders and slots.
    pub members: usize,
    /// Cluster-wide parameters; ours win over them.
    pub parameters: BTreeMap<String, String>,
    /// Least values of the settings that a standby must not have below the
    /// primary's, as its control file has them.
    pub floor: Floor,
}

impl ServerConfig {
    /// Whether anybody beyond this host can connect.
    #[must_use]
    pub fn listens_beyond_loopback(&self) -> bool {
        self.listen.iter().any(|a| a != "localhost" && !a.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
    }

    /// Refuses what PostgreSQL would choke on, or what would undo a promise.
    ///
    /// # Errors
    /// `BadParameter`, naming the first.
    pub fn check(&self) -> Result<()> {
        if self.tls.is_none() && self.listens_beyond_loopback() {
            return Err(Error::BadParameter {
                name: "listen_addresses".to_string(),
                why: "listening beyond this host needs certificates".to_string(),
            });
        }
        self.parameters.iter().try_for_each(|(name, value)| parameters::check(name, value))
    }

    /// The text of `tanist.conf`.
    #[must_use]
    pub fn render(&self, dir: &NodeDir, differences: &Differences, host: Host) -> String {
        let mut text =
            String::from("# Written by Tanist before every start and on every change: edits are lost.\n");
        let mut section = |title: &str, lines: Vec<(String, String)>| {
            text.push_str(&format!("\n# {title}\n"));
            for (name, value) in lines {
                text.push_str(&setting_line(&name, &value));
            }
        };
        section("defaults", parameters::defaults(self, differences, host));
        section("cluster-wide parameters", self.parameters.clone().into_iter().collect());
        section("what Tanist insists on", parameters::owned(self, dir, differences));
        text.push_str(&format!("\ninclude '{SYNC_CONF}'\n"));
        if differences.standby_signal {
            text.push_str(&format!("include '{UPSTREAM_CONF}'\n"));
        }
        text
    }

    /// Writes everything but sync rule and upstream. Returns whether anything
    /// changed, so that a running server needs a reload (or a restart).
    ///
    /// # Errors
    /// `BadParameter`, `File`.
    pub fn install(&self, dir: &NodeDir, differences: &Differences, owner: RunAs) -> Result<bool> {
        self.check()?;
        let files = [
            (MAIN_CONF, self.render(dir, differences, Host::of(&dir.pgdata()))),
            ("pg_hba.conf", hba::rules(self.listens_beyond_loopback(), hba::local_users(owner).is_empty())),
            ("pg_ident.conf", hba::map(&hba::local_users(owner))),
        ];
        let mut changed = false;
        for (name, text) in files {
            changed |= durable::replace_if_other(&dir.conf(name), text.as_bytes(), owner)?;
        }
        // Last, so that postgresql.conf never includes a file that is not there yet.
        changed |= include::include_ours_last(dir, owner)?;
        changed |= include::strip_overrides(dir, owner)?;
        Ok(changed)
    }
}

/// Puts `names` into `tanist.sync.conf`, durably. Returns whether it changed.
///
/// # Errors
/// `File`.
pub fn write_sync_names(dir: &NodeDir, names: &str, owner: RunAs) -> Result<bool> {
    let text = setting_line("synchronous_standby_names", names);
    durable::replace_if_other(&dir.conf(SYNC_CONF), text.as_bytes(), owner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::version::TABLE;

    pub(crate) fn config() -> ServerConfig {
        ServerConfig {
            node: "n1".to_string(),
            listen: vec!["127.0.0.1".to_string()],
            port: 5501,
            tls: None,
            members: 3,
            parameters: BTreeMap::new(),
            floor: Floor::default(),
        }
    }

    #[test]
    fn c9_a_standbys_list_is_never_empty_and_no_member_is_on_it() {
        let (_, list) = NOBODY.split_once('(').unwrap();
        let name = list.trim_end_matches(')').trim().trim_matches('"');
        assert!(!name.is_empty());
        assert!(name.parse::<cluster::MemberId>().is_err(), "{name} could be a member");
    }

    #[test]
    fn our_settings_come_after_the_clusters_and_user_values_are_quoted() {
        let mut config = config();
        config.parameters.insert("application_name".to_string(), r"it's \ here".to_string());
        let dir = NodeDir::new("/n1").unwrap();
        for row in &TABLE {
            let text = config.render(&dir, row, Host { copy_on_write: false, syncfs_tells: true });
            let user = text.find(r"application_name = 'it''s \\ here'").unwrap();
            assert!(user < text.find("restart_after_crash = 'off'").unwrap());
            assert!(text.find("include 'tanist.sync.conf'").is_some());
            assert_eq!(text.contains("include 'tanist.upstream.conf'"), row.major >= 12);
            assert_eq!(text.contains("wal_keep_size"), row.major >= 13, "{}", row.major);
            assert_eq!(text.contains("wal_keep_segments"), row.major < 13, "{}", row.major);
            let syncfs = "recovery_init_sync_method = 'syncfs'";
            assert_eq!(text.contains(syncfs), row.major >= 14, "{}", row.major);
            assert!(!config.render(&dir, row, Host::default()).contains("recovery_init_sync_method"));
            let mut asked = config.clone();
            asked.parameters.insert("recovery_init_sync_method".to_string(), "fsync".to_string());
            let text = asked.render(&dir, row, Host { copy_on_write: false, syncfs_tells: true });
            let users = text.find("recovery_init_sync_method = 'fsync'").unwrap();
            assert!(text.find(syncfs).is_none_or(|ours| ours < users), "the user's wins");
        }
    }

    #[test]
    fn parameters_that_would_undo_a_promise_are_refused() {
        let refused = [
            ("fsync", "off"),
            ("FSYNC", "off"),
            ("synchronous_standby_names", ""),
            ("synchronous_commit", "off"),
            ("synchronous_commit", "remote_write"),
            ("recovery_target_time", "yesterday"),
            ("include", "x"),
            ("port", "1"),
            ("wal_level", "minimal"),
            ("a b", "1"),
            ("work_mem", "1\nfsync = off"),
        ];
        for (name, value) in refused {
            let mut config = config();
            config.parameters.insert(name.to_string(), value.to_string());
            assert!(matches!(config.check(), Err(Error::BadParameter { .. })), "{name} = {value}");
        }
        let mut config = config();
        config.parameters.insert("synchronous_commit".to_string(), "remote_apply".to_string());
        config.parameters.insert("pg_stat_statements.max".to_string(), "100".to_string());
        assert!(config.check().is_ok());
    }

    #[test]
    fn listening_beyond_loopback_needs_certificates() {
        let mut config = config();
        config.listen.push("::1".to_string());
        config.listen.push("localhost".to_string());
        assert!(config.check().is_ok());
        config.listen.push("10.0.0.1".to_string());
        assert!(config.listens_beyond_loopback() && config.check().is_err());
    }
}
