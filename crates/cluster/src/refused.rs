//! Why the cluster state refused a command. Each has a code and a page.

use alloc::string::String;

use crate::node::{MemberId, NodeId};
use crate::reason::Missing;
use crate::rule::Rule;
use crate::state::Phase;
use crate::term::Term;
use serde::{Deserialize, Serialize};

/// A sentence that is fixed in the code, or was read off the wire.
pub type Text = alloc::borrow::Cow<'static, str>;

/// A refusal: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// Claim of what exists.
    #[error("cluster '{0}' exists already")]
    ClusterExists(String),
    /// Anything before the claim.
    #[error("there is no cluster yet")]
    NoCluster,
    /// Somebody was faster.
    #[error("it was asked for term {asked}, and the cluster is in term {current}")]
    WrongTerm {
        /// By the command.
        asked: Term,
        /// By the state.
        current: Term,
    },
    /// The term is not that far, or farther.
    #[error("that can't be done while term {term} is {phase:?}")]
    WrongPhase {
        /// Which term.
        term: Term,
        /// How far it is.
        phase: Phase,
    },
    /// C-13.
    #[error("no term may begin: {0}")]
    NoTrigger(Text),
    /// C-3.
    #[error("the election can't be shown to keep every acknowledged commit: {0}")]
    NotRecruited(Missing),
    /// The candidate can't lead.
    #[error("{node} can't lead: {why}")]
    CandidateUnfit {
        /// Who.
        node: NodeId,
        /// Why not.
        why: Text,
    },
    /// The timeline is not the next one.
    #[error("timeline {asked} was asked for and {next} is next")]
    WrongTimeline {
        /// By the command.
        asked: u32,
        /// By the state.
        next: u32,
    },
    /// A rule nobody could keep.
    #[error("the commit rule '{rule}' can't be taken: {why}")]
    BadRule {
        /// Which.
        rule: Rule,
        /// Why not.
        why: Text,
    },
    /// No such rule is active.
    #[error("the commit rule number {0} is not (or no longer) in force")]
    WrongRule(u64),
    /// Only the leader may.
    #[error("only the leader of term {0} may ask for that")]
    NotLeader(Term),
    /// No such node.
    #[error("there is no node '{0}' in this cluster")]
    NoSuchNode(NodeId),
    /// An older life.
    #[error("{0} is not the current incarnation of that node")]
    StaleIncarnation(MemberId),
    /// It exists.
    #[error("node '{0}' is a member already")]
    MemberExists(NodeId),
    /// C-10.
    #[error(
        "{0} may hold the only other copy of an acknowledged commit: it must leave the commit rule first"
    )]
    StillInRule(MemberId),
    /// The leader can't be taken out.
    #[error("{0} leads: switch over to another node first")]
    LeaderStays(NodeId),
    /// A change of standing that is none.
    #[error("{member} can't become {to}")]
    BadMemberState {
        /// Whose.
        member: MemberId,
        /// What was asked.
        to: Text,
    },
    /// A switchover that has nowhere to go.
    #[error("no standby can take over now: {0}")]
    NoCandidate(Text),
    /// Nothing to cancel.
    #[error("no switchover is planned")]
    NoSwitchover,
    /// Settings.
    #[error("these settings can't be accepted: {0}")]
    BadSettings(String),
    /// A scheduled or running one is there.
    #[error("a switchover is planned already; cancel it first")]
    SwitchoverPlanned,
    /// It would change nothing.
    #[error("nothing to do: {0}")]
    NothingToDo(Text),
}

impl Refused {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refused::ClusterExists(_) => "TAN0101",
            Refused::NoCluster => "TAN0102",
            Refused::WrongTerm { .. } => "TAN0103",
            Refused::WrongPhase { .. } => "TAN0104",
            Refused::NoTrigger(_) => "TAN0105",
            Refused::NotRecruited(_) => "TAN0106",
            Refused::CandidateUnfit { .. } => "TAN0107",
            Refused::WrongTimeline { .. } => "TAN0108",
            Refused::BadRule { .. } => "TAN0109",
            Refused::WrongRule(_) => "TAN0110",
            Refused::NotLeader(_) => "TAN0111",
            Refused::NoSuchNode(_) => "TAN0112",
            Refused::StaleIncarnation(_) => "TAN0113",
            Refused::MemberExists(_) => "TAN0114",
            Refused::StillInRule(_) => "TAN0115",
            Refused::LeaderStays(_) => "TAN0116",
            Refused::BadMemberState { .. } => "TAN0117",
            Refused::NoCandidate(_) => "TAN0118",
            Refused::NoSwitchover => "TAN0119",
            Refused::BadSettings(_) => "TAN0120",
            Refused::SwitchoverPlanned => "TAN0121",
            Refused::NothingToDo(_) => "TAN0122",
        }
    }
}
