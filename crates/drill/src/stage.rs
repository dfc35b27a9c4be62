//! A local cluster: made, started, looked at, stopped.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::host_config::{HostConfig, Listed, Listen, Postgres, Tls};
use api::{Client, Status};
use cluster::command::Kind;
use cluster::{Durability, NodeId};
use peers::certs::Authority;
use postgres::{RunAs, Secrets};
use serde::{Deserialize, Serialize};

use crate::layout::{Options, Plan, PlannedNode, find_postgres, ports};
use crate::processes::{Pids, child_of};

/// Longest that a cluster may take to be whole.
pub const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Longest that stopping a node in order may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Most data nodes of a local cluster.
pub const NODES_MAX: u16 = 7;

/// Why a local cluster could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No PostgreSQL.
    #[error(
        "TAN0701: no PostgreSQL was found under /usr/lib/postgresql. Install it ('make demo' does), or say where it is with --pg-bin DIR"
    )]
    NoPostgres,
    /// A wrong number.
    #[error("TAN0702: a local cluster has 1 to 7 nodes, not {0}")]
    Nodes(u16),
    /// The file system.
    #[error("TAN0703: the folder '{path}' can't be used: {why}. Name another with --dir DIR")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// No such cluster here.
    #[error("TAN0704: there is no local cluster in '{0}'. 'tanist playground up --dir DIR' makes one")]
    None(String),
    /// It did not become whole.
    #[error(
        "TAN0705: the cluster was not whole after {waited:?}: {why}. Its logs are in {dir}/NODE/tanist.log"
    )]
    Unhealthy {
        /// How long.
        waited: Duration,
        /// What was missing.
        why: String,
        /// Where.
        dir: String,
    },
    /// Certificates, passwords.
    #[error("TAN0706: what the nodes need could not be made: {0}")]
    Material(String),
    /// No such node.
    #[error("TAN0707: there is no node '{0}' in this local cluster")]
    NoNode(String),
}

/// A local cluster.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it is made of.
    pub plan: Plan,
}

/// The document of `playground up` and `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Name of the cluster.
    pub cluster: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Every agent's API.
    pub api: Vec<String>,
    /// A page for people.
    pub dashboard: String,
    /// The token for changing verbs.
    pub token_file: PathBuf,
    /// Where to write.
    pub write_url: String,
    /// Where to read.
    pub read_url: String,
    /// Straight to the servers, without a proxy.
    pub direct_url: String,
    /// What an acknowledgement promises.
    pub durability: String,
    /// Its nodes.
    pub nodes: Vec<NodeDocument>,
    /// Its proxies; none yet.
    pub proxies: Vec<serde_json::Value>,
}

/// One node, as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeDocument {
    /// Its name.
    pub name: String,
    /// `data` or `witness`.
    pub kind: Kind,
    /// Its API.
    pub api: String,
    /// Its PostgreSQL.
    pub postgres_port: u16,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// The guard, if it runs.
    pub guard_pid: Option<i32>,
    /// The agent, if it runs.
    pub agent_pid: Option<i32>,
    /// The postmaster, if it runs.
    pub postmaster_pid: Option<i32>,
    /// Its address.
    pub address: String,
    /// Its network namespace, if it has one.
    pub netns: Option<String>,
    /// Its interface there.
    pub interface: Option<String>,
}

fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let path = path.display().to_string();
    move |e| StageError::Folder { path, why: e.to_string() }
}

impl Stage {
    /// The cluster in `dir`.
    ///
    /// # Errors
    /// `None`.
    pub fn open(dir: &Path) -> Result<Stage, StageError> {
        let none = || StageError::None(dir.display().to_string());
        let pointer = fs::read_to_string(dir.join("moved-to")).ok();
        let dir = pointer.map_or(dir.to_path_buf(), |p| PathBuf::from(p.trim()));
        let text = fs::read_to_string(dir.join("stage.json")).map_err(|_| none())?;
        let plan = serde_json::from_str(&text).map_err(|_| none())?;
        Ok(Stage { plan })
    }

    /// Makes the cluster where there is none, starts what does not run, and
    /// returns when it is whole.
    ///
    /// # Errors
    /// Any `StageError`.
    pub async fn up(options: &Options) -> Result<Stage, StageError> {
        let stage = match Stage::open(&options.dir) {
            Ok(stage) => stage,
            Err(_) => Stage::make(options)?,
        };
        for node in &stage.plan.nodes {
            stage.start(node)?;
        }
        stage.wait_whole(HEALTHY_LIMIT).await?;
        Ok(stage)
    }

