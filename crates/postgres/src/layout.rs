//! Where things lie in a node's directory.
//!
//! ```text
//! <dir>/pgdata    the data directory, 0700, exists only once it is complete
//! <dir>/secrets   passwords and the credential of the current term, 0700
//! <dir>/run       unix sockets (elsewhere if the path would be too long)
//! <dir>/log       what the server writes to stderr
//! ```
//!
//! The directory itself must be passable by the server's user.
//!
//! Never holds state: it only names paths.

use std::path::{Path, PathBuf};

use cluster::Term;

use crate::durable;
use crate::error::{Error, Result};
use crate::os_user::RunAs;

/// Longest path of a unix socket: `sun_path` has 108 bytes with its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The settings that stay as they are while the server runs.
pub const MAIN_CONF: &str = "tanist.conf";
/// `synchronous_standby_names`, and nothing else.
pub const SYNC_CONF: &str = "tanist.sync.conf";
/// `primary_conninfo` and its kin, and nothing else.
pub const UPSTREAM_CONF: &str = "tanist.upstream.conf";

/// Paths of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDir {
    dir: PathBuf,
    sockets: PathBuf,
    pgdata: PathBuf,
}

impl NodeDir {
    /// A node's directory with its sockets in `<dir>/run`. `dir` must be absolute:
    /// the server runs elsewhere.
    ///
    /// # Errors
    /// `SocketPathTooLong`: use `with_sockets`.
    pub fn new(dir: impl Into<PathBuf>) -> Result<NodeDir> {
        let dir = dir.into();
        let sockets = dir.join("run");
        NodeDir::with_sockets(dir, sockets)
    }

    /// A node's directory with its sockets somewhere shorter.
    ///
    /// # Errors
    /// `SocketPathTooLong`.
    pub fn with_sockets(dir: impl Into<PathBuf>, sockets: impl Into<PathBuf>) -> Result<NodeDir> {
        let (dir, sockets) = (dir.into(), sockets.into());
        assert!(dir.is_absolute() && sockets.is_absolute(), "a node's paths are absolute: {}", dir.display());
        let longest = sockets.join(".s.PGSQL.65535").as_os_str().len();
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(Error::SocketPathTooLong { path: sockets, max: SOCKET_PATH_BYTES_MAX });
        }
        let pgdata = dir.join("pgdata");
        Ok(NodeDir { dir, sockets, pgdata })
    }

    /// Makes all of it except `pgdata`, which `initdb` or a clone puts there whole.
    ///
    /// # Errors
    /// `File`.
    pub fn create(&self, owner: RunAs) -> Result<()> {
        durable::make_dir(&self.dir, 0o755, owner)?;
        durable::make_dir(&self.secrets(), 0o700, owner)?;
        durable::make_dir(&self.sockets, 0o755, owner)?;
        durable::make_dir(&self.logs(), 0o700, owner)?;
        durable::sync_dir(&self.dir)
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    #[must_use]
    pub fn pgdata(&self) -> PathBuf {
        self.pgdata.clone()
    }

    /// Where `initdb` works until it is done.
    #[must_use]
    pub fn pgdata_new(&self) -> PathBuf {
        self.dir.join("pgdata.new")
    }

    /// This node, with the data directory that is still being made as its own.
    #[must_use]
    pub fn being_made(&self) -> NodeDir {
        NodeDir { pgdata: self.pgdata_new(), ..self.clone() }
    }

    /// Passwords.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    /// Unix sockets.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The server's log.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the server writes to stderr.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.logs().join("postgres.log")
    }

    /// The credential by which a standby streams from the leader of `term` (C-5).
    #[must_use]
    pub fn passfile(&self, term: Term) -> PathBuf {
        self.secrets().join(passfile_name(term))
    }

    /// A file of ours in the data directory.
    #[must_use]
    pub fn conf(&self, name: &str) -> PathBuf {
        self.pgdata().join(name)
    }
}

fn passfile_name(term: Term) -> String {
    format!("repl-t{term}.pass")
}

/// The term that a passfile's path names; `None` for any other file.
#[must_use]
pub fn term_of_passfile(path: &str) -> Option<Term> {
    let name = path.rsplit('/').next()?;
    name.strip_prefix("repl-t")?.strip_suffix(".pass")?.parse().ok().map(Term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passfile_names_its_term_and_sockets_fit() {
        let node = NodeDir::new("/var/lib/tanist/n1").unwrap();
        assert_eq!(term_of_passfile(node.passfile(Term(7)).to_str().unwrap()), Some(Term(7)));
        for other in ["superuser.pass", "repl-t.pass", "repl-tx.pass", "repl-t7", ""] {
            assert_eq!(term_of_passfile(other), None, "{other}");
        }
        let deep = format!("/{}", "d".repeat(100));
        assert!(matches!(NodeDir::new(&deep), Err(Error::SocketPathTooLong { .. })));
        assert!(NodeDir::with_sockets(&deep, "/tmp/x").is_ok());
    }
}
