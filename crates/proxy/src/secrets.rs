//! Users and what proves them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use wire::scram::client::Credential;
use wire::scram::{ITERATIONS_DEFAULT, Keys, SALT_BYTES_DEFAULT, Verifier};

use crate::config::{AuthKind, Config, userlist};
use crate::file_mode::{OTHERS, open_to};
use crate::hba::{Hba, Method};
use crate::lookup::Answers;
use crate::verifiers::Verifiers;

/// What is known of one user.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// What a client's proof by SCRAM is held against.
    Scram(Verifier),
    /// The same for MD5: as good as the password where a server takes MD5.
    Md5(String),
    /// The password, and a verifier made of it.
    Password(Vec<u8>, Verifier),
}

/// What the proxy can log in to a server with, as one of its clients.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A password.
    Password(Vec<u8>),
    /// What a client's proof by SCRAM has shown.
    Keys(Keys),
    /// What PostgreSQL stores for MD5.
    Md5(String),
}

impl Secret {
    /// Out of what stands in pg_authid or in a userlist: a verifier, an MD5 hash or a password. `None` for an empty
    /// one: nobody can log in by that, in PostgreSQL neither.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not tell it.
    pub fn of(text: &str) -> Result<Option<Secret>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.starts_with("SCRAM-SHA-256$") {
            return Verifier::parse(text).map(|v| Some(Secret::Scram(v))).map_err(|e| e.to_string());
        }
        if wire::md5::response_from_stored(text, [0; wire::md5::SALT_BYTES]).is_some() {
            return Ok(Some(Secret::Md5(text.to_string())));
        }
        let mut salt = vec![0; SALT_BYTES_DEFAULT];
        getrandom::fill(&mut salt).map_err(|e| format!("no random bytes: {e}"))?;
        let verifier = Verifier::from_password(&prepared(text.as_bytes()), salt, ITERATIONS_DEFAULT);
        let verifier = verifier.map_err(|e| e.to_string())?;
        Ok(Some(Secret::Password(text.as_bytes().to_vec(), verifier)))
    }

    /// What SCRAM needs; MD5's hash is not enough.
    #[must_use]
    pub fn verifier(&self) -> Option<&Verifier> {
        match self {
            Secret::Scram(verifier) | Secret::Password(_, verifier) => Some(verifier),
            Secret::Md5(_) => None,
        }
    }

    /// What MD5 needs; a verifier for SCRAM is not enough.
    #[must_use]
    pub fn md5(&self, user: &str) -> Option<String> {
        match self {
            Secret::Scram(_) => None,
            Secret::Md5(stored) => Some(stored.clone()),
            Secret::Password(password, _) => Some(wire::md5::stored(user.as_bytes(), password)),
        }
    }

    /// Whether this is the user's password.
    #[must_use]
    pub fn is_password(&self, user: &str, password: &[u8]) -> bool {
        match self {
            Secret::Scram(verifier) => verifier.is_of_password(&prepared(password)),
            Secret::Md5(stored) => {
                wire::md5::stored(user.as_bytes(), password).as_bytes().ct_eq(stored.as_bytes()).into()
            }
            Secret::Password(right, _) => right.as_slice().ct_eq(password).into(),
        }
    }

    /// What it is good for at a server, without a client's help.
    #[must_use]
    pub fn proof(&self) -> Option<Proof> {
        match self {
            Secret::Scram(_) => None,
            Secret::Md5(stored) => Some(Proof::Md5(stored.clone())),
            Secret::Password(password, _) => Some(Proof::Password(password.clone())),
        }
    }
}

impl Proof {
    /// For a server that asks for SCRAM.
    #[must_use]
    pub fn for_scram(&self) -> Option<Credential> {
        match self {
            Proof::Password(password) => Some(Credential::Password(prepared(password))),
            Proof::Keys(keys) => Some(Credential::Keys(keys.clone())),
            Proof::Md5(_) => None,
        }
    }

    /// For a server that asks for MD5.
    #[must_use]
    pub fn for_md5(&self, user: &[u8], salt: [u8; wire::md5::SALT_BYTES]) -> Option<String> {
        match self {
            Proof::Password(password) => Some(wire::md5::response(user, password, salt)),
            Proof::Md5(stored) => wire::md5::response_from_stored(stored, salt),
            Proof::Keys(_) => None,
        }
    }
}

/// As libpq: what SASLprep can't take is used as it is.
fn prepared(password: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(password).ok();
    let prepared = text.and_then(|text| stringprep::saslprep(text).ok());
    prepared.map_or_else(|| password.to_vec(), |p| p.into_owned().into_bytes())
}

/// What all threads have in common: read from files, or asked for since.
#[derive(Clone)]
pub struct Common {
    /// Users that are listed.
    pub list: Arc<BTreeMap<String, Secret>>,
    /// Who may come in, and how; without rules `method` is for all.
    pub hba: Option<Arc<Hba>>,
    /// How, where no rules are.
    pub method: Method,
    /// What a server was asked for.
    pub answers: Arc<Answers>,
}

/// Who is asked for the secrets of users that are not listed.
#[derive(Clone)]
pub enum Asks {
    /// Nobody: they have none.
    Nobody,
    /// The cluster's agents; answers are kept for a while.
    Cluster(Verifiers),
    /// A server, by a query; answers are kept for a while.
    Query,
}

/// How users prove themselves.
pub struct Secrets {
    /// What all threads have in common.
    pub common: Common,
    /// Who is asked for more.
    pub asks: Asks,
    /// What users that do not exist are asked to prove.
    pub mock: [u8; 32],
}

