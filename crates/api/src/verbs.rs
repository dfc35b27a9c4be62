//! Bodies of requests and answers of the changing verbs.

use cluster::NodeId;
use serde::{Deserialize, Serialize};

/// `POST /v1/switchover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchoverBody {
    /// To whom; none lets the leader choose.
    pub to: Option<NodeId>,
    /// Not before, Unix milliseconds.
    pub at_ms: Option<u64>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// `POST /v1/failover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverBody {
    /// The term that it is meant to end; refused if another has begun since.
    /// Without it, the one that the agent knows.
    pub term: Option<u64>,
    /// To whom.
    pub to: Option<NodeId>,
    /// Nodes declared dead, with what only they have.
    pub accept_loss: Vec<NodeId>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// `POST /v1/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberBody {
    /// Its name.
    pub name: NodeId,
    /// What it is and where.
    pub registration: cluster::command::Registration,
}

/// `POST /v1/drill/fault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultBody {
    /// Which.
    pub fault: Fault,
    /// How long it lasts, in milliseconds; of no meaning for some.
    #[serde(default)]
    pub ms: u64,
}

/// What a drill may have done to the node that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The agent stands still.
    FreezeAgent,
    /// The agent is killed, and stays away for the time given.
    KillAgent,
    /// The postmaster stands still.
    FreezePostmaster,
    /// The postmaster alone is killed.
    KillPostmaster,
    /// Guard, agent and server are killed at once.
    KillNode,
}

/// What a verb did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In one sentence.
    pub said: String,
    /// The term after it.
    pub term: u64,
    /// Nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
}

/// Why a verb was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The code under which `errors/` explains it.
    pub code: String,
    /// What happened, in one sentence.
    pub what: String,
    /// What to do, in one sentence.
    #[serde(rename = "do")]
    pub advice: String,
}
