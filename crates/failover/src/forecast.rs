//! What a failover, a switchover or a `reinit` that an operator asks for would come to,
//! before anything is asked of the store.
//!
//! A forced failover ends a term, so it is refused here when it could not be
//! completed, or would lose something that nobody accepted; an agent's word
//! weighs more than an operator's belief that its node is dead. A forecast
//! looks at what is agreed and at what was reported, and pretends that those
//! who are heard answer the term as they must. It decides nothing: the command
//! and the election are judged again by `ClusterState::apply`.

mod loss;
mod reinit;
mod switchover;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use cluster::command::{Ballot, Change, Command, Evidence, Kind, Trigger};
use cluster::lineage::term_of;
use cluster::recruited::{is_valid, recruited};
use cluster::report::Report;
use cluster::{ClusterState, Lsn, MemberId, NodeId, Position, Refused, Term, Timeline, Vows};

use crate::election::{best, evidence_of, fit, opening_rule};
use crate::salvage::short;
pub use loss::{Loss, Unknown};
pub use reinit::{Needed, Remake, reinit};
pub use switchover::{LAG_BYTES_MAX, switchover};

/// A node that was heard so lately is not dead, whatever an operator believes.
pub const ALIVE_MS: u64 = 2_000;
/// One that was heard so lately is counted on.
pub const HEARD_MS: u64 = 1_000;

/// What one agent knows.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What is agreed.
    pub state: &'a ClusterState,
    /// What everybody last said, and how many milliseconds ago.
    pub reports: &'a BTreeMap<NodeId, (Report, u64)>,
}

/// A failover, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Through whom.
    pub by: NodeId,
    /// The term that is to begin.
    pub term: Term,
    /// For whom.
    pub to: Option<NodeId>,
    /// Nodes declared dead, with what only they have.
    pub accept_loss: BTreeSet<NodeId>,
}

impl Asked {
    /// What is asked of the store for it.
    #[must_use]
    pub fn change(&self) -> Change {
        let trigger = Trigger::Operator { to: self.to.clone(), accept_loss: self.accept_loss.clone() };
        Change::BeginTerm { term: self.term, trigger }
    }
}

/// What a failover would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The term that would begin.
    pub term: Term,
    /// Who would most likely lead it.
    pub leader: NodeId,
    /// From where.
    pub position: Position,
    /// What could be lost.
    pub loss: Loss,
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} leads term {} from {}; {}", self.leader, self.term, self.position.lsn, self.loss)
    }
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwise {
    /// `ClusterState::apply` would refuse it.
    Refused(Refused),
    /// A node that is declared dead and is not.
    Alive {
        /// Which.
        node: NodeId,
        /// When it was last heard.
        heard_ms: u64,
    },
    /// Somebody who is needed is not there.
    WouldLose(Vec<Absent>),
    /// Too few agents are heard to agree on anything.
    NoMajority {
        /// How many are, this one included.
        heard: usize,
        /// Of how many.
        seats: usize,
    },
    /// A copy is to be made anew whose member commits can't do without.
    Needed(Needed),
}

/// A node that is needed and can't be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Which.
    pub node: NodeId,
    /// When it was last heard; `None`: never, by this agent.
    pub heard_ms: Option<u64>,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.heard_ms {
            None => write!(f, "{} (never heard by this agent)", self.node),
            Some(ms) if ms >= HEARD_MS => {
                write!(f, "{} (last heard {}.{} s ago)", self.node, ms / 1000, ms % 1000 / 100)
            }
            Some(_) => write!(f, "{} (heard, but its copy can't be believed now)", self.node),
        }
    }
}

impl Unwise {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Unwise::Refused(why) => why.code(),
            Unwise::Alive { .. } => "TAN0123",
            Unwise::WouldLose(_) => "TAN0617",
            Unwise::NoMajority { .. } => "TAN0124",
            Unwise::Needed(_) => "TAN0625",
        }
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub fn advice(&self) -> alloc::string::String {
        match self {
            Unwise::Needed(needed) => needed.advice(),
            Unwise::Refused(_) => "Nothing was changed; 'tanist status' shows how things are".into(),
            Unwise::Alive { node, .. } => alloc::format!(
                "Leave it out of --accept-loss; if its host must not be used any more, stop its agent and server first, or take it out with 'tanist member remove {node}'"
            ),
            Unwise::NoMajority { .. } => {
                "Bring agents back until more than half are there; a witness on a new host counts once it has joined".into()
            }
            Unwise::WouldLose(absent) => {
                let names: Vec<&str> = absent.iter().map(|a| a.node.as_str()).collect();
                let (one, list) = (names.len() == 1, names.join(","));
                let (it, has, is) =
                    if one { ("it", "it has", "it is") } else { ("them", "they have", "they are") };
                alloc::format!(
                    "Bring {} back, or name {it} with --accept-loss {list} if {is} gone for good, with what only {has}",
                    names.join(" and ")
                )
            }
        }
    }
}

