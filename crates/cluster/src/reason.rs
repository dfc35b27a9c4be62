//! Why things happen: one closed list behind every log line, metric, history
//! entry and status row, so they always agree.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::command::Trigger;
use crate::lsn::{Lsn, Position, Timeline};
use crate::node::{MemberId, NodeId};
use crate::policy::Durability;
use crate::rule::Rule;
use crate::term::Term;

/// What happened to the cluster, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The cluster was made.
    Claimed {
        /// By whom.
        leader: NodeId,
        /// With what promise.
        durability: Durability,
    },
    /// A term began.
    TermBegan {
        /// Why it could.
        trigger: Trigger,
        /// Who led before.
        old_leader: Option<NodeId>,
    },
    /// A leader was elected.
    Elected {
        /// Who.
        leader: NodeId,
        /// On what position.
        position: Position,
        /// On whose word: those whose reports of this term counted, and a leader
        /// that resigned where it took that.
        evidence: Vec<NodeId>,
        /// The rule it opens under.
        rule: Rule,
        /// In a planned switchover.
        planned: bool,
    },
    /// The leader takes writes.
    Opened {
        /// Who.
        leader: NodeId,
        /// On this timeline.
        timeline: Timeline,
        /// That began here.
        switch_lsn: Lsn,
    },
    /// A rule change began.
    RuleBegan {
        /// The rule before.
        from: Rule,
        /// The rule to come.
        to: Rule,
        /// Who agreed that those dropped are gone.
        agreed_by: BTreeSet<NodeId>,
    },
    /// A rule is in force alone.
    RuleInForce {
        /// Which.
        rule: Rule,
        /// Proven here.
        lsn: Lsn,
    },
    /// A node was registered.
    MemberAdded(NodeId),
    /// A node is being taken out.
    MemberLeaving(NodeId),
    /// A node was taken out.
    MemberRemoved(NodeId),
    /// A node joined with an empty disk.
    MemberJoined(MemberId),
    /// A member's standing changed.
    MemberNow {
        /// Whose.
        member: MemberId,
        /// In one word.
        state: String,
    },
    /// An operator wants a directory made anew.
    ReinitAsked(NodeId),
    /// A switchover was asked for.
    SwitchoverAsked {
        /// To whom.
        to: Option<NodeId>,
        /// When, Unix milliseconds.
        at_ms: Option<u64>,
    },
    /// A switchover was called off.
    SwitchoverCancelled(String),
    /// Automatic changes are off.
    Paused,
    /// And on again.
    Resumed,
    /// Settings changed.
    SettingsChanged,
    /// In async nobody knows the end of a leader that is gone (O-2).
    MayBeLost {
        /// Who acknowledged it.
        leader: NodeId,
        /// Up to here it is there.
        beyond: Lsn,
        /// It may have acknowledged so long after it was last heard, milliseconds.
        time_ms: u64,
    },
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    let list: Vec<String> = nodes.into_iter().map(ToString::to_string).collect();
    if list.is_empty() { "nobody".to_string() } else { list.join(", ") }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may have died by itself or been fenced: a resignation does not tell which.
            Trigger::Resigned { leader, .. } => {
                write!(f, "the server of {} has ended and its agent resigned", leader.node)
            }
            Trigger::HandedOver { .. } => f.write_str("it handed over as planned"),
            Trigger::Missed { by, silent_ms } => {
                write!(f, "the leader was silent for {silent_ms} ms, missed by {}", names(by))
            }
            Trigger::Operator { to, accept_loss } => {
                f.write_str("an operator asked for it")?;
                if let Some(to) = to {
                    write!(f, ", to {to}")?;
                }
                if !accept_loss.is_empty() {
                    write!(f, ", declaring {} dead with what only they had", names(accept_loss))?;
                }
                Ok(())
            }
            Trigger::Stuck { phase, waited_ms } => {
                write!(f, "the term stayed {phase:?} for {waited_ms} ms and could not open")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Claimed { leader, durability } => {
                write!(f, "{leader} made the cluster, durability {durability}")
            }
            Reason::TermBegan { trigger, old_leader: Some(old) } => {
                write!(f, "{old} is to lead no longer: {trigger}")
            }
            Reason::TermBegan { trigger, old_leader: None } => write!(f, "a leader is wanted: {trigger}"),
            Reason::Elected { leader, position, evidence, rule, planned } => {
                let how = if *planned { "took over as planned" } else { "elected: most WAL" };
                write!(
                    f,
                    "{leader} {how} ({}), heard from {}; commits wait for {rule}",
                    position.lsn,
                    names(evidence)
                )
            }
            Reason::Opened { leader, timeline, switch_lsn } => {
                write!(f, "{leader} takes writes on timeline {timeline} from {switch_lsn}")
            }
            Reason::RuleBegan { from, to, agreed_by } => {
                write!(f, "commit rule changing from '{from}' to '{to}'")?;
                if agreed_by.is_empty() { Ok(()) } else { write!(f, ", agreed by {}", names(agreed_by)) }
            }
            Reason::RuleInForce { rule, lsn } => write!(f, "commits wait for {rule} (proven at {lsn})"),
            Reason::MemberAdded(n) => write!(f, "{n} may join"),
            Reason::MemberLeaving(n) => write!(f, "{n} is being taken out"),
            Reason::MemberRemoved(n) => write!(f, "{n} was taken out"),
            Reason::MemberJoined(m) => {
                write!(f, "{} joined with an empty disk (life {})", m.node, m.incarnation)
            }
            Reason::MemberNow { member, state } => write!(f, "{} is now {state}", member.node),
            Reason::ReinitAsked(n) => write!(f, "an operator wants {n} made anew"),
            Reason::SwitchoverAsked { to: Some(to), .. } => write!(f, "a switchover to {to} was asked for"),
            Reason::SwitchoverAsked { to: None, .. } => f.write_str("a switchover was asked for"),
            Reason::SwitchoverCancelled(why) => write!(f, "the switchover was called off: {why}"),
            Reason::Paused => f.write_str("automatic failover was paused"),
            Reason::Resumed => f.write_str("automatic failover was resumed"),
            Reason::SettingsChanged => f.write_str("settings changed"),
            Reason::MayBeLost { leader, beyond, time_ms: t } => {
                write!(
                    f,
                    "what {leader} acknowledged beyond {beyond} may be lost (async: up to {t} ms of writes, or more if its host stood still)"
                )
            }
        }
    }
}

/// What is still missing before an election is safe (C-3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The term whose rule is not covered.
    pub term: Term,
    /// That rule.
    pub rule: Rule,
    /// Its leader, whose own resignation would cover it too.
    pub leader: NodeId,
    /// What is not shown yet.
    pub what: NotShown,
}

/// Which half of C-3 is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotShown {
    /// That nothing more can be acknowledged.
    Blocked,
    /// What has been acknowledged.
    Discovered,
    /// That the candidate has it all.
    Reached,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            NotShown::Blocked => "could still acknowledge",
            NotShown::Discovered => "may have acknowledged more than is known",
            NotShown::Reached => "acknowledged more than the candidate has",
        };
        write!(f, "term {} (leader {}, {}) {what}", self.term, self.leader, self.rule)
    }
}
