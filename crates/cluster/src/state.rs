//! The cluster state: all that is agreed, and nothing that is merely observed.
//!
//! Small on purpose. No lease, no proxy and no heartbeat is in it, so nothing
//! is written to the log while the cluster rests.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::{Kind, Member, MemberState};
use crate::lsn::{Lsn, Position, Timeline};
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::{Durability, Settings};
use crate::reason::Reason;
use crate::rule::{ActiveRule, Rule};
use crate::term::Term;

/// Most events kept (decision 10).
pub const HISTORY_MAX: usize = 1000;

/// All that is agreed. `ClusterState::default()` is "there is no cluster yet".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Name of the cluster; empty before the claim.
    pub cluster: String,
    /// System identifier of the database; 0 until term 1 opened.
    pub sysid: u64,
    /// Counts accepted commands.
    pub revision: u64,
    /// Who leads, and how far the change of leaders is.
    pub ctl: Control,
    /// Rules under which commits may be acknowledged. Never empty after the claim.
    pub rules: Vec<ActiveRule>,
    /// Every election ever, oldest first (C-2).
    pub elections: Vec<Election>,
    /// The next timeline to give out; never given twice.
    pub tli_next: u32,
    /// Number for the next rule.
    pub sub_next: u64,
    /// The next Raft id to give out; never given twice.
    pub raft_id_next: u64,
    /// Everybody, removed ones included.
    pub members: BTreeMap<NodeId, Member>,
    /// Cluster-wide settings.
    pub settings: Settings,
    /// The last events, oldest first.
    pub history: VecDeque<Event>,
}

/// Who leads, and how far the change of leaders is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The current term.
    pub term: Term,
    /// How far it is.
    pub phase: Phase,
    /// Elected leader of the current term; while revoking, of the term before.
    pub leader: Option<MemberId>,
    /// Whose `BeginTerm` was accepted; sends the `Elect` (decision 1).
    pub coordinator: Option<NodeId>,
    /// The candidate an operator named for this term.
    pub preferred: Option<NodeId>,
    /// An operator asked for this term, so pause does not bind its election (C-13).
    pub asked: bool,
    /// A planned switchover.
    pub target: Option<Switchover>,
    /// Automatic terms and rule changes are off.
    pub paused: bool,
    /// Members an operator declared dead in this term, losing what only they have (C-18).
    pub written_off: BTreeSet<MemberId>,
    /// When the phase began, Unix milliseconds by its author's clock; only for people.
    pub since_ms: u64,
}

/// How far a term is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Members are being recruited: no leader yet.
    #[default]
    Revoking,
    /// A leader is named and opens its server.
    Elected,
    /// The leader takes writes.
    Open,
}

/// One election (C-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// Its term.
    pub term: Term,
    /// Who was elected.
    pub leader: MemberId,
    /// The timeline reserved for it.
    pub tli: Timeline,
    /// The timeline it grows from.
    pub parent_tli: Timeline,
    /// The leader's position when it was elected.
    pub base: Position,
    /// The rule it opens under.
    pub rule: Rule,
    /// Filled by `Opened`.
    pub opened: Option<Opening>,
}

/// How a term opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Where the parent timeline was left.
    pub switch_lsn: Lsn,
    /// The first transaction id of this term (C-17); 0 if unknown.
    pub next_xid: u64,
}

impl Election {
    /// Whether this election's timeline may leave its parent at `end`: where it
    /// did, once opened; before that not below the position it was elected on.
    #[must_use]
    pub fn admits_switch(&self, end: Lsn) -> bool {
        match &self.opened {
            Some(o) => o.switch_lsn == end,
            None => end >= self.base.lsn,
        }
    }
}

/// A switchover that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// To whom; `None` lets the leader choose.
    pub to: Option<NodeId>,
    /// Not before this moment, Unix milliseconds; `None` is now.
    pub at_ms: Option<u64>,
    /// When it was asked for, Unix milliseconds.
    pub asked_ms: u64,
}

/// One line of the cluster's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, Unix milliseconds by the clock of whoever asked.
    pub at_ms: u64,
    /// The revision that it made.
    pub revision: u64,
    /// The term it made or happened in.
    pub term: Term,
    /// Who asked.
    pub by: NodeId,
    /// What and why.
    pub reason: Reason,
}

