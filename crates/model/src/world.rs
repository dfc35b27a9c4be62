//! One state of the whole: what is agreed, what is on each disk, what runs, and
//! what is on its way.
//!
//! As small as it can be, and equal states are equal bytes: what can make no
//! difference any more is set to zero (`normal`).

use serde::{Deserialize, Serialize};

use crate::bounds::NODES_MAX;
use crate::log::Log;

/// A node's number, from 0.
pub type Index = u8;

/// What they are called.
pub const NODES: [&str; NODES_MAX] = ["n1", "n2", "n3", "n4"];

/// `ANY k (S)`: k in the high four bits, one low bit for each standby; 0 is no rule at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule(pub u8);

impl Rule {
    /// Commits wait for nobody: `synchronous_standby_names` is empty.
    pub const LEADER_ONLY: Rule = Rule(0xF0);

    /// `ANY acks` of the nodes whose bits are set.
    pub fn new(standbys: u8, acks: u8) -> Rule {
        Rule(acks << 4 | standbys)
    }

    /// k.
    pub fn acks(self) -> u8 {
        self.0 >> 4
    }

    /// S, one bit each.
    pub fn standbys(self) -> u8 {
        self.0 & 0xF
    }

    /// Whether `node` is in S.
    pub fn names(self, node: Index) -> bool {
        self.0 >> node & 1 == 1
    }
}

/// What a node's server is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Server {
    /// Down, or a standby without upstream: it makes no difference to anybody.
    #[default]
    Idle,
    /// A walreceiver streams from this node.
    Following(Index),
    /// The store was read, `pg_promote` may take effect at any time.
    Promoting,
    /// Read-write.
    Primary,
}

/// A walsender, and the replies that are on their way to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Walsender {
    /// There is one.
    pub up: bool,
    /// The newest flush position that the standby sent.
    pub sent: u8,
    /// The newest that was read.
    pub flush: u8,
    /// The rule as this process last read it; 0 where it does not name its standby.
    pub rule: Rule,
}

/// What an agent said of itself; it may be used as often as anybody likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Report {
    /// The term promised, if its ack path was cut for that term; else 0.
    pub promise: u8,
    /// Resigned up to this term.
    pub resigned: u8,
    /// What was on disk.
    pub log: Log,
}

/// What a ballot rests on: of each node up to two of its reports, in this order.
pub type Choice = [[Report; 2]; NODES_MAX];

/// Most reports of one node that can still matter.
pub const REPORTS_MAX: usize = 4;

/// One node: its disk, its server, its vows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Flushed WAL.
    pub log: Log,
    /// What runs.
    pub server: Server,
    /// The term in which the server follows, promotes or leads.
    pub term: u8,
    /// Vow.
    pub promise: u8,
    /// Vow.
    pub resigned: u8,
    /// Vow: never twice in a term.
    pub promoting: u8,
    /// Vow: the newest term to whose leader it attached.
    pub attached: u8,
    /// Vow: the directory is being made anew; what was there is gone.
    pub rebuilding: bool,
    /// It asked that its position be believed no longer; 1 + `attached` when it asked.
    pub asked: u8,
    /// The rule written to its settings, of which every walsender was told.
    pub rule: Rule,
    /// That rule's number.
    pub sub: u8,
    /// During a change that is not proven, the rule before.
    pub before: Rule,
    /// A rule that was agreed and is not in the settings yet.
    pub agreed: Rule,
    /// Its number.
    pub agreed_sub: u8,
    /// The checkpointer found the settings empty: commits wait for nobody, until it finds them otherwise.
    pub unwaited: bool,
    /// End of the record that ended recovery.
    pub opening: u8,
    /// End of the record written after the last change of the settings; 0 if proven.
    pub barrier: u8,
    /// End of the log when all walsenders had that change; 0 before.
    pub settled: u8,
    /// One for each standby.
    pub walsenders: [Walsender; NODES_MAX],
    /// All that it ever said that can still matter, in order; the rest is zero.
    pub reports: [Report; REPORTS_MAX],
}

/// Commands of a leader that were sent and may be applied at any time, even after its death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sent {
    /// `Opened`, with the number of the rule that proves it.
    pub opened: u8,
    /// And where the parent timeline was left.
    pub switch: u8,
    /// `RuleEnd`, with the number of the rule to keep.
    pub keep: u8,
}

/// Terms that a world has room for, with 0.
pub const TERMS_MAX: usize = 8;

/// The whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct World {
    /// What is agreed, by its number in the `Store`.
    pub state: u32,
    /// Every node.
    pub nodes: [Node; NODES_MAX],
    /// For each term the newest acknowledged write: all before it in that log was too.
    pub acked: [u8; TERMS_MAX],
    /// On its way to the store.
    pub sent: Sent,
    /// Writes so far.
    pub writes: u8,
    /// Rule changes so far.
    pub changes: u8,
    /// Crashes so far.
    pub crashes: u8,
    /// Directories made anew so far.
    pub rebuilds: u8,
    /// Planned changes of leaders so far.
    pub switchovers: u8,
}

impl Node {
    /// Whether it reads and writes, in which term.
    pub fn leads(&self) -> Option<u8> {
        (self.server == Server::Primary).then_some(self.term)
    }

    /// The server ends; what is on disk stays, and what it told its standbys.
    pub fn stop(&mut self) {
        self.server = Server::Idle;
        self.term = 0;
        (self.rule, self.sub, self.before) = Default::default();
        self.unwaited = false;
        (self.agreed, self.agreed_sub) = Default::default();
        (self.opening, self.barrier, self.settled) = (0, 0, 0);
        self.walsenders = Default::default();
    }

    /// Says something.
    pub fn report(&mut self, report: Report) {
        if self.reports.contains(&report) {
            return;
        }
        let free = self.reports.iter_mut().find(|r| **r == Report::default());
        *free.expect("reports that matter are few: one for the term, and one for each rule that it led") =
            report;
    }
}
