//! How PostgreSQL acknowledges: what each walsender knows, and when it releases.
//!
//! Every walsender reads the settings at its own moment. The one that releases
//! takes k from its own copy, but counts those walsenders that are in S by
//! *their* own copies (`SyncRepReleaseWaiters`).

use crate::bounds::Mutation;
use crate::log::Log;
use crate::step::{Explorer, Step};
use crate::world::{Index, Node, Rule, Server, Walsender, World};

impl Node {
    /// How far the commits are released, if the walsender of `releaser` looks now.
    fn released(&self, releaser: Index) -> u8 {
        let own = self.walsenders[releaser as usize];
        if !own.up || !own.rule.names(releaser) || own.flush == 0 {
            return 0;
        }
        let mut flushed = self.counted().map(|(_, w)| w.flush).collect::<Vec<u8>>();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        flushed.get(usize::from(own.rule.acks()) - 1).copied().unwrap_or(0)
    }

    /// The walsenders that are in S and have heard a position, each by its own copy of the settings.
    pub fn counted(&self) -> impl Iterator<Item = (Index, &Walsender)> {
        let all = self.walsenders.iter().enumerate().map(|(i, w)| (i as Index, w));
        all.filter(|(i, w)| w.up && w.rule.names(*i) && w.flush > 0)
    }

    /// Whether k of S, by the settings as written, have flushed up to `lsn`.
    fn is_flushed(&self, rule: Rule, lsn: u8) -> bool {
        if rule == Rule::LEADER_ONLY {
            return true;
        }
        let all = self.walsenders.iter().enumerate();
        let have = all.filter(|(i, w)| rule.names(*i as Index) && w.up && w.flush >= lsn);
        have.count() >= usize::from(rule.acks())
    }

    /// M2's data barrier begins where the config barrier ends: what was released by the rule before
    /// is older. Taken earlier, a walsender that is still about to read the settings may release more.
    fn settle(&mut self, mutation: Option<Mutation>) {
        let read = self.is_read() || mutation == Some(Mutation::NoConfigBarrier);
        if self.barrier > 0 && self.settled == 0 && read {
            let early = mutation == Some(Mutation::EarlyDataBarrier);
            self.settled = if early { self.barrier } else { self.log.len() };
        }
    }

    /// M2's config barrier, (iii): nobody of either rule is left who may not have read the new one.
    fn is_read(&self) -> bool {
        let both = Rule::new(self.rule.standbys() | self.before.standbys(), 0);
        let all = self.walsenders.iter().enumerate();
        all.filter(|(i, w)| both.names(*i as Index) && w.up).all(|(_, w)| w.flush >= self.barrier)
    }

    /// What the leader's agent may truthfully ask the store for, of a change and of its opening.
    fn proven(&self, mutation: Option<Mutation>) -> (bool, bool) {
        if self.barrier == 0 && self.before != Rule::default() {
            return (false, false); // The checkpointer has not read the settings.
        }
        if self.barrier == 0 {
            let careless = mutation == Some(Mutation::OpenedWithoutBarrier);
            return (false, careless || self.is_flushed(self.rule, self.opening));
        }
        let flushed = mutation == Some(Mutation::NoDataBarrier) || self.is_flushed(self.rule, self.settled);
        let proven = self.settled > 0 && flushed;
        (proven, proven)
    }
}

impl World {
    /// What a leader's agent proves it says at once: to say it later is to have it on its way for longer.
    pub fn prove(&mut self, leader: Index, explorer: &Explorer) {
        let brief = explorer.store.brief(self.state);
        let node = &mut self.nodes[leader as usize];
        if node.server != Server::Primary || node.term != brief.term {
            return;
        }
        node.settle(explorer.mutation);
        let (changed, opened) = node.proven(explorer.mutation);
        if opened && !brief.open {
            (self.sent.opened, self.sent.switch) = (node.sub, node.opening - 1);
        }
        if changed {
            (node.barrier, node.settled, node.before) = (0, 0, Rule::default());
            self.sent.keep = node.sub;
        }
    }

    /// It keeps the flag at which commits look, and wakes those that wait when it clears it.
    fn checkpointer(&mut self, leader: Index) {
        let node = &mut self.nodes[leader as usize];
        node.unwaited = node.rule == Rule::LEADER_ONLY;
        if node.unwaited {
            let write = node.log.last_write(node.term, node.log.len());
            let acked = &mut self.acked[node.term as usize];
            *acked = (*acked).max(write);
        } else if node.before != Rule::default() && node.barrier == 0 {
            write_barrier(node);
        }
    }

