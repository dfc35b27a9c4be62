//! The configuration of a proxy: TOML, unknown keys refused.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::host_config::ConfigError as FileError;
use serde::Deserialize;

use crate::client_tls::{ClientTls, Verify};
use crate::hba;
use crate::limits::{self, Database, UserLimits};
use crate::network::Network;
use crate::peering::{self, Peer};
use crate::pgbouncer;
use crate::strict;
use crate::threads::THREADS_MAX;
use crate::timeouts;
use crate::unix_door::UnixSocket;
use crate::{forced, lookup, stream};

mod auth;
mod pool;

pub use auth::{Auth, AuthKind, userlist};
pub use pool::{Hold, Late, PoolMode, PoolRules};

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read, or says something that is not understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is PgBouncer's, and asks for what can't be done here.
    #[error("TAN0011: '{path}' asks for what this proxy can't do: {why}. Nothing was started or changed")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What, all of it.
        why: String,
    },
}

/// One proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file that it was read from.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// Where those who write connect, `host:port`.
    #[serde(default = "write_address")]
    pub listen: Vec<String>,
    /// Where those who read connect, `host:port`.
    #[serde(default)]
    pub listen_read: Vec<String>,
    /// What the name of a database ends with for those who read, on either port; empty: nothing.
    #[serde(default = "read_suffix")]
    pub read_suffix: String,
    /// The same for those who write.
    #[serde(default = "write_suffix")]
    pub write_suffix: String,
    /// Where this proxy stands: readers are sent to replicas of the same zone first.
    #[serde(default)]
    pub zone: String,
    /// Others may listen on the same ports of this host, and the kernel shares clients out.
    #[serde(default)]
    pub reuse_port: bool,
    /// Where else, in ways of their own.
    #[serde(default, rename = "listener")]
    pub listeners: Vec<Listener>,
    /// Unix sockets; without it there are none.
    #[serde(default)]
    pub unix_socket: Option<UnixSocket>,
    /// Clients at a time.
    #[serde(default = "clients_max")]
    pub clients_max: usize,
    /// Threads that serve clients; 0: as `threads::fitting` says.
    #[serde(default)]
    pub threads: usize,
    /// Which proxy of a set this is, from 1 on; 0: of none.
    #[serde(default)]
    pub peer_id: u8,
    /// The others of the set: cancels for their clients are passed on to them.
    #[serde(default, rename = "peer")]
    pub peers: Vec<Peer>,
    /// The cluster behind it.
    #[serde(default)]
    pub cluster: Option<Cluster>,
    /// Servers that no cluster manages, instead.
    #[serde(default, rename = "server")]
    pub servers: Vec<FixedServer>,
    /// Who may come in.
    #[serde(default)]
    pub auth: Auth,
    /// Rules of who may come in and how; the first that fits counts. Without any, `auth.method` is for all.
    #[serde(default)]
    pub hba: Vec<hba::Line>,
    /// Maps for those rules.
    #[serde(default, rename = "ident")]
    pub idents: Vec<hba::ident::Entry>,
    /// Certificates for clients; without them TLS is not offered.
    #[serde(default)]
    pub tls: Option<ClientTls>,
    /// Connections to servers.
    #[serde(default)]
    pub pool: PoolRules,
    /// What waits while nobody leads.
    #[serde(default)]
    pub hold: Hold,
    /// How long clients may take over what they do.
    #[serde(default)]
    pub timeouts: timeouts::Common,
    /// Who may use the console.
    #[serde(default)]
    pub admin: Admin,
    /// Figures for Prometheus; without it there are none.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// Limits of databases and users that have none of their own.
    #[serde(default)]
    pub limits: limits::Limits,
    /// Databases with names or limits of their own.
    #[serde(default, rename = "database")]
    pub databases: Vec<Database>,
    /// Users with limits of their own.
    #[serde(default, rename = "user")]
    pub users: Vec<UserLimits>,
}

