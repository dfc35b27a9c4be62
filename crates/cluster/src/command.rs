//! What may be asked of the store. Any agent may send any command at any time;
//! `ClusterState::apply` accepts only what is safe.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;
use crate::lsn::{Lsn, Position, Timeline};
use crate::node::{MemberId, NodeId};
use crate::policy::Settings;
use crate::rule::Rule;
use crate::state::Phase;
use crate::term::Term;

/// A change, who asks for it, and when by that agent's wall clock (for history only).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who asks.
    pub by: NodeId,
    /// For what.
    pub change: Change,
}

/// Everything that may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Make this cluster (C-16). The claimer becomes term 1's elected leader.
    Claim {
        /// Name of the cluster.
        cluster: String,
        /// First settings.
        settings: Settings,
        /// Everybody who may join, the claimer among them.
        members: BTreeMap<NodeId, Registration>,
    },
    /// End the current term and recruit for the next.
    BeginTerm {
        /// The new term.
        term: Term,
        /// Why one may begin (C-13).
        trigger: Trigger,
    },
    /// Name the leader of a revoking term.
    Elect(Ballot),
    /// A switchover: `BeginTerm` and `Elect` in one, since the evidence is complete.
    BeginAndElect(Ballot),
    /// The elected leader's barrier is proven.
    Opened {
        /// Its term.
        term: Term,
        /// System identifier of its data directory.
        sysid: u64,
        /// The timeline that it opened.
        timeline: Timeline,
        /// Where the parent was left.
        switch_lsn: Lsn,
        /// First transaction id of the term; 0 if unknown.
        next_xid: u64,
        /// The number of the rule under which its barrier was proven.
        sub: u64,
    },
    /// M1: a second rule beside the leader's current one.
    RuleBegin {
        /// The leader's term.
        term: Term,
        /// Number of the rule it changes from.
        from_sub: u64,
        /// The rule it changes to.
        rule: Rule,
        /// Who agrees that those dropped are gone (C-13); the leader does not count.
        agreed_by: BTreeSet<NodeId>,
    },
    /// M3: only `keep` stays; its barriers are proven.
    RuleEnd {
        /// The leader's term.
        term: Term,
        /// Number of the rule that stays.
        keep: u64,
        /// Number of the rule that goes.
        drop: u64,
        /// Everything older is before this position and on an ack set of `keep`.
        lsn: Lsn,
    },
    /// Register a node that may join.
    AddMember {
        /// Its name.
        node: NodeId,
        /// Where it will be.
        registration: Registration,
    },
    /// Take a node out: it leaves the commit rule first, then for good.
    RemoveMember {
        /// Its name.
        node: NodeId,
    },
    /// A node with an empty store asks for a seat: new incarnation, new Raft id.
    Join {
        /// Its name.
        node: NodeId,
        /// Where it is now; empty keeps what is registered.
        addresses: Addresses,
        /// Number by which a repeated request is known.
        nonce: u64,
    },
    /// A written-off member comes back as a new incarnation, store and all.
    Reincarnate {
        /// The incarnation that was written off.
        member: MemberId,
    },
    /// A member's own standing changes.
    SetMemberState {
        /// Whose.
        member: MemberId,
        /// To what.
        state: MemberState,
        /// The newest term to whose leader it ever attached (O-8).
        attached: Term,
    },
    /// An operator wants a member's directory made anew.
    Reinit {
        /// Whose.
        node: NodeId,
    },
    /// An operator wants a planned change of leaders.
    Switchover {
        /// To whom; `None`: the best.
        to: Option<NodeId>,
        /// Not before, Unix milliseconds.
        at_ms: Option<u64>,
    },
    /// The leader chose whom a switchover goes to.
    Aim {
        /// Whom.
        to: NodeId,
    },
    /// Call a planned switchover off.
    CancelSwitchover {
        /// In words.
        why: String,
    },
    /// Automatic terms and rule changes off.
    Pause,
    /// And on again.
    Resume,
    /// Change cluster-wide settings.
    SetSettings(Settings),
}

/// An election, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The term to be led.
    pub term: Term,
    /// By whom.
    pub leader: MemberId,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// The rule to open under.
    pub rule: Rule,
    /// The timeline that the leader's WAL is on.
    pub parent_tli: Timeline,
    /// The timeline to open; must be the next one.
    pub tli: Timeline,
}

