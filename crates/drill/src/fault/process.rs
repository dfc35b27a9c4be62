//! One process of a node, or all of them: killed, or made to stand still.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::PlannedNode;
use crate::stage::Stage;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The server's first process.
    Postmaster,
    /// The server's process for one client.
    Backend,
    /// Sends WAL to a standby.
    Walsender,
    /// Receives WAL from a leader.
    Walreceiver,
    /// Replays WAL.
    Startup,
    /// Writes checkpoints.
    Checkpointer,
    /// Tanist's agent.
    Agent,
    /// Tanist's guard.
    Guard,
    /// All of them at once, as when the host dies, or its virtual machine is paused.
    Node,
}

impl Target {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Target::Postmaster => "postmaster",
            Target::Backend => "backend",
            Target::Walsender => "walsender",
            Target::Walreceiver => "walreceiver",
            Target::Startup => "startup",
            Target::Checkpointer => "checkpointer",
            Target::Agent => "agent",
            Target::Guard => "guard",
            Target::Node => "node",
        }
    }
}

/// The pids of `target` on `node`; one only, but for a whole node.
#[must_use]
pub fn find(stage: &Stage, node: &PlannedNode, target: Target) -> Vec<i32> {
    let pids = stage.pids(node);
    let titled = |word: &str| by_title(stage, node, word).into_iter().take(1).collect();
    match target {
        Target::Postmaster => pids.postmaster.into_iter().collect(),
        // A client beyond the host: the agent's own sessions say [local].
        Target::Backend => titled(" postgres postgres 10."),
        Target::Walsender => titled(" walsender "),
        Target::Walreceiver => titled(" walreceiver"),
        Target::Startup => titled(" startup"),
        Target::Checkpointer => titled(" checkpointer"),
        Target::Agent => pids.agent.into_iter().collect(),
        Target::Guard => pids.guard.into_iter().collect(),
        Target::Node => {
            let tree = postgres::guard::tree::pids(&stage.plan.node_dir(node).join("pgdata"));
            [pids.guard, pids.agent].into_iter().flatten().chain(tree).collect()
        }
    }
}

/// The server's processes with `word` in their titles, `postgres: n1: walsender …`.
fn by_title(stage: &Stage, node: &PlannedNode, word: &str) -> Vec<i32> {
    let all = postgres::guard::tree::pids(&stage.plan.node_dir(node).join("pgdata"));
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&line).into_owned();
        title.starts_with("postgres:") && title.contains(word)
    };
    all.into_iter().filter(has).collect()
}

/// Ends them with SIGKILL; how many there were.
pub fn end(pids: &[i32]) -> usize {
    pids.iter().filter(|pid| kill(Pid::from_raw(**pid), Signal::SIGKILL).is_ok()).count()
}

/// Processes that stand still, until this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<i32>);

/// Stops them with SIGSTOP.
#[must_use]
pub fn freeze(pids: &[i32]) -> Frozen {
    let stopped = pids.iter().filter(|pid| kill(Pid::from_raw(**pid), Signal::SIGSTOP).is_ok());
    Frozen(stopped.copied().collect())
}

impl Frozen {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Whoever has the number now and does not stand still is somebody else.
            if postgres::guard::tree::state_of(*pid) == Some('T') {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
            }
        }
    }
}
