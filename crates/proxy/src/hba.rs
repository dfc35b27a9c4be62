//! Rules of who may come in, from where, and by which proof: PostgreSQL's pg_hba.conf.
//!
//! ```text
//!   kind of connection, database, user, address ──▶ first rule that fits ──▶ method
//!                                                ╰─ none fits ──▶ refused
//! ```
//! The first rule that fits decides: if its proof fails, no other is tried.
//!
//! Never looks at a password, and never asks a name server: addresses are numbers.

use std::path::PathBuf;

use serde::Deserialize;

use crate::auth::Denied;
use crate::network::Network;
use crate::origin::Origin;

pub mod ident;
pub mod read;

use ident::Maps;

/// How a client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Not at all.
    Trust,
    /// It can't.
    Reject,
    /// By SCRAM.
    #[serde(rename = "scram-sha-256")]
    Scram,
    /// By MD5; by SCRAM, if its secret is a verifier for that.
    Md5,
    /// By its password in clear.
    Password,
    /// By the name in its certificate.
    Cert,
    /// By the user that its process runs as; unix sockets only.
    Peer,
}

impl Method {
    /// The method of that name in pg_hba.conf.
    #[must_use]
    pub fn of(word: &str) -> Option<Method> {
        Some(match word {
            "trust" => Method::Trust,
            "reject" => Method::Reject,
            "scram-sha-256" => Method::Scram,
            "md5" => Method::Md5,
            "password" => Method::Password,
            "cert" => Method::Cert,
            "peer" => Method::Peer,
            _ => return None,
        })
    }

    /// Whether it asks for something that only a secret can tell right from wrong.
    #[must_use]
    pub fn needs_secrets(self) -> bool {
        match self {
            Method::Scram | Method::Md5 | Method::Password => true,
            Method::Trust | Method::Reject | Method::Cert | Method::Peer => false,
        }
    }
}

/// Kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By unix socket.
    Local,
    /// By TCP.
    Host,
    /// By TCP, in TLS.
    HostSsl,
    /// By TCP, in clear.
    HostNoSsl,
}

/// One name of a list of databases or users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Every one.
    All,
    /// The database that is called as the user is.
    SameUser,
    /// A connection for physical replication. It is for no database, so nothing else fits it.
    Replication,
    /// The one that is called so.
    Is(String),
}

/// Addresses of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Any.
    All,
    /// Those of this host.
    SameHost,
    /// Those of a network.
    In(Network),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is about.
    pub kind: Kind,
    /// Databases, as clients name them.
    pub databases: Vec<Name>,
    /// Users.
    pub users: Vec<Name>,
    /// Where from; nothing to a unix socket.
    pub addresses: Addresses,
    /// How.
    pub method: Method,
    /// Which other names stand for a user; for `cert` and `peer`.
    pub map: Option<String>,
}

/// All rules, and the maps that they name.
#[derive(Clone, Debug, Default)]
pub struct Hba {
    /// In their order.
    pub rules: Vec<Rule>,
    /// Maps.
    pub maps: Maps,
}

/// One rule of our own configuration. Its words are those of pg_hba.conf, quotes and commas as well.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// `local`, `host`, `hostssl` or `hostnossl`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Databases: `all`, `sameuser`, names with commas.
    #[serde(default = "all")]
    pub database: String,
    /// Users: `all`, names with commas.
    #[serde(default = "all")]
    pub user: String,
    /// `all`, `samehost`, or a network; not with `local`.
    #[serde(default)]
    pub address: Option<String>,
    /// How they prove themselves.
    pub method: Method,
    /// A map of `[[ident]]`.
    #[serde(default)]
    pub map: Option<String>,
}

fn all() -> String {
    "all".to_string()
}

/// Where rules stand.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Rules of our own configuration.
    pub lines: &'a [Line],
    /// Maps of our own configuration.
    pub idents: &'a [ident::Entry],
    /// A file like pg_hba.conf, instead.
    pub file: Option<&'a PathBuf>,
    /// A file like pg_ident.conf, instead.
    pub ident_file: Option<&'a PathBuf>,
}

