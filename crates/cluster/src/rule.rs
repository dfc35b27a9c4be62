//! Commit rules: whose acknowledgement a commit waits for.
//!
//! A rule `(S, k)` is PostgreSQL's `ANY k (S)`. Never `FIRST`: its ack sets lie
//! within those of `ANY k` over the same list, so it gains nothing (protocol
//! 1.2). `(∅, 0)` is the leader-only rule: nobody but the leader need have the
//! commit, and only the leader itself can block it.
//!
//! Every blocking set meets every ack set; two blocking sets need not meet, and
//! two ack sets need not either.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::mutant::{Mutant, on};
use crate::node::MemberId;
use crate::policy::Durability;
use crate::term::Term;

/// `ANY acks (standbys)`. Written only through `new`, so `acks == 0` exactly
/// when `standbys` is empty (O-9: every rule with k = 0 is the leader-only rule).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRule", into = "RawRule")]
pub struct Rule {
    standbys: BTreeSet<MemberId>,
    acks: u32,
}

#[derive(Serialize, Deserialize)]
struct RawRule {
    standbys: BTreeSet<MemberId>,
    acks: u32,
}

impl TryFrom<RawRule> for Rule {
    type Error = Unsatisfiable;
    fn try_from(raw: RawRule) -> Result<Rule, Unsatisfiable> {
        Rule::new(raw.standbys, raw.acks)
    }
}

impl From<Rule> for RawRule {
    fn from(rule: Rule) -> RawRule {
        RawRule { standbys: rule.standbys, acks: rule.acks }
    }
}

/// A rule that asks for more acknowledgements than it names standbys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commit rule can't wait for {acks} acknowledgements from {standbys} standbys")]
pub struct Unsatisfiable {
    acks: u32,
    standbys: usize,
}

impl Rule {
    /// `ANY acks (standbys)`; any set with `acks == 0` becomes the leader-only rule.
    ///
    /// # Errors
    /// `Unsatisfiable` when `acks` exceeds the number of standbys.
    pub fn new(standbys: BTreeSet<MemberId>, acks: u32) -> Result<Rule, Unsatisfiable> {
        if acks == 0 {
            return Ok(Rule::leader_only());
        }
        if acks as usize > standbys.len() {
            return Err(Unsatisfiable { acks, standbys: standbys.len() });
        }
        Ok(Rule { standbys, acks })
    }

    /// `(∅, 0)`.
    #[must_use]
    pub fn leader_only() -> Rule {
        Rule { standbys: BTreeSet::new(), acks: 0 }
    }

    /// Whether nobody but the leader need have a commit.
    #[must_use]
    pub fn is_leader_only(&self) -> bool {
        self.acks == 0
    }

    /// S, the standbys allowed to acknowledge.
    #[must_use]
    pub fn standbys(&self) -> &BTreeSet<MemberId> {
        &self.standbys
    }

    /// k, how many of them must.
    #[must_use]
    pub fn acks(&self) -> u32 {
        self.acks
    }

    /// Whether `member` may acknowledge.
    #[must_use]
    pub fn names(&self, member: &MemberId) -> bool {
        self.standbys.contains(member)
    }

    /// Whether acknowledgements from exactly these members satisfy the rule.
    #[must_use]
    pub fn is_acked_by<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> bool {
        self.counted(members) >= self.acks as usize
    }

    /// Whether no ack set exists outside these members: if they stop
    /// acknowledging, nothing can commit under this rule.
    #[must_use]
    pub fn is_blocked_by<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> bool {
        if on(Mutant::AnyoneBlocks) {
            return !self.is_leader_only() && self.counted(members) > 0;
        }
        !self.is_leader_only() && self.standbys.len() - self.counted(members) < self.acks as usize
    }

    fn counted<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> usize {
        members.into_iter().filter(|m| self.names(m)).collect::<BTreeSet<_>>().len()
    }