    fn make(options: &Options) -> Result<Stage, StageError> {
        if options.nodes == 0 || options.nodes > NODES_MAX {
            return Err(StageError::Nodes(options.nodes));
        }
        let pg_bin = options.pg_bin.clone().or_else(find_postgres).ok_or(StageError::NoPostgres)?;
        let dir = reachable(&options.dir)?;
        let owner = RunAs::for_server().map_err(|e| StageError::Material(e.to_string()))?;
        let binary = program(options, &dir, owner)?;
        let mut nodes = Vec::new();
        for i in 0..options.nodes + u16::from(options.nodes == 2) {
            let (api, peers, postgres) = ports(options.base_port, i).map_err(folder(&dir))?;
            let kind = if i < options.nodes { Kind::Data } else { Kind::Witness };
            let name = if kind == Kind::Data { format!("n{}", i + 1) } else { "w1".to_string() };
            let name = NodeId::new(&name).map_err(|e| StageError::Material(e.to_string()))?;
            let postgres = if kind == Kind::Data { postgres } else { 0 };
            nodes.push(PlannedNode { name, kind, api, peers, postgres });
        }
        let relaxed = if options.nodes == 2 { Durability::QuorumRelaxed } else { Durability::Quorum };
        let durability = options.durability.unwrap_or(relaxed);
        let plan = Plan { dir, binary, pg_bin, durability, nodes };
        let stage = Stage { plan };
        stage.furnish(owner)?;
        let text = serde_json::to_string_pretty(&stage.plan).unwrap_or_default();
        write(&stage.plan.dir.join("stage.json"), &text, 0o644)?;
        Ok(stage)
    }

    /// Certificates, passwords, token and a configuration for each node.
    fn furnish(&self, owner: RunAs) -> Result<(), StageError> {
        let material = |e: &dyn std::fmt::Display| StageError::Material(e.to_string());
        let ca = Authority::create("playground").map_err(|e| material(&e))?;
        ca.save(&self.plan.dir).map_err(|e| material(&e))?;
        let secrets = Secrets::generate().map_err(|e| material(&e))?;
        let token = Secrets::generate().map_err(|e| material(&e))?;
        write(&self.plan.token_file(), token.monitor.reveal(), 0o600)?;
        write(&self.plan.dir.join("superuser.pass"), secrets.superuser.reveal(), 0o600)?;
        for node in &self.plan.nodes {
            self.furnish_node(node, &ca, &secrets, owner)?;
        }
        Ok(())
    }

    fn furnish_node(
        &self,
        node: &PlannedNode,
        ca: &Authority,
        secrets: &Secrets,
        owner: RunAs,
    ) -> Result<(), StageError> {
        let material = |e: &dyn std::fmt::Display| StageError::Material(e.to_string());
        let dir = self.plan.node_dir(node);
        let home = postgres::NodeDir::new(&dir).map_err(|e| material(&e))?;
        home.create(owner).map_err(|e| material(&e))?;
        secrets.store(&home.secrets(), owner).map_err(|e| material(&e))?;
        let issued = ca.issue(&node.name, &["127.0.0.1".to_string()]).map_err(|e| material(&e))?;
        issued.save(&dir).map_err(|e| material(&e))?;
        write(&dir.join("ca.crt"), ca.certificate(), 0o644)?;
        let first = self.plan.nodes.first().is_some_and(|n| n.name == node.name);
        if first {
            write(&dir.join("bootstrap"), "", 0o600)?;
        }
        let config = self.host_config(node, first);
        let text = toml::to_string(&config).map_err(|e| material(&e))?;
        write(&dir.join("tanist.toml"), &text, 0o644)
    }

