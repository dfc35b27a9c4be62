//! Nodes in network namespaces of their own, so that links can be cut.
//!
//! ```text
//!   this host ── bridge tanistN (10.87.N.254) ──┬── tanistN-n1 ═ eth0 in netns tanistN-n1 (10.87.N.1)
//!                                               ├── tanistN-n2 ═ eth0 in netns tanistN-n2 (10.87.N.2)
//! ```
//! A cut pulls the cable out of the bridge and leaves the interface up: packets
//! vanish in both directions and neither end is told.
//!
//! Never routes anywhere else: a namespace has no way out but the bridge.

use std::path::Path;
use std::process::Command;

use cluster::NodeId;
use serde::{Deserialize, Serialize};

use crate::layout::{Plan, PlannedNode};
use crate::stage::StageError;

/// The interface of a node, in its namespace.
pub const INTERFACE: &str = "eth0";
/// Networks of this kind that one host can carry.
const NETWORKS_MAX: u8 = 250;

/// One bridge and the namespaces on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    number: u8,
}

fn ip(arguments: &[&str]) -> Result<String, StageError> {
    let out = Command::new("ip").args(arguments).output();
    let out = out.map_err(|e| StageError::Network(format!("'ip' can't be run ({e})")))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr).trim().to_string();
    Err(StageError::Network(format!("'ip {}' failed: {why}", arguments.join(" "))))
}

impl Network {
    /// Makes the bridge of a network that nobody has, for the cluster in `dir`;
    /// one that was broken off there has left its own.
    ///
    /// # Errors
    /// `Network`.
    pub fn make(dir: &Path) -> Result<Network, StageError> {
        if let Some(left) = Network::of(dir) {
            return Ok(left);
        }
        let mut last = StageError::Network("every number is taken".to_string());
        for number in 1..=NETWORKS_MAX {
            let network = Network { number };
            // Making a bridge of a name that exists fails, so this is a claim.
            match ip(&["link", "add", &network.bridge(), "type", "bridge"]) {
                Ok(_) => return network.dress(dir).map(|()| network),
                Err(why) if why.to_string().contains("File exists") => last = why,
                Err(why) => return Err(why),
            }
        }
        Err(last)
    }

    /// The network whose bridge says that it belongs to the cluster in `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Network> {
        let all = ip(&["-o", "link", "show", "type", "bridge"]).ok()?;
        let alias = format!("alias {}", dir.display());
        let line = all.lines().find(|l| l.trim_end().ends_with(&alias))?;
        let name = line.split(": ").nth(1)?;
        name.strip_prefix("tanist")?.parse().ok().map(|number| Network { number })
    }

    fn dress(self, dir: &Path) -> Result<(), StageError> {
        let bridge = self.bridge();
        ip(&["link", "set", &bridge, "alias", &dir.display().to_string()])?;
        ip(&["addr", "add", &format!("10.87.{}.254/24", self.number), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"]).map(|_| ())
    }

    fn bridge(self) -> String {
        format!("tanist{}", self.number)
    }

    /// The address of the `i`-th node, from 0.
    #[must_use]
    pub fn address(self, i: u16) -> String {
        format!("10.87.{}.{}", self.number, i + 1)
    }

    /// The namespace of a node; its port at the bridge has the same name.
    #[must_use]
    pub fn netns(self, node: &NodeId) -> String {
        format!("{}-{node}", self.bridge())
    }

    /// A command that runs the cluster's program in a node's namespace.
    ///
    /// # Errors
    /// `Network`, also when another cluster has taken this network meanwhile.
    pub fn command(self, plan: &Plan, node: &PlannedNode) -> Result<Command, StageError> {
        self.claim_again(&plan.dir)?;
        self.join(node)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns(&node.name)]).arg(&plan.binary);
        Ok(command)
    }

    /// The bridge again, after it was taken away.
    fn claim_again(self, dir: &Path) -> Result<(), StageError> {
        let bridge = self.bridge();
        let Ok(shown) = ip(&["link", "show", "dev", &bridge]) else {
            ip(&["link", "add", &bridge, "type", "bridge"])?;
            return self.dress(dir);
        };
        let ours = shown.contains(&format!("alias {}", dir.display()));
        let taken = || StageError::Network(format!("'{bridge}' belongs to another cluster now"));
        if ours { Ok(()) } else { Err(taken()) }
    }

    /// A namespace for `node` with a cable to the bridge, unless it has one.
    fn join(self, node: &PlannedNode) -> Result<(), StageError> {
        let name = self.netns(&node.name);
        if Path::new("/run/netns").join(&name).exists() {
            return Ok(());
        }
        // The port of a namespace that is going away may still be there.
        let _ = ip(&["link", "delete", &name]);
        ip(&["netns", "add", &name])?;
        let cable = ["link", "add", &name, "type", "veth", "peer", "name", INTERFACE, "netns", &name];
        ip(&cable)?;
        ip(&["link", "set", &name, "master", &self.bridge(), "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{}/24", node.address), "dev", INTERFACE])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "link", "set", INTERFACE, "up"]).map(|_| ())
    }

    /// Takes bridge and namespaces away; what is gone already stays gone.
    pub fn remove(self, nodes: &[PlannedNode]) {
        for node in nodes {
            let _ = ip(&["link", "delete", &self.netns(&node.name)]);
            let _ = ip(&["netns", "delete", &self.netns(&node.name)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }

    /// Cuts a node off from everybody, silently.
    ///
    /// # Errors
    /// `Network`.
    pub fn cut(self, node: &NodeId) -> Result<(), StageError> {
        ip(&["link", "set", &self.netns(node), "nomaster"]).map(|_| ())
    }

    /// Undoes `cut`.
    ///
    /// # Errors
    /// `Network`.
    pub fn heal(self, node: &NodeId) -> Result<(), StageError> {
        ip(&["link", "set", &self.netns(node), "master", &self.bridge()]).map(|_| ())
    }
}