    /// Whether PostgreSQL may go from `self` to `to` in one reload (C-6).
    ///
    /// While walsenders differ, it takes k from the one that releases and
    /// membership from each one's own list, so what it acks under is the hull
    /// `(S1 ∪ S2, min(k1, k2))`. That hull must be one of the two agreed rules.
    #[must_use]
    pub fn is_elementary_to(&self, to: &Rule) -> bool {
        let union = self.standbys.union(&to.standbys).cloned().collect();
        let hull = Rule::new(union, self.acks.min(to.acks)).unwrap_or_else(|_| Rule::leader_only());
        hull == *self || hull == *to || on(Mutant::AnyStep)
    }

    /// The value of `synchronous_standby_names`. Names are quoted: dashes,
    /// digits and capitals would otherwise be a syntax error, which turns
    /// synchronous replication off at reload without a word.
    #[must_use]
    pub fn to_setting(&self) -> String {
        if self.is_leader_only() {
            return String::new();
        }
        let names: alloc::vec::Vec<String> =
            self.standbys.iter().map(|m| alloc::format!("\"{m}\"")).collect();
        alloc::format!("ANY {} ({})", self.acks, names.join(","))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_leader_only() {
            return f.write_str("leader only");
        }
        let names: alloc::vec::Vec<String> = self.standbys.iter().map(|m| m.node.to_string()).collect();
        write!(f, "any {} of {}", self.acks, names.join(", "))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule that commits may be acknowledged under right now. One when stable,
/// two or more while a rule change or a term change is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRule {
    /// The term whose leader acknowledges under it.
    pub term: Term,
    /// That leader.
    pub leader: MemberId,
    /// Number of this rule; never repeats in a cluster's life.
    pub sub: u64,
    /// The rule.
    pub rule: Rule,
    /// What an acknowledgement promised while it was in force.
    pub mode: Durability,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(names: &[&str], acks: u32) -> Rule {
        let members = names.iter().map(|n| alloc::format!("{n}_1").parse().unwrap()).collect();
        Rule::new(members, acks).unwrap()
    }

    #[test]
    fn every_blocking_set_meets_every_ack_set() {
        let all = ["a", "b", "c", "d"];
        for k in 1..=4u32 {
            let r = rule(&all, k);
            let members: alloc::vec::Vec<MemberId> = r.standbys().iter().cloned().collect();
            let subset = |bits: u32| {
                members.iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, m)| m)
            };
            for a in 0..16u32 {
                for b in 0..16u32 {
                    if r.is_acked_by(subset(a)) && r.is_blocked_by(subset(b)) {
                        assert_ne!(a & b, 0, "ack set {a:b} and blocking set {b:b} of {r} don't meet");
                    }
                }
            }
        }
        assert!(!Rule::leader_only().is_blocked_by([]), "only the leader can block its own rule");
    }

    #[test]
    fn c6_only_elementary_changes() {
        let ok = [
            (rule(&["b"], 1), rule(&["b", "c"], 1)),
            (rule(&["b", "c"], 1), rule(&["c"], 1)),
            (rule(&["b", "c"], 1), rule(&["b", "c"], 2)),
            (rule(&["b", "c"], 2), rule(&["b", "c"], 1)),
            (rule(&["b"], 1), Rule::leader_only()),
            (Rule::leader_only(), rule(&["b", "c"], 1)),
        ];
        for (from, to) in ok {
            assert!(from.is_elementary_to(&to), "{from} to {to}");
        }
        let bad = [
            (rule(&["b", "c"], 2), rule(&["b"], 1)),
            (rule(&["b"], 1), rule(&["c"], 1)),
            (rule(&["b"], 1), rule(&["b", "c"], 2)),
        ];
        for (from, to) in bad {
            assert!(!from.is_elementary_to(&to), "{from} to {to}");
        }
    }

    #[test]
    fn setting_quotes_names() {
        assert_eq!(rule(&["any", "n-2"], 1).to_setting(), r#"ANY 1 ("any_1","n-2_1")"#);
        assert_eq!(Rule::leader_only().to_setting(), "");
    }
}
