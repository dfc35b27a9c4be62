//! What agent and guard say to each other: one JSON document a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::os_user::RunAs;

/// Longest request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// "I am well": the server may run until this moment of CLOCK_BOOTTIME, in
    /// milliseconds; `None` leaves it without a deadline.
    Arm {
        /// The deadline.
        deadline_ms: Option<u64>,
    },
    /// What is.
    Status,
    /// Start the postmaster.
    Start(Start),
    /// Send it a signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Kill everything of the server, and answer when nothing is left.
    Kill,
    /// Make a fault, where the host's configuration allows drills.
    Fault {
        /// Which.
        fault: Fault,
        /// How long it lasts, in milliseconds; of no meaning for some.
        ms: u64,
    },
}

/// What a drill may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The agent stands still for so long (SIGSTOP), or until it is killed for its silence.
    FreezeAgent,
    /// The agent is killed, and not started again for so long.
    KillAgent,
    /// The postmaster stands still for so long (SIGSTOP).
    FreezePostmaster,
    /// The postmaster alone is killed.
    KillPostmaster,
    /// Guard, agent and server are killed at once, as when the host is lost.
    KillNode,
}

/// How a postmaster is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where its output goes.
    pub log: PathBuf,
    /// As whom.
    pub run_as: RunAs,
}

/// From the guard: the answer to each request in turn, and news between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// To the oldest request that has none.
    Answer(Answer),
    /// The postmaster is gone.
    PostmasterEnded {
        /// Which.
        pid: i32,
        /// How, in words.
        how: String,
    },
    /// The deadline has passed and the server was killed.
    DeadlineFired,
}

/// To one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done.
    Done,
    /// The postmaster's pid.
    Started(i32),
    /// What is.
    Status(Status),
    /// Why it was not done.
    Failed(String),
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The postmaster, if one runs.
    pub postmaster: Option<i32>,
    /// The deadline in force.
    pub deadline_ms: Option<u64>,
    /// A deadline has fired since this was last asked.
    pub fired: bool,
}