impl fmt::Display for Unwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwise::Refused(why) => write!(f, "{why}"),
            Unwise::Needed(needed) => write!(f, "{needed}"),
            Unwise::Alive { node, heard_ms } => {
                write!(
                    f,
                    "{node} is alive: its agent was heard {heard_ms} ms ago, so it can't be declared dead"
                )
            }
            Unwise::NoMajority { heard, seats } => {
                write!(f, "{heard} of {seats} agents are heard, too few to agree on a failover")
            }
            Unwise::WouldLose(absent) if absent.is_empty() => {
                f.write_str("a failover now could lose acknowledged commits, or could not be completed")
            }
            Unwise::WouldLose(absent) => {
                f.write_str("a failover now could lose acknowledged commits that only a missing node has: ")?;
                for (i, a) in absent.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{a}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<Refused> for Unwise {
    fn from(why: Refused) -> Unwise {
        Unwise::Refused(why)
    }
}

impl Scene<'_> {
    /// When `node`'s agent was last heard.
    fn age(&self, node: &NodeId) -> Option<u64> {
        self.reports.get(node).map(|(_, age)| *age)
    }

    fn is_heard(&self, member: &MemberId) -> bool {
        let said = self.reports.get(&member.node).filter(|(r, _)| r.member == *member);
        said.is_some_and(|(_, age)| *age < HEARD_MS)
    }

    /// What `member` will report for `term` if it answers as it must: promised,
    /// its ack path cut, and resigned from all that it ever led (C-22).
    fn answer(&self, report: &Report, term: Term) -> Evidence {
        let led = self.state.last_elected(&report.member).unwrap_or_default();
        let vows = Vows {
            promise: report.vows.promise.max(term),
            resigned: report.vows.resigned.max(led),
            ..report.vows.clone()
        };
        let mut evidence = evidence_of(&report.member, &vows, None, term);
        evidence.promise = vows.promise;
        evidence.time_fenced = true;
        let unusable = vows.rebuilding.is_some() || vows.quarantine.is_some();
        if let Some(server) = report.server.as_ref().filter(|s| !unusable && s.end > Lsn::ZERO) {
            // By the last byte: at a switch point the history knows the child already (C-1).
            let owner = server.lineage.owner_of(Lsn(server.end.0 - 1));
            evidence.position = term_of(owner, &self.state.elections).map(|t| Position::new(t, server.end));
            evidence.lineage = server.lineage.clone();
        }
        evidence
    }
}

/// What the failover that is asked for would come to.
///
/// # Errors
/// Why it must not, or could not, be done.
pub fn failover(scene: Scene<'_>, asked: &Asked) -> Result<Forecast, Unwise> {
    let command = |change| Command { at_ms: 0, by: asked.by.clone(), change };
    let after = scene.state.apply(&command(asked.change()))?;
    refuse_minority(scene)?;
    refuse_living(scene, asked)?;
    let heard = scene.reports.values().map(|(r, _)| r).filter(|r| scene.is_heard(&r.member));
    let answers = heard.filter(|r| !after.ctl.written_off.contains(&r.member));
    let evidence: Vec<Evidence> = answers.map(|r| scene.answer(r, asked.term)).collect();
    let needed = recruited(&after, asked.term, &evidence);
    let needed = needed.map_err(|_| Unwise::WouldLose(absent(scene, &after, &evidence)))?;
    let evidence = fast_forwarded(scene, &after, evidence, needed);
    let best = chosen(scene, &after, &evidence, needed)?;
    let (leader, base) = (best.member.clone(), best.position.unwrap_or_default());
    let loss = loss::of(scene, &after, &evidence, best, &asked.accept_loss);
    let ballot = Ballot {
        term: asked.term,
        leader: leader.clone(),
        rule: opening_rule(&after, &leader, base, &evidence),
        parent_tli: best.lineage.timeline,
        tli: Timeline(after.tli_next),
        evidence: evidence.clone(),
    };
    after.apply(&command(Change::Elect(ballot)))?;
    Ok(Forecast { term: asked.term, leader: leader.node, position: base, loss })
}

