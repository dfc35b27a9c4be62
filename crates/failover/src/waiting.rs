//! What an agent is waiting for, in words: shown in `status` and logs.

use core::fmt;

use cluster::reason::Missing;
use cluster::{NodeId, Term};

use alloc::string::String;

/// Why nothing happens right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The own server has not been probed yet.
    FirstProbe,
    /// Nobody has claimed the cluster yet.
    Cluster,
    /// This node is no member (any more).
    Membership,
    /// An operator must decide about this member.
    Operator(String),
    /// C-3 does not hold yet.
    Positions(Missing),
    /// Nobody who reported can lead.
    Candidate,
    /// The elected leader is opening its server.
    Opening(NodeId),
    /// A deed failed and will be tried again.
    Retry {
        /// What kind.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
    /// Must leave the commit rule before its directory is rebuilt (C-10).
    LeavingRule,
    /// We have put a newer rule in force than the newest that we know is agreed.
    News,
    /// The leader has not said what its history is.
    LeaderLineage(Term),
    /// The leader must checkpoint before it can be rewound to.
    LeaderCheckpoint,
    /// The store must be read before the server may acknowledge by lease (C-26).
    Lease,
    /// Reads that were granted under the rule before must come to their end (C-21).
    Reads,
    /// The successor of a switchover must take over.
    Successor(NodeId),
    /// The leader is silent, and others must agree.
    OthersToMiss {
        /// Who is silent.
        leader: NodeId,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::FirstProbe => f.write_str("for the first look at the own server"),
            Waiting::Cluster => f.write_str("for somebody to make the cluster"),
            Waiting::Membership => f.write_str("for this node to be a member"),
            Waiting::Operator(why) => write!(f, "for an operator: {why}"),
            Waiting::Positions(missing) => write!(f, "for more reports: {missing}"),
            Waiting::Candidate => f.write_str("for a node that may lead"),
            Waiting::Opening(node) => write!(f, "for {node} to open its server"),
            Waiting::Retry { what, why } => write!(f, "to try '{what}' again: {why}"),
            Waiting::LeavingRule => f.write_str("to be let out of the commit rule before rebuilding"),
            Waiting::News => f.write_str("for the store, which has agreed to more than this node knows"),
            Waiting::LeaderLineage(term) => write!(f, "for the leader of term {term} to tell its history"),
            Waiting::LeaderCheckpoint => f.write_str("for the leader's first checkpoint"),
            Waiting::Reads => f.write_str("for reads to end that rest on the rule before"),
            Waiting::Lease => f.write_str("for a first read of the store, from which its lease runs"),
            Waiting::Successor(node) => write!(f, "for {node} to take over"),
            Waiting::OthersToMiss { leader } => write!(f, "for others to say whether they miss {leader} too"),
        }
    }
}
