//! The document of `playground up` and `status`: what scripts parse.

use std::fs;
use std::path::PathBuf;

use cluster::command::Kind;
use serde::{Deserialize, Serialize};

use crate::isolate::INTERFACE;
use crate::layout::{PlannedNode, PlannedProxy};
use crate::stage::Stage;

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
    /// Its proxies.
    pub proxies: Vec<ProxyDocument>,
}

/// One proxy, as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyDocument {
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Where those who write connect.
    pub write_port: u16,
    /// Where those who read connect.
    pub read_port: u16,
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

impl Stage {
    /// The document of this cluster, as it is now.
    #[must_use]
    pub fn document(&self) -> Document {
        let password = fs::read_to_string(self.plan.dir.join("superuser.pass")).unwrap_or_default();
        let hosts: Vec<String> =
            self.plan.data_nodes().map(|n| format!("{}:{}", n.address, n.postgres)).collect();
        let base = format!("postgresql://postgres:{password}@{}/postgres", hosts.join(","));
        let direct_url = format!(
            "{base}?target_session_attrs=read-write&connect_timeout=2&tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1{}",
            self.plan.tls()
        );
        let through = |port: Option<u16>| {
            port.map(|port| format!("postgresql://postgres:{password}@127.0.0.1:{port}/postgres"))
        };
        let api: Vec<String> =
            self.plan.nodes.iter().map(|n| format!("http://{}:{}", n.address, n.api)).collect();
        Document {
            cluster: "playground".to_string(),
            dir: self.plan.dir.clone(),
            dashboard: api.first().map_or(String::new(), |a| format!("{a}/")),
            api,
            token_file: self.plan.token_file(),
            write_url: through(self.plan.proxy.map(|p| p.write)).unwrap_or_else(|| direct_url.clone()),
            read_url: through(self.plan.proxy.map(|p| p.read))
                .unwrap_or_else(|| format!("{base}?connect_timeout=2{}", self.plan.tls())),
            direct_url,
            durability: self.plan.durability.to_string(),
            nodes: self.plan.nodes.iter().map(|n| self.node_document(n)).collect(),
            proxies: self.plan.proxy.iter().map(|p| self.proxy_document(*p)).collect(),
        }
    }

    fn proxy_document(&self, proxy: PlannedProxy) -> ProxyDocument {
        ProxyDocument { pid: self.proxy_pid(), write_port: proxy.write, read_port: proxy.read }
    }

    fn node_document(&self, node: &PlannedNode) -> NodeDocument {
        let pids = self.pids(node);
        NodeDocument {
            name: node.name.to_string(),
            kind: node.kind,
            api: format!("http://{}:{}", node.address, node.api),
            postgres_port: node.postgres,
            data_dir: self.plan.node_dir(node).join("pgdata"),
            guard_pid: pids.guard,
            agent_pid: pids.agent,
            postmaster_pid: pids.postmaster,
            address: node.address.clone(),
            netns: self.plan.network.map(|n| n.netns(&node.name)),
            interface: self.plan.network.map(|_| INTERFACE.to_string()),
        }
    }
}
