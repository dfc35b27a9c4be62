//! A local cluster: made, started, looked at, stopped.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::{Client, Status};
use cluster::command::Kind;
use cluster::{Durability, NodeId};
use postgres::RunAs;

use crate::furnish::{program, reachable, write};
use crate::isolate::Network;
use crate::layout::{NODES, Options, Plan, PlannedNode, PlannedProxy, find_postgres, ports};
use crate::processes::{Pids, child_of, running};

/// Longest that a cluster may take to be whole.
pub const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Longest that stopping a node in order may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Most data nodes of a local cluster.
pub const NODES_MAX: u16 = 7;

/// Is in the folder of a cluster that is being made, until it can be opened.
const UNFINISHED: &str = "unfinished";

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
    /// No network of its own for each node.
    #[error(
        "TAN0712: the nodes can't be put into network namespaces of their own: {0}. Run it as root with iproute2 installed, or leave --isolate away"
    )]
    Network(String),
    /// No disk of its own for a node.
    #[error(
        "TAN0717: a disk for one node alone could not be made or broken: {0}. It takes root, mkfs.ext4, mount and fsfreeze"
    )]
    Disk(String),
    /// Somebody else's folder.
    #[error(
        "TAN0713: the folder '{0}' is not empty and holds no local cluster. Nothing was written; name an empty or a new one with --dir DIR"
    )]
    NotEmpty(String),
    /// A port that somebody listens on, or that is none.
    #[error(
        "TAN0714: a port can't be had: {0}. Nothing was written; name others with --base-port, 0 takes free ones"
    )]
    Port(String),
    /// It is there, and is not what was asked for.
    #[error(
        "TAN0715: the local cluster in '{dir}' is another than was asked for: {how}. Nothing was started; leave the flag away to start it as it is, or make another with --dir DIR"
    )]
    Differs {
        /// Which.
        dir: String,
        /// In what.
        how: String,
    },
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

pub(crate) fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let path = path.display().to_string();
    move |e| StageError::Folder { path, why: e.to_string() }
}

/// A folder that holds something else is left alone: `down --wipe` removes all of it.
fn refuse_others(dir: &Path) -> Result<(), StageError> {
    let foreign = |e: &fs::DirEntry| !matches!(e.file_name().to_str(), Some("moved-to" | "lost+found"));
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let taken = entries.any(|e| foreign(&e) && !is_empty_dir(&e.path()));
    if taken { Err(StageError::NotEmpty(dir.display().to_string())) } else { Ok(()) }
}

/// Where a node's folder was made beforehand, as a mount of its own say.
fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut all| all.next().is_none())
}

/// The ports of node `i`; those that were asked for by number must be free.
fn ports_of(options: &Options, i: u16) -> Result<(u16, u16, u16), StageError> {
    let all = ports(options.base_port, i).map_err(|e| StageError::Port(e.to_string()))?;
    let on_loopback = !options.isolate && options.base_port != Some(0);
    [all.0, all.1, all.2].into_iter().filter(|_| on_loopback).try_for_each(must_be_free)?;
    Ok(all)
}

/// The ports of the proxy, which is on loopback in any case.
fn proxy_ports(options: &Options) -> Result<PlannedProxy, StageError> {
    let proxy = PlannedProxy::of(options.base_port).map_err(|e| StageError::Port(e.to_string()))?;
    if options.base_port != Some(0) {
        [proxy.write, proxy.read].into_iter().try_for_each(must_be_free)?;
    }
    Ok(proxy)
}