    fn host_config(&self, node: &PlannedNode, first: bool) -> HostConfig {
        let dir = self.plan.node_dir(node);
        let at = |port: u16| format!("127.0.0.1:{port}");
        let listed = |n: &PlannedNode| Listed {
            name: n.name.clone(),
            kind: n.kind,
            peers: at(n.peers),
            api: at(n.api),
            postgres: if n.kind == Kind::Data { at(n.postgres) } else { String::new() },
        };
        let others = || self.plan.nodes.iter().filter(|n| n.name != node.name);
        let server = Postgres {
            bin_dir: self.plan.pg_bin.clone(),
            port: node.postgres,
            listen: vec!["127.0.0.1".to_string()],
            socket_dir: None,
        };
        HostConfig {
            cluster: "playground".to_string(),
            name: node.name.clone(),
            kind: node.kind,
            address: "127.0.0.1".to_string(),
            join: others().map(|n| at(n.peers)).collect(),
            bootstrap: first.then(|| dir.join("bootstrap")),
            durability: self.plan.durability,
            token_file: self.plan.token_file(),
            allow_drills: true,
            zone: String::new(),
            priority: 0,
            listen: Listen { api: at(node.api), peers: at(node.peers) },
            tls: Tls { ca: dir.join("ca.crt"), cert: dir.join("node.crt"), key: dir.join("node.key") },
            postgres: (node.kind == Kind::Data).then_some(server),
            members: if first { others().map(listed).collect() } else { Vec::new() },
            data_dir: dir,
        }
    }

    /// Starts a node that does not run, in a session of its own.
    ///
    /// # Errors
    /// `Folder`.
    pub fn start(&self, node: &PlannedNode) -> Result<(), StageError> {
        if self.pids(node).guard.is_some() {
            return Ok(());
        }
        let dir = self.plan.node_dir(node);
        let path = dir.join("tanist.log");
        let log =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(folder(&path))?;
        let log_again = log.try_clone().map_err(folder(&path))?;
        let mut command = Command::new(&self.plan.binary);
        command.arg("run").arg("--config").arg(dir.join("tanist.toml"));
        command.stdin(Stdio::null()).stdout(log_again).stderr(log).process_group(0).current_dir("/");
        let child = command.spawn().map_err(folder(&self.plan.binary))?;
        write(&dir.join("guard.pid"), &child.id().to_string(), 0o644)
    }

    /// Stops a node in order, or kills it.
    pub fn stop(&self, node: &PlannedNode) {
        let Some(guard) = self.pids(node).guard else { return };
        let pid = nix::unistd::Pid::from_raw(guard);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let began = Instant::now();
        while self.pids(node).guard.is_some() && began.elapsed() < STOP_LIMIT {
            std::thread::sleep(Duration::from_millis(20));
        }
        crate::fault::kill_node(self, node);
    }

    /// Stops everything, standbys first; with `wipe` nothing is left.
    ///
    /// # Errors
    /// `Folder`.
    pub fn down(&self, wipe: bool) -> Result<(), StageError> {
        std::thread::scope(|scope| {
            for node in &self.plan.nodes {
                scope.spawn(|| self.stop(node));
            }
        });
        if wipe {
            fs::remove_dir_all(&self.plan.dir).map_err(folder(&self.plan.dir))?;
        }
        Ok(())
    }

    /// A client of every agent.
    #[must_use]
    pub fn client(&self) -> Client {
        let urls = self.plan.nodes.iter().map(|n| format!("http://127.0.0.1:{}", n.api)).collect();
        let token = fs::read_to_string(self.plan.token_file()).ok().map(|t| t.trim().to_string());
        Client { urls, token }
    }

    /// What the first agent that answers says.
    pub async fn status(&self) -> Option<Status> {
        self.client().get("/v1/status").await.ok()
    }

