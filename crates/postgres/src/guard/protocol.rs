//! What agent and guard say to each other: one JSON document a line.
//!
//! ```text
//!   agent to guard                              guard to agent
//!   {"number":7,"ask":{"signal":{"signal":2}}}  {"numbered":{"number":7,"answer":"done"}}
//!   {"signal":{"signal":2}}                     {"answer":"done"}
//!                                               "deadline-fired"
//! ```
//! An answer has its request's number. A request without one is answered without
//! one, in its turn: guard and agent are of two builds after an upgrade, and the
//! guard outlives it. An agent that knows numbers greets (`hello`) with its first
//! request: a guard that does not know them says so, without a number, and is spoken
//! to without. What a guard does not know it refuses, and does nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::os_user::RunAs;

/// Longest request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A request and its number, by which its answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<A> {
    /// Counted by the agent, for each connection.
    pub number: u64,
    /// What is asked.
    pub ask: A,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Nothing: to hear whether the answer has a number.
    Hello,
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

/// From the guard: an answer to each request, and news between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// To the request with that number.
    Numbered {
        /// Which.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// To the oldest request without a number that has none.
    Answer(Answer),
    /// The postmaster is gone.
    PostmasterEnded {
        /// Which.
        pid: i32,
        /// How, in words.
        how: String,
    },
    /// The deadline has passed, and nothing is left of the server.
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
