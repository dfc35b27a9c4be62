//! What must hold in every state, named as in docs/protocol.md, section 5.

use crate::bounds::NODES_MAX;
use crate::step::Explorer;
use crate::store::Brief;
use crate::world::{Choice, Index, Node, Report, Rule, Server, World};

/// A law that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// I1: whoever leads has every acknowledged write of the terms before.
    AckDurable,
    /// I2: at most one server can acknowledge.
    OneAcker,
    /// I3: whoever leads or promotes in a term was elected in it, and promotes once.
    TermLeader,
    /// I4: a walsender that counts has a rule that is active; and nobody is waited for only where
    /// that rule is.
    Intersect,
    /// I7: a timeline is left and begun at one place on every disk, and given out once.
    TliUnique,
    /// I11: a standby that streams has the beginning of its leader's log.
    Lineage,
    /// When everybody has spoken, one more term can be given a leader.
    Electable,
}

/// Whether a law holds in a world with this agreed state.
type Holds = fn(&World, &Brief) -> bool;

impl Explorer {
    /// The first law that `world` breaks.
    pub(crate) fn broken(&mut self, world: &World) -> Option<Law> {
        let brief = self.store.brief(world.state);
        let laws: [(Law, Holds); 6] = [
            (Law::AckDurable, ack_durable),
            (Law::OneAcker, one_acker),
            (Law::TermLeader, term_leader),
            (Law::Intersect, intersect),
            (Law::TliUnique, tli_unique),
            (Law::Lineage, lineage),
        ];
        if let Some((law, _)) = laws.iter().find(|(_, holds)| !holds(world, brief)) {
            return Some(*law);
        }
        (self.bounds.liveness && !self.is_electable(world)).then_some(Law::Electable)
    }

    /// Everybody is up, is recruited and speaks.
    fn is_electable(&mut self, world: &World) -> bool {
        let brief = self.store.brief(world.state);
        let mut reports = Choice::default();
        for (i, node) in world.nodes.iter().enumerate().take(usize::from(self.bounds.nodes)) {
            let resigned = node.resigned.max(brief.last_elected(i as Index));
            reports[i][0] = Report { promise: brief.term + 1, resigned, log: node.log };
        }
        self.store.can_elect_again(world.state, reports)
    }
}

/// Everything acknowledged lies, by term and LSN, in the log of whoever leads later: a server
/// that writes, and the one that is elected, be it up or not.
fn ack_durable(world: &World, brief: &Brief) -> bool {
    let holds = |node: &Node, before: u8| {
        let acked = world.acked.iter().enumerate().take(usize::from(before));
        acked.filter(|(_, lsn)| **lsn > 0).all(|(t, lsn)| usize::from(node.log.term_at(*lsn)) == t)
    };
    let elected = &world.nodes[brief.leader as usize];
    let leads = |node: &Node| node.leads().is_none_or(|term| holds(node, term + 1));
    (brief.revoking || holds(elected, brief.term)) && world.nodes.iter().all(leads)
}

fn one_acker(world: &World, _: &Brief) -> bool {
    let can = |i: Index| {
        let leader = &world.nodes[i as usize];
        let Some(term) = leader.leads() else { return false };
        if is_unwaited(leader) {
            return true;
        }
        let speaks = |s: Index| {
            let standby = &world.nodes[s as usize];
            standby.server == Server::Following(i) && standby.term == term
        };
        let count = leader.counted().filter(|(s, _)| speaks(*s)).count();
        leader.counted().any(|(_, w)| count >= usize::from(w.rule.acks()))
    };
    (0..NODES_MAX as Index).filter(|i| can(*i)).count() <= 1
}

/// It acknowledges by itself, now or once its checkpointer has read the settings.
fn is_unwaited(leader: &Node) -> bool {
    leader.unwaited || leader.rule == Rule::LEADER_ONLY
}

fn term_leader(world: &World, brief: &Brief) -> bool {
    world.nodes.iter().enumerate().all(|(i, n)| match n.server {
        Server::Primary => brief.elected[n.term as usize] == Some(i as Index),
        // What it wrote in that term it wrote after an earlier promotion.
        Server::Promoting => {
            brief.elected[n.term as usize] == Some(i as Index) && n.log.last_term() != n.term
        }
        Server::Idle | Server::Following(_) => true,
    })
}

/// Once all rules of its term were dropped, a later leader has what it acknowledged.
fn intersect(world: &World, brief: &Brief) -> bool {
    world.nodes.iter().filter_map(|n| Some((n, n.leads()?))).all(|(node, term)| {
        let active: Vec<_> = brief.rules.iter().filter(|r| r.term == term).map(|r| r.rule).collect();
        let alone = !is_unwaited(node) || active.contains(&Rule::LEADER_ONLY);
        active.is_empty() || alone && node.counted().all(|(_, w)| active.contains(&w.rule))
    })
}

fn tli_unique(world: &World, brief: &Brief) -> bool {
    let same = |a: &Node, b: &Node| {
        let both = a.log.len().min(b.log.len());
        let shared = (1..=both).rev().find(|lsn| a.log.term_at(*lsn) == b.log.term_at(*lsn));
        shared.is_none_or(|lsn| a.log.prefix(lsn) == b.log.prefix(lsn))
    };
    let nodes = &world.nodes;
    brief.timelines_differ && nodes.iter().enumerate().all(|(i, a)| nodes[i + 1..].iter().all(|b| same(a, b)))
}

fn lineage(world: &World, _: &Brief) -> bool {
    world.nodes.iter().all(|node| match node.server {
        Server::Following(leader) => node.log.is_prefix_of(world.nodes[leader as usize].log),
        Server::Idle | Server::Promoting | Server::Primary => true,
    })
}
