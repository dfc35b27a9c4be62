//! Where our standby streams from: the settings that a cut takes away.
//!
//! The password is not in `primary_conninfo` but in a file whose path names the
//! term (C-5), so that removing one file stops any walreceiver of that term
//! from authenticating, whatever it read from the configuration before.
//!
//! Never written from memory of an earlier start: always derived from the promise.

use std::path::PathBuf;

use cluster::{MemberId, Term};

use crate::config::quote::{conninfo, setting_line};
use crate::durable;
use crate::error::Result;
use crate::layout::{NodeDir, UPSTREAM_CONF, term_of_passfile};
use crate::os_user::RunAs;
use crate::roles::REPLICATION;
use crate::version::Differences;

/// Seconds to connect. libpq takes less than 2 for 2.
const CONNECT_TIMEOUT_S: u32 = 2;
/// A leader whose host vanished is given up after this, in milliseconds.
const TCP_USER_TIMEOUT_MS: u32 = 5_000;

/// How a standby's stream travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the clear: only between servers on one host.
    Plain,
    /// TLS, the leader's certificate checked against this CA.
    Tls {
        /// The cluster's CA certificate.
        ca: PathBuf,
    },
}

/// A leader to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The leader's term; names the credential.
    pub term: Term,
    /// Its host.
    pub host: String,
    /// Its PostgreSQL port.
    pub port: u16,
    /// Who we are there: `application_name` and slot (C-8).
    pub me: MemberId,
    /// Encrypted or not.
    pub transport: Transport,
}

impl Upstream {
    /// The value of `primary_conninfo`. Holds no secret.
    #[must_use]
    pub fn conninfo(&self, dir: &NodeDir, differences: &Differences) -> String {
        let mut pairs = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", REPLICATION.to_string()),
            ("passfile", dir.passfile(self.term).display().to_string()),
            ("application_name", self.me.to_string()),
            ("connect_timeout", CONNECT_TIMEOUT_S.to_string()),
        ];
        pairs.extend(keepalives());
        pairs.extend(of_libpq_12(differences, TCP_USER_TIMEOUT_MS));
        pairs.extend(self.transport.pairs());
        conninfo(&pairs)
    }
}

/// That a peer which says nothing for 2 s is asked whether it is there, and given up after
/// three questions. Every libpq knows them.
#[must_use]
pub fn keepalives() -> [(&'static str, String); 3] {
    [("keepalives_idle", 2), ("keepalives_interval", 1), ("keepalives_count", 3)]
        .map(|(k, v)| (k, v.to_string()))
}

/// What only libpq 12 and newer understands: how long sent bytes may stay unacknowledged,
/// and that no time is lost in asking for GSS encryption.
#[must_use]
pub fn of_libpq_12(differences: &Differences, user_timeout_ms: u32) -> Vec<(&'static str, String)> {
    if !differences.settings_of_12 {
        return Vec::new();
    }
    vec![("tcp_user_timeout", user_timeout_ms.to_string()), ("gssencmode", "disable".to_string())]
}

impl Transport {
    /// The conninfo keywords of this transport.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        match self {
            Transport::Plain => vec![("sslmode", "disable".to_string())],
            Transport::Tls { ca } => {
                vec![("sslmode", "verify-ca".to_string()), ("sslrootcert", ca.display().to_string())]
            }
        }
    }
}

/// Puts the settings for `upstream` (`None`: cut) on disk. Returns whether they changed.
///
/// # Errors
/// `File`.
pub fn write(
    dir: &NodeDir,
    upstream: Option<&Upstream>,
    differences: &Differences,
    owner: RunAs,
) -> Result<bool> {
    let text = if differences.standby_signal {
        render(dir, upstream, differences)
    } else {
        render_recovery_conf(dir, upstream, differences)
    };
    durable::replace_if_other(&dir.conf(file_name(differences)), text.as_bytes(), owner)
}

/// The term of the leader that the settings on disk name; `None`: cut.
///
/// # Errors
/// `File`.
pub fn term_on_disk(dir: &NodeDir, differences: &Differences) -> Result<Option<Term>> {
    let text = durable::text_if_there(&dir.conf(file_name(differences)))?;
    Ok(text.split('\'').find_map(term_of_passfile))
}

