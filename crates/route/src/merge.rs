//! One picture out of what the agents say.
//!
//! ```text
//!   the highest term ever heard of wins ▶ in it the furthest phase
//!     ▶ there the leader's own agent ▶ else whoever was heard last
//! ```
//! Say n1 leads term 4 and is cut off with its agent, which goes on saying so; n2
//! leads term 5. Whoever has once heard of term 5 sends nobody to n1 again, also
//! when nobody who speaks of term 5 can be heard any more: no leader is known then.
//!
//! Reads no clock: how old each word is is handed in.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use cluster::NodeId;
use cluster::state::Phase;

use crate::routes::{Opening, RouteMember, Routes};

/// A word that is older says nothing about now: its agent has missed four keep-alives.
pub const WORD_AGE_MAX: Duration = Duration::from_secs(1);

/// The newest word of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it said.
    pub routes: Routes,
    /// How long ago.
    pub age: Duration,
}

/// Who takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub name: NodeId,
    /// Where its PostgreSQL listens, `host:port`.
    pub postgres: String,
}

/// What is known of the cluster's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Name of the cluster; empty before anybody spoke.
    pub cluster: String,
    /// The highest term ever heard of.
    pub term: u64,
    /// The furthest that term was ever heard to be.
    pub phase: Phase,
    /// Who takes writes now; nobody while that is not known.
    pub leader: Option<Leader>,
    /// That leader is about to shut down in order: hold new transactions.
    pub handing_over: bool,
    /// Automatic failover is off.
    pub paused: bool,
    /// Everybody, as the one who knows best says.
    pub members: Vec<RouteMember>,
    /// For the fate of a COMMIT; empty while no fate can be settled.
    pub openings: Vec<Opening>,
    /// How old the newest word of each agent was when this was made.
    pub heard: BTreeMap<NodeId, Duration>,
}

impl Merged {
    /// Whether `other` would route anybody otherwise: ages and lags move all the time.
    #[must_use]
    pub fn routes_as(&self, other: &Merged) -> bool {
        let steady = |m: &Merged| {
            let still = |m: &RouteMember| RouteMember { replay_lag_ms: None, lag_bytes: None, ..m.clone() };
            let members = m.members.iter().map(still).collect();
            Merged { members, heard: BTreeMap::new(), ..m.clone() }
        };
        steady(self) == steady(other)
    }
}

/// How far the cluster is: a term only moves on, and a phase only within its term.
fn place(term: u64, phase: Phase) -> (u64, u8) {
    let phase = match phase {
        Phase::Revoking => 0,
        Phase::Elected => 1,
        Phase::Open => 2,
    };
    (term, phase)
}

fn place_of(word: &Word) -> (u64, u8) {
    place(word.routes.term, word.routes.phase)
}

/// What follows from the newest word of each agent, and from what was known `before`.
#[must_use]
pub fn merge(words: &BTreeMap<NodeId, Word>, before: &Merged) -> Merged {
    let heard = words.iter().map(|(name, word)| (name.clone(), word.age)).collect();
    let floor = place(before.term, before.phase);
    // Also an old word shows that the term has begun.
    let top = words.values().map(place_of).max().filter(|top| *top >= floor);
    let current = |word: &&Word| Some(place_of(word)) == top;
    let fresh = |word: &&Word| word.age <= WORD_AGE_MAX;
    let newest = words.values().filter(current).min_by_key(|word| word.age);
    let Some(newest) = newest else {
        return Merged { leader: None, handing_over: false, heard, ..before.clone() };
    };
    let elected = newest.routes.elected();
    let own = elected.and_then(|leader| words.get(leader)).filter(current);
    let best = own.filter(fresh).unwrap_or(newest);
    let leader = leader(words, own, top);
    Merged {
        cluster: best.routes.cluster.clone(),
        term: best.routes.term,
        phase: best.routes.phase,
        handing_over: leader.is_some() && best.routes.handing_over && fresh(&best),
        leader,
        paused: best.routes.paused,
        members: best.routes.members.clone(),
        openings: best.routes.openings.clone(),
        heard,
    }
}

