//! Users and what proves them.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::scram::client::Credential;
use wire::scram::{ITERATIONS_DEFAULT, SALT_BYTES_DEFAULT, Verifier};

use crate::config::{Auth, AuthKind, userlist};

/// What is known of one user.
#[derive(Clone)]
pub struct Secret {
    /// What a client's proof is held against.
    pub verifier: Verifier,
    /// The password, where a file has it: servers that ask for MD5 need it.
    pub password: Option<Credential>,
}

/// How users prove themselves.
pub enum Secrets {
    /// Not at all.
    Trust,
    /// Against a list.
    List(Arc<BTreeMap<String, Secret>>),
    /// Against what the cluster's servers know; asked of the agents, kept for a while.
    Cluster(crate::verifiers::Verifiers),
}

impl Secrets {
    /// From a configuration whose cluster is reached by `cluster`.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn of(auth: &Auth, cluster: Option<crate::verifiers::Verifiers>) -> Result<Secrets, String> {
        match (auth.kind, cluster) {
            (AuthKind::Trust, _) => Ok(Secrets::Trust),
            (AuthKind::Cluster, Some(cluster)) => Ok(Secrets::Cluster(cluster)),
            (AuthKind::Cluster, None) => {
                Err("auth.kind is \"cluster\" and there is no [cluster]".to_string())
            }
            (AuthKind::File, _) => Secrets::list(auth).map(Secrets::List),
        }
    }

    /// The users of a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn list(auth: &Auth) -> Result<Arc<BTreeMap<String, Secret>>, String> {
        let path = auth.file.as_ref().ok_or("auth.file is missing")?;
        let text = std::fs::read_to_string(path).map_err(|e| format!("'{}': {e}", path.display()))?;
        let users = userlist(&text).map_err(|e| format!("'{}': {e}", path.display()))?;
        let secrets = users.into_iter().map(|(name, text)| {
            let secret = secret(&text).map_err(|e| format!("'{}': user \"{name}\": {e}", path.display()))?;
            Ok((name, secret))
        });
        secrets.collect::<Result<_, String>>().map(Arc::new)
    }
}

/// A verifier as it stands in pg_authid, or a password.
fn secret(text: &str) -> Result<Secret, String> {
    if text.starts_with("SCRAM-SHA-256$") {
        let verifier = Verifier::parse(text).map_err(|e| e.to_string())?;
        return Ok(Secret { verifier, password: None });
    }
    if text.len() == 35 && text.starts_with("md5") {
        return Err("it has an md5 secret: put the password or the SCRAM-SHA-256 verifier there".to_string());
    }
    // As libpq: what SASLprep can't take is used as it is.
    let prepared = stringprep::saslprep(text).map_or_else(|_| text.to_string(), |p| p.into_owned());
    let mut salt = vec![0; SALT_BYTES_DEFAULT];
    getrandom::fill(&mut salt).map_err(|e| format!("no random bytes: {e}"))?;
    let verifier =
        Verifier::from_password(prepared.as_bytes(), salt, ITERATIONS_DEFAULT).map_err(|e| e.to_string())?;
    Ok(Secret { verifier, password: Some(Credential::Password(prepared.into_bytes())) })
}
