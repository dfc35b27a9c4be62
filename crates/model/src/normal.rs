//! Sets to zero what can make no difference any more, so that worlds meet.
//!
//! Each rule here says why no later step and no law can tell the difference.
//! `--plain` leaves out all but the first two, and must come to the same end.

use crate::bounds::{Mutation, NODES_MAX};
use crate::step::Explorer;
use crate::store::Brief;
use crate::world::{Index, Node, REPORTS_MAX, Report, Rule, Server, Walsender, World};

impl Explorer {
    /// Makes worlds that can't be told apart equal.
    pub(crate) fn normalise(&self, world: &mut World) {
        let brief = self.store.brief(world.state);
        ended(world);
        tidy_reports(world, brief);
        if self.bounds.plain {
            return;
        }
        let forgets = self.mutation == Some(Mutation::PromiseNotDurable);
        let live: Vec<u8> = world.nodes.iter().filter(|n| acts(n)).map(|n| n.term).collect();
        for i in 0..NODES_MAX {
            let alone = !forgets && is_alone(world, i, brief);
            let node = &mut world.nodes[i];
            old_vows(node, i as Index, brief);
            if !forgets {
                // It is compared with the terms of those to whom it might attach, and with the current one.
                if node.promise < brief.term && live.iter().all(|term| *term >= node.promise) {
                    node.promise = 0;
                }
                // Read only by those who ask to be made anew.
                if self.bounds.rebuilds == 0 {
                    node.attached = 0;
                }
            }
            // Its opening is over, or comes too late.
            if node.leads().is_some_and(|term| term < brief.term || brief.open) {
                node.opening = 0;
            }
            // The store would refuse what it could prove.
            if node.term < brief.term {
                (node.sub, node.agreed_sub) = (0, 0);
            }
            if alone {
                (node.rule, node.before) = Default::default();
                (node.barrier, node.settled) = (0, 0);
                node.walsenders = Default::default();
            }
        }
    }
}

fn acts(node: &Node) -> bool {
    matches!(node.server, Server::Promoting | Server::Primary)
}

/// A walreceiver whose leader or walsender is gone gets nothing more: the same as none.
/// A walsender reads its rule only to see whether it names its standby.
fn ended(world: &mut World) {
    for i in 0..NODES_MAX {
        let node = world.nodes[i];
        if let Server::Following(leader) = node.server {
            let leader = &world.nodes[leader as usize];
            if leader.leads() != Some(node.term) || !leader.walsenders[i].up {
                (world.nodes[i].server, world.nodes[i].term) = (Server::Idle, 0);
            }
        }
        for (standby, walsender) in world.nodes[i].walsenders.iter_mut().enumerate() {
            if !walsender.rule.names(standby as Index) {
                walsender.rule = Rule::default();
            }
        }
    }
}

/// A promise counts for the current term while it recruits, or for the next one; that a leader
/// resigned counts while a rule of its own is active; and who said a thing twice said it once.
fn tidy_reports(world: &mut World, brief: &Brief) {
    for (i, node) in world.nodes.iter_mut().enumerate() {
        for report in &mut node.reports {
            if !brief.rules.iter().any(|r| r.leader == i as Index && r.term <= report.resigned) {
                report.resigned = 0;
            }
            let ahead = report.promise > brief.term;
            if !(ahead || brief.revoking && report.promise == brief.term) {
                report.promise = 0;
            }
            if (report.promise, report.resigned) == (0, 0) {
                *report = Report::default();
            }
        }
        node.reports.sort_unstable_by(|a, b| b.cmp(a));
        for again in 1..REPORTS_MAX {
            if node.reports[again] == node.reports[again - 1] {
                node.reports[again] = Report::default();
            }
        }
        node.reports.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// A promotion is compared with the current term only. A resignation counts for the newest term
/// that the node was elected in, and only while a rule of its own is active.
fn old_vows(node: &mut Node, i: Index, brief: &Brief) {
    if node.promoting < brief.term {
        node.promoting = 0;
    }
    let led = brief.rules.iter().any(|r| r.leader == i);
    if !led || node.resigned < brief.last_elected(i) {
        node.resigned = 0;
    }
}

/// A deposed leader to whom nobody can attach any more, and to whom no reply is on its way that
/// could release another write: what its walsenders do is of no consequence.
fn is_alone(world: &World, i: usize, brief: &Brief) -> bool {
    let node = &world.nodes[i];
    let Some(term) = node.leads().filter(|term| *term < brief.term) else { return false };
    let may_come = |(j, other): (usize, &Node)| {
        let exists = other.log.len() > 0 || other.rebuilding;
        j != i && exists && (other.promise <= term || other.server == Server::Following(i as Index))
    };
    let waits = node.rule != Rule::LEADER_ONLY && !node.unwaited;
    if !waits || node.agreed != Rule::default() || world.nodes.iter().enumerate().any(may_come) {
        return false;
    }
    let up = node.walsenders.iter().filter(|w| w.up);
    let rules = up.clone().map(|w| w.rule).chain([node.rule]);
    let least = rules.filter(|r| *r != Rule::default()).map(Rule::acks).min();
    let mut sent: Vec<u8> = up.map(|w: &Walsender| w.sent).collect();
    sent.sort_unstable_by(|a, b| b.cmp(a));
    let most = least.and_then(|k| sent.get(usize::from(k) - 1)).copied().unwrap_or(0);
    node.log.last_write(term, most) <= world.acked[term as usize]
}
