//! The cluster's own passwords.
//!
//! They are the same on every member, as the roles they belong to are
//! replicated. Each lies in a file of mode 0600 that belongs to the server's
//! user, and is never in an argument, a log line or a process title.
//!
//! Never prints itself: `Debug` shows no letter of them.

use std::fmt;
use std::path::Path;

use crate::durable;
use crate::error::{Error, Result};
use crate::os_user::RunAs;

/// Bytes of randomness in a generated password: 160 bits.
const PASSWORD_BYTES: usize = 20;

/// A password; shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A fresh one of 160 random bits, in lower-case hexadecimal: it needs no
    /// quoting in a passfile, a conninfo string or a URL.
    ///
    /// # Errors
    /// `File` when the system has no randomness to give.
    pub fn generate() -> Result<Password> {
        let mut bytes = [0u8; PASSWORD_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::file("read", "/dev/urandom")(std::io::Error::other(e.to_string())))?;
        Ok(Password(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// Takes a password that came from elsewhere.
    ///
    /// # Errors
    /// `BadAnswer` unless it is 1 to 200 printable ASCII characters.
    pub fn new(text: &str) -> Result<Password> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > 200 || !printable {
            return Err(Error::BadAnswer(
                "a password must be 1 to 200 printable ASCII characters".to_string(),
            ));
        }
        Ok(Password(text.to_string()))
    }

    /// The letters themselves. Only for a connection or a 0600 file.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// One line of a libpq passfile that serves any host, port and database.
    #[must_use]
    pub fn passfile_line(&self, role: &str) -> String {
        let escaped = self.0.replace('\\', "\\\\").replace(':', "\\:");
        format!("*:*:*:{role}:{escaped}\n")
    }

    /// What PostgreSQL stores of it (SCRAM-SHA-256 with a random salt), so that
    /// the password itself is in no statement.
    #[must_use]
    pub fn verifier(&self) -> String {
        postgres_protocol::password::scram_sha_256(self.0.as_bytes())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a password)")
    }
}

/// One password for each role of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// `postgres`.
    pub superuser: Password,
    /// `tanist_replication`.
    pub replication: Password,
    /// `tanist_rewind`.
    pub rewind: Password,
    /// `tanist_monitor`.
    pub monitor: Password,
}

/// Name of the file with the superuser's password, which `initdb` reads.
pub const SUPERUSER_FILE: &str = "superuser.pass";
const REPLICATION_FILE: &str = "replication.pass";
const REWIND_FILE: &str = "rewind.pass";
const MONITOR_FILE: &str = "monitor.pass";

impl Secrets {
    /// Four fresh passwords.
    ///
    /// # Errors
    /// As `Password::generate`.
    pub fn generate() -> Result<Secrets> {
        Ok(Secrets {
            superuser: Password::generate()?,
            replication: Password::generate()?,
            rewind: Password::generate()?,
            monitor: Password::generate()?,
        })
    }

    /// Reads them from `dir`; `None` when none of the files is there.
    ///
    /// # Errors
    /// `File` (also when only some are there), `BadAnswer`.
    pub fn load(dir: &Path) -> Result<Option<Secrets>> {
        if durable::read_if_there(&dir.join(SUPERUSER_FILE))?.is_none() {
            return Ok(None);
        }
        Ok(Some(Secrets {
            superuser: load(dir, SUPERUSER_FILE)?,
            replication: load(dir, REPLICATION_FILE)?,
            rewind: load(dir, REWIND_FILE)?,
            monitor: load(dir, MONITOR_FILE)?,
        }))
    }

    /// Puts them into `dir`, durably, each in a file of mode 0600.
    ///
    /// # Errors
    /// `File`.
    pub fn store(&self, dir: &Path, owner: RunAs) -> Result<()> {
        // The superuser's comes last: `load` takes it for a sign that all are there.
        let files = [
            (REPLICATION_FILE, &self.replication),
            (REWIND_FILE, &self.rewind),
            (MONITOR_FILE, &self.monitor),
            (SUPERUSER_FILE, &self.superuser),
        ];
        for (name, password) in files {
            durable::replace_if_other(&dir.join(name), format!("{}\n", password.reveal()).as_bytes(), owner)?;
        }
        Ok(())
    }
}

fn load(dir: &Path, name: &str) -> Result<Password> {
    let path = dir.join(name);
    let bytes = durable::read_if_there(&path)?
        .ok_or_else(|| Error::file("read", &path)(std::io::ErrorKind::NotFound.into()))?;
    Password::new(String::from_utf8_lossy(&bytes).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_are_private_come_back_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Secrets::load(dir.path()).unwrap(), None);
        let secrets = Secrets::generate().unwrap();
        secrets.store(dir.path(), RunAs::current()).unwrap();
        assert_eq!(Secrets::load(dir.path()).unwrap().unwrap(), secrets);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let shown = format!("{secrets:?}");
        assert!(!shown.contains(secrets.superuser.reveal()), "{shown}");
        assert_ne!(secrets.superuser, secrets.replication);
        assert!(secrets.superuser.reveal().len() * 4 >= 128);
    }

    #[test]
    fn a_passfile_line_escapes_what_separates_its_fields() {
        let line = Password::new(r"a:b\c").unwrap().passfile_line("r");
        assert_eq!(line, "*:*:*:r:a\\:b\\\\c\n");
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(Password::new(bad).is_err(), "{bad:?}");
        }
    }
}