impl Hba {
    /// Reads all rules; `None` where there are none at all.
    ///
    /// # Errors
    /// What is wrong and where, in words.
    pub fn load(from: Sources<'_>) -> Result<Option<Hba>, String> {
        if from.file.is_some() && !from.lines.is_empty() {
            return Err("there are rules in auth.hba_file and in [[hba]]: one of them must go".to_string());
        }
        if from.ident_file.is_some() && !from.idents.is_empty() {
            return Err("there are maps in auth.ident_file and in [[ident]]: one of them must go".to_string());
        }
        let text =
            |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| format!("'{}': {e}", path.display()));
        let at = |path: &PathBuf, why: String| format!("'{}': {why}", path.display());
        let rules = match from.file {
            Some(path) => read::rules(&text(path)?).map_err(|e| at(path, e))?,
            None if from.lines.is_empty() => return Ok(None),
            None => from
                .lines
                .iter()
                .enumerate()
                .map(|(i, line)| {
                    read::rule_of(line).map_err(|why| format!("[[hba]] number {}: {why}", i + 1))
                })
                .collect::<Result<Vec<Rule>, String>>()?,
        };
        let maps = match from.ident_file {
            Some(path) => Maps::read(&text(path)?).map_err(|e| at(path, e))?,
            None => Maps::of(from.idents),
        };
        let hba = Hba { rules, maps };
        let lost = hba.rules.iter().filter_map(|r| r.map.as_ref()).find(|map| !hba.maps.has(map));
        match lost {
            Some(map) => Err(format!("a rule names the map \"{map}\", which is nowhere")),
            None => Ok(Some(hba)),
        }
    }

    /// The rule that decides over a client.
    ///
    /// # Errors
    /// What PostgreSQL says when no rule fits, or one that rejects.
    pub fn find(&self, origin: &Origin, database: &str, user: &str) -> Result<&Rule, Denied> {
        let found = self.rules.iter().find(|rule| rule.fits(origin, database, user));
        let words = |begin: &str| {
            let host = origin.host_words();
            let secrecy = if origin.is_tls { "SSL encryption" } else { "no encryption" };
            let words =
                format!("{begin} for host \"{host}\", user \"{user}\", database \"{database}\", {secrecy}");
            Denied::Told("28000", words)
        };
        match found {
            None => Err(words("no pg_hba.conf entry")),
            Some(rule) if rule.method == Method::Reject => Err(words("pg_hba.conf rejects connection")),
            Some(rule) => Ok(rule),
        }
    }
}

impl Rule {
    fn fits(&self, origin: &Origin, database: &str, user: &str) -> bool {
        let host = origin.host();
        let kind = match self.kind {
            Kind::Local => origin.is_unix,
            Kind::Host => !origin.is_unix,
            Kind::HostSsl => !origin.is_unix && origin.is_tls,
            Kind::HostNoSsl => !origin.is_unix && !origin.is_tls,
        };
        let address = match (self.addresses, host) {
            // A socket that is no unix socket and has no address any more fits nothing.
            (_, None) => origin.is_unix,
            (Addresses::All, Some(_)) => true,
            (Addresses::SameHost, Some(_)) => origin.is_same_host(),
            (Addresses::In(network), Some(host)) => network.has(host),
        };
        let physical = origin.is_physical;
        let database = self.databases.iter().any(|name| match name {
            Name::Replication => physical,
            Name::All => !physical,
            Name::SameUser => !physical && database == user,
            Name::Is(name) => !physical && name == database,
        });
        let user = self.users.iter().any(|name| match name {
            Name::All => true,
            Name::Is(name) => name == user,
            Name::Replication | Name::SameUser => false,
        });
        kind && address && database && user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str, is_tls: bool) -> Origin {
        let address = |ip: &str| ip.parse().ok().map(|ip| std::net::SocketAddr::new(ip, 1));
        let addresses = (address(host), address("192.0.2.1"));
        Origin { addresses, is_tls, is_unix: host == "unix", ..Origin::default() }
    }

    const RULES: &str = "
        local     tills          all                        peer  map=shop
        local     all            all                        md5   # for all others
        hostssl   all            all           10.0.0.0/8   cert
        hostnossl all            all           11.0.0.0/8   md5
        host      a,b , c        clerk,boss    12.0.0.0/8   trust
        host      \"all\"        \"all\"       13.0.0.0 255.0.0.0  password
        host      \"a\"\"b\"     \"x , y\"     13.0.0.0/8   trust
        host      sameuser       all           14.0.0.0/8   scram-sha-256
        host      all            all           samehost     trust
        host      replication    all           all          trust
        host      all            banned        all          reject
        host      all            banned        all          trust
        host      sum            all           2001:db8::/32  scram-sha-256";

