//! The world: hosts, links, one store, and virtual time in steps of 10 ms.
//!
//! The store is modelled as one truth that a node reaches through a majority of
//! voters; how that truth is kept is another crate's story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Command, Kind};
use cluster::report::{Report, ServerState};
use cluster::state::Phase;
use cluster::{Action, ClusterState, Lsn, MemberId, NodeId, Refused, Term, Time};
use failover::{Event, Setback};

use crate::deed;
use crate::node::Node;
use crate::server::SyncRule;

/// One step of virtual time.
pub const STEP: Duration = Duration::from_millis(10);

/// A client's write and its fate.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where it was tried.
    pub on: NodeId,
    /// End of its record there.
    pub lsn: Lsn,
    /// Whether its client was told that it is committed.
    pub acked: bool,
}

/// Everything.
#[derive(Debug, Default)]
pub struct World {
    /// Now.
    pub now: Time,
    /// Hosts by name.
    pub nodes: BTreeMap<NodeId, Node>,
    /// What the store holds.
    pub truth: Arc<ClusterState>,
    /// Links that are cut, one direction each.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Writes by name.
    pub writes: BTreeMap<String, Write>,
    /// The last refusal: its code, and in words.
    pub refused: Option<(&'static str, String)>,
    /// What the last verb that was not refused was said to come to.
    pub said: String,
    /// What broke a law, if anything.
    pub broken: Option<String>,
    mail: Vec<(NodeId, Report)>,
    commands: Vec<(NodeId, Change)>,
}

impl World {
    /// Whether bytes get from one running host to another and back.
    #[must_use]
    pub fn linked(&self, a: &NodeId, b: &NodeId) -> bool {
        let open = |x: &NodeId, y: &NodeId| !self.cut.contains(&(x.clone(), y.clone()));
        a == b || (self.nodes[a].up && self.nodes[b].up && open(a, b) && open(b, a))
    }

    /// Whether `node` reaches a majority of the store's voters.
    #[must_use]
    pub fn reaches_store(&self, node: &NodeId) -> bool {
        let voters: Vec<&NodeId> =
            self.truth.members.iter().filter(|(_, m)| m.has_seat()).map(|(n, _)| n).collect();
        if voters.is_empty() {
            return true;
        }
        let reached = |v: &&&NodeId| self.nodes[**v].is_awake() && self.linked(node, v);
        voters.iter().filter(reached).count() * 2 > voters.len()
    }

    /// The agreed state as `node` knows it.
    #[must_use]
    pub fn seen_by(&self, node: &NodeId) -> Arc<ClusterState> {
        let view = self.nodes[node].controller.view(self.now, 0);
        Arc::new(view.state.clone())
    }

    /// Unix milliseconds of virtual time.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        u64::try_from(self.now.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the store, as an operator would through `by`.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask(&mut self, by: &NodeId, change: Change) -> Result<(), Refused> {
        let command = Command { at_ms: self.wall_ms(), by: by.clone(), change };
        let next = self.truth.apply(&command)?;
        self.truth = Arc::new(next);
        Ok(())
    }

    /// What `by`'s agent knows of everybody, itself included, and how old that is.
    pub fn reports(&mut self, by: &NodeId) -> BTreeMap<NodeId, (Report, u64)> {
        let now = self.now;
        let controller = &mut self.nodes.get_mut(by).expect("own name").controller;
        let own = controller.next_report(now);
        let view = controller.view(now, 0);
        let age = |n: &NodeId| view.silent_ms(n).unwrap_or(u64::MAX);
        let peers = view.peers.iter().map(|(n, h)| (n.clone(), (h.report.clone(), age(n))));
        peers.chain(own.map(|r| (by.clone(), (r, 0)))).collect()
    }