/// Where only one who can't lead has all that is needed, the others fetch it first.
fn fast_forwarded(
    scene: Scene<'_>,
    after: &ClusterState,
    mut evidence: Vec<Evidence>,
    needed: Position,
) -> Vec<Evidence> {
    let term = after.ctl.term;
    let heard = |m: &MemberId| scene.is_heard(m);
    let Some((holder, behind)) = short(after, term, &evidence, needed, heard, heard) else {
        return evidence;
    };
    let (position, lineage) = (holder.position, holder.lineage.clone());
    let behind: BTreeSet<MemberId> = behind.iter().map(|e| e.member.clone()).collect();
    for e in evidence.iter_mut().filter(|e| behind.contains(&e.member)) {
        (e.position, e.lineage) = (position, lineage.clone());
    }
    evidence
}

/// Asked of a minority, the command would wait in a log, and could be agreed on
/// when those it declares dead are back: the loss would then be for nothing.
fn refuse_minority(scene: Scene<'_>) -> Result<(), Unwise> {
    let seats = scene.state.members.iter().filter(|(_, m)| m.has_seat());
    let seats: Vec<&NodeId> = seats.map(|(n, _)| n).collect();
    let heard = seats.iter().filter(|n| scene.age(n).is_some_and(|age| age < HEARD_MS)).count();
    if heard * 2 > seats.len() { Ok(()) } else { Err(Unwise::NoMajority { heard, seats: seats.len() }) }
}

/// One whose agent speaks and whose copy counts has to be asked, not buried. A
/// copy that can't be believed (quarantined, being made anew) may be given up.
fn refuse_living(scene: Scene<'_>, asked: &Asked) -> Result<(), Unwise> {
    for node in &asked.accept_loss {
        let Some((report, heard_ms)) = scene.reports.get(node).filter(|(_, age)| *age < ALIVE_MS) else {
            continue;
        };
        let id = scene.state.member_id(node);
        let needed = id.as_ref().is_some_and(|id| scene.state.is_needed(id)) || !lives_on(scene.state, node);
        let witness = scene.state.members.get(node).is_some_and(|m| m.kind == Kind::Witness);
        let counts = witness || is_valid(scene.state, asked.term, &scene.answer(report, asked.term));
        if id.as_ref() == Some(&report.member) && needed && counts {
            return Err(Unwise::Alive { node: node.clone(), heard_ms: *heard_ms });
        }
    }
    Ok(())
}

/// Whether a rule speaks of an older life of `node`, which can only be given up.
fn lives_on(state: &ClusterState, node: &NodeId) -> bool {
    state.needed().filter(|m| m.node == *node).any(|m| state.member(m).is_none())
}

/// Who is needed and can't be counted on.
fn absent(scene: Scene<'_>, after: &ClusterState, evidence: &[Evidence]) -> Vec<Absent> {
    let counts = |m: &MemberId| evidence.iter().any(|e| e.member == *m && is_valid(after, after.ctl.term, e));
    let gone = after.needed().filter(|m| !after.ctl.written_off.contains(*m) && !counts(m));
    let nodes: BTreeSet<NodeId> = gone.map(|m| m.node.clone()).collect();
    nodes.into_iter().map(|node| Absent { heard_ms: scene.age(&node), node }).collect()
}

/// Who would be elected.
fn chosen<'a>(
    scene: Scene<'_>,
    after: &ClusterState,
    evidence: &'a [Evidence],
    needed: Position,
) -> Result<&'a Evidence, Unwise> {
    let fits = fit(after, after.ctl.term, evidence, needed, |m| scene.is_heard(m));
    if let Some(node) = after.ctl.preferred.as_ref().filter(|n| !fits.iter().any(|e| e.member.node == **n)) {
        let its = evidence.iter().find(|e| e.member.node == *node);
        let why = match its {
            None => "its agent is not heard",
            Some(e) if !is_valid(after, after.ctl.term, e) => "its copy can't be believed now",
            Some(_) => "it lacks WAL that others have",
        };
        return Err(Refused::CandidateUnfit { node: node.clone(), why: why.into() }.into());
    }
    let why = "nobody who is heard may lead and has everything";
    best(after, after.ctl.leader.as_ref(), &fits, true).ok_or(Refused::NoCandidate(why.into()).into())
}