/// What one member's report proves for an election (protocol 1.3, 2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Whose report.
    pub member: MemberId,
    /// Its durable promise.
    pub promise: Term,
    /// Its server acknowledges nothing in this term or earlier any more.
    pub resigned: Term,
    /// Where its WAL ends; `None` if it can't be told.
    pub position: Option<Position>,
    /// The history that position lies on.
    pub lineage: Lineage,
    /// Its leases have run out by time (async only, O-2).
    pub time_fenced: bool,
}

/// Why a term may begin (C-13, O-3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// The leader's server is dead, by itself or fenced, and the leader said so.
    Resigned {
        /// Who said it.
        leader: MemberId,
        /// The newest term that it has resigned, durably.
        term: Term,
    },
    /// The same in a planned switchover: it shut its server down for its successor.
    HandedOver {
        /// Who did.
        leader: MemberId,
        /// Up to which term.
        term: Term,
    },
    /// Agents enough for an election miss the leader.
    Missed {
        /// Who.
        by: BTreeSet<NodeId>,
        /// For how long, the longest of them.
        silent_ms: u64,
    },
    /// An operator asked.
    Operator {
        /// For whom.
        to: Option<NodeId>,
        /// Members declared dead, with what only they have (C-18).
        accept_loss: BTreeSet<NodeId>,
    },
    /// A term stayed unopened for too long (O-3).
    Stuck {
        /// Where it was stuck.
        phase: Phase,
        /// For how long.
        waited_ms: u64,
    },
}

/// A node as registered: what it is and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub addresses: Addresses,
    /// What it may do.
    pub tags: Tags,
}

/// Where a node listens. `host:port` each, empty while unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Other agents.
    pub peers: String,
    /// The HTTP API.
    pub api: String,
    /// PostgreSQL; empty on a witness.
    pub postgres: String,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A voter with PostgreSQL.
    #[default]
    Data,
    /// A voter without.
    Witness,
    /// A voter without, which keeps WAL and acknowledges it as a standby does (protocol (g)).
    WalWitness,
}

impl Kind {
    /// Whether WAL is sent to it, so that a commit may wait for it.
    #[must_use]
    pub fn keeps_wal(self) -> bool {
        match self {
            Kind::Data | Kind::WalWitness => true,
            Kind::Witness => false,
        }
    }
}

/// What a member may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// Must not lead.
    pub no_failover: bool,
    /// Among equals the highest leads.
    pub priority: i32,
    /// Where it stands.
    pub zone: String,
}

/// A member as agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which life of its disk; 0 before it first joined.
    pub incarnation: u32,
    /// Its number in the embedded Raft group; 0 before it first joined.
    pub raft_id: u64,
    /// The request that made this incarnation.
    pub nonce: u64,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub addresses: Addresses,
    /// What it may do.
    pub tags: Tags,
    /// Its standing.
    pub state: MemberState,
    /// It is being taken out.
    pub leaving: bool,
    /// An operator wants its directory made anew.
    pub reinit: bool,
}

impl Member {
    /// Whether it takes part: it joined and was not taken out. One that was keeps
    /// its Raft id, and its agent may go on talking: that is nobody's word.
    #[must_use]
    pub fn has_seat(&self) -> bool {
        self.raft_id != 0 && self.state != MemberState::Removed
    }

    /// Whether it may be counted on to follow a leader or to become one: a data
    /// node whose copy is believed and that is not on its way out.
    #[must_use]
    pub fn is_data_voter(&self) -> bool {
        self.kind == Kind::Data && self.is_wal_voter()
    }

    /// Whether a commit may wait for it: its WAL is believed and it is not on its way out.
    #[must_use]
    pub fn is_wal_voter(&self) -> bool {
        self.kind.keeps_wal() && self.state == MemberState::Voter && !self.leaving
    }
}

/// A member's standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// May join, has not yet.
    Registered,
    /// Its directory is being made or rewound; its promise blocks, its position says nothing.
    Clone,
    /// Streams, but is not yet up with the leader.
    Catchup,
    /// Its position may be believed.
    Voter,
    /// Taken out.
    Removed,
    /// Its past is not this cluster's, or its word not to be believed.
    Quarantined {
        /// Why, in one sentence.
        why: String,
    },
    /// Declared dead by an operator; may only come back as a new incarnation.
    WrittenOff,
}
