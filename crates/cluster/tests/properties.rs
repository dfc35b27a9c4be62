//! Properties of `ClusterState::apply` under any commands in any order: it never
//! panics, a refusal changes nothing, numbers never repeat or go back, one
//! leader a term, and somebody's rule is always in force.

mod common;

use std::collections::BTreeSet;

use cluster::command::{Addresses, Ballot, Change, Command, Evidence, MemberState, Registration, Trigger};
use cluster::lineage::Branch;
use cluster::state::{HISTORY_MAX, Phase};
use cluster::{
    ClusterState, Durability, Lineage, Lsn, MemberId, NodeId, Position, Rule, Settings, Term, Timeline,
};
use common::{claim, node, three};
use proptest::prelude::*;

const NAMES: [&str; 5] = ["n1", "n2", "n3", "w", "n9"];

/// Numbers from which a command is made for whatever state there is, so that
/// many are nearly right.
type Dice = Vec<u8>;

struct Cup<'a>(std::slice::Iter<'a, u8>);

impl Cup<'_> {
    fn die(&mut self, sides: u8) -> u8 {
        self.0.next().copied().unwrap_or(0) % sides
    }

    fn node(&mut self) -> NodeId {
        let at = self.die(11);
        node(NAMES[usize::from(if at < 10 { at % 4 } else { 4 })])
    }

    fn nodes(&mut self) -> BTreeSet<NodeId> {
        let bits = self.die(32);
        NAMES.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, n)| node(n)).collect()
    }

    fn member(&mut self, s: &ClusterState) -> MemberId {
        let node = self.node();
        let life = s.members.get(&node).map_or(1, |m| m.incarnation);
        MemberId::new(node, if self.die(8) == 0 { life + 1 } else { life })
    }

    fn rule(&mut self, s: &ClusterState) -> Rule {
        let nodes = self.nodes();
        let ids: BTreeSet<MemberId> = nodes.iter().filter_map(|n| s.member_id(n)).collect();
        Rule::new(ids, u32::from(self.die(3))).unwrap_or_else(|_| Rule::leader_only())
    }

    fn term(&mut self, s: &ClusterState) -> Term {
        Term((s.ctl.term.0 + u64::from(self.die(4))).saturating_sub(1))
    }

    /// A past that elections gave out, or nearly.
    fn lineage(&mut self, s: &ClusterState) -> Lineage {
        let mut past = Lineage::initdb();
        for e in s.elections.iter() {
            if self.die(12) == 0 {
                break;
            }
            let end = e.opened.as_ref().map_or(e.base.lsn, |o| o.switch_lsn);
            let parent = past.timeline;
            if parent == e.parent_tli || self.die(9) == 0 {
                past.ancestors.push(Branch { timeline: parent, end });
                past.timeline = e.tli;
            }
        }
        past
    }

    fn evidence(&mut self, s: &ClusterState, term: Term) -> Vec<Evidence> {
        let first = usize::from(self.die(4));
        let speak = (0..4).map(|i| node(NAMES[(first + i) % 4])).filter_map(|n| s.member_id(&n));
        let speak: Vec<MemberId> = speak.filter(|_| self.die(4) != 0).collect();
        let one = |member| Evidence {
            member,
            promise: if self.die(9) == 0 { Term(term.0.saturating_sub(1)) } else { term },
            resigned: if self.die(2) == 0 { term } else { Term(0) },
            position: (self.die(9) != 0).then(|| {
                let written = term.0.saturating_sub(1 + u64::from(self.die(9) / 8));
                Position::new(Term(written), Lsn(u64::from(self.die(4)) * 100))
            }),
            lineage: self.lineage(s),
            time_fenced: self.die(2) == 0,
        };
        speak.into_iter().map(one).collect()
    }

    fn ballot(&mut self, s: &ClusterState, term: Term) -> Ballot {
        let evidence = self.evidence(s, term);
        let leader = evidence.first().map_or_else(|| self.member(s), |e| e.member.clone());
        let parent_tli = evidence.first().map_or(Timeline(1), |e| e.lineage.timeline);
        let tli = Timeline(s.tli_next + u32::from(self.die(9) == 0));
        Ballot { term, leader, evidence, rule: self.rule(s), parent_tli, tli }
    }

    fn trigger(&mut self, s: &ClusterState) -> Trigger {
        match self.die(4) {
            0 => Trigger::Resigned {
                leader: s.ctl.leader.clone().unwrap_or_else(|| self.member(s)),
                term: self.term(s),
            },
            1 => Trigger::Missed { by: self.nodes(), silent_ms: 600 },
            2 => Trigger::Stuck { phase: s.ctl.phase, waited_ms: 5000 },
            _ => Trigger::Operator {
                to: (self.die(2) == 0).then(|| self.node()),
                accept_loss: if self.die(3) == 0 { self.nodes() } else { BTreeSet::new() },
            },
        }
    }

    fn state(&mut self) -> MemberState {
        match self.die(6) {
            0 => MemberState::Clone,
            1 => MemberState::Catchup,
            2 => MemberState::Quarantined { why: "x".into() },
            3 => MemberState::WrittenOff,
            _ => MemberState::Voter,
        }
    }

    fn settings(&mut self) -> Settings {
        let durability =
            [Durability::Quorum, Durability::QuorumRelaxed, Durability::Async][usize::from(self.die(3))];
        let mut settings = Settings { durability, acks: u32::from(self.die(4)), ..Settings::default() };
        if self.die(4) == 0 {
            settings.timing.async_wait_ms = u64::MAX - u64::from(self.die(3));
        }
        settings
    }

    fn change(&mut self, s: &ClusterState) -> Change {
        // Members come and go more seldom than terms, or nobody would be left to elect.
        let kind = self.die(20);
        match if (12..=17).contains(&kind) && self.die(4) != 0 { 2 } else { kind } {
            0 | 1 => Change::BeginTerm { term: self.term(s), trigger: self.trigger(s) },
            2..=5 => {
                let term = if self.die(9) == 0 { self.term(s) } else { s.ctl.term };
                Change::Elect(self.ballot(s, term))
            }
            6 => Change::BeginAndElect(self.ballot(s, s.ctl.term.next())),
            7 | 8 => Change::Opened {
                term: s.ctl.term,
                sysid: 7 + u64::from(self.die(9) == 0),
                timeline: s.election().map_or(Timeline(0), |e| e.tli),
                switch_lsn: Lsn(u64::from(self.die(5)) * 100),
                next_xid: 0,
                sub: s.sub_next,
            },
            9 | 10 => Change::RuleBegin {
                term: s.ctl.term,
                from_sub: s.sub_next,
                rule: self.rule(s),
                agreed_by: self.nodes(),
            },
            11 => Change::RuleEnd {
                term: s.ctl.term,
                keep: s.sub_next.saturating_sub(u64::from(self.die(2))),
                drop: s.sub_next.saturating_sub(u64::from(self.die(3))),
                lsn: Lsn(0),
            },
            12 => Change::AddMember { node: self.node(), registration: Registration::default() },
            13 => Change::RemoveMember { node: self.node() },
            14 => Change::Join {
                node: self.node(),
                addresses: Addresses::default(),
                nonce: u64::from(self.die(200)),
            },
            15 => Change::Reincarnate { member: self.member(s) },
            16 => {
                Change::SetMemberState { member: self.member(s), state: self.state(), attached: self.term(s) }
            }
            17 => Change::Reinit { node: self.node() },
            18 => match self.die(5) {
                0 => Change::Switchover { to: Some(self.node()), at_ms: None },
                1 => Change::Switchover { to: None, at_ms: None },
                2 => Change::Aim { to: self.node() },
                3 => Change::CancelSwitchover { why: String::new() },
                _ => Change::SetSettings(self.settings()),
            },
            _ => [Change::Pause, Change::Resume, claim(&["n1"], Durability::Quorum)]
                [usize::from(self.die(3))]
            .clone(),
        }
    }

    fn command(&mut self, s: &ClusterState) -> Command {
        let leader = s.ctl.leader.as_ref().map(|l| l.node.clone());
        let by = if self.die(4) == 0 { self.node() } else { leader.unwrap_or_else(|| self.node()) };
        Command { at_ms: 0, by, change: self.change(s) }
    }
}