/// Who may use the console: by default nobody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Users that may do everything.
    pub users: Vec<String>,
    /// Users that may look.
    pub stats_users: Vec<String>,
    /// Longest that PAUSE and WAIT_CLOSE wait, in seconds; then they fail.
    #[serde(rename = "pause_timeout_s", deserialize_with = "needed_seconds")]
    pub pause_timeout: Duration,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { users: Vec::new(), stats_users: Vec::new(), pause_timeout: crate::admin::PAUSE_LIMIT }
    }
}

/// Figures for Prometheus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Where they are asked for, `host:port`. Anybody who reaches it may read them.
    pub listen: String,
}

/// The cluster behind a proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its agents, `host:port` as other agents reach them. One that answers is enough.
    pub agents: Vec<String>,
    /// The cluster's CA.
    pub ca: PathBuf,
    /// This proxy's certificate.
    pub cert: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
    /// Connections to servers speak TLS, checked against the cluster's CA.
    #[serde(default)]
    pub server_tls: bool,
}

/// Where clients connect, in a way of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `host:port`.
    pub address: String,
    /// For those who read.
    #[serde(default)]
    pub read: bool,
    /// Balancers put a PROXY header before what their clients say.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Where such balancers are. Who connects from elsewhere is a client itself.
    #[serde(default)]
    pub balancers: Vec<Network>,
}

/// A server that no cluster manages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedServer {
    /// `host:port`, or `/folder:port` for its unix socket there.
    pub address: String,
    /// A standby, to read from.
    #[serde(default)]
    pub replica: bool,
    /// Where it stands.
    #[serde(default)]
    pub zone: String,
}

/// A time in seconds; 0: none.
///
/// # Errors
/// What is no time.
pub fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let seconds = f64::deserialize(from)?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// A time in seconds, more than 0.
///
/// # Errors
/// What is no such time.
pub fn needed_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    seconds(from)?.ok_or_else(|| serde::de::Error::custom("it must be more than 0"))
}

fn write_address() -> Vec<String> {
    vec!["127.0.0.1:6432".to_string()]
}

fn read_suffix() -> String {
    "@ro".to_string()
}

fn write_suffix() -> String {
    "@rw".to_string()
}

