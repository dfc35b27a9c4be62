//! What agents do on their own servers. They may be late, but they don't lie.
//!
//! A death of a standby is no step: what it flushed stays, and down or without
//! upstream is the same to everybody (`Server::Idle`). Only where a promise is
//! not durable, on purpose, does it make a difference.

use crate::bounds::Mutation;
use crate::log::Log;
use crate::postgres::walsender;
use crate::step::{Explorer, Step};
use crate::store::Standing;
use crate::world::{Index, Report, Server, World};

impl Explorer {
    /// All that the agent of `i`, or its death, may bring about next.
    pub fn agent(&mut self, world: &World, i: Index) {
        self.recruit(world, i);
        self.resign(world, i);
        self.die(world, i);
        self.promote(world, i);
        self.rebuild(world, i);
        for leader in (0..self.bounds.nodes).filter(|l| *l != i) {
            self.attach(world, leader, i);
        }
    }

    /// C2: promise, cut (C-22, C-4: or kill and resign), position, and only then the report.
    fn recruit(&mut self, world: &World, i: Index) {
        let brief = self.store.brief(world.state);
        let (term, revoking, open, elected) = (brief.term, brief.revoking, brief.open, brief.last_elected(i));
        let node = world.nodes[i as usize];
        if matches!(node.server, Server::Following(_)) && node.promise > node.term {
            let mut next = *world;
            next.nodes[i as usize].stop();
            self.push(Step::Cut(i), next);
        }
        // A successor promises the term that is to come.
        let ahead = open && world.switchovers < self.bounds.switchovers;
        let term = if ahead { term + 1 } else { term };
        if !(revoking || ahead) || node.promise >= term || term > self.bounds.terms {
            return;
        }
        let mut next = *world;
        let it = &mut next.nodes[i as usize];
        let survives = match (self.mutation, it.server) {
            (Some(Mutation::ReportBeforeCut), Server::Following(_)) => true,
            (Some(Mutation::PromotingSurvives), Server::Promoting) => true,
            (_, Server::Idle | Server::Following(_) | Server::Promoting | Server::Primary) => false,
        };
        if !survives {
            it.stop();
        }
        (it.promise, it.resigned) = (term, it.resigned.max(elected));
        it.report(Report { promise: term, resigned: it.resigned, log: it.log });
        next.switchovers += u8::from(ahead);
        self.push(Step::Recruit(i), next);
    }

    /// C-4: the server is dead, then the vow, then the word.
    fn resign(&mut self, world: &World, i: Index) {
        let brief = self.store.brief(world.state);
        let elected = brief.last_elected(i);
        let acts = matches!(world.nodes[i as usize].server, Server::Promoting | Server::Primary);
        // Else nobody asks for its word.
        let counts = brief.rules.iter().any(|r| r.leader == i);
        if world.nodes[i as usize].resigned >= elected || !(acts || counts) {
            return;
        }
        let mut next = *world;
        let it = &mut next.nodes[i as usize];
        if self.mutation != Some(Mutation::ResignBeforeKill) {
            it.stop();
        }
        it.resigned = elected;
        it.report(Report { promise: 0, resigned: elected, log: it.log });
        self.push(Step::Resign(i), next);
    }

    fn die(&mut self, world: &World, i: Index) {
        let mut next = *world;
        let it = &mut next.nodes[i as usize];
        let leads = matches!(it.server, Server::Primary | Server::Promoting);
        let forgets = self.mutation == Some(Mutation::PromiseNotDurable) && it.promise > it.attached;
        if world.crashes == self.bounds.crashes || !(leads || forgets) {
            return;
        }
        it.stop();
        if forgets {
            it.promise = it.attached;
        }
        if self.mutation == Some(Mutation::PromotesTwice) {
            it.promoting = 0;
        }
        next.crashes += 1;
        self.push(Step::Die(i), next);
    }

    /// C5, in two steps: what was validated takes effect later.
    fn promote(&mut self, world: &World, i: Index) {
        let brief = self.store.brief(world.state);
        let (term, elected) = (brief.term, brief.leader == i && !brief.revoking && !brief.open);
        let own: Vec<_> = brief.own_rules().copied().collect();
        let mut next = *world;
        let it = &mut next.nodes[i as usize];
        let idle = it.server == Server::Idle && it.promise == term && it.promoting < term;
        if elected && idle && it.resigned < term {
            (it.server, it.term, it.promoting) = (Server::Promoting, term, term);
            (it.rule, it.sub) = (own[0].rule, own[0].sub);
            if let Some(newer) = own.get(1) {
                (it.agreed, it.agreed_sub) = (newer.rule, newer.sub);
            }
            self.push(Step::Validate(i), next);
        } else if it.server == Server::Promoting {
            it.server = Server::Primary;
            it.log = it.log.with(it.term, false);
            it.opening = it.log.len();
            next.prove(i, self);
            self.push(Step::Promote(i), next);
        }
    }

    /// A standby follows whom it may: its promise allows it, and its history does.
    fn attach(&mut self, world: &World, leader: Index, i: Index) {
        let (to, it) = (world.nodes[leader as usize], world.nodes[i as usize]);
        let Some(term) = to.leads() else { return };
        let free = match it.server {
            Server::Idle => true,
            Server::Following(other) => other != leader,
            Server::Promoting | Server::Primary => false,
        };
        if !free || it.rebuilding || it.promise > term || !it.log.can_follow(to.log) {
            return;
        }
        let mut next = *world;
        let it = &mut next.nodes[i as usize];
        (it.server, it.term) = (Server::Following(leader), term);
        it.attached = it.attached.max(term);
        if self.mutation != Some(Mutation::AttachKeepsPromise) {
            it.promise = term;
        }
        let log = it.log;
        let rule = next.nodes[leader as usize].rule;
        next.nodes[leader as usize].walsenders[i as usize] = walsender(rule, log);
        self.push(Step::Attach(leader, i), next);
    }

    /// C-10: out of the rules first, then not believed, and only then is the directory touched.
    fn rebuild(&mut self, world: &World, i: Index) {
        let it = world.nodes[i as usize];
        let acts = matches!(it.server, Server::Promoting | Server::Primary);
        let unasked = self.mutation == Some(Mutation::RebuildUnasked);
        let cloned = unasked || self.store.brief(world.state).standing[i as usize] == Standing::Clone;
        if world.rebuilds < self.bounds.rebuilds && !acts && it.asked == 0 {
            let mut next = World { rebuilds: world.rebuilds + 1, ..*world };
            next.nodes[i as usize].asked = 1 + it.attached;
            self.push(Step::Ask(i), next);
        }
        for leader in (0..self.bounds.nodes).filter(|l| *l != i) {
            let from = world.nodes[leader as usize];
            let Some(term) = from.leads() else { continue };
            let mut next = *world;
            let node = &mut next.nodes[i as usize];
            if it.rebuilding {
                (node.rebuilding, node.log) = (false, from.log);
                self.push(Step::Rebuilt(leader, i), next);
            } else if cloned && it.asked > 0 && it.promise <= term && !acts {
                node.stop();
                (node.rebuilding, node.log) = (true, Log::default());
                self.push(Step::Rebuild(i), next);
            }
        }
    }
}