/// What must hold in every state that was agreed.
fn laws(s: &ClusterState) {
    assert!(!s.rules.is_empty(), "somebody's rule is always in force");
    let subs: BTreeSet<u64> = s.rules.iter().map(|r| r.sub).collect();
    assert_eq!(subs.len(), s.rules.len(), "no rule number twice");
    assert!(s.rules.iter().all(|r| r.sub <= s.sub_next && !r.rule.names(&r.leader)));
    assert!(s.elections.windows(2).all(|w| w[0].term < w[1].term), "one leader a term");
    assert!(s.elections.windows(2).all(|w| w[0].tli < w[1].tli), "no timeline twice");
    assert!(s.elections.iter().all(|e| e.tli.0 < s.tli_next && e.term <= s.ctl.term));
    assert!(s.history.len() <= HISTORY_MAX);
    let elected = s.election().map(|e| &e.leader);
    match s.ctl.phase {
        Phase::Revoking => assert_eq!(elected, None),
        Phase::Elected => assert_eq!(elected, s.ctl.leader.as_ref()),
        Phase::Open => {
            assert_eq!(elected, s.ctl.leader.as_ref());
            assert!(s.rules.iter().all(|r| r.term == s.ctl.term), "older terms are overcome");
            assert!(s.ctl.written_off.is_empty());
            assert!(s.election().is_some_and(|e| e.opened.is_some()));
        }
    }
    let own: Vec<_> = s.own_rules().collect();
    assert!(own.len() <= 2, "one change of the commit rule at a time");
    if let [older, newer] = own[..] {
        assert!(older.rule.is_elementary_to(&newer.rule), "C-6");
    }
}

