//! One host: a guard, an agent with its durable promises, a server, a disk, clocks.

use std::collections::VecDeque;
use std::time::Duration;

use cluster::command::Kind;
use cluster::report::{Recruited, ServerState};
use cluster::{NodeId, Term, Time, Vows};
use failover::facts::Facts;
use failover::{Controller, Event};

use crate::clock::Clock;
use crate::deed::Deed;
use crate::disk::Disk;
use crate::server::Server;

/// The agent's process: the code that ships, and what its shell keeps.
#[derive(Debug)]
pub struct Agent {
    /// The thinking part.
    pub controller: Controller,
    /// Counts its processes; what belongs to an earlier one is void.
    pub life: u32,
    /// The process exists.
    pub runs: bool,
    /// A signal has stopped it.
    pub stopped: bool,
    /// What came in while it was stopped.
    pub inbox: VecDeque<Event>,
    /// The deed under way.
    pub deed: Option<Deed>,
    /// When its loop last turned, by the host's clock.
    pub turned: Time,
    /// How long it meant to wait then.
    pub tick: Duration,
    /// When it last spoke.
    pub spoke: Time,
    /// When it last heard the leader.
    pub led: Time,
    /// When it last handed the guard a deadline.
    pub armed: Time,
    /// Since when a byte that it wrote is not on disk.
    pub writes_since: Option<Time>,
    /// It has told its loop that the disk hangs.
    pub stalled: bool,
    /// The newest deadline that it meant for the guard.
    pub until: Option<Time>,
    /// When it last looked at the leader's server.
    pub looked: Time,
    /// A read of the store is under way, or was a moment ago.
    pub reading: bool,
    /// Revision last handed to the controller.
    pub revision: u64,
    /// Only the newest timer of each kind counts.
    pub turn: u64,
    /// See `turn`.
    pub probe: u64,
}

impl Agent {
    /// Thinks anew, knowing `vows`. Each life has a number of its own, or others would take
    /// what it says for old news of an earlier one (the real agent's is drawn).
    pub(crate) fn begin_life(&mut self, name: &NodeId, kind: Kind, life: u32, vows: Vows) {
        self.life = life;
        self.controller = Controller::new(Facts::new(name.clone(), u64::from(life), kind, vows));
    }
}

/// The guard's process (`tanist run`).
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// A signal has stopped it.
    pub stopped: bool,
    /// When it last heard the agent, by the host's clock.
    pub heard: Time,
    /// When it kills the server.
    pub deadline: Option<Time>,
    /// Only the newest timer counts.
    pub timer: u64,
}

/// What really happened on a host, for the laws alone.
#[derive(Clone, Debug, Default)]
pub struct Ghost {
    /// The last record that it acknowledged to a leader: its place and its number.
    pub acked: Option<(usize, u32)>,
    /// The newest term that it reported to be recruited for.
    pub reported: Term,
    /// The terms in which its server was promoted.
    pub promoted: Vec<Term>,
    /// In which term its server last became primary, by whatever way.
    pub leads: Term,
    /// Since when it missed the leader and when it asked for a term, by its clock, the last times.
    pub asked: Vec<(Time, Time)>,
    /// When it last asked for a change of the rule.
    pub rule_asked: crate::clock::Us,
    /// Until when its agent, whose loop ran late, must suspect nobody.
    pub late_until: Time,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub name: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Powered on.
    pub up: bool,
    /// Everything on it stands still (a virtual machine that is paused).
    pub paused: bool,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// What its agent has on that disk.
    pub vows: Vows,
    /// Its agent.
    pub agent: Agent,
    /// Its guard.
    pub guard: Guard,
    /// Its server.
    pub server: Server,
    /// For the laws.
    pub ghost: Ghost,
}

impl Host {
    /// A host with nothing on its disk, its agent just started.
    #[must_use]
    pub fn new(name: NodeId, kind: Kind) -> Host {
        let vows = Vows::default();
        let facts = Facts::new(name.clone(), 1, kind, vows.clone());
        let agent = Agent {
            controller: Controller::new(facts),
            life: 1,
            runs: true,
            stopped: false,
            inbox: VecDeque::new(),
            deed: None,
            turned: Time::default(),
            tick: Duration::ZERO,
            spoke: Time::default(),
            led: Time::default(),
            armed: Time::default(),
            writes_since: None,
            stalled: false,
            until: None,
            looked: Time::default(),
            reading: false,
            revision: 0,
            turn: 0,
            probe: 0,
        };
        Host {
            name,
            kind,
            up: true,
            paused: false,
            clock: Clock::default(),
            disk: Disk::default(),
            vows,
            agent,
            guard: Guard::default(),
            server: Server { state: ServerState::Empty, ..Server::default() },
            ghost: Ghost::default(),
        }
    }

    /// A new agent process that knows only what is on disk.
    pub fn restart_agent(&mut self, now: Time) {
        let a = &mut self.agent;
        a.begin_life(&self.name, self.kind, a.life + 1, self.vows.clone());
        a.deed = None;
        a.inbox.clear();
        a.revision = 0;
        (a.runs, a.stopped, a.reading, a.until) = (true, false, false, None);
        (a.writes_since, a.stalled) = (None, false);
        (a.turned, a.spoke, a.led) = (now, Time::default(), Time::default());
        (a.armed, a.looked, a.tick) = (Time::default(), Time::default(), Duration::ZERO);
        self.guard.heard = now;
        self.ghost.late_until = Time::default();
    }

    /// Agent and guard are gone, with all that they knew and had in hand.
    pub fn lose_processes(&mut self) {
        self.agent.runs = false;
        self.agent.deed = None;
        self.agent.inbox.clear();
        self.agent.life += 1;
        self.guard.deadline = None;
        self.guard.stopped = false;
    }

    /// Whether its agent can act now.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.up && !self.paused && self.agent.runs && !self.agent.stopped
    }

    /// Whether its guard can act now.
    #[must_use]
    pub fn guards(&self) -> bool {
        self.up && !self.paused && !self.guard.stopped
    }

    /// The answer to a recruiting term, as read now (C-1).
    #[must_use]
    pub fn position(&self, term: Term) -> Recruited {
        let wal = &self.server.wal;
        let state = &self.agent.controller.view(Time::default(), 0).state.elections;
        let owner = crate::mutation::position_owner(wal);
        let position =
            cluster::lineage::term_of(owner, state).map(|term| cluster::Position::new(term, wal.end()));
        Recruited { term, position, lineage: crate::mutation::position_lineage(wal), replay: wal.end() }
    }
}
