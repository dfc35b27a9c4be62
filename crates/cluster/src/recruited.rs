//! C-3: when it is safe to elect.
//!
//! For every active rule of a term s two things must be shown. *Blocked*:
//! nothing more can be acknowledged under it. *Discovered*: we know a position
//! that holds everything that was. Each by members of its S, or by its leader
//! having resigned, or by somebody whose WAL is of a later term (which by
//! induction grew from a leader that had it all).
//!
//! Whoever was elected for a later term and has kept its log stands for that term, too.
//!
//! ```text
//!              by members of S(ρ)                by its leader         by a later term
//! blocked      promised to this term ∈ B(ρ)      resigned s            a valid position of a term > s
//! discovered   valid position ∈ B(ρ)             resigned s, with one  a valid position of a term > s
//! ```
//!
//! The proof that this loses nothing is in docs/protocol.md, section 2.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::command::{Evidence, Member, MemberState};
use crate::lsn::Position;
use crate::mutant::{Mutant, on};
use crate::node::{MemberId, NodeId};
use crate::policy::Durability;
use crate::reason::{Missing, NotShown};
use crate::rule::ActiveRule;
use crate::state::ClusterState;
use crate::term::Term;

/// Checks C-3 for term `term` over every active rule. Gives the position that a
/// candidate must reach: everything acknowledged lies at or before it.
///
/// # Errors
/// The first rule that is not covered, and which half of it.
pub fn recruited(state: &ClusterState, term: Term, evidence: &[Evidence]) -> Result<Position, Missing> {
    let mut needed = Position::default();
    let skipped = if on(Mutant::NewestRuleOnly) { state.rules.len().saturating_sub(1) } else { 0 };
    for rule in state.rules.iter().skip(skipped) {
        let case = Case { state, term, evidence, rule };
        if !case.is_blocked() {
            return Err(case.missing(NotShown::Blocked));
        }
        let least = case.discovered().ok_or_else(|| case.missing(NotShown::Discovered))?;
        needed = needed.max(least);
    }
    Ok(needed)
}

/// Whether `evidence` holds a valid position: one that may be believed,
/// reported for this term, so that it was read after the ack path was cut.
#[must_use]
pub fn is_valid(state: &ClusterState, term: Term, evidence: &Evidence) -> bool {
    (evidence.promise == term || on(Mutant::StalePosition)) && is_believable(state, term, evidence)
}

/// Whether `evidence` holds a voter's position on a past that this cluster's
/// elections gave out (C-2). Enough for a resigned leader, whose dead server
/// acknowledges nothing whatever term it has promised since.
fn is_believable(state: &ClusterState, term: Term, evidence: &Evidence) -> bool {
    let voter = state.member(&evidence.member).is_some_and(|m| m.state == MemberState::Voter);
    voter && evidence.position.is_some_and(|p| p.term < term) && evidence.lineage.is_legal(&state.elections)
}

/// Whose word an election from `base` rests on: whoever answered this term, and of the
/// leaders that resigned those without whom C-3 would not admit it.
///
/// Say n1 resigned term 1 and its host died, and n2 and n3 answered term 2: n1's last
/// report is evidence still, but the two are enough, and n1 is not named.
#[must_use]
pub fn relied_upon(state: &ClusterState, term: Term, base: Position, evidence: &[Evidence]) -> Vec<NodeId> {
    let needed_for_it = |e: &Evidence| {
        let others: Vec<Evidence> = evidence.iter().filter(|o| o.member != e.member).cloned().collect();
        recruited(state, term, &others).map_or(true, |needed| base < needed)
    };
    let counts = |e: &&Evidence| e.promise == term || needed_for_it(e);
    evidence.iter().filter(counts).map(|e| e.member.node.clone()).collect()
}

/// Whose rule of async ran out by time, with its end not known: a loss there may be.
#[must_use]
pub fn of_unknown_end(state: &ClusterState, term: Term, evidence: &[Evidence]) -> Option<MemberId> {
    let mut cases = state.rules.iter().rev().map(|rule| Case { state, term, evidence, rule });
    cases.find(|c| c.time_fenced() && c.shown().is_none()).map(|c| c.rule.leader.clone())
}

struct Case<'a> {
    state: &'a ClusterState,
    term: Term,
    evidence: &'a [Evidence],
    rule: &'a ActiveRule,
}

