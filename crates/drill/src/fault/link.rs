//! Links between nodes, cut silently by rules of nftables in one node's
//! namespace: between two only, or one way only. Clients on the host see every
//! node all the time, which is what makes such a cut worse than a whole one.
//!
//! A whole cut, clients and all, pulls the cable (isolate.rs).

use std::io::Write;
use std::process::{Command, Stdio};

use crate::layout::PlannedNode;
use crate::stage::{Stage, StageError};

/// The table that holds our rules and nothing else.
const TABLE: &str = "tanist_faults";

/// Which packets of a node are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Those that come.
    In,
    /// Those that go.
    Out,
    /// Both.
    Both,
}

/// Links that are cut, until this is dropped.
#[derive(Debug)]
pub struct Cut(String);

/// Loses what passes between `node` and each of `others`.
///
/// # Errors
/// `Network`.
pub fn cut(stage: &Stage, node: &PlannedNode, others: &[PlannedNode], way: Way) -> Result<Cut, StageError> {
    let addresses = addresses(others);
    let mut rules = String::new();
    if way != Way::Out {
        rules += &format!(
            "chain come {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}\n"
        );
    }
    if way != Way::In {
        rules +=
            &format!("chain go {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}\n");
    }
    apply(stage, node, &rules)
}

/// Loses what `others` send to the PostgreSQL of `node`, while agents reach each other: a
/// rule in somebody's firewall.
///
/// # Errors
/// `Network`.
pub fn close_port(stage: &Stage, node: &PlannedNode, others: &[PlannedNode]) -> Result<Cut, StageError> {
    let (addresses, port) = (addresses(others), node.postgres);
    let rule = format!("ip saddr {{ {addresses} }} tcp dport {port} drop;");
    apply(stage, node, &format!("chain come {{ type filter hook input priority 0; {rule} }}\n"))
}

fn addresses(others: &[PlannedNode]) -> String {
    others.iter().map(|n| n.address.as_str()).collect::<Vec<_>>().join(", ")
}

/// Has these chains, and no others of ours, in the node's namespace.
fn apply(stage: &Stage, node: &PlannedNode, chains: &str) -> Result<Cut, StageError> {
    let none = || StageError::Network("this cluster was made without --isolate".to_string());
    let netns = stage.plan.network.ok_or_else(none)?.netns(&node.name);
    let anew = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
    nft(&netns, &format!("{anew}table ip {TABLE} {{\n{chains}}}\n"))?;
    Ok(Cut(netns))
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = nft(&self.0, &format!("table ip {TABLE}\ndelete table ip {TABLE}\n"));
    }
}

/// Has nftables do what `script` says in a namespace.
fn nft(netns: &str, script: &str) -> Result<(), StageError> {
    let wrong = |why: String| StageError::Network(format!("'nft' in {netns}: {why}"));
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "nft", "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| wrong(e.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    }
    let out = child.wait_with_output().map_err(|e| wrong(e.to_string()))?;
    let why = String::from_utf8_lossy(&out.stderr).trim().to_string();
    if out.status.success() { Ok(()) } else { Err(wrong(why)) }
}
