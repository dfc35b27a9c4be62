//! What the nodes of a local cluster need before they start: certificates,
//! passwords, a token, a configuration each, and a folder they can reach.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use api::host_config::{HostConfig, Listed, Listen, Postgres, Tls};
use cluster::NodeId;
use cluster::command::Kind;
use peers::certs::Authority;
use postgres::{RunAs, Secrets};

use crate::layout::{Options, PROXY, PlannedNode};
use crate::stage::{Stage, StageError, folder};

impl Stage {
    /// Certificates, passwords, token and a configuration for each node; a certificate for a proxy.
    pub(crate) fn furnish(&self, owner: RunAs) -> Result<(), StageError> {
        let material = |e: &dyn std::fmt::Display| StageError::Material(e.to_string());
        let ca = Authority::create("playground").map_err(|e| material(&e))?;
        ca.save(&self.plan.dir).map_err(|e| material(&e))?;
        let proxy = NodeId::new(PROXY).map_err(|e| material(&e))?;
        let issued = ca.issue_to_proxy(&proxy).map_err(|e| material(&e))?;
        issued.save_as(&self.plan.dir, "proxy").map_err(|e| material(&e))?;
        let secrets = Secrets::generate().map_err(|e| material(&e))?;
        let token = Secrets::generate().map_err(|e| material(&e))?;
        write(&self.plan.token_file(), token.monitor.reveal(), 0o600)?;
        write(&self.plan.dir.join("superuser.pass"), secrets.superuser.reveal(), 0o600)?;
        for node in &self.plan.nodes {
            self.furnish_node(node, &ca, &secrets, owner)?;
        }
        self.furnish_proxy()
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
        let issued = ca.issue(&node.name, std::slice::from_ref(&node.address)).map_err(|e| material(&e))?;
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
        let at = |n: &PlannedNode, port: u16| format!("{}:{port}", n.address);
        let listed = |n: &PlannedNode| Listed {
            name: n.name.clone(),
            kind: n.kind,
            peers: at(n, n.peers),
            api: at(n, n.api),
            postgres: if n.kind == Kind::Data { at(n, n.postgres) } else { String::new() },
        };
        let others = || self.plan.nodes.iter().filter(|n| n.name != node.name);
        let server = Postgres {
            bin_dir: self.plan.pg_bin.clone(),
            port: node.postgres,
            listen: vec![node.address.clone()],
            socket_dir: None,
        };
        HostConfig {
            cluster: "playground".to_string(),
            name: node.name.clone(),
            kind: node.kind,
            address: node.address.clone(),
            join: others().map(|n| at(n, n.peers)).collect(),
            bootstrap: first.then(|| dir.join("bootstrap")),
            durability: self.plan.durability,
            token_file: self.plan.token_file(),
            allow_drills: true,
            zone: String::new(),
            priority: 0,
            wal_max_mb: api::host_config::wal_max_mb(),
            listen: Listen { api: at(node, node.api), peers: at(node, node.peers) },
            tls: Tls { ca: dir.join("ca.crt"), cert: dir.join("node.crt"), key: dir.join("node.key") },
            postgres: (node.kind == Kind::Data).then_some(server),
            proxy: None,
            members: if first { others().map(listed).collect() } else { Vec::new() },
            data_dir: dir,
        }
    }
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), StageError> {
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
pub(crate) fn reachable(asked: &Path) -> Result<PathBuf, StageError> {
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
pub(crate) fn program(options: &Options, dir: &Path, owner: RunAs) -> Result<PathBuf, StageError> {
    let own = || std::env::current_exe().map_err(folder(dir));
    let from = options.binary.clone().map_or_else(own, Ok)?;
    let to = dir.join("tanist");
    fs::copy(&from, &to).map_err(folder(&to))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(folder(&to))?;
    let _ = owner;
    Ok(to)
}
