//! The agreed states, each kept once and known by a number.
//!
//! Every command goes to `ClusterState::apply`; what it answered is remembered,
//! since the same state is asked the same thing in many worlds. What only
//! people read (history, revision, clock times, who coordinates) is cleared, so
//! that equal states are equal.

use std::collections::HashMap;

use cluster::command::{Addresses, Ballot, Change, Command, Evidence, MemberState, Registration, Trigger};
use cluster::state::Phase;
use cluster::{ClusterState, Durability, Lsn, MemberId, NodeId, Position, Settings, Term, Timeline};

use crate::bounds::{Bounds, Mutation, NODES_MAX};
use crate::fingerprint::Quick;
use crate::log::{FIRST_SWITCH, timeline_of};
use crate::world::{Choice, Index, Report, Rule, TERMS_MAX};

const SYSID: u64 = 7;

/// What a world asks of the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// `BeginTerm`, the next one.
    Begin,
    /// `Elect` for the current term.
    Elect {
        /// Who leads.
        leader: Index,
        /// The rule to open under.
        rule: Rule,
        /// What it rests on.
        reports: Choice,
    },
    /// `Opened` for the current term.
    Opened {
        /// Its leader.
        by: Index,
        /// The number of the rule that proved the barrier.
        sub: u8,
        /// Where the parent timeline was left.
        switch: u8,
    },
    /// `RuleBegin` for the current term, from its newest rule.
    RuleBegin {
        /// Its leader.
        by: Index,
        /// The rule to come.
        rule: Rule,
    },
    /// `SetMemberState`.
    Standing {
        /// Whose.
        of: Index,
        /// To what.
        to: Standing,
        /// The newest term to whose leader it had attached when it asked.
        attached: u8,
    },
    /// `Switchover`, then `BeginAndElect`.
    BeginAndElect {
        /// To whom.
        leader: Index,
        /// The rule to open under.
        rule: Rule,
        /// What it rests on.
        reports: Choice,
    },
    /// `RuleEnd` for the current term, dropping its oldest rule.
    RuleEnd {
        /// Its leader.
        by: Index,
        /// The number of the rule to keep.
        keep: u8,
    },
}

/// How far a member is believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// Being made anew.
    Clone,
    /// Catching up.
    Catchup,
    /// Believed.
    Voter,
}

/// An active rule in few bytes.
#[derive(Clone, Copy, Debug)]
pub struct ActiveRule {
    /// Of which term.
    pub term: u8,
    /// And leader.
    pub leader: Index,
    /// Its number.
    pub sub: u8,
    /// Itself.
    pub rule: Rule,
}

/// What a world needs to know of an agreed state all the time.
#[derive(Clone, Debug)]
pub struct Brief {
    /// The current term.
    pub term: u8,
    /// Nobody is elected in it yet.
    pub revoking: bool,
    /// It takes writes.
    pub open: bool,
    /// The last that was elected.
    pub leader: Index,
    /// The active rules, oldest first.
    pub rules: Vec<ActiveRule>,
    /// For each term, who was elected.
    pub elected: [Option<Index>; TERMS_MAX],
    /// How far each member is believed.
    pub standing: [Standing; NODES_MAX],
    /// No two elections have the same timeline.
    pub timelines_differ: bool,
}

impl Brief {
    /// The newest term that `node` was elected in; 0 if none.
    pub fn last_elected(&self, node: Index) -> u8 {
        (0..TERMS_MAX as u8).rev().find(|t| self.elected[*t as usize] == Some(node)).unwrap_or(0)
    }

    /// The rules of the current term, oldest first.
    pub fn own_rules(&self) -> impl Iterator<Item = &ActiveRule> {
        self.rules.iter().filter(|r| r.term == self.term)
    }
}

/// All agreed states that were met.
pub struct Store {
    nodes: u8,
    lsn_only: bool,
    relaxed: bool,
    states: Vec<ClusterState>,
    briefs: Vec<Brief>,
    numbers: HashMap<Vec<u8>, u32>,
    answers: HashMap<(u32, Ask), Option<u32>, Quick>,
    renamed: HashMap<(u32, u8), u32, Quick>,
    hopes: HashMap<(u32, Choice), bool, Quick>,
}

