//! The operating-system user that the server runs as.
//!
//! PostgreSQL refuses to run as root, and an agent run by root must not leave
//! files in the data directory that the server can't read: pg_rewind and
//! pg_basebackup stop at the first one.
//!
//! Never keeps supplementary groups when it drops from root: `std` clears them.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A user and its primary group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// User id; never 0 for a server.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whom a server runs as when the agent is root and nothing else was said.
pub const DEFAULT_SERVER_USER: &str = "postgres";

impl RunAs {
    /// This process's own effective user.
    #[must_use]
    pub fn current() -> RunAs {
        RunAs { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }

    /// Whom to run a server as: ourselves, or `postgres` when we are root.
    ///
    /// # Errors
    /// `ProgramFailed` when we are root and there is no user `postgres`.
    pub fn for_server() -> Result<RunAs> {
        if nix::unistd::geteuid().is_root() {
            RunAs::named(DEFAULT_SERVER_USER)
        } else {
            Ok(RunAs::current())
        }
    }

    /// The user called `name`.
    ///
    /// # Errors
    /// `ProgramFailed` when there is none.
    pub fn named(name: &str) -> Result<RunAs> {
        let found = nix::unistd::User::from_name(name).ok().flatten();
        found.map(|u| RunAs { uid: u.uid.as_raw(), gid: u.gid.as_raw() }).ok_or_else(|| {
            Error::ProgramFailed {
                program: "postgres",
                why: format!("it can't run as root and there is no system user '{name}'"),
            }
        })
    }

    /// The user's name, if the system knows one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        nix::unistd::User::from_uid(self.uid.into()).ok().flatten().map(|u| u.name)
    }

    /// Whether becoming this user takes a change of user at all.
    #[must_use]
    pub fn is_current(&self) -> bool {
        *self == RunAs::current()
    }

    /// Makes `command` run as this user.
    pub fn apply(&self, command: &mut Command) {
        if !self.is_current() {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives `path` to this user.
    ///
    /// # Errors
    /// `File` when the system refuses.
    pub fn own(&self, path: &Path) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .map_err(Error::file("give away", path))
    }
}
