//! What an agent knows about itself.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use cluster::command::Kind;
use cluster::report::{Grant, Leading, Progress, Recruited, ServerReport, ServerState};
use cluster::{Action, Lsn, MemberId, NodeId, Term, Time, Vows};

use crate::controller::Outcome;
use crate::retry::{Failure, Setback};

/// One agent's knowledge of itself. Filled by the controller from events.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Our name.
    pub node: NodeId,
    /// Random number of this agent process.
    pub boot: u64,
    /// What we are.
    pub kind: Kind,
    /// What we promised, as it is on disk.
    pub vows: Vows,
    /// Our server; `None` before the first probe, when nothing may be concluded.
    pub server: Option<ServerReport>,
    /// Answer to the term that recruits.
    pub recruited: Option<Recruited>,
    /// The newest round of read grants that we granted.
    pub granted: Option<Grant>,
    /// The newest rule whose barrier we proved, as leader.
    pub proof: Option<Proof>,
    /// What our server tells while it is primary.
    pub leading: Option<Leading>,
    /// The newest term in which a checkpoint completed after promotion.
    pub checkpointed: Term,
    /// The newest term whose end we prepared by checkpoints.
    pub prepared: Term,
    /// Last sign of life of the leader's PostgreSQL: WAL or an answer on its port.
    pub leader_alive: Option<Time>,
    /// Since when our postmaster has answered nobody (stopped or hung).
    pub hung_since: Option<Time>,
    /// Our host's disk has kept nothing for `STALL_LIMIT`.
    pub stalled: bool,
    /// Since when our standby runs without streaming from the current leader.
    pub not_streaming_since: Option<Time>,
    /// Whom our server was last told to follow, in which term, and when.
    pub following: Option<(Term, MemberId, Time)>,
    /// The newest term in which our server was restarted to follow its leader.
    pub restarted: Term,
    /// The directory was just rewound or cloned towards this term's leader.
    pub rebuilt: Term,
    /// Last failures by kind of action.
    pub failures: BTreeMap<&'static str, Failure>,
    /// Long work under way.
    pub progress: Option<Progress>,
}

/// "Commits reach an ack set of this rule."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// In which term.
    pub term: Term,
    /// Number of the rule.
    pub sub: u64,
    /// Everything older is before this.
    pub lsn: Lsn,
}

impl Facts {
    /// An agent that knows nothing yet but its name and its promises.
    #[must_use]
    pub fn new(node: NodeId, boot: u64, kind: Kind, vows: Vows) -> Facts {
        Facts {
            node,
            boot,
            kind,
            vows,
            server: None,
            recruited: None,
            granted: None,
            proof: None,
            leading: None,
            checkpointed: Term(0),
            prepared: Term(0),
            leader_alive: None,
            hung_since: None,
            stalled: false,
            not_streaming_since: None,
            following: None,
            restarted: Term(0),
            rebuilt: Term(0),
            failures: BTreeMap::new(),
            progress: None,
        }
    }

    /// Why the last try of `kind` failed, if it did.
    #[must_use]
    pub fn last_failure(&self, kind: &str) -> Option<&String> {
        self.failures.get(kind).map(|f| &f.why)
    }

    /// Takes note of a look at the own server, in `term`.
    pub(crate) fn probed(&mut self, now: Time, term: Term, server: ServerReport, leading: Option<Leading>) {
        let idle = server.state == ServerState::Standby && server.streaming != Some(term);
        self.not_streaming_since = idle.then(|| self.not_streaming_since.unwrap_or(now));
        self.server = Some(server);
        self.leading = leading;
    }

    /// Takes note of a sign of life of the leader's PostgreSQL, so long ago.
    pub(crate) fn leader_lives(&mut self, now: Time, ago: Duration) {
        let at = Time::default() + now.since(Time::default()).saturating_sub(ago);
        self.leader_alive = self.leader_alive.max(Some(at));
    }

    /// Takes note of a deed that could not be done.
    pub(crate) fn fail(&mut self, at: Time, kind: &'static str, setback: Setback) {
        let (count, of_the_data) = self.failures.get(kind).map_or((0, 0), |f| (f.count, f.of_the_data));
        let (count, blamed) = (count.saturating_add(1), u32::from(setback.of_the_data));
        let of_the_data = of_the_data.saturating_add(blamed);
        self.failures.insert(kind, Failure { count, of_the_data, at, why: setback.why });
    }

    /// Takes note of what a deed brought.
    pub(crate) fn achieve(&mut self, now: Time, action: Action, outcome: Outcome) {
        match (action, outcome) {
            (Action::Recruit { .. } | Action::FastForward { .. }, Outcome::Recruited(answer)) => {
                self.recruited = Some(answer);
            }
            (
                Action::Barrier { term, sub, .. } | Action::ChangeRule { term, sub, .. },
                Outcome::Proven(lsn),
            ) => {
                self.proof = Some(Proof { term, sub, lsn });
            }
            (Action::Checkpoint { term }, _) => self.checkpointed = term,
            (Action::Prepare { term }, _) => self.prepared = term,
            (Action::Follow { term, leader, afresh }, _) => {
                self.restarted = if afresh { term } else { self.restarted };
                self.following = Some((term, leader, now));
            }
            (Action::Rewind { term, .. } | Action::Clone { term, .. }, _) => {
                self.rebuilt = term;
                self.failures.remove("rewind");
                self.failures.remove("follow");
            }
            // Something went wrong with it since.
            (Action::Fence { .. }, _) => self.rebuilt = Term(0),
            (
                Action::Initdb
                | Action::StartCut
                | Action::Recruit { .. }
                | Action::HandOver { .. }
                | Action::FastForward { .. }
                | Action::Promote { .. }
                | Action::Barrier { .. }
                | Action::ChangeRule { .. }
                | Action::Stop,
                _,
            ) => {}
        }
    }
}
