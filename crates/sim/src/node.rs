//! One host: an agent with its durable promises, a guard, and a server.

use std::collections::VecDeque;
use std::time::Duration;

use cluster::command::Kind;
use cluster::report::{Leading, Recruited, ServerReport, ServerState, StandbyProgress};
use cluster::{Action, ClusterState, MemberId, NodeId, Position, Term, Time, Vows};
use failover::facts::Facts;
use failover::{Controller, Event};

use crate::server::Server;

/// A host.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeId,
    /// What it is.
    pub kind: Kind,
    /// The thinking part of its agent.
    pub controller: Controller,
    /// What its agent has on disk.
    pub vows: Vows,
    /// Its server.
    pub server: Server,
    /// The deed under way, and when it ends.
    pub deed: Option<(Action, Time)>,
    /// Powered on.
    pub up: bool,
    /// Its agent runs (not frozen, not dead).
    pub agent_runs: bool,
    /// When the guard restarts the agent.
    pub agent_restart: Option<Time>,
    /// When the guard kills the server.
    pub deadline: Option<Time>,
    /// When the last heartbeat was sent.
    pub spoke_at: Time,
    /// Revision last handed to the controller.
    pub revision: u64,
    /// Events for the controller.
    pub inbox: VecDeque<Event>,
    /// Number of this agent process.
    pub boot: u64,
}

impl Node {
    /// A host with nothing on its disk.
    #[must_use]
    pub fn new(name: NodeId, kind: Kind) -> Node {
        let vows = Vows::default();
        let facts = Facts::new(name.clone(), 1, kind, vows.clone());
        let server = Server { state: ServerState::Empty, ..Server::default() };
        Node {
            name,
            kind,
            controller: Controller::new(facts),
            vows,
            server,
            deed: None,
            up: true,
            agent_runs: true,
            agent_restart: None,
            deadline: None,
            spoke_at: Time::default(),
            revision: 0,
            inbox: VecDeque::new(),
            boot: 1,
        }
    }

    /// A new agent process that knows only what is on disk.
    pub fn restart_agent(&mut self) {
        self.boot += 1;
        let facts = Facts::new(self.name.clone(), self.boot, self.kind, self.vows.clone());
        self.controller = Controller::new(facts);
        self.deed = None;
        self.inbox.clear();
        self.revision = 0;
        self.agent_runs = true;
        self.agent_restart = None;
    }

    /// Power goes off: processes and unsent words are gone, disks stay.
    pub fn power_off(&mut self) {
        self.up = false;
        self.agent_runs = false;
        self.agent_restart = None;
        self.deadline = None;
        self.deed = None;
        self.inbox.clear();
        self.server.kill();
        self.server.upstream = None;
    }

    /// Power comes back.
    pub fn power_on(&mut self) {
        self.up = true;
        self.restart_agent();
    }

    /// Whether its agent can act.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.up && self.agent_runs
    }

    /// Takes up the seat that is agreed for it.
    pub fn adopt_seat(&mut self, state: &ClusterState) {
        let Some(id) = state.member_id(&self.name).filter(|id| id.incarnation > 0) else { return };
        if self.vows.member.as_ref() != Some(&id) {
            let reborn = self.vows.member.is_some();
            self.vows.member = Some(id);
            if reborn {
                self.vows.resigned_at = None;
            }
            self.inbox.push_back(Event::Vows(Box::new(self.vows.clone())));
        }
    }

    /// What a probe of the server says.
    #[must_use]
    pub fn probe(&self, state: &ClusterState) -> Event {
        let s = &self.server;
        let report = ServerReport {
            state: s.state,
            sysid: s.sysid,
            version: 150_000,
            lineage: s.lineage.clone(),
            end: s.end(),
            replay: s.end(),
            streaming: s.upstream.as_ref().filter(|_| s.streaming).map(|(_, t)| *t),
            ..ServerReport::default()
        };
        let leading = (s.state == ServerState::Primary && !s.stopped).then(|| Box::new(self.leading(state)));
        Event::Probed(Box::new(report), leading)
    }

    fn leading(&self, state: &ClusterState) -> Leading {
        let s = &self.server;
        let row = |(member, at): (&MemberId, &cluster::Lsn)| StandbyProgress {
            member: member.clone(),
            streaming: true,
            sent: *at,
            write: *at,
            flush: *at,
            replay: *at,
            reply_age_ms: 0,
            replay_lag_ms: 0,
        };
        let standbys = s.acked.iter().map(row).collect();
        Leading { term: state.ctl.term, end: s.end(), standbys, ..Leading::default() }
    }

    /// The answer to a recruiting term, read after the ack path was cut.
    #[must_use]
    pub fn position(&self, state: &ClusterState, term: Term) -> Recruited {
        let owner = cluster::lineage::term_of(self.server.last_timeline(), &state.elections);
        let position = owner.map(|t| Position::new(t, self.server.end()));
        Recruited { term, position, lineage: self.server.lineage.clone(), replay: self.server.end() }
    }

    /// How late the guard lets an agent be before it kills it.
    #[must_use]
    pub fn silence(&self, state: &ClusterState) -> Duration {
        Duration::from_millis(state.settings.timing.agent_silence_ms)
    }
}