impl Store {
    /// With n1 leading an open term 1 under 'any k of the others', as state number 0.
    pub fn new(bounds: &Bounds, mutation: Option<Mutation>) -> Store {
        let mut store = Store {
            nodes: bounds.nodes,
            lsn_only: mutation == Some(Mutation::LsnOnly),
            relaxed: bounds.relaxed,
            states: Vec::new(),
            briefs: Vec::new(),
            numbers: HashMap::new(),
            answers: HashMap::default(),
            renamed: HashMap::default(),
            hopes: HashMap::default(),
        };
        let first = store.first(bounds.acks);
        store.number(first);
        store
    }

    /// The short form of a state.
    pub fn brief(&self, state: u32) -> &Brief {
        &self.briefs[state as usize]
    }

    /// How many agreed states were met.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// The state after `ask`; `None` if it is refused.
    pub fn apply(&mut self, state: u32, ask: Ask) -> Option<u32> {
        if let Some(known) = self.answers.get(&(state, ask)) {
            return *known;
        }
        let current = &self.states[state as usize];
        let planned = match ask {
            Ask::BeginAndElect { leader, .. } => switchover(current, leader),
            Ask::Begin
            | Ask::Elect { .. }
            | Ask::Opened { .. }
            | Ask::Standing { .. }
            | Ask::RuleBegin { .. }
            | Ask::RuleEnd { .. } => Some(current.clone()),
        };
        let answer = planned.and_then(|s| s.apply(&self.command(&s, ask)?).ok());
        let answer = answer.map(|next| self.number(next));
        self.answers.insert((state, ask), answer);
        answer
    }

    /// Whether one more term can be given a leader once all have reported as in `reports`.
    pub fn can_elect_again(&mut self, state: u32, reports: Choice) -> bool {
        if let Some(known) = self.hopes.get(&(state, reports)) {
            return *known;
        }
        let current = &self.states[state as usize];
        let begun = self.command(current, Ask::Begin).and_then(|c| current.apply(&c).ok());
        let hope = begun.is_some_and(|begun| {
            (0..self.nodes).any(|leader| {
                let ask = Ask::Elect { leader, rule: self.all_but(leader, 1), reports };
                self.command(&begun, ask).is_some_and(|c| begun.apply(&c).is_ok())
            })
        });
        self.hopes.insert((state, reports), hope);
        hope
    }

    /// `state` with every node `n` called `names[n]`.
    pub fn rename(&mut self, state: u32, key: u8, names: &[Index; NODES_MAX]) -> u32 {
        if let Some(known) = self.renamed.get(&(state, key)) {
            return *known;
        }
        let renamed = self.renamed_state(&self.states[state as usize], names);
        let number = self.number(renamed);
        self.renamed.insert((state, key), number);
        number
    }

    /// 'Any `acks` of all others'.
    pub fn all_but(&self, leader: Index, acks: u8) -> Rule {
        Rule::new(((1 << self.nodes) - 1) & !(1 << leader), acks)
    }

    fn number(&mut self, mut state: ClusterState) -> u32 {
        clear(&mut state);
        let bytes = postcard::to_allocvec(&state).expect("a state can be written into memory");
        if let Some(known) = self.numbers.get(&bytes) {
            return *known;
        }
        let number = u32::try_from(self.states.len()).expect("fewer agreed states than worlds");
        self.briefs.push(brief(&state));
        self.states.push(state);
        self.numbers.insert(bytes, number);
        number
    }