impl Asks {
    /// As configured, for a cluster that is asked by `cluster`.
    ///
    /// # Errors
    /// What is missing.
    pub fn of(kind: AuthKind, cluster: Option<Verifiers>) -> Result<Asks, String> {
        match (kind, cluster) {
            (AuthKind::Trust | AuthKind::File, _) => Ok(Asks::Nobody),
            (AuthKind::Query, _) => Ok(Asks::Query),
            (AuthKind::Cluster, Some(cluster)) => Ok(Asks::Cluster(cluster)),
            (AuthKind::Cluster, None) => {
                Err("auth.kind is \"cluster\" and there is no [cluster]".to_string())
            }
        }
    }
}

impl Secrets {
    /// The same with what was read anew. A cluster is asked if that was so from the start, and else never.
    #[must_use]
    pub fn with(&self, kind: AuthKind, common: Common) -> Secrets {
        let asks = match (&self.asks, kind) {
            (Asks::Cluster(cluster), _) => Asks::Cluster(cluster.clone()),
            (Asks::Nobody | Asks::Query, AuthKind::Query) => Asks::Query,
            (Asks::Nobody | Asks::Query, AuthKind::Cluster | AuthKind::File | AuthKind::Trust) => {
                Asks::Nobody
            }
        };
        Secrets { common, asks, mock: self.mock }
    }
}

impl Common {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with one, in words.
    pub fn load(config: &Config) -> Result<Common, String> {
        let auth = &config.auth;
        let (hba, method) = (Hba::load(config.hba_sources())?, auth.method());
        let asks = hba
            .as_ref()
            .map_or(method.needs_secrets(), |hba| hba.rules.iter().any(|rule| rule.method.needs_secrets()));
        if asks && auth.kind == AuthKind::Trust {
            return Err("a rule asks for a password, and auth.kind is \"trust\": nobody has one".to_string());
        }
        // Where clients are not asked, servers may still want a password.
        let path = auth.file.as_deref().filter(|_| auth.kind != AuthKind::Cluster);
        let list = Arc::new(path.map_or(Ok(BTreeMap::new()), list)?);
        let common = Common { list, hba: hba.map(Arc::new), method, answers: Arc::default() };
        common.warn_of_useless();
        Ok(common)
    }

    /// Says once who can't come in by SCRAM, as the client would only be told that its password is wrong.
    fn warn_of_useless(&self) {
        let useless = self.list.values().filter(|secret| secret.verifier().is_none()).count();
        if useless > 0 && self.method == Method::Scram && self.hba.is_none() {
            tracing::warn!(
                users = useless,
                "users with an MD5 secret can't log in by SCRAM: set auth.method = \"md5\", or give them a verifier"
            );
        }
    }
}

fn list(path: &Path) -> Result<BTreeMap<String, Secret>, String> {
    let at = |why: String| format!("'{}': {why}", path.display());
    let mut file = File::open(path).map_err(|e| at(e.to_string()))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|e| at(e.to_string()))?;
    if let Some(mode) = open_to(&file, OTHERS).map_err(|e| at(e.to_string()))? {
        let path = path.display();
        tracing::warn!("'{path}' has secrets in it, and everybody may read it (mode {mode}): make that 0600");
    }
    let mut list = BTreeMap::new();
    for (name, text) in userlist(&text).map_err(at)? {
        if let Some(secret) = Secret::of(&text).map_err(|e| at(format!("user \"{name}\": {e}")))? {
            list.insert(name, secret);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL's own, for user `clerk` and the password `secret`.
    const MD5: &str = "md5";

    fn secret(text: &str) -> Secret {
        Secret::of(text).expect("it is one").expect("it is not empty")
    }

    #[test]
    fn each_kind_knows_its_password() {
        let verifier = Verifier::from_password(b"secret", vec![7; 16], 4096).expect("it is one").to_text();
        let stored = wire::md5::stored(b"clerk", b"secret");
        for text in ["secret", stored.as_str(), verifier.as_str()] {
            assert!(secret(text).is_password("clerk", b"secret"), "{text}");
            for wrong in [&b"Secret"[..], b"", b"secret ", text.as_bytes()] {
                let is_itself = text == "secret" && wrong == b"secret";
                assert_eq!(secret(text).is_password("clerk", wrong), is_itself, "{text} {wrong:?}");
            }
        }
        assert!(!secret(&stored).is_password("another", b"secret"));
        assert!(stored.starts_with(MD5));
    }

    #[test]
    fn what_a_secret_is_good_for() {
        let verifier = Verifier::from_password(b"secret", vec![7; 16], 4096).expect("it is one").to_text();
        let stored = wire::md5::stored(b"clerk", b"secret");
        let (plain, md5, scram) = (secret("secret"), secret(&stored), secret(&verifier));
        assert!(plain.verifier().is_some() && md5.verifier().is_none() && scram.verifier().is_some());
        assert_eq!((plain.md5("clerk"), md5.md5("clerk")), (Some(stored.clone()), Some(stored.clone())));
        assert_eq!(scram.md5("clerk"), None);
        let salt = [1, 2, 3, 4];
        let right = wire::md5::response(b"clerk", b"secret", salt);
        assert_eq!(plain.proof().and_then(|p| p.for_md5(b"clerk", salt)), Some(right.clone()));
        let md5_proof = md5.proof().expect("it is as good as a password");
        assert_eq!((md5_proof.for_md5(b"clerk", salt), md5_proof.for_scram().is_none()), (Some(right), true));
        assert!(scram.proof().is_none());
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(Secret::of("").expect("it is no mistake").is_none());
        assert!(Secret::of("SCRAM-SHA-256$nonsense").is_err());
    }
}
