//! What the store is asked: anything, by anybody, at any time, with any of the reports.

use crate::bounds::Mutation;
use crate::step::{Explorer, Step};
use crate::store::{Ask, Standing};
use crate::world::{Choice, Index, Report, Rule, Sent, Server, World};

impl Explorer {
    /// Every command that would be accepted now.
    pub fn commands(&mut self, world: &World) {
        let brief = self.store.brief(world.state);
        let (term, revoking, leader) = (brief.term, brief.revoking, brief.leader);
        if term < self.bounds.terms
            && let Some(state) = self.store.apply(world.state, Ask::Begin)
        {
            self.push(Step::Begin, World { state, sent: Sent::default(), ..*world });
        }
        for i in 0..self.bounds.nodes {
            self.standing(world, i);
        }
        if revoking {
            self.elect(world, false);
            return;
        }
        if world.switchovers > 0 && term < self.bounds.terms {
            self.elect(world, true);
        }
        let Sent { opened, switch, keep } = world.sent;
        let ask = Ask::Opened { by: leader, sub: opened, switch };
        if opened != 0
            && let Some(state) = self.store.apply(world.state, ask)
        {
            let sent = Sent { opened: 0, switch: 0, keep };
            self.push(Step::Opened(leader), World { state, sent, ..*world });
        }
        if keep != 0
            && let Some(state) = self.store.apply(world.state, Ask::RuleEnd { by: leader, keep })
        {
            let sent = Sent { keep: 0, ..world.sent };
            self.push(Step::RuleEnd(leader), World { state, sent, ..*world });
        }
        if world.changes < self.bounds.changes {
            self.begin_change(world, leader);
        }
    }

    /// M1, to every rule that there is.
    fn begin_change(&mut self, world: &World, by: Index) {
        for rule in self.all_rules(by) {
            let Some(state) = self.store.apply(world.state, Ask::RuleBegin { by, rule }) else { continue };
            let mut next = World { state, changes: world.changes + 1, ..*world };
            let newest = self.store.brief(state).own_rules().last().copied();
            let (term, node) = (self.store.brief(state).term, &mut next.nodes[by as usize]);
            let acts = matches!(node.server, Server::Primary | Server::Promoting) && node.term == term;
            if let Some(newest) = newest.filter(|_| acts) {
                (node.agreed, node.agreed_sub) = (newest.rule, newest.sub);
            }
            self.push(Step::RuleBegin(by, rule), next);
        }
    }

    /// Every rule that a leader may ask for.
    fn all_rules(&self, leader: Index) -> Vec<Rule> {
        let sets = (1u8..1 << self.bounds.nodes).filter(|set| set >> leader & 1 == 0);
        let any = sets.flat_map(|set| (1..=set.count_ones() as u8).map(move |k| Rule::new(set, k)));
        any.chain(self.bounds.relaxed.then_some(Rule::LEADER_ONLY)).collect()
    }

    /// What a member says of its own standing; that it is to be made anew may be heard much later.
    fn standing(&mut self, world: &World, i: Index) {
        let (brief, it) = (self.store.brief(world.state), world.nodes[i as usize]);
        let leader = &world.nodes[brief.leader as usize];
        let streams = it.server == Server::Following(brief.leader) && it.term == brief.term;
        let named = brief.rules.iter().any(|r| r.rule.names(i));
        let opened = it.log.last_term() == brief.term;
        let early = self.mutation == Some(Mutation::BelievedEarly);
        let caught_up = streams && ((opened && (!named || it.log == leader.log)) || early);
        let (to, attached) = match brief.standing[i as usize] {
            Standing::Clone if streams => (Standing::Catchup, it.attached),
            Standing::Catchup if caught_up => (Standing::Voter, it.attached),
            Standing::Voter | Standing::Catchup if it.asked > 0 && !it.rebuilding => {
                (Standing::Clone, it.asked - 1)
            }
            Standing::Clone | Standing::Catchup | Standing::Voter => return,
        };
        if let Some(state) = self.store.apply(world.state, Ask::Standing { of: i, to, attached }) {
            let mut next = World { state, ..*world };
            if to != Standing::Clone {
                next.nodes[i as usize].asked = 0;
            }
            self.push(Step::Standing(i, to), next);
        }
    }

    /// Every candidate and rule for which any choice of reports is accepted.
    fn elect(&mut self, world: &World, planned: bool) {
        let mut accepted: Vec<u32> = Vec::new();
        for reports in choices(world) {
            for leader in
                (0..self.bounds.nodes).filter(|l| reports[*l as usize].iter().any(|r| r.promise != 0))
            {
                let usual = [self.store.all_but(leader, self.bounds.acks)];
                let any = self.all_rules(leader);
                let rules = if self.bounds.any_opening { any } else { usual.to_vec() };
                for rule in rules {
                    let (ask, step) = if planned {
                        (Ask::BeginAndElect { leader, rule, reports }, Step::BeginAndElect(leader, rule))
                    } else {
                        (Ask::Elect { leader, rule, reports }, Step::Elect(leader, rule))
                    };
                    let answer = self.store.apply(world.state, ask);
                    if let Some(state) = answer.filter(|s| !accepted.contains(s)) {
                        accepted.push(state);
                        let sent = if planned { Sent::default() } else { world.sent };
                        self.push(step, World { state, sent, ..*world });
                    }
                }
            }
        }
    }
}

/// Of each node none, one or two of its reports, in either order: every way to choose.
fn choices(world: &World) -> Vec<Choice> {
    let mut all = vec![Choice::default()];
    for (i, node) in world.nodes.iter().enumerate() {
        let said = node.reports.iter().copied().filter(|r| *r != Report::default());
        let ones = said.clone().map(|r| [r, Report::default()]);
        let twos = said.clone().flat_map(|a| said.clone().filter(move |b| a != *b).map(move |b| [a, b]));
        let ways: Vec<[Report; 2]> = ones.chain(twos).collect();
        let with = |choice: &Choice, way: [Report; 2]| {
            let mut choice = *choice;
            choice[i] = way;
            choice
        };
        let more: Vec<Choice> = all.iter().flat_map(|c| ways.iter().map(move |w| with(c, *w))).collect();
        all.extend(more);
    }
    all
}