fn must_be_free(port: u16) -> Result<(), StageError> {
    let taken = |e: std::io::Error| StageError::Port(format!("127.0.0.1:{port}: {e}"));
    std::net::TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(taken)
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

    /// Takes away what was made for a cluster in `dir` before there was one: its
    /// making was broken off. Whether there was any.
    ///
    /// # Errors
    /// `Folder`.
    pub fn clear_away(dir: &Path, wipe: bool) -> Result<bool, StageError> {
        let pointer = fs::read_to_string(dir.join("moved-to")).ok();
        let dir = pointer.map_or(dir.to_path_buf(), |p| PathBuf::from(p.trim()));
        let unfinished = dir.join(UNFINISHED).exists();
        let network = dir.canonicalize().ok().and_then(|dir| Network::of(&dir));
        if let Some(network) = network {
            network.remove(&[]);
        }
        if unfinished && wipe {
            fs::remove_dir_all(&dir).map_err(folder(&dir))?;
        }
        Ok(unfinished || network.is_some())
    }

    /// Makes the cluster where there is none, starts what does not run, and
    /// returns when it is whole.
    ///
    /// # Errors
    /// Any `StageError`.
    pub async fn up(options: &Options) -> Result<Stage, StageError> {
        let stage = match Stage::open(&options.dir) {
            Ok(stage) => stage,
            Err(_) => Stage::make(options).inspect_err(|_| {
                // What was begun is of no use to anybody; the error is what counts.
                let _ = Stage::clear_away(&options.dir, true);
            })?,
        };
        if let Some(how) = stage.plan.differs(options) {
            return Err(StageError::Differs { dir: options.dir.display().to_string(), how });
        }
        for node in &stage.plan.nodes {
            stage.start(node)?;
        }
        stage.wait_whole(HEALTHY_LIMIT).await?;
        stage.start_proxy()?;
        Ok(stage)
    }

    fn make(options: &Options) -> Result<Stage, StageError> {
        let data = options.nodes.unwrap_or(NODES);
        if data == 0 || data > NODES_MAX {
            return Err(StageError::Nodes(data));
        }
        let pg_bin = options.pg_bin.clone().or_else(find_postgres).ok_or(StageError::NoPostgres)?;
        postgres::Programs::find(&pg_bin).map_err(|e| StageError::Material(e.to_string()))?;
        Stage::clear_away(&options.dir, true)?;
        refuse_others(&options.dir)?;
        let witness = if options.wal_witness { Kind::WalWitness } else { Kind::Witness };
        let all = data + u16::from(data == 2 || options.wal_witness);
        let ports: Vec<(u16, u16, u16)> =
            (0..all).map(|i| ports_of(options, i)).collect::<Result<_, StageError>>()?;
        let proxy = proxy_ports(options)?;
        let dir = reachable(&options.dir)?;
        write(&dir.join(UNFINISHED), "", 0o644)?;
        let owner = RunAs::for_server().map_err(|e| StageError::Material(e.to_string()))?;
        let binary = program(options, &dir, owner)?;
        let network = if options.isolate { Some(Network::make(&dir)?) } else { None };
        let mut nodes = Vec::new();
        for (i, (api, peers, postgres)) in (0..all).zip(ports) {
            let kind = if i < data { Kind::Data } else { witness };
            let name = if kind == Kind::Data { format!("n{}", i + 1) } else { "w1".to_string() };
            let name = NodeId::new(&name).map_err(|e| StageError::Material(e.to_string()))?;
            let postgres = if kind == Kind::Data { postgres } else { 0 };
            let address = network.map_or_else(|| "127.0.0.1".to_string(), |n: Network| n.address(i));
            nodes.push(PlannedNode { name, kind, address, api, peers, postgres });
        }
        let relaxed =
            if data == 2 && !options.wal_witness { Durability::QuorumRelaxed } else { Durability::Quorum };
        let durability = options.durability.unwrap_or(relaxed);
        let plan = Plan { dir, binary, pg_bin, durability, nodes, proxy: Some(proxy), network };
        let stage = Stage { plan };
        stage.furnish(owner)?;
        stage.sync()?;
        let text = serde_json::to_string_pretty(&stage.plan).unwrap_or_default();
        write(&stage.plan.dir.join("stage.json"), &text, 0o644)?;
        let unfinished = stage.plan.dir.join(UNFINISHED);
        fs::remove_file(&unfinished).map_err(folder(&unfinished))?;
        Ok(stage)
    }

    /// A cluster whose power is lost a moment after it was made is there: without
    /// this a node's configuration came back empty.
    fn sync(&self) -> Result<(), StageError> {
        for node in &self.plan.nodes {
            let dir = self.plan.node_dir(node);
            let open = fs::File::open(&dir).map_err(folder(&dir))?;
            nix::unistd::syncfs(open).map_err(|e| folder(&dir)(e.into()))?;
        }
        Ok(())
    }

    /// Starts a node that does not run, in a session of its own.
    ///
    /// # Errors
    /// `Folder`.
    pub fn start(&self, node: &PlannedNode) -> Result<(), StageError> {
        self.start_with(node, &[])
    }

    /// Starts it with more in its environment.
    ///
    /// # Errors
    /// `Folder`.
    pub fn start_with(&self, node: &PlannedNode, environment: &[(String, String)]) -> Result<(), StageError> {
        if self.pids(node).guard.is_some() {
            return Ok(());
        }
        let dir = self.plan.node_dir(node);
        let path = dir.join("tanist.log");
        let log =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(folder(&path))?;
        let log_again = log.try_clone().map_err(folder(&path))?;
        let mut command = match self.plan.network {
            Some(network) => network.command(&self.plan, node)?,
            None => Command::new(&self.plan.binary),
        };
        command.envs(environment.iter().cloned());
        command.arg("run").arg("--config").arg(dir.join("tanist.toml"));
        command.stdin(Stdio::null()).stdout(log_again).stderr(log).process_group(0).current_dir("/");
        let child = command.spawn().map_err(folder(&self.plan.binary))?;
        write(&dir.join("guard.pid"), &child.id().to_string(), 0o644)
    }

    /// Stops a node in order, or kills it.
    pub fn stop(&self, node: &PlannedNode) {
        let Some(guard) = self.pids(node).guard else {
            // Whatever a guard that died has left.
            return crate::fault::kill_node(self, node);
        };
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
        self.stop_proxy();
        std::thread::scope(|scope| {
            for node in &self.plan.nodes {
                scope.spawn(|| self.stop(node));
            }
        });
        if let Some(network) = self.plan.network {
            network.remove(&self.plan.nodes);
        }
        if wipe {
            fs::remove_dir_all(&self.plan.dir).map_err(folder(&self.plan.dir))?;
        }
        Ok(())
    }

    /// A client of every agent.
    #[must_use]
    pub fn client(&self) -> Client {
        let urls = self.plan.nodes.iter().map(|n| format!("http://{}:{}", n.address, n.api)).collect();
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
        // A node that was stopped a moment ago is in the status for as long as nobody misses it.
        if let Some(node) = self.plan.data_nodes().find(|n| self.pids(n).postmaster.is_none()) {
            return format!("{} has no server yet", node.name);
        }
        let standbys = self.plan.wal_nodes().count() - 1;
        let in_rule = self.plan.durability == Durability::Async || status.sync.names.len() == standbys;
        if in_rule { String::new() } else { format!("commits wait for {:?} only", status.sync.names) }
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
        // Whoever started one may have died before it wrote down which.
        let guard = guard.or_else(|| running("run", &config));
        let agent = guard.and_then(|g| child_of(g, "agent"));
        let pgdata = dir.join("pgdata").display().to_string();
        let postmaster = number(dir.join("pgdata/postmaster.pid")).filter(|p| runs(p, &pgdata));
        Pids { guard, agent, postmaster }
    }
}
