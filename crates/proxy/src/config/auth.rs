//! The section [auth]: where secrets are, and how clients prove themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::Config;
use crate::hba::{Hba, Method};

/// Where the secrets are that clients are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthKind {
    /// With the cluster's servers.
    #[default]
    Cluster,
    /// In a file.
    File,
    /// With a server, which is asked by a query for those that are not in the file.
    Query,
    /// Nowhere: whoever reaches the proxy is believed.
    Trust,
}

/// Who may come in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Where secrets are.
    #[serde(default)]
    pub kind: AuthKind,
    /// Users with passwords, verifiers or MD5 hashes, as PgBouncer's userlist.txt.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// How clients prove themselves, where no rules are; by SCRAM unless `kind` is trust.
    #[serde(default)]
    pub method: Option<Method>,
    /// Rules like pg_hba.conf.
    #[serde(default)]
    pub hba_file: Option<PathBuf>,
    /// Maps like pg_ident.conf.
    #[serde(default)]
    pub ident_file: Option<PathBuf>,
    /// As whom users are looked up, with `kind` query.
    #[serde(default)]
    pub query_user: Option<String>,
    /// In which database, in the words of clients; without it in that which a client asks for.
    #[serde(default)]
    pub query_database: Option<String>,
    /// By which query: it gives name and secret of user $1, in one row or none.
    #[serde(default)]
    pub query: Option<String>,
}

impl Auth {
    /// What can't be, of the section and of the rules in the same file.
    ///
    /// # Errors
    /// The first, in words.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        match self.kind {
            AuthKind::Cluster if config.cluster.is_none() => {
                return Err(
                    "auth.kind is \"cluster\" and there is no [cluster]: say \"file\", \"query\" or \"trust\"".into()
                );
            }
            AuthKind::File if self.file.is_none() => {
                return Err("auth.kind is \"file\" and auth.file is missing".into());
            }
            AuthKind::Trust if self.method().needs_secrets() => {
                return Err(
                    "auth.kind is \"trust\" and auth.method asks for a password: nobody has one".into()
                );
            }
            AuthKind::Cluster | AuthKind::File | AuthKind::Query | AuthKind::Trust => {}
        }
        let has_ca = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        match self.method() {
            Method::Cert if !has_ca => {
                return Err("auth.method is \"cert\" and tls.client_ca is missing".into());
            }
            Method::Peer if config.unix_socket.is_none() => {
                return Err("auth.method is \"peer\" and there is no [unix_socket]".into());
            }
            Method::Reject => return Err("auth.method is \"reject\": nobody could come in".into()),
            _ => {}
        }
        // Files are read when it starts, and again on RELOAD.
        if self.hba_file.is_none() && self.ident_file.is_none() {
            Hba::load(config.hba_sources())?;
        }
        Ok(())
    }

    /// How clients prove themselves, where no rules are.
    #[must_use]
    pub fn method(&self) -> Method {
        let usual = if self.kind == AuthKind::Trust { Method::Trust } else { Method::Scram };
        self.method.unwrap_or(usual)
    }
}

/// Users and their secrets, as PgBouncer's userlist.txt has them: `"name" "secret"`, one a line.
///
/// # Errors
/// The number of the first line that is none.
pub fn userlist(text: &str) -> Result<BTreeMap<String, String>, String> {
    let quoted = |rest: &str| -> Option<(String, String)> {
        let mut chars = rest.trim_start().strip_prefix('"')?.chars();
        let mut word = String::new();
        while let Some(c) = chars.next() {
            match c {
                '"' if chars.as_str().starts_with('"') => {
                    chars.next();
                    word.push('"');
                }
                '"' => return Some((word, chars.as_str().to_string())),
                c => word.push(c),
            }
        }
        None
    };
    let mut users = BTreeMap::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        if line.is_empty() || line.starts_with(';') || line.starts_with('#') {
            continue;
        }
        let pair = quoted(line).and_then(|(name, rest)| quoted(&rest).map(|(secret, _)| (name, secret)));
        let (name, secret) = pair.ok_or_else(|| format!("line {number} is no \"name\" \"secret\""))?;
        users.insert(name, secret);
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn what_nobody_could_come_in_by_is_refused() {
        for (auth, why) in [
            ("auth.kind = \"cluster\"", "there is no [cluster]"),
            ("auth.kind = \"file\"", "auth.file is missing"),
            ("auth.kind = \"query\"", "auth.query_user is missing"),
            ("auth = { kind = \"trust\", method = \"md5\" }", "nobody has one"),
            ("auth = { kind = \"trust\", method = \"cert\" }", "tls.client_ca is missing"),
            ("auth = { kind = \"trust\", method = \"peer\" }", "no [unix_socket]"),
            ("auth = { kind = \"trust\", method = \"reject\" }", "nobody could come in"),
            ("auth = { kind = \"trust\", query_user = \"a\" }", "auth.kind is not \"query\""),
            ("auth = { kind = \"query\", query_user = \"a\", query = \"select 1\" }", "no $1"),
            (
                "auth = { kind = \"query\", query_user = \"a\", query_database = \"pgbouncer\" }",
                "no [[database]]",
            ),
            ("auth.kind = \"trust\"\nhba = [{ type = \"host\", method = \"trust\" }]", "no address"),
            (
                "auth.kind = \"trust\"\ntls = { cert = \"a\", key = \"b\", verify = \"required\" }",
                "tls.client_ca",
            ),
            (
                "auth.kind = \"trust\"\nlistener = [{ address = \"h:1\", proxy_protocol = true }]",
                "no balancers",
            ),
            (
                "auth.kind = \"trust\"\nlistener = [{ address = \"h:1\", balancers = [\"::/0\"] }]",
                "proxy_protocol",
            ),
            ("auth.kind = \"trust\"\nlistener = [{ address = \"h:1\", balancers = [\"h\"] }]", "no network"),
            ("auth.kind = \"trust\"\npeer = [{ id = 1, address = \"h:1\" }]", "no peer_id"),
        ] {
            let text = format!("{auth}\n[[server]]\naddress = \"db:5432\"\n");
            let said = Config::parse(&text, std::path::Path::new("proxy.toml")).expect_err(auth).to_string();
            assert!(said.starts_with("TAN0002") && said.contains(why), "{auth}: {said}");
        }
    }
}