    #[test]
    fn the_first_rule_that_fits_is_found() {
        let hba = Hba { rules: read::rules(RULES).expect("they are right"), maps: Maps::default() };
        for (host, tls, database, user, method) in [
            ("unix", false, "tills", "clerk", Some(Method::Peer)),
            ("unix", false, "other", "clerk", Some(Method::Md5)),
            ("10.1.1.1", true, "any", "clerk", Some(Method::Cert)),
            ("::ffff:10.1.1.1", true, "any", "clerk", Some(Method::Cert)),
            ("10.1.1.1", false, "any", "clerk", None),
            ("11.1.1.1", false, "any", "clerk", Some(Method::Md5)),
            ("11.1.1.1", true, "any", "clerk", None),
            ("12.1.1.1", true, "c", "boss", Some(Method::Trust)),
            ("12.1.1.1", true, "d", "boss", None),
            ("12.1.1.1", true, "c", "other", None),
            ("13.1.1.1", true, "all", "all", Some(Method::Password)),
            ("13.1.1.1", true, "any", "all", None),
            ("13.1.1.1", true, "a\"b", "x , y", Some(Method::Trust)),
            ("14.1.1.1", true, "clerk", "clerk", Some(Method::Scram)),
            ("14.1.1.1", true, "clerk", "boss", None),
            ("127.0.0.1", false, "any", "clerk", Some(Method::Trust)),
            ("192.0.2.1", false, "any", "clerk", Some(Method::Trust)),
            ("15.1.1.1", false, "replication", "clerk", None),
            ("15.1.1.1", false, "any", "banned", None),
            ("2001:db8::7", false, "sum", "clerk", Some(Method::Scram)),
            ("2001:db9::7", false, "sum", "clerk", None),
        ] {
            let found = hba.find(&origin(host, tls), database, user).map(|rule| rule.method);
            assert_eq!(found.ok(), method, "{host} {tls} {database} {user}");
        }
        let gone = Origin { is_unix: false, ..Origin::default() };
        assert!(hba.find(&gone, "a", "clerk").is_err(), "it is no unix socket, and fits no address");
        let physical = Origin { is_physical: true, ..origin("15.1.1.1", false) };
        assert!(hba.find(&physical, "a", "clerk").is_ok(), "it has a rule of its own");
        let physical = Origin { is_unix: true, ..physical };
        assert!(hba.find(&physical, "a", "clerk").is_err(), "all databases are not replication");
        let told = Origin { is_told: true, ..origin("127.0.0.1", false) };
        assert!(hba.find(&told, "a", "clerk").is_err(), "a balancer's word does not make it this host");
    }

    #[test]
    fn what_can_not_be_done_is_refused_with_its_line() {
        for (bad, why) in [
            ("hostgssenc all all all trust", "type"),
            ("host all all all ldap", "method \"ldap\""),
            ("host all all", "ends before the address"),
            ("host all all all", "ends before the method"),
            ("local all all", "ends before the method"),
            ("host all +staff all trust", "roles"),
            ("host /^db all all trust", "patterns"),
            ("host @file all all trust", "files"),
            ("host samerole all all trust", "roles"),
            ("host all all samenet trust", "samenet"),
            ("host all all .example.com trust", "no network"),
            ("host all all 10.0.0.0/33 trust", "no network"),
            ("host all all 10.0.0.0 255.0.255.0 trust", "no address with a mask"),
            ("host all all all peer", "unix sockets"),
            ("local all all cert", "TLS"),
            ("host all all all md5 map=x", "cert and peer"),
            ("host all all all md5 colour=red", "colour=red"),
            ("host \"all all all md5", "does not end"),
            ("include other.conf", "type"),
        ] {
            let said = read::rules(&format!("# first\n{bad}\n")).expect_err(bad);
            assert!(said.starts_with("line 2: ") && said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn our_own_rules_are_the_same() {
        let with = |lines: &str| -> Result<Option<Hba>, String> {
            let text = format!("auth.kind = \"trust\"\n[[server]]\naddress = \"db:5432\"\n{lines}");
            let config = crate::Config::parse(&text, std::path::Path::new("proxy.toml"));
            Hba::load(config.map_err(|e| e.to_string())?.hba_sources())
        };
        assert!(with("").expect("it is right").is_none());
        let rule = "[[hba]]\ntype = \"hostssl\"\ndatabase = \"a, b\"\naddress = \"10.0.0.0/8\"\nmethod = \"cert\"\nmap = \"m\"\n";
        let map = "[[ident]]\nmap = \"m\"\nsystem = \"x\"\nuser = \"y\"\n";
        let hba = with(&format!("{rule}{map}")).expect("it is right").expect("it has rules");
        assert_eq!(hba.rules, read::rules("hostssl a,b all 10.0.0.0/8 cert map=m").expect("the same"));
        for (bad, why) in [
            (rule, "nowhere"),
            ("[[hba]]\ntype = \"host\"\nmethod = \"trust\"\n", "no address"),
            ("[[hba]]\ntype = \"local\"\naddress = \"all\"\nmethod = \"trust\"\n", "has no address"),
            ("[[hba]]\ntype = \"local\"\ndatabase = \"a b\"\nmethod = \"trust\"\n", "no list"),
            ("[[hba]]\ntype = \"local\"\nmethod = \"ldap\"\n", "ldap"),
        ] {
            let said = with(bad).expect_err(bad);
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
