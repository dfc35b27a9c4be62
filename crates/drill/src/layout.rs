//! Names, ports and files of a local cluster.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cluster::command::Kind;
use cluster::{Durability, NodeId};
use serde::{Deserialize, Serialize};

use crate::isolate::Network;

/// Marks a cluster that a demo made and may remove, in its folder.
pub const DEMO_MARK: &str = "made-by-demo";

/// The proxy that a local cluster has a certificate for.
pub const PROXY: &str = "proxy-1";

/// Data nodes of a local cluster, unless others are asked for.
pub const NODES: u16 = 3;

/// How a local cluster is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder.
    pub dir: PathBuf,
    /// Data nodes, `NODES` without it; two get a witness besides.
    pub nodes: Option<u16>,
    /// A witness that keeps WAL, to any number of data nodes.
    pub wal_witness: bool,
    /// First port; `None` is the documented default, 0 free ones.
    pub base_port: Option<u16>,
    /// PostgreSQL's programs; `None` finds the newest installed.
    pub pg_bin: Option<PathBuf>,
    /// What an acknowledgement promises.
    pub durability: Option<Durability>,
    /// The program to run; `None` is this one.
    pub binary: Option<PathBuf>,
    /// Each node in a network namespace of its own; needs root.
    pub isolate: bool,
}

/// What a local cluster is made of; kept in its folder as `stage.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its folder.
    pub dir: PathBuf,
    /// Its program.
    pub binary: PathBuf,
    /// PostgreSQL's programs.
    pub pg_bin: PathBuf,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Its nodes.
    pub nodes: Vec<PlannedNode>,
    /// Its proxy; a cluster made by an older build has none.
    #[serde(default)]
    pub proxy: Option<PlannedProxy>,
    /// The network between namespaces that its nodes are in, if they are.
    #[serde(default)]
    pub network: Option<Network>,
}

/// The proxy of a local cluster, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedProxy {
    /// Port for those who write.
    pub write: u16,
    /// Port for those who read.
    pub read: u16,
}

impl PlannedProxy {
    /// Where it listens, as docs say.
    ///
    /// # Errors
    /// When no free port can be had.
    pub fn of(base: Option<u16>) -> std::io::Result<PlannedProxy> {
        match base {
            None => Ok(PlannedProxy { write: 6432, read: 6433 }),
            Some(0) => Ok(PlannedProxy { write: free_port()?, read: free_port()? }),
            Some(p) => {
                let beyond = || std::io::Error::other(format!("ports from {p} on reach beyond 65535"));
                let read = p.checked_add(4).ok_or_else(beyond)?;
                Ok(PlannedProxy { write: read - 1, read })
            }
        }
    }
}

/// One node of a local cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Its name.
    pub name: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Where it listens and is found.
    pub address: String,
    /// Port of its API.
    pub api: u16,
    /// Port of its agent.
    pub peers: u16,
    /// Port of its PostgreSQL; 0 on a witness.
    pub postgres: u16,
}

impl Plan {
    /// A node's folder.
    #[must_use]
    pub fn node_dir(&self, node: &PlannedNode) -> PathBuf {
        self.dir.join(node.name.as_str())
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&PlannedNode> {
        self.nodes.iter().find(|n| n.name.as_str() == name)
    }

    /// The data nodes.
    pub fn data_nodes(&self) -> impl Iterator<Item = &PlannedNode> {
        self.nodes.iter().filter(|n| n.kind == Kind::Data)
    }

    /// The nodes that may be in the commit rule, were they not to lead.
    pub fn wal_nodes(&self) -> impl Iterator<Item = &PlannedNode> {
        self.nodes.iter().filter(|n| n.kind.keeps_wal())
    }

    /// What was asked for and is otherwise here, in words.
    #[must_use]
    pub fn differs(&self, asked: &Options) -> Option<String> {
        let nodes = self.data_nodes().count();
        if let Some(n) = asked.nodes.filter(|n| usize::from(*n) != nodes) {
            return Some(format!("it has {nodes} data nodes, not {n}"));
        }
        if asked.wal_witness && self.nodes.iter().all(|n| n.kind != Kind::WalWitness) {
            return Some("it has no witness that keeps WAL".to_string());
        }
        if let Some(d) = asked.durability.filter(|d| *d != self.durability) {
            return Some(format!("its durability is {}, not {}", self.durability, d));
        }
        if let Some(bin) = asked.pg_bin.as_ref().filter(|b| !same(b, &self.pg_bin)) {
            return Some(format!("its programs are in {}, not {}", self.pg_bin.display(), bin.display()));
        }
        let first = self.nodes.first().map_or(0, |n| n.api);
        if let Some(port) = asked.base_port.filter(|p| *p != 0 && *p != first) {
            return Some(format!("its first port is {first}, not {port}"));
        }
        let shared = asked.isolate && self.network.is_none();
        shared.then(|| "its nodes have no network namespaces of their own".to_string())
    }

    /// What a libpq URL says about TLS: nothing on loopback, and the cluster's
    /// CA beyond it.
    #[must_use]
    pub fn tls(&self) -> String {
        let ca = self.dir.join("ca.crt");
        self.network.map_or(String::new(), |_| format!("&sslmode=verify-full&sslrootcert={}", ca.display()))
    }

    /// Certificate and key of its proxy; the CA's certificate is `ca.crt` beside them.
    #[must_use]
    pub fn proxy_files(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("proxy.crt"), self.dir.join("proxy.key"))
    }

    /// File of the token for changing verbs.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }
}

/// Whether two paths are one folder.
fn same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Ports of node `i`, as docs say: API, peers, PostgreSQL.
///
/// # Errors
/// When no free port can be had.
pub fn ports(base: Option<u16>, i: u16) -> std::io::Result<(u16, u16, u16)> {
    match base {
        None => Ok((8008 + 10 * i, 8009 + 10 * i, 5501 + i)),
        Some(0) => Ok((free_port()?, free_port()?, free_port()?)),
        Some(p) => {
            let first = p.checked_add(10 * i).filter(|first| *first <= u16::MAX - 2);
            let beyond = || std::io::Error::other(format!("ports from {p} on reach beyond 65535"));
            first.map(|first| (first, first + 1, first + 2)).ok_or_else(beyond)
        }
    }
}

/// Ports below those that the kernel gives to outgoing connections: one of
/// those could be taken between being found free and being listened on.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody uses at this moment and that was not given out here before.
fn free_port() -> std::io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(FREE_PORTS.end - FREE_PORTS.start);
    let first = std::process::id().wrapping_mul(97) % span;
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = u16::try_from((first + step) % span).unwrap_or(0);
        let port = FREE_PORTS.start + offset;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "no port between 20000 and 32000 is free"))
}

/// The newest PostgreSQL of the distribution's.
#[must_use]
pub fn find_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let major = |p: &Path| p.file_name()?.to_str()?.parse::<u32>().ok();
    let found = versions.map(|e| e.path()).filter(|p| p.join("bin/initdb").exists());
    found.max_by_key(|p| major(p)).map(|p| p.join("bin"))
}