fn clients_max() -> usize {
    10_000
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// `File`, or `Foreign` for one of PgBouncer's, in one sentence.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |e: std::io::Error| FileError::unreadable(path, &e);
        let wrong = |why: String| FileError::wrong(path, why);
        if path.extension().is_some_and(|end| end == "ini") {
            let import = pgbouncer::import(path)?;
            import.warnings.iter().for_each(|warning| tracing::warn!("{}: {warning}", path.display()));
            let config = Config::parse(&import.toml, path)?;
            let file = File::open(path).map_err(unreadable)?;
            forced::check_file(&config, &file).map_err(wrong)?;
            return Ok(Config { path: Some(path.to_owned()), ..config });
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        let config = Config::parse(&text, path)?;
        forced::check_file(&config, &file).map_err(wrong)?;
        Ok(Config { path: Some(path.to_owned()), ..config })
    }

    /// Reads and checks what stands in a file.
    ///
    /// # Errors
    /// `Wrong`, in one sentence.
    pub fn parse(text: &str, path: &Path) -> Result<Config, FileError> {
        let wrong = |why: String| FileError::wrong(path, why);
        let config: Config =
            toml::from_str(text).map_err(|e| wrong(e.to_string().trim().replace('\n', " ")))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// The proxy beside a database host's server, as that host's configuration asks for it.
    ///
    /// # Errors
    /// `Wrong`: it asks for none, or has a certificate without its key.
    pub fn of_host(host: &api::HostConfig, path: &Path) -> Result<Config, FileError> {
        let wrong = |why: &str| FileError::wrong(path, why);
        let ports = host.proxy.as_ref().ok_or_else(|| wrong("it has no [proxy]"))?;
        let tls = match (&ports.cert, &ports.key) {
            (Some(cert), Some(key)) => Some(ClientTls {
                cert: cert.clone(),
                key: key.clone(),
                required: false,
                client_ca: None,
                verify: Verify::default(),
            }),
            (None, None) => None,
            _ => return Err(wrong("proxy.cert and proxy.key belong together")),
        };
        let on = |port: u16| ports.listen.iter().map(move |a| format!("{a}:{port}")).collect();
        let own = host.addresses().peers;
        let local = host.address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let cluster = Cluster {
            agents: std::iter::once(own).chain(host.join.iter().cloned()).collect(),
            ca: host.tls.ca.clone(),
            cert: host.tls.cert.clone(),
            key: host.tls.key.clone(),
            server_tls: !local && host.address != "localhost",
        };
        let config = Config {
            path: None,
            listen: on(ports.write_port),
            listen_read: on(ports.read_port),
            read_suffix: read_suffix(),
            write_suffix: write_suffix(),
            zone: host.zone.clone(),
            reuse_port: false,
            listeners: Vec::new(),
            unix_socket: None,
            clients_max: clients_max(),
            threads: 0,
            peer_id: 0,
            peers: Vec::new(),
            cluster: Some(cluster),
            servers: Vec::new(),
            auth: Auth::default(),
            hba: Vec::new(),
            idents: Vec::new(),
            tls,
            pool: PoolRules::default(),
            hold: Hold::default(),
            timeouts: timeouts::Common::default(),
            admin: Admin::default(),
            metrics: None,
            limits: limits::Limits::default(),
            databases: Vec::new(),
            users: Vec::new(),
        };
        config.check().map_err(|why| wrong(&why))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        match (&self.cluster, self.servers.is_empty()) {
            (Some(_), false) => {
                return Err("it names both a [cluster] and a [[server]]: one of them must go".into());
            }
            (None, true) => return Err("it names neither a [cluster] nor a [[server]]".into()),
            (Some(_), true) | (None, false) => {}
        }
        self.auth.check(self)?;
        if self.threads > THREADS_MAX {
            return Err(format!("threads is {}, and can be {THREADS_MAX} at most", self.threads));
        }
        let cluster = self.cluster.iter().flat_map(|c| c.agents.iter().map(|a| ("cluster.agents", a)));
        for server in &self.servers {
            stream::check_address(&server.address)
                .map_err(|why| format!("server.address = \"{}\": {why}", server.address))?;
        }
        let listen = self.listen.iter().chain(&self.listen_read).map(|a| ("listen", a));
        let listen = listen.chain(self.listeners.iter().map(|l| ("listener.address", &l.address)));
        let metrics = self.metrics.iter().map(|m| ("metrics.listen", &m.listen));
        for (key, address) in listen.chain(cluster).chain(metrics) {
            api::host_config::check_address(address)
                .map_err(|why| format!("{key} = \"{address}\": {why}"))?;
        }
        self.check_doors()?;
        peering::check(self.peer_id, &self.peers)?;
        lookup::check(self)?;
        forced::check(self)?;
        strict::check(self)?;
        limits::check(self)
    }

    fn check_doors(&self) -> Result<(), String> {
        for listener in &self.listeners {
            match (listener.proxy_protocol, listener.balancers.is_empty()) {
                (true, true) => {
                    return Err(format!(
                        "the listener {} takes PROXY headers and names no balancers: anybody could claim any address",
                        listener.address
                    ));
                }
                (false, false) => {
                    return Err(format!(
                        "the listener {} names balancers and has no proxy_protocol = true",
                        listener.address
                    ));
                }
                (true, false) | (false, true) => {}
            }
        }
        self.tls.as_ref().map_or(Ok(()), ClientTls::check)?;
        self.unix_socket.as_ref().map_or(Ok(()), |sockets| sockets.check(self))
    }

    /// Where its rules stand.
    #[must_use]
    pub fn hba_sources(&self) -> hba::Sources<'_> {
        hba::Sources {
            lines: &self.hba,
            idents: &self.idents,
            file: self.auth.hba_file.as_ref(),
            ident_file: self.auth.ident_file.as_ref(),
        }
    }
}