/// On 11 this file also is what makes the server a standby.
fn file_name(differences: &Differences) -> &'static str {
    if differences.standby_signal { UPSTREAM_CONF } else { RECOVERY_CONF }
}

/// PostgreSQL 11's file.
pub const RECOVERY_CONF: &str = "recovery.conf";

fn render(dir: &NodeDir, upstream: Option<&Upstream>, differences: &Differences) -> String {
    let mut text = setting_line("primary_conninfo", &primary_conninfo(dir, upstream, differences));
    text.push_str(&setting_line(
        "primary_slot_name",
        &upstream.map(|u| u.me.slot_name()).unwrap_or_default(),
    ));
    // Asked for the next segment and for each history at a promotion: it must be instant.
    text.push_str(&setting_line("restore_command", ""));
    text
}

/// The value that should be in force.
#[must_use]
pub fn primary_conninfo(dir: &NodeDir, upstream: Option<&Upstream>, differences: &Differences) -> String {
    upstream.map(|u| u.conninfo(dir, differences)).unwrap_or_default()
}

fn render_recovery_conf(dir: &NodeDir, upstream: Option<&Upstream>, differences: &Differences) -> String {
    let mut text = setting_line("standby_mode", "on");
    text.push_str(&setting_line("recovery_target_timeline", "latest"));
    if let Some(upstream) = upstream {
        text.push_str(&setting_line("primary_conninfo", &upstream.conninfo(dir, differences)));
        text.push_str(&setting_line("primary_slot_name", &upstream.me.slot_name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::TABLE;

    #[test]
    fn the_settings_on_disk_tell_their_term() {
        let at = tempfile::tempdir().unwrap();
        let dir = NodeDir::new(at.path()).unwrap();
        std::fs::create_dir(dir.pgdata()).unwrap();
        let upstream = Upstream {
            term: Term(12),
            host: "10.0.0.1".to_string(),
            port: 5432,
            me: "n2_1".parse().unwrap(),
            transport: Transport::Plain,
        };
        let owner = RunAs::current();
        for row in &TABLE {
            assert_eq!(term_on_disk(&dir, row).unwrap(), None);
            write(&dir, Some(&upstream), row, owner).unwrap();
            assert_eq!(term_on_disk(&dir, row).unwrap(), Some(Term(12)), "{}", row.major);
            write(&dir, None, row, owner).unwrap();
            assert_eq!(term_on_disk(&dir, row).unwrap(), None);
        }
    }

    #[test]
    fn c5_the_conninfo_names_the_terms_credential_and_no_password() {
        let dir = NodeDir::new("/n2").unwrap();
        let upstream = Upstream {
            term: Term(7),
            host: "10.0.0.1".to_string(),
            port: 5432,
            me: "n-2_1".parse().unwrap(),
            transport: Transport::Tls { ca: "/it's/ca.pem".into() },
        };
        let text = upstream.conninfo(&dir, &TABLE[7]);
        assert!(text.contains("passfile='/n2/secrets/repl-t7.pass'") && !text.contains("password"));
        assert!(text.contains(r"sslrootcert='/it\'s/ca.pem'") && text.contains("application_name='n-2_1'"));
        for row in &TABLE {
            let modern = render(&dir, Some(&upstream), row);
            assert!(modern.contains("primary_slot_name = 'tanist_n_2_1'"));
            assert!(render(&dir, None, row).starts_with("primary_conninfo = ''\nprimary_slot_name = ''\n"));
            assert_eq!(modern.contains("gssencmode"), row.major >= 12);
            assert_eq!(modern.contains("tcp_user_timeout"), row.major >= 12);
        }
        let eleven = render_recovery_conf(&dir, Some(&upstream), &TABLE[0]);
        assert!(eleven.contains("primary_conninfo") && !eleven.contains("gssencmode"));
        assert!(!render_recovery_conf(&dir, None, &TABLE[0]).contains("primary_conninfo"));
    }
}