    /// One step of time for everybody.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        self.deliver();
        self.guards();
        self.replicate();
        self.settle_writes();
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in &names {
            self.run_node(name);
        }
        self.settle_commands();
        self.check_laws();
    }

    /// Mail of the last step, and news from the store.
    fn deliver(&mut self) {
        for (from, report) in std::mem::take(&mut self.mail) {
            let to: Vec<NodeId> = self.nodes.keys().filter(|n| **n != from).cloned().collect();
            for name in to {
                let open = !self.cut.contains(&(from.clone(), name.clone()));
                let node = self.nodes.get_mut(&name).expect("names come from the map");
                if open && node.is_awake() {
                    node.inbox.push_back(Event::Heard(Box::new(report.clone())));
                }
            }
        }
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in names {
            let news = self.nodes[&name].revision < self.truth.revision && self.reaches_store(&name);
            let truth = self.truth.clone();
            let node = self.nodes.get_mut(&name).expect("names come from the map");
            if news && node.is_awake() {
                node.revision = truth.revision;
                node.adopt_seat(&truth);
                node.inbox.push_back(Event::State(truth));
            }
        }
    }

    /// Guards restart dead agents and kill servers whose deadline has passed.
    fn guards(&mut self) {
        let now = self.now;
        for node in self.nodes.values_mut().filter(|n| n.up) {
            if node.agent_restart.is_some_and(|at| now >= at) {
                node.restart_agent();
            }
            if node.deadline.is_some_and(|at| now >= at) && node.server.runs() {
                node.server.kill();
            }
        }
    }

    /// WAL flows one way, acknowledgements the other.
    fn replicate(&mut self) {
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in &names {
            let upstream = self.nodes[name].server.upstream.clone();
            let source = upstream.and_then(|(up, _)| self.nodes.get(&up).map(|n| (up, n.server.clone())));
            let Some((up, source)) = source else {
                self.nodes.get_mut(name).expect("own name").server.streaming = false;
                continue;
            };
            let me = &self.nodes[name];
            let flows = me.server.state == ServerState::Standby
                && matches!(source.state, ServerState::Primary | ServerState::Standby)
                && !source.stopped
                && self.linked(name, &up)
                && me.server.can_stream_from(&source);
            let id = me.vows.member.clone();
            let server = &mut self.nodes.get_mut(name).expect("own name").server;
            server.streaming = flows;
            if flows {
                server.receive(&source);
                let end = server.end();
                let upstream = &mut self.nodes.get_mut(&up).expect("it streams").server;
                upstream.acked.extend(id.map(|id| (id, end)));
            } else if let Some(id) = id {
                self.nodes.get_mut(&up).expect("it is configured").server.acked.remove(&id);
            }
        }
        self.drop_stale_walsenders();
    }

    /// A walsender ends when its standby streams from elsewhere or is gone.
    fn drop_stale_walsenders(&mut self) {
        let streams: BTreeSet<(NodeId, MemberId)> = self
            .nodes
            .values()
            .filter(|n| n.server.streaming)
            .filter_map(|n| {
                let up = n.server.upstream.as_ref().map(|(u, _)| u.clone())?;
                Some((up, n.vows.member.clone()?))
            })
            .collect();
        for (name, node) in &mut self.nodes {
            node.server.acked.retain(|m, _| streams.contains(&(name.clone(), m.clone())));
        }
    }

    fn settle_writes(&mut self) {
        for (name, write) in self.writes.iter_mut().filter(|(_, w)| !w.acked) {
            let server = &self.nodes[&write.on].server;
            // A server that was rewound since has another record in its place.
            let there = server.holds(name, write.lsn);
            write.acked = there && server.is_acknowledged(write.lsn);
        }
    }

    fn run_node(&mut self, name: &NodeId) {
        self.end_deed(name);
        let node = &self.nodes[name];
        if !node.is_awake() {
            return;
        }
        let probe = node.probe(&self.truth_seen(name));
        let alive = node.server.streaming && node.server.upstream.is_some();
        let stopped = node.server.stopped;
        let (now, term) = (self.now, self.truth.ctl.term);
        let reads = self.reaches_store(name);
        let node = self.nodes.get_mut(name).expect("own name");
        node.inbox.push_back(probe);
        node.inbox.push_back(Event::Hung(stopped));
        if alive {
            node.inbox.push_back(Event::LeaderAlive);
        }
        if reads {
            node.inbox.push_back(Event::StoreRead(now, term));
        }
        node.inbox.push_back(Event::Tick);
        while let Some(event) = self.nodes.get_mut(name).expect("own name").inbox.pop_front() {
            self.feed(name, event);
        }
        self.heartbeat(name);
    }

    fn truth_seen(&self, name: &NodeId) -> ClusterState {
        self.nodes[name].controller.view(self.now, 0).state.clone()
    }

    fn feed(&mut self, name: &NodeId, event: Event) {
        let (now, wall) = (self.now, self.wall_ms());
        let node = self.nodes.get_mut(name).expect("own name");
        let effects = node.controller.step(now, wall, event);
        if let Some(term) = effects.promise {
            node.vows.promise = node.vows.promise.max(term);
            node.inbox.push_back(Event::Vows(Box::new(node.vows.clone())));
        }
        if let Some(action) = effects.perform {
            node.deed = Some((action.clone(), now + deed::duration(&action)));
            deed::begin(self, name, &action);
        }
        if let Some(change) = effects.submit {
            self.commands.push((name.clone(), change));
        }
        if effects.speak {
            self.nodes.get_mut(name).expect("own name").spoke_at = Time::default();
        }
    }

    fn end_deed(&mut self, name: &NodeId) {
        let Some((action, until)) = self.nodes[name].deed.clone() else { return };
        let awake = self.nodes[name].is_awake();
        if !awake || self.now < until {
            return;
        }
        if let Action::HandOver { .. } = action {
            self.shut_down_cleanly(name);
        }
        let late = self.now.since(until) > deed::patience(&action);
        if !late && !deed::is_over(self, name, &action) {
            return;
        }
        let outcome = deed::finish(self, name, &action);
        let seen = self.truth_seen(name);
        let node = self.nodes.get_mut(name).expect("own name");
        node.deed = None;
        node.inbox.push_back(Event::Vows(Box::new(node.vows.clone())));
        let probe = node.probe(&seen);
        node.inbox.push_back(probe);
        let outcome = outcome.map_err(|why| Setback { why, of_the_data: true });
        node.inbox.push_back(Event::Done(Box::new(action), outcome));
    }

    /// Walsenders leave only when everything has been received.
    fn shut_down_cleanly(&mut self, name: &NodeId) {
        let server = &mut self.nodes.get_mut(name).expect("own name").server;
        let end = server.end();
        if server.acked.values().all(|at| *at >= end) {
            server.kill();
        }
    }

    fn heartbeat(&mut self, name: &NodeId) {
        let now = self.now;
        let beat = Duration::from_millis(self.truth.settings.timing.heartbeat_ms);
        let node = self.nodes.get_mut(name).expect("own name");
        node.deadline = node.controller.guard_deadline(now).or(node.deadline);
        if now.since(node.spoke_at) >= beat {
            node.spoke_at = now;
            if let Some(report) = node.controller.next_report(now) {
                self.mail.push((name.clone(), report));
            }
        }
    }

    fn settle_commands(&mut self) {
        for (by, change) in std::mem::take(&mut self.commands) {
            let answer = if !self.nodes[&by].is_awake() {
                continue;
            } else if self.reaches_store(&by) {
                self.ask(&by, change).map_err(|refused| {
                    self.refused = Some((refused.code(), refused.to_string()));
                    refused.to_string()
                })
            } else {
                Err("the store can't be reached".to_string())
            };
            let node = self.nodes.get_mut(&by).expect("own name");
            node.inbox.push_back(Event::Submitted(answer));
        }
    }

    /// I4: what is in force at the leader of the current term is agreed.
    fn check_rule_in_force(&mut self) {
        let term = self.truth.ctl.term;
        let leads = |n: &&Node| {
            let promoted = n.vows.promoting.is_some_and(|p| p.term == term);
            promoted && n.server.state == ServerState::Primary
        };
        let agreed = |r: &SyncRule| match r {
            SyncRule::Placeholder => true,
            SyncRule::Set(rule) => self.truth.own_rules().any(|r| r.rule == *rule),
        };
        if let Some(node) = self.nodes.values().filter(leads).find(|n| !agreed(&n.server.rule)) {
            let broken =
                format!("I4: {} acknowledges under {:?}, which is not agreed", node.name, node.server.rule);
            self.broken.get_or_insert(broken);
        }
    }

    /// I1, I2 and I4, after every step.
    fn check_laws(&mut self) {
        self.check_rule_in_force();
        let ackers: Vec<&NodeId> = self
            .nodes
            .values()
            .filter(|n| n.server.is_acknowledged(n.server.end()))
            .map(|n| &n.name)
            .collect();
        if ackers.len() > 1 {
            self.broken.get_or_insert(format!("I2: {ackers:?} could both acknowledge at {:?}", self.now));
        }
        let open = self.truth.ctl.phase == Phase::Open;
        let leader = self.truth.ctl.leader.as_ref().filter(|_| open).and_then(|l| self.nodes.get(&l.node));
        let term = self.truth.ctl.term;
        let Some(leader) = leader.filter(|n| n.vows.promoting.is_some_and(|p| p.term == term)) else {
            return;
        };
        let lost = self
            .writes
            .iter()
            .filter(|(_, w)| w.acked)
            .find(|(name, _)| !leader.server.wal.iter().any(|r| r.write.as_ref() == Some(*name)));
        if let Some((name, _)) = lost {
            let leader = &leader.name;
            self.broken.get_or_insert(format!(
                "I1: acknowledged {name} is not on {leader}, which leads term {term}"
            ));
        }
    }

    /// Registers a host.
    pub fn add(&mut self, name: NodeId, kind: Kind) {
        self.nodes.insert(name.clone(), Node::new(name, kind));
    }

    /// The leader of the current term, once it takes writes.
    #[must_use]
    pub fn open_leader(&self) -> Option<(Term, NodeId)> {
        let open = self.truth.ctl.phase == Phase::Open;
        let leader = self.truth.ctl.leader.clone().filter(|_| open)?;
        let node = &self.nodes[&leader.node];
        (node.up && node.server.state == ServerState::Primary).then_some((self.truth.ctl.term, leader.node))
    }
}