/// Who takes writes: the leader's own word where it can be heard, else anybody's. A
/// leader that has said that it resigned the term does not come back in it, however
/// long ago that was.
fn leader(words: &BTreeMap<NodeId, Word>, own: Option<&Word>, top: Option<(u64, u8)>) -> Option<Leader> {
    let resigned = own.is_some_and(|w| w.routes.phase == Phase::Open && w.routes.leader.is_none());
    if resigned {
        return None;
    }
    let current = words.values().filter(|w| Some(place_of(w)) == top && w.age <= WORD_AGE_MAX);
    let mut all = own.filter(|w| w.age <= WORD_AGE_MAX).into_iter().chain(current);
    all.find_map(|w| {
        let name = w.routes.leader.clone()?;
        let member = w.routes.members.iter().find(|m| m.name == name)?;
        Some(Leader { postgres: member.postgres.clone(), name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Role;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a good name")
    }

    fn member(name: &str, role: Role) -> RouteMember {
        RouteMember {
            name: node(name),
            postgres: format!("{name}:5432"),
            agent: format!("{name}:8009"),
            zone: String::new(),
            role,
            streaming: role == Role::Standby,
            replay_lag_ms: None,
            lag_bytes: None,
            maintenance: false,
            unreachable: false,
        }
    }

    /// `from` says, so many milliseconds ago, that `leader` was elected in `term`.
    fn says(from: &str, term: u64, phase: Phase, leader: &str, age_ms: u64) -> (NodeId, Word) {
        let role =
            |n: &str| if n == leader && phase != Phase::Revoking { Role::Leader } else { Role::Standby };
        let routes = Routes {
            cluster: "shop".to_string(),
            from: node(from),
            term,
            phase,
            since_ms: 0,
            leader: (phase == Phase::Open).then(|| node(leader)),
            handing_over: false,
            paused: false,
            members: ["n1", "n2", "n3"].map(|n| member(n, role(n))).into(),
            openings: vec![Opening { term, timeline: 2, next_xid: Some(term * 100), survives: true }],
        };
        (node(from), Word { routes, age: Duration::from_millis(age_ms) })
    }

    fn open(from: &str, term: u64, leader: &str, age_ms: u64) -> (NodeId, Word) {
        says(from, term, Phase::Open, leader, age_ms)
    }

    fn resigned(from: &str, term: u64, leader: &str, age_ms: u64) -> (NodeId, Word) {
        let (name, mut word) = open(from, term, leader, age_ms);
        word.routes.leader = None;
        (name, word)
    }

    fn merged(words: &[(NodeId, Word)], before: &Merged) -> (u64, Option<String>) {
        let merged = merge(&words.iter().cloned().collect(), before);
        (merged.term, merged.leader.map(|l| l.name.to_string()))
    }

    fn led(term: u64, name: &str) -> (u64, Option<String>) {
        (term, Some(name.to_string()))
    }

    #[test]
    fn the_highest_term_wins() {
        let start = Merged::default();
        assert_eq!(merged(&[], &start), (0, None));
        assert_eq!(merged(&[open("n1", 4, "n1", 0), open("n3", 5, "n2", 900)], &start), led(5, "n2"));
        let elected = says("n3", 5, Phase::Elected, "n2", 0);
        assert_eq!(merged(&[open("n1", 4, "n1", 0), elected], &start), (5, None));
        let merged = merge(&[open("n3", 5, "n2", 0)].into(), &start);
        assert_eq!(merged.leader.expect("it is open").postgres, "n2:5432");
    }

    #[test]
    fn words_of_lower_terms_never_come_back() {
        let known = merge(&[open("n2", 5, "n2", 0)].into(), &Merged::default());
        // All who knew of term 5 are gone: nobody leads, rather than n1.
        assert_eq!(merged(&[open("n1", 4, "n1", 0)], &known), (5, None));
        assert_eq!(merged(&[open("n1", 4, "n1", 0), open("n2", 5, "n2", 5_000)], &known), (5, None));
        assert_eq!(merged(&[], &known), (5, None));
        // n2's agent was restarted with an older state; n3 knows.
        assert_eq!(merged(&[open("n2", 4, "n1", 0), open("n3", 5, "n2", 200)], &known), led(5, "n2"));
        // Nor does a phase: n3 has not heard of the opening yet.
        let behind = says("n3", 5, Phase::Elected, "n2", 0);
        assert_eq!(merged(core::slice::from_ref(&behind), &known), (5, None));
        assert_eq!(merged(&[behind, open("n2", 5, "n2", 300)], &known), led(5, "n2"));
        let lost = merge(&[open("n1", 4, "n1", 0)].into(), &known);
        assert_eq!((lost.phase, lost.members.len(), lost.cluster.as_str()), (Phase::Open, 3, "shop"));
    }

    #[test]
    fn a_leader_is_kept_while_anybody_says_so() {
        let start = Merged::default();
        let (own, other) = (open("n1", 4, "n1", 5_000), open("n3", 4, "n1", 800));
        assert_eq!(merged(&[own.clone(), other], &start), led(4, "n1"));
        assert_eq!(merged(&[own, open("n3", 4, "n1", 1_001)], &start), (4, None));
    }

    #[test]
    fn the_leaders_own_agent_is_believed_first() {
        let start = Merged::default();
        for age in [0, 60_000] {
            let words = [resigned("n1", 4, "n1", age), open("n2", 4, "n1", 0), open("n3", 4, "n1", 0)];
            assert_eq!(merged(&words, &start), (4, None), "it resigned {age} ms ago");
        }
        // n2 has heard something else, n1 is there and knows better.
        assert_eq!(merged(&[open("n1", 4, "n1", 200), resigned("n2", 4, "n1", 0)], &start), led(4, "n1"));
        // Its own agent has not learnt yet that the term is open.
        let own = says("n1", 4, Phase::Elected, "n1", 0);
        assert_eq!(merged(&[own, open("n3", 4, "n1", 0)], &start), led(4, "n1"));
    }

    #[test]
    fn a_hand_over_is_the_leaders_to_tell() {
        let start = Merged::default();
        let (name, mut own) = open("n1", 4, "n1", 100);
        own.routes.handing_over = true;
        let other = open("n2", 4, "n1", 0);
        let told = |age_ms| {
            let own = Word { age: Duration::from_millis(age_ms), ..own.clone() };
            merge(&[(name.clone(), own), other.clone()].into(), &start).handing_over
        };
        assert!(told(100));
        assert!(!told(2_000), "n1 is not heard, and n2 says nothing of the kind");
        assert!(!merge(&[resigned("n1", 4, "n1", 0)].into(), &start).handing_over);
    }

    #[test]
    fn ages_and_lags_route_nobody_otherwise() {
        let a = merge(&[open("n1", 4, "n1", 100)].into(), &Merged::default());
        let mut b = merge(&[open("n1", 4, "n1", 300)].into(), &a);
        assert_eq!(b.heard[&node("n1")], Duration::from_millis(300));
        b.members[1].lag_bytes = Some(7);
        assert!(a.routes_as(&b));
        b.members[1].streaming = false;
        assert!(!a.routes_as(&b));
    }
}