    fn release(&mut self, leader: Index, releaser: Index) {
        let node = &self.nodes[leader as usize];
        let write = node.log.last_write(node.term, node.released(releaser));
        let acked = &mut self.acked[node.term as usize];
        *acked = (*acked).max(write);
    }
}

impl Explorer {
    /// All that the server of `leader` may do next.
    pub fn serve(&mut self, world: &World, leader: Index) {
        let node = &world.nodes[leader as usize];
        let Some(term) = node.leads() else { return };
        if world.writes < self.bounds.writes {
            let mut next = *world;
            next.writes += 1;
            next.nodes[leader as usize].log = node.log.with(term, true);
            if node.unwaited {
                next.acked[term as usize] = node.log.len() + 1;
            }
            self.push(Step::Write(leader), next);
        }
        if node.agreed != Rule::default() {
            let mut next = *world;
            set_rule(&mut next.nodes[leader as usize], self.mutation);
            next.prove(leader, self);
            self.push(Step::SetRule(leader, node.agreed), next);
        }
        if node.unwaited != (node.rule == Rule::LEADER_ONLY) {
            let mut next = *world;
            next.checkpointer(leader);
            next.prove(leader, self);
            self.push(Step::Checkpointer(leader), next);
        }
        for standby in (0..self.bounds.nodes).filter(|s| node.walsenders[*s as usize].up) {
            self.send(world, leader, standby);
            self.turn(world, leader, standby);
        }
    }

    /// A record arrives, is flushed, and the reply is under way.
    fn send(&mut self, world: &World, leader: Index, standby: Index) {
        let (from, to) = (world.nodes[leader as usize].log, world.nodes[standby as usize]);
        if to.server != Server::Following(leader) || to.log.len() >= from.len() {
            return;
        }
        let mut next = *world;
        next.nodes[standby as usize].log = to.log.streamed(from);
        next.nodes[leader as usize].walsenders[standby as usize].sent = to.log.len() + 1;
        self.push(Step::Stream(leader, standby), next);
    }

    /// One turn of a walsender: settings, replies, releases.
    fn turn(&mut self, world: &World, leader: Index, standby: Index) {
        let node = &world.nodes[leader as usize];
        let walsender = node.walsenders[standby as usize];
        if walsender.rule != seen_by(node.rule, standby) {
            let mut next = *world;
            next.nodes[leader as usize].walsenders[standby as usize].rule = node.rule;
            self.push(Step::Reload(leader, standby), next);
        }
        // Replies come one by one; those from before the barrier may still be read under the old
        // settings. Any other that is read early is read in another order of steps.
        let before = node.barrier.saturating_sub(1).clamp(walsender.flush, walsender.sent);
        let mut stops = [walsender.flush, before, walsender.sent];
        stops.sort_unstable();
        for (i, flush) in stops.into_iter().enumerate().filter(|(i, s)| *i == 0 || stops[i - 1] != *s) {
            let mut next = *world;
            let it = &mut next.nodes[leader as usize].walsenders[standby as usize];
            it.flush = flush;
            // The signal came before the barrier was written, so before any reply that contains it.
            if node.barrier > 0 && flush >= node.barrier {
                it.rule = node.rule;
            }
            next.release(leader, standby);
            next.prove(leader, self);
            if i > 0 || next.acked != world.acked {
                self.push(Step::Reply(leader, standby, flush), next);
            }
        }
        // An agent ends a walsender that a rule change would have to wait for.
        if node.barrier > 0 && walsender.flush < node.barrier {
            let mut next = *world;
            next.nodes[leader as usize].walsenders[standby as usize] = Walsender::default();
            next.prove(leader, self);
            self.push(Step::Terminate(leader, standby), next);
        }
    }
}

/// M2: the settings, a reload of which every child was told, and the barrier's record. To leave
/// the leader-only rule, the checkpointer must have read the settings before (C-9).
fn set_rule(node: &mut Node, mutation: Option<Mutation>) {
    node.before = node.rule;
    (node.rule, node.sub) = (node.agreed, node.agreed_sub);
    (node.agreed, node.agreed_sub) = Default::default();
    if !node.unwaited || node.rule == Rule::LEADER_ONLY || mutation == Some(Mutation::NoCheckpointerProof) {
        write_barrier(node);
    }
}

fn write_barrier(node: &mut Node) {
    node.log = node.log.with(node.term, false);
    node.barrier = node.log.len();
}

/// As a walsender keeps it: where it does not name its standby it makes no difference.
fn seen_by(rule: Rule, standby: Index) -> Rule {
    if rule.names(standby) { rule } else { Rule::default() }
}

/// A walsender that was just started for a standby with `log`.
pub fn walsender(rule: Rule, log: Log) -> Walsender {
    Walsender { up: true, sent: log.len(), flush: 0, rule }
}