    fn command(&self, s: &ClusterState, ask: Ask) -> Option<Command> {
        let term = s.ctl.term;
        let (by, change) = match ask {
            Ask::Begin => {
                let trigger = Trigger::Operator { to: None, accept_loss: Default::default() };
                (0, Change::BeginTerm { term: term.next(), trigger })
            }
            Ask::Elect { leader, rule, reports } => {
                (0, Change::Elect(self.ballot(s, term, leader, rule, &reports)?))
            }
            Ask::BeginAndElect { leader, rule, reports } => {
                (0, Change::BeginAndElect(self.ballot(s, term.next(), leader, rule, &reports)?))
            }
            Ask::Standing { of, to, attached } => {
                let (member, state, attached) = (member(of), member_state(to), Term(attached.into()));
                (of, Change::SetMemberState { member, state, attached })
            }
            Ask::Opened { by, sub, switch } => {
                let (timeline, switch_lsn) = (s.election()?.tli, Lsn(switch.into()));
                (
                    by,
                    Change::Opened { term, sysid: SYSID, timeline, switch_lsn, next_xid: 0, sub: sub.into() },
                )
            }
            Ask::RuleBegin { by, rule } => {
                let agreed_by = (0..self.nodes).map(node).collect();
                let from_sub = s.newest_rule()?.sub;
                (by, Change::RuleBegin { term, from_sub, rule: rule_of(rule), agreed_by })
            }
            Ask::RuleEnd { by, keep } => {
                let drop = s.own_rules().next()?.sub;
                (by, Change::RuleEnd { term, keep: keep.into(), drop, lsn: Lsn::ZERO })
            }
        };
        Some(Command { at_ms: 0, by: node(by), change })
    }

    fn ballot(
        &self,
        s: &ClusterState,
        term: Term,
        leader: Index,
        rule: Rule,
        reports: &Choice,
    ) -> Option<Ballot> {
        let all = reports.iter().enumerate().flat_map(|(i, two)| two.iter().map(move |r| (i, r)));
        let said = all.filter(|(_, r)| **r != Report::default());
        let evidence: Vec<Evidence> = said.map(|(i, r)| self.evidence(s, i as Index, r)).collect();
        let own = evidence.iter().find(|e| e.member == member(leader) && e.promise == term);
        let parent_tli = own?.lineage.timeline;
        Some(Ballot {
            term,
            leader: member(leader),
            evidence,
            rule: rule_of(rule),
            parent_tli,
            tli: Timeline(s.tli_next),
        })
    }

    fn evidence(&self, s: &ClusterState, of: Index, report: &Report) -> Evidence {
        let honest = report.log.position();
        let position = if self.lsn_only { Position::new(Term(1), honest.lsn) } else { honest };
        Evidence {
            member: member(of),
            promise: Term(report.promise.into()),
            resigned: Term(report.resigned.into()),
            position: Some(position).filter(|_| report.log.len() > 0),
            lineage: report.log.lineage(|term| timeline_of(&s.elections, term)),
            time_fenced: false,
        }
    }

    /// Made as a real cluster is: claimed, opened, joined by the others, then let into the rule.
    fn first(&self, acks: u8) -> ClusterState {
        let members = (0..self.nodes).map(|i| (node(i), Registration::default())).collect();
        let durability = if self.relaxed { Durability::QuorumRelaxed } else { Durability::Quorum };
        let settings = Settings { acks: acks.into(), durability, ..Settings::default() };
        let mut changes = vec![(0, Change::Claim { cluster: "c".into(), settings, members })];
        let (term, switch_lsn) = (Term(1), Lsn(FIRST_SWITCH));
        changes.push((
            0,
            Change::Opened { term, sysid: SYSID, timeline: Timeline(2), switch_lsn, next_xid: 0, sub: 1 },
        ));
        for i in 1..self.nodes {
            let nonce = u64::from(i);
            changes.push((i, Change::Join { node: node(i), addresses: Addresses::default(), nonce }));
            for state in [MemberState::Catchup, MemberState::Voter] {
                changes.push((i, Change::SetMemberState { member: member(i), state, attached: term }));
            }
        }
        let rule = rule_of(self.all_but(0, acks));
        changes.push((0, Change::RuleBegin { term, from_sub: 1, rule, agreed_by: Default::default() }));
        changes.push((0, Change::RuleEnd { term, keep: 2, drop: 1, lsn: Lsn(1) }));
        let mut state = ClusterState::default();
        for (by, change) in changes {
            let made = state.apply(&Command { at_ms: 0, by: node(by), change });
            state = made.expect("each of these is what a healthy cluster asks for");
        }
        state
    }

