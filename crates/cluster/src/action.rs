//! What an agent may do to its own server. Each is idempotent, bounded by the
//! executor and judged again after it ended: nothing depends on one succeeding.

use serde::{Deserialize, Serialize};

use crate::lsn::{Lsn, Timeline};
use crate::node::MemberId;
use crate::rule::Rule;
use crate::term::Term;

/// One deed on the own server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Make a fresh data directory, to be opened by promotion.
    Initdb,
    /// Start the server as a standby with its ack path cut.
    StartCut,
    /// Kill the server's whole process tree, then vow to have resigned `term`.
    Fence {
        /// The newest term this member was elected in.
        term: Term,
    },
    /// Vow `term`, cut the ack path, read the position (C2 a to c).
    Recruit {
        /// The term to be promised.
        term: Term,
    },
    /// Fast shutdown for a switchover, then vow to have resigned `term` (P1).
    HandOver {
        /// The term that ends.
        term: Term,
    },
    /// Make a switchover cheap: two checkpoints (Prepare).
    Prepare {
        /// The term that is to end.
        term: Term,
    },
    /// Fetch the WAL between our end and a holder's, before we are elected ((a) 5).
    FastForward {
        /// The term that recruits.
        term: Term,
        /// Who has it.
        holder: MemberId,
        /// The timeline it is on.
        timeline: Timeline,
        /// Our end.
        from: Lsn,
        /// Its end.
        to: Lsn,
    },
    /// Replay everything, set the rule, vow, promote (C5).
    Promote {
        /// The term we were elected in.
        term: Term,
        /// The timeline to open.
        timeline: Timeline,
        /// The rule to open under.
        rule: Rule,
        /// Its number.
        sub: u64,
    },
    /// Prove that commits reach an ack set of the rule (C6).
    Barrier {
        /// The term.
        term: Term,
        /// The rule.
        rule: Rule,
        /// Its number.
        sub: u64,
    },
    /// Put `to` in force on every walsender and prove it (M2).
    ChangeRule {
        /// The term.
        term: Term,
        /// The rule before.
        from: Rule,
        /// The rule to come.
        to: Rule,
        /// Its number.
        sub: u64,
    },
    /// Stream from the leader of `term`; start the server if it is down.
    Follow {
        /// The leader's term.
        term: Term,
        /// The leader.
        leader: MemberId,
        /// Restart the server for it.
        afresh: bool,
    },
    /// Rewind the directory to the leader's history, which ours has left.
    Rewind {
        /// The leader's term.
        term: Term,
        /// The leader.
        leader: MemberId,
    },
    /// Make the directory anew from the leader.
    Clone {
        /// The leader's term.
        term: Term,
        /// The leader.
        leader: MemberId,
    },
    /// Complete a checkpoint after promotion (C9).
    Checkpoint {
        /// The term.
        term: Term,
    },
    /// Stop the server in order and leave it down.
    Stop,
}