/// What must hold between a state and the next one.
fn steps(a: &ClusterState, b: &ClusterState) {
    assert_eq!(b.revision, a.revision + 1);
    assert!(b.ctl.term == a.ctl.term || b.ctl.term == a.ctl.term.next());
    assert!(b.sub_next >= a.sub_next && b.tli_next >= a.tli_next && b.raft_id_next >= a.raft_id_next);
    assert!(b.elections.len() >= a.elections.len(), "elections are never trimmed");
    for (x, y) in a.elections.iter().zip(&b.elections) {
        assert_eq!((x.term, &x.leader, x.tli, x.base), (y.term, &y.leader, y.tli, y.base));
        assert!(x.opened.is_none() || x.opened == y.opened, "a term opens once");
    }
    for (name, m) in &a.members {
        let after = b.members.get(name).expect("nobody is forgotten");
        assert!(after.incarnation >= m.incarnation, "lives are counted upwards");
    }
    // A rule goes only when a newer one of its term is in force, or its term was overcome.
    let gone = a.rules.iter().filter(|r| !b.rules.contains(r));
    for r in gone {
        let replaced = b.rules.iter().any(|x| x.term == r.term && a.rules.contains(x));
        let overcome = r.term < b.ctl.term && b.ctl.phase == Phase::Open;
        assert!(replaced || overcome, "{r:?} went for nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_commands_in_any_order_break_a_law(
        all in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 40..80), 1..120),
        fresh in any::<bool>(),
    ) {
        let mut state = if fresh { common::cluster(&["n1", "n2", "n3", "w"], Durability::QuorumRelaxed) } else { three() };
        for dice in &all {
            let dice: &Dice = dice;
            let command = Cup(dice.iter()).command(&state);
            let before = state.clone();
            match state.apply(&command) {
                Ok(next) => {
                    laws(&next);
                    steps(&state, &next);
                    state = next;
                }
                Err(why) => {
                    prop_assert_eq!(&before, &state, "a refusal changes nothing");
                    prop_assert!(why.code().starts_with("TAN01") && !why.to_string().is_empty());
                }
            }
        }
    }
}