impl ClusterState {
    /// Whether anybody has claimed the cluster.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.ctl.term > Term(0)
    }

    /// The member record behind `id`, if that incarnation is the current one.
    #[must_use]
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(&id.node).filter(|m| m.incarnation == id.incarnation)
    }

    /// The current incarnation of `node`.
    #[must_use]
    pub fn member_id(&self, node: &NodeId) -> Option<MemberId> {
        self.members.get(node).map(|m| MemberId::new(node.clone(), m.incarnation))
    }

    /// The election of the current term, once there is one.
    #[must_use]
    pub fn election(&self) -> Option<&Election> {
        self.elections.last().filter(|e| e.term == self.ctl.term)
    }

    /// The newest rule of the current term, towards which the leader works.
    #[must_use]
    pub fn newest_rule(&self) -> Option<&ActiveRule> {
        self.rules.iter().rfind(|r| r.term == self.ctl.term)
    }

    /// The rules of the current term, oldest first: one, or two during a change.
    pub fn own_rules(&self) -> impl Iterator<Item = &ActiveRule> {
        self.rules.iter().filter(|r| r.term == self.ctl.term)
    }

    /// Whether `member` may acknowledge commits under any active rule.
    #[must_use]
    pub fn is_in_rules(&self, member: &MemberId) -> bool {
        self.rules.iter().any(|r| r.rule.names(member))
    }

    /// Every life whose word an active rule may need: of those that may acknowledge
    /// under it, and of the leader it is the rule of.
    pub fn needed(&self) -> impl Iterator<Item = &MemberId> {
        self.rules.iter().flat_map(|r| r.rule.standbys().iter().chain([&r.leader]))
    }

    /// Whether an active rule may need `member`'s word.
    #[must_use]
    pub fn is_needed(&self, member: &MemberId) -> bool {
        self.needed().any(|m| m == member)
    }

    /// C-10: whether `member`, which last attached to the leader of term `attached`,
    /// must leave the rules before its copy is made anew. Two that can't are not
    /// bound, or they would wait for ever: the only standby of an open strict leader
    /// (nothing is acknowledged meanwhile), and one of older rules for whom an elected
    /// leader waits (it counts again only in an open term, where those are gone).
    #[must_use]
    pub fn is_bound(&self, member: &MemberId, attached: Term) -> bool {
        if on(Mutant::BoundRebuilds) {
            return false;
        }
        let only = |r: &ActiveRule| {
            let alone = self.rules.len() == 1 && r.rule.standbys().iter().eq([member]);
            let open = self.ctl.phase == Phase::Open && r.term == self.ctl.term;
            alone && open && self.settings.durability == Durability::Quorum
        };
        let awaited = self.ctl.phase == Phase::Elected
            && self.newest_rule().is_some_and(|r| r.rule.names(member) && attached < r.term);
        let binding = |r: &&ActiveRule| r.term == self.ctl.term || !awaited;
        self.rules
            .iter()
            .filter(binding)
            .any(|r| r.leader == *member || (r.rule.names(member) && attached >= r.term && !only(r)))
    }

    /// Whether no other data node is here to stay: none that joined, is not on
    /// its way out, and was not declared dead.
    #[must_use]
    pub fn is_alone(&self, node: &NodeId) -> bool {
        let stays = |m: &Member| match m.state {
            MemberState::Registered | MemberState::Removed | MemberState::WrittenOff => false,
            MemberState::Voter
            | MemberState::Clone
            | MemberState::Catchup
            | MemberState::Quarantined { .. } => !m.leaving,
        };
        !self.members.iter().any(|(n, m)| m.kind == Kind::Data && n != node && stays(m))
    }

    /// Whether all that was acknowledged by the active rules needed nobody but a
    /// leader, and none of it by lease.
    #[must_use]
    pub fn always_alone(&self) -> bool {
        self.rules.iter().all(|r| r.rule.is_leader_only() && r.mode != Durability::Async)
    }

    /// The newest term that `member` was elected in, opened or not.
    #[must_use]
    pub fn last_elected(&self, member: &MemberId) -> Option<Term> {
        self.elections.iter().rev().find(|e| e.leader == *member).map(|e| e.term)
    }
}
