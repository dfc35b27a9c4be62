//! Databases whose clients are all one user at the servers, whoever they are themselves: so they share one pool.
//!
//! They prove to the proxy who they are as ever; what they show is not used at the
//! server. That user's password stands in the configuration, or in `auth.file`.

use std::fmt;
use std::fs::File;

use serde::Deserialize;

use crate::config::Config;
use crate::file_mode::{NOT_OWNER, open_to};
use crate::reactor::Reactor;
use crate::secrets::Proof;

/// A password; it is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a password)")
    }
}

impl Reactor {
    /// Who a client is at the servers, and what proves it there, if that is not what it has shown itself.
    #[must_use]
    pub fn at_servers(&self, database: &str, user: &str) -> (String, Option<Proof>) {
        let entry = self.config.database(database).0;
        let Some((entry, forced)) = entry.and_then(|d| Some((d, d.user.as_ref()?))) else {
            return (user.to_string(), None);
        };
        let own = entry.password.as_ref().map(|password| Proof::Password(password.0.clone().into_bytes()));
        let listed = || self.secrets.borrow().common.list.get(forced).and_then(|secret| secret.proof());
        (forced.clone(), own.or_else(listed))
    }
}

/// Whether whoever may read an open file with this configuration may know what is in it.
///
/// # Errors
/// What to do about it.
pub fn check_file(config: &Config, file: &File) -> Result<(), String> {
    let has_password = config.databases.iter().any(|d| d.password.is_some());
    match open_to(file, NOT_OWNER).map_err(|e| e.to_string())? {
        Some(mode) if has_password => {
            Err(format!("it has a password, and its mode is {mode}: make that 0600"))
        }
        Some(_) | None => Ok(()),
    }
}

/// What can't be of a database's user.
///
/// # Errors
/// The first, in words.
pub fn check(config: &Config) -> Result<(), String> {
    match config.databases.iter().find(|d| d.password.is_some() && d.user.is_none()) {
        Some(d) => Err(format!("the database \"{}\" has a password and no user", d.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Result<Config, String> {
        let text = format!("auth.kind = \"trust\"\n[[server]]\naddress = \"db:5432\"\n{text}");
        Config::parse(&text, Path::new("proxy.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = config("[[database]]\nname = \"a\"\nuser = \"app\"\npassword = \"hush\"\n");
        let shown = format!("{:?}", config.expect("it is right"));
        assert!(!shown.contains("hush") && shown.contains("(a password)"));
    }

    #[test]
    fn a_password_is_somebodys() {
        let said = config("[[database]]\nname = \"a\"\npassword = \"hush\"\n").expect_err("whose?");
        assert!(said.contains("no user"), "{said}");
    }
}
