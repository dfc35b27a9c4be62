//! Faults, made from outside as the world makes them: by pid, by link, by disk
//! and by clock. One kind, one file; one that lasts is a value, and ends when
//! that is dropped.

pub mod clock;
pub mod disk;
pub mod link;
pub mod power;
pub mod process;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::PlannedNode;
use crate::stage::{Stage, StageError};

fn send(pid: Option<i32>, signal: Signal) -> bool {
    pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
}

/// `kill -9` of the postmaster alone.
pub fn kill_postmaster(stage: &Stage, node: &PlannedNode) -> bool {
    send(stage.pids(node).postmaster, Signal::SIGKILL)
}

/// Every process of a node at once, as when its host is lost.
pub fn kill_node(stage: &Stage, node: &PlannedNode) {
    let pids = stage.pids(node);
    let tree = postgres::guard::tree::pids(&stage.plan.node_dir(node).join("pgdata"));
    for pid in [pids.guard, pids.agent, pids.postmaster].into_iter().flatten().chain(tree) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Stops the agent where it stands (SIGSTOP).
pub fn freeze_agent(stage: &Stage, node: &PlannedNode) -> bool {
    send(stage.pids(node).agent, Signal::SIGSTOP)
}

/// `kill -9` of the agent alone.
pub fn kill_agent(stage: &Stage, node: &PlannedNode) -> bool {
    send(stage.pids(node).agent, Signal::SIGKILL)
}

/// Stops the postmaster where it stands (SIGSTOP).
pub fn freeze_postmaster(stage: &Stage, node: &PlannedNode) -> bool {
    send(stage.pids(node).postmaster, Signal::SIGSTOP)
}

/// Cuts a node's link silently; only where nodes have namespaces of their own.
///
/// # Errors
/// `Network`.
pub fn cut(stage: &Stage, node: &PlannedNode) -> Result<(), StageError> {
    stage.plan.network.map_or_else(no_network, |n| n.cut(&node.name))
}

/// Mends the link again.
///
/// # Errors
/// `Network`.
pub fn heal(stage: &Stage, node: &PlannedNode) -> Result<(), StageError> {
    stage.plan.network.map_or_else(no_network, |n| n.heal(&node.name))
}

fn no_network() -> Result<(), StageError> {
    Err(StageError::Network("this cluster was made without --isolate".to_string()))
}