    /// Waits until a leader takes writes and every member is a voter in its place.
    ///
    /// # Errors
    /// `Unhealthy`.
    pub async fn wait_whole(&self, limit: Duration) -> Result<Status, StageError> {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            let missing = status.as_ref().map_or("no agent answers".to_string(), |s| self.missing(s));
            if let Some(status) = status.filter(|_| missing.is_empty()) {
                return Ok(status);
            }
            if began.elapsed() > limit {
                let dir = self.plan.dir.display().to_string();
                return Err(StageError::Unhealthy { waited: limit, why: missing, dir });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What keeps the cluster from being whole, in words.
    fn missing(&self, status: &Status) -> String {
        if !status.writable {
            return format!("no writes are taken (term {}, {})", status.term, status.phase);
        }
        let well = |m: &api::status::MemberStatus| {
            m.standing == "voter" && matches!(m.state.as_str(), "running" | "streaming")
        };
        if let Some(m) = status.members.iter().find(|m| !well(m)) {
            return format!("{} is {} ({})", m.name, m.state, m.standing);
        }
        let standbys = self.plan.data_nodes().count() - 1;
        let in_rule = self.plan.durability == Durability::Async || status.sync.names.len() == standbys;
        if in_rule { String::new() } else { format!("commits wait for {:?} only", status.sync.names) }
    }

    /// The document of this cluster, as it is now.
    #[must_use]
    pub fn document(&self) -> Document {
        let password = fs::read_to_string(self.plan.dir.join("superuser.pass")).unwrap_or_default();
        let hosts: Vec<String> =
            self.plan.data_nodes().map(|n| format!("127.0.0.1:{}", n.postgres)).collect();
        let base = format!("postgresql://postgres:{password}@{}/postgres", hosts.join(","));
        let direct_url = format!(
            "{base}?target_session_attrs=read-write&connect_timeout=2&tcp_user_timeout=2000&keepalives_idle=1"
        );
        let api: Vec<String> =
            self.plan.nodes.iter().map(|n| format!("http://127.0.0.1:{}", n.api)).collect();
        Document {
            cluster: "playground".to_string(),
            dir: self.plan.dir.clone(),
            dashboard: api.first().map_or(String::new(), |a| format!("{a}/")),
            api,
            token_file: self.plan.token_file(),
            write_url: direct_url.clone(),
            read_url: format!("{base}?connect_timeout=2"),
            direct_url,
            durability: self.plan.durability.to_string(),
            nodes: self.plan.nodes.iter().map(|n| self.node_document(n)).collect(),
            proxies: Vec::new(),
        }
    }

    fn node_document(&self, node: &PlannedNode) -> NodeDocument {
        let pids = self.pids(node);
        NodeDocument {
            name: node.name.to_string(),
            kind: node.kind,
            api: format!("http://127.0.0.1:{}", node.api),
            postgres_port: node.postgres,
            data_dir: self.plan.node_dir(node).join("pgdata"),
            guard_pid: pids.guard,
            agent_pid: pids.agent,
            postmaster_pid: pids.postmaster,
            address: "127.0.0.1".to_string(),
            netns: None,
            interface: None,
        }
    }

    /// The processes of a node that run now.
    #[must_use]
    pub fn pids(&self, node: &PlannedNode) -> Pids {
        let dir = self.plan.node_dir(node);
        let number =
            |path: PathBuf| fs::read_to_string(path).ok()?.lines().next()?.trim().parse::<i32>().ok();
        let runs = |pid: &i32, word: &str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word)
                && postgres::guard::tree::state_of(*pid).is_some_and(|s| s != 'Z')
        };
        let config = dir.join("tanist.toml").display().to_string();
        let guard = number(dir.join("guard.pid")).filter(|p| runs(p, &config));
        let agent = guard.and_then(|g| child_of(g, "agent"));
        let pgdata = dir.join("pgdata").display().to_string();
        let postmaster = number(dir.join("pgdata/postmaster.pid")).filter(|p| runs(p, &pgdata));
        Pids { guard, agent, postmaster }
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), StageError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(folder(path))?;
    file.write_all(text.as_bytes()).map_err(folder(path))
}

/// A folder that the server's user can reach: the one asked for, or one under
/// the system's temporary storage that survives, with a pointer left behind.
fn reachable(asked: &Path) -> Result<PathBuf, StageError> {
    fs::create_dir_all(asked).map_err(folder(asked))?;
    let asked = asked.canonicalize().map_err(folder(asked))?;
    let open = |p: &Path| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    let root = nix::unistd::geteuid().is_root();
    fs::set_permissions(&asked, fs::Permissions::from_mode(0o755)).map_err(folder(&asked))?;
    let long = asked.as_os_str().len() > 70;
    if !long && (!root || asked.ancestors().all(open)) {
        return Ok(asked);
    }
    let tag: u32 = asked
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(5381, |h: u32, b| h.wrapping_mul(33) ^ u32::from(*b));
    let dir = PathBuf::from(format!("/var/tmp/tanist-{tag:08x}"));
    fs::create_dir_all(&dir).map_err(folder(&dir))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(folder(&dir))?;
    write(&asked.join("moved-to"), &dir.display().to_string(), 0o644)?;
    Ok(dir)
}

/// The program to run, copied to where the cluster is, so that a rebuild does
/// not change what runs.
fn program(options: &Options, dir: &Path, owner: RunAs) -> Result<PathBuf, StageError> {
    let own = || std::env::current_exe().map_err(folder(dir));
    let from = options.binary.clone().map_or_else(own, Ok)?;
    let to = dir.join("tanist");
    fs::copy(&from, &to).map_err(folder(&to))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(folder(&to))?;
    let _ = owner;
    Ok(to)
}