    fn renamed_state(&self, s: &ClusterState, names: &[Index; NODES_MAX]) -> ClusterState {
        let index = |m: &MemberId| names[index_of(m) as usize];
        let rule = |r: &cluster::Rule| {
            let standbys = r.standbys().iter().map(|m| member(index(m))).collect();
            cluster::Rule::new(standbys, r.acks()).expect("as many standbys as before")
        };
        let mut out = s.clone();
        let old = (0..self.nodes).filter_map(|i| Some((i, s.members.get(&node(i))?.clone())));
        out.members = old.map(|(i, m)| (node(names[i as usize]), m)).collect();
        out.ctl.leader = s.ctl.leader.as_ref().map(|m| member(index(m)));
        for r in &mut out.rules {
            (r.leader, r.rule) = (member(index(&r.leader)), rule(&r.rule));
        }
        for e in &mut out.elections {
            (e.leader, e.rule) = (member(index(&e.leader)), rule(&e.rule));
        }
        out
    }
}

/// Everybody's name is as good as another's, so nothing but people may tell states apart.
fn clear(state: &mut ClusterState) {
    state.history.clear();
    state.revision = 0;
    state.ctl.since_ms = 0;
    state.ctl.coordinator = None;
    for m in state.members.values_mut() {
        (m.raft_id, m.nonce) = (1, 0);
    }
}

fn brief(s: &ClusterState) -> Brief {
    let mut elected = [None; TERMS_MAX];
    for e in &s.elections {
        elected[e.term.0 as usize] = Some(index_of(&e.leader));
    }
    let rules = s.rules.iter().map(|r| ActiveRule {
        term: r.term.0 as u8,
        leader: index_of(&r.leader),
        sub: r.sub as u8,
        rule: short(&r.rule),
    });
    let mut timelines: Vec<u32> = s.elections.iter().map(|e| e.tli.0).collect();
    timelines.dedup();
    Brief {
        term: s.ctl.term.0 as u8,
        revoking: s.ctl.phase == Phase::Revoking,
        open: s.ctl.phase == Phase::Open,
        leader: s.ctl.leader.as_ref().map_or(0, index_of),
        rules: rules.collect(),
        elected,
        standing: std::array::from_fn(|i| standing(s, i as Index)),
        timelines_differ: timelines.len() == s.elections.len(),
    }
}

fn standing(s: &ClusterState, of: Index) -> Standing {
    match s.members.get(&node(of)).map(|m| &m.state) {
        Some(MemberState::Clone) => Standing::Clone,
        Some(MemberState::Catchup) => Standing::Catchup,
        // The others don't occur: nobody leaves, is declared dead or quarantined.
        Some(
            MemberState::Voter
            | MemberState::Registered
            | MemberState::Removed
            | MemberState::Quarantined { .. }
            | MemberState::WrittenOff,
        )
        | None => Standing::Voter,
    }
}

fn member_state(standing: Standing) -> MemberState {
    match standing {
        Standing::Clone => MemberState::Clone,
        Standing::Catchup => MemberState::Catchup,
        Standing::Voter => MemberState::Voter,
    }
}

/// An operator asks for it; that is the one way to a `BeginAndElect`.
fn switchover(s: &ClusterState, to: Index) -> Option<ClusterState> {
    let change = Change::Switchover { to: Some(node(to)), at_ms: None };
    s.apply(&Command { at_ms: 0, by: node(to), change }).ok()
}

fn node(index: Index) -> NodeId {
    NodeId::new(&format!("n{}", index + 1)).expect("a letter and a digit")
}

fn member(index: Index) -> MemberId {
    MemberId::new(node(index), 1)
}

fn index_of(member: &MemberId) -> Index {
    member.node.as_str().as_bytes()[1] - b'1'
}

fn rule_of(rule: Rule) -> cluster::Rule {
    if rule == Rule::LEADER_ONLY {
        return cluster::Rule::leader_only();
    }
    let standbys = (0..NODES_MAX as u8).filter(|i| rule.names(*i)).map(member).collect();
    cluster::Rule::new(standbys, rule.acks().into()).expect("only rules that can be satisfied are asked for")
}

fn short(rule: &cluster::Rule) -> Rule {
    if rule.is_leader_only() {
        return Rule::LEADER_ONLY;
    }
    Rule::new(rule.standbys().iter().fold(0, |bits, m| bits | 1 << index_of(m)), rule.acks() as u8)
}
