//! What laws remember of what they saw.

use std::collections::{BTreeMap, BTreeSet};

use cluster::command::{Change, MemberState, Trigger};
use cluster::{Lsn, MemberId, NodeId, Term, Timeline};

use super::Moment;
use crate::clock::Us;
use crate::network::At;
use crate::wal::Record;
use crate::world::World;

/// How a timeline came about: from which parent, where, in which term, on which host.
pub type Birth = (Option<Timeline>, Lsn, Term, At);

/// What laws remember.
#[derive(Debug, Default)]
pub struct Witnessed {
    /// Acknowledged writes, in order.
    pub acked: Vec<u32>,
    /// The newest term whose leader acknowledged anything.
    pub newest_acker: Term,
    /// Every timeline that was opened by a deed.
    pub births: BTreeMap<Timeline, Birth>,
    /// Nodes that an operator declared dead, and in which term.
    pub dead: BTreeMap<NodeId, Term>,
    /// Lives whose disk was lost.
    pub wiped: BTreeSet<MemberId>,
    /// The last reply of each member in each term: how many records, and the last one.
    pub replied: BTreeMap<(Term, MemberId), (usize, Record)>,
    /// When failover by itself was last paused.
    pub paused_at: Option<Us>,
    /// When each term was opened.
    pub opened: Vec<(Term, Us)>,
    /// When a host was last without a guard that could act.
    pub unguarded: BTreeMap<At, Us>,
    /// How many terms had begun when all faults were over.
    pub terms_at_heal: Option<u64>,
}

impl Witnessed {
    /// Whether an operator declared `node` dead, after the term in which it leads or led.
    #[must_use]
    pub fn is_dead(&self, node: &NodeId, term: Term) -> bool {
        self.dead.get(node).is_some_and(|at| *at > term)
    }
}

impl World {
    /// Takes a moment into memory, after every law has looked at it.
    pub(crate) fn remember(&mut self, moment: &Moment) {
        match moment {
            Moment::Acked { at, write } => self.remember_ack(*at, *write),
            Moment::Promoted { at, term } => {
                let lineage = &self.hosts[*at].server.wal.lineage;
                let last = lineage.ancestors.last();
                let birth = (last.map(|b| b.timeline), last.map_or(Lsn::ZERO, |b| b.end), *term, *at);
                self.witnessed.births.insert(lineage.timeline, birth);
            }
            Moment::Agreed { command, .. } => match &command.change {
                Change::Opened { term, .. } => {
                    let now = self.now;
                    self.witnessed.opened.push((*term, now));
                    self.lease_all();
                    self.forget_lost(*term);
                }
                Change::RuleEnd { .. } => self.lease_all(),
                Change::Pause => self.witnessed.paused_at = Some(self.now),
                Change::BeginTerm { term, trigger: Trigger::Operator { accept_loss, .. } } => {
                    self.witnessed.dead.extend(accept_loss.iter().map(|n| (n.clone(), *term)));
                    self.forget_unreachable(accept_loss.iter());
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn remember_ack(&mut self, at: At, write: u32) {
        let term = self.hosts[at].ghost.leads;
        let name = &self.hosts[at].name;
        let leased = |r: &cluster::ActiveRule| r.term == term && r.mode == cluster::Durability::Async;
        let w = &mut self.writes[write as usize];
        w.term = term;
        w.leased = self.truth.rules.iter().any(leased)
            || self.truth.settings.durability == cluster::Durability::Async;
        // C-18: whoever was declared dead and still runs may acknowledge to nobody's good.
        w.forfeited |= self.witnessed.is_dead(name, term);
        self.witnessed.acked.push(write);
        if !self.witnessed.is_dead(name, term) {
            self.witnessed.newest_acker = self.witnessed.newest_acker.max(term);
        }
    }

    /// From here on commits are async: what was acknowledged before is in the same log, which
    /// another may lead without, and is no safer than what follows.
    fn lease_all(&mut self) {
        let newest = self.truth.newest_rule().filter(|r| r.mode == cluster::Durability::Async);
        if newest.is_none() {
            return;
        }
        for write in &self.witnessed.acked {
            self.writes[*write as usize].leased = true;
        }
    }

    /// An operator accepts the loss of what only these nodes have, besides those that were
    /// written off before.
    fn forget_unreachable<'a>(&mut self, dead: impl Iterator<Item = &'a NodeId>) {
        let members = self.truth.members.iter();
        let before = members.filter(|(_, m)| m.state == MemberState::WrittenOff);
        let before = before.filter_map(|(n, _)| self.places.get(n).copied());
        let dead: BTreeSet<At> = dead.filter_map(|n| self.places.get(n).copied()).chain(before).collect();
        for write in self.witnessed.acked.clone() {
            let (count, id) = self.writes[write as usize].place;
            let has = |at: At| self.hosts[at].server.wal.records.get(count - 1).is_some_and(|r| r.id == id);
            let left = (0..self.hosts.len()).any(|at| !dead.contains(&at) && has(at));
            self.writes[write as usize].forfeited |= !left;
        }
    }

    /// What async lost is lost: it is counted once.
    fn forget_lost(&mut self, term: Term) {
        let Some(leader) = self.truth.election().filter(|e| e.term == term).map(|e| e.leader.node.clone())
        else {
            return;
        };
        let Some(at) = self.places.get(&leader).copied() else { return };
        for write in self.witnessed.acked.clone() {
            let w = &self.writes[write as usize];
            let kept =
                self.hosts[at].server.wal.records.get(w.place.0 - 1).is_some_and(|r| r.id == w.place.1);
            if w.leased && !w.forfeited && !kept {
                self.writes[write as usize].forfeited = true;
                self.counts.lost_in_async += 1;
            }
        }
    }
}