impl Case<'_> {
    fn is_blocked(&self) -> bool {
        let promised = self.evidence.iter().filter(|e| e.promise == self.term).map(|e| &e.member);
        let gone = self.state.ctl.written_off.iter();
        self.rule.rule.is_blocked_by(promised.chain(gone))
            || self.leader_is_done()
            || self.later().is_some()
            || self.time_fenced()
    }

    /// The least position that holds everything acknowledged under this rule.
    fn discovered(&self) -> Option<Position> {
        if self.time_fenced() {
            return Some(Position::default());
        }
        self.shown()
    }

    fn shown(&self) -> Option<Position> {
        [self.by_standbys(), self.by_leader(), self.later(), self.by_operator()].into_iter().flatten().min()
    }

    fn by_standbys(&self) -> Option<Position> {
        let valid = self.valid().filter(|e| self.rule.rule.names(&e.member));
        let found: Vec<(&MemberId, Position)> =
            valid.filter_map(|e| e.position.map(|p| (&e.member, p))).collect();
        if !self.rule.rule.is_blocked_by(found.iter().map(|(m, _)| *m)) {
            return None;
        }
        found.into_iter().map(|(_, p)| p).max()
    }

    fn by_leader(&self) -> Option<Position> {
        let resigned = |e: &&Evidence| {
            e.member == self.rule.leader && (e.resigned >= self.rule.term || on(Mutant::TailUnresigned))
        };
        let believable = |e: &&Evidence| is_believable(self.state, self.term, e);
        self.evidence.iter().filter(believable).find(resigned).and_then(|e| e.position)
    }

    /// A valid position of a later term, or of the leader elected for one whose log still
    /// has all that this election rested on: it showed both halves for this rule, for good.
    fn later(&self) -> Option<Position> {
        let grown = |e: &&Evidence| e.position.is_some_and(|p| p.term > self.rule.term);
        let elected = |e: &&Evidence| {
            let mut won = self.state.elections.iter().filter(|x| x.leader == e.member);
            won.any(|x| x.term > self.rule.term && e.position.is_some_and(|p| p >= x.base))
        };
        self.valid().filter(|e| grown(e) || elected(e)).filter_map(|e| e.position).min()
    }

    /// An operator declared some dead (C-18): only what nobody else has is lost, so
    /// all others of the rule must speak, and every voter, who may have streamed more.
    fn by_operator(&self) -> Option<Position> {
        let dead = &self.state.ctl.written_off;
        if dead.is_empty() {
            return None;
        }
        let named = self.rule.rule.standbys().iter().chain([&self.rule.leader]).cloned();
        let voters =
            self.state.members.iter().filter(|(_, m)| m.kind.keeps_wal() && m.state == MemberState::Voter);
        let mut left = named
            .chain(voters.map(|(n, m)| MemberId::new(n.clone(), m.incarnation)))
            .filter(|m| !dead.contains(m));
        let heard = |m: MemberId| self.valid().any(|e| e.member == m);
        if !left.all(heard) && !on(Mutant::LossUnheard) {
            return None;
        }
        let known = || self.valid().filter_map(|e| e.position);
        if on(Mutant::LossLeast) { known().min() } else { known().max() }
    }

    fn leader_is_done(&self) -> bool {
        let resigned = |e: &Evidence| e.member == self.rule.leader && e.resigned >= self.rule.term;
        self.evidence.iter().any(resigned) || self.state.ctl.written_off.contains(&self.rule.leader)
    }

    /// Async (O-2): a majority of all agents say that the leader's time has run
    /// out. Discovery is waived; the loss bound is the reports' own.
    fn time_fenced(&self) -> bool {
        if self.rule.mode != Durability::Async || !self.rule.rule.is_leader_only() {
            return false;
        }
        let counts = |e: &&Evidence| {
            let seated = self.state.member(&e.member).is_some_and(Member::has_seat);
            seated && e.time_fenced && e.promise == self.term
        };
        let said: BTreeSet<&MemberId> = self.evidence.iter().filter(counts).map(|e| &e.member).collect();
        let all = self.state.members.values().filter(|m| m.has_seat()).count();
        said.len() * 2 > all && self.valid().next().is_some()
    }

    fn valid(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(|e| is_valid(self.state, self.term, e))
    }

    fn missing(&self, what: NotShown) -> Missing {
        Missing {
            term: self.rule.term,
            rule: self.rule.rule.clone(),
            leader: self.rule.leader.node.clone(),
            what,
        }
    }
}
