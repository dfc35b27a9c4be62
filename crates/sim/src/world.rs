//! The world: hosts, links, a store, clients, and one queue of what happens when.
//!
//! ```text
//!   queue ──▶ agent (the code that ships) ──▶ deeds ──▶ server ◀──▶ streams ◀── clients
//!                 ▲        │ commands                                   laws look on at every step
//!                 └─ store ◀┘
//! ```
//! One thread, one source of chance, no clock but its own: the same seed and the
//! same story always give the same trace.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Kind};
use cluster::local::Vows;
use cluster::report::{Report, ServerState};
use cluster::state::Phase;
use cluster::{ClusterState, NodeId, Term};
use failover::Event;

use crate::client::{Client, Write};
use crate::clock::{Us, us};
use crate::front::Front;
use crate::host::Host;
use crate::law::{Broken, Moment, Witnessed};
use crate::mutation::{Env, Mutation};
use crate::network::{At, Network, Weather};
use crate::point::{Armed, Point};
use crate::rng::Rng;
use crate::store::Store;
use crate::stream::Stream;
use crate::trace::Trace;
use crate::wal::Record;

/// Something that is due.
#[derive(Debug)]
pub enum What {
    /// An agent's word reaches another agent.
    Word(At, Rc<Report>),
    /// An agent's loop wakes up.
    Turn(At, u64),
    /// An agent looks at its own server.
    Probe(At, u64),
    /// An agent's look at the leader's server has an answer.
    Alive(At, u32),
    /// A guard looks at its clock.
    Guard(At, u64),
    /// An agent keeps the deadline of a guard that stands still.
    SecondHand(At, u32),
    /// A guard starts an agent.
    AgentStarts(At, u32),
    /// A deed goes on.
    Deed(At, u32, u32),
    /// Something for the agent's process of that life.
    Tell(At, u32, Box<Event>),
    /// News of the store reaches a node.
    Learn(At),
    /// The store commits a command, or does not.
    Commit(At, u32, Box<Change>),
    /// A linearizable read of the store, begun then, is answered with the term that it saw.
    Read(At, u32, Us, Term),
    /// A server that was asked to shut down goes on with it, whoever asked.
    ShutDown(At, u32),
    /// A server that starts is ready.
    Ready(At, u32),
    /// A standby tries to stream.
    Receive(At, u32),
    /// The startup process reads its settings again.
    StartupReloads(At, u32),
    /// The checkpointer does.
    CheckpointerReloads(At, u32),
    /// A walsender does.
    SenderReloads(u64),
    /// The postmaster has signalled this walsender.
    SenderSignalled(u64),
    /// The postmaster has signalled all its children.
    Signalled(At, u32),
    /// WAL reaches a walreceiver.
    Chunk {
        /// Of which stream.
        id: u64,
        /// The place of its first record.
        from: usize,
        /// The records.
        chunk: Vec<Record>,
        /// How often it was held up.
        tries: u32,
    },
    /// A walreceiver's fsync is done.
    Received(u64, usize),
    /// A reply reaches a walsender.
    Reply {
        /// Of which stream.
        id: u64,
        /// Records flushed.
        count: usize,
        /// How often it was held up.
        tries: u32,
    },
    /// A receiver's regular status.
    Status(u64),
    /// A walsender is over.
    SenderEnds(u64),
    /// A walreceiver learns that its stream is over.
    ReceiverEnds(At, u64),
    /// A primary's fsync is done.
    Flushed(At, u32, usize),
    /// Sessions that outlived their postmaster come to an end.
    Orphans(At, u32, Vec<crate::server::Waiter>),
    /// A client does its next operation.
    Client(usize),
    /// A client has waited long enough.
    Patience(usize, u64),
    /// A member of the store's group looks at its clock.
    RaftTick(At, u32),
    /// Something from one member of the group to another.
    RaftWord(At, Box<consensus::Message>),
    /// What a member wrote is on disk.
    RaftWritten(At, u32),
    /// An agent submits to the group.
    RaftSubmit(At, u32, Box<Change>),
    /// Somebody else asks the group, through that agent.
    RaftPassOn(At, u32, Box<cluster::command::Command>),
    /// An agent reads from the group.
    RaftRead(At, u32),
    /// Something before the servers.
    Front(Box<crate::front::Due>),
    /// A fault that lasts, begun after so many calms, is over.
    Over(u32, Box<crate::fault::Over>),
}

struct Item {
    at: Us,
    number: u64,
    what: What,
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    // The heap gives the greatest first, and the earliest is wanted.
    fn cmp(&self, other: &Item) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What a run came to, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Faults that were really done.
    pub faults: u64,
    /// Terms that began after the first.
    pub terms: u64,
    /// Rule changes that were begun.
    pub changes: u64,
    /// Operations of clients that were begun.
    pub operations: u64,
    /// Events handled.
    pub events: u64,
    /// Acknowledged writes that async lost within its bound.
    pub lost_in_async: u64,
}

/// Everything.
pub struct World {
    /// Now.
    pub now: Us,
    queue: BinaryHeap<Item>,
    number: u64,
    /// Chance.
    pub rng: Rng,
    /// Whether chance plays a part in how long things take.
    pub chancy: bool,
    /// Hosts.
    pub hosts: Vec<Host>,
    /// Hosts by name.
    pub places: BTreeMap<NodeId, At>,
    /// Links.
    pub network: Network,
    /// What is agreed.
    pub truth: Arc<ClusterState>,
    /// How it is reached.
    pub store: Store,
    /// Connections of replication.
    pub streams: BTreeMap<u64, Stream>,
    pub(crate) next_stream: u64,
    pub(crate) next_record: u32,
    pub(crate) next_deed: u32,
    /// Those who write and read.
    pub clients: Vec<Client>,
    /// Every write, by its number.
    pub writes: Vec<Write>,
    /// Writes that a story named.
    pub named: BTreeMap<String, u32>,
    /// Faults that wait for a moment.
    pub armed: Vec<Armed>,
    /// How often everything that was wrong has ended: what was to end later has ended, too.
    pub calms: u32,
    /// The last refusal: its code, and in words.
    pub refused: Option<(&'static str, String)>,
    /// What the last verb that was not refused was said to come to.
    pub said: String,
    /// The law that was broken, if one was.
    pub broken: Option<Broken>,
    /// What laws remember.
    pub witnessed: Witnessed,
    /// The deliberate mistake that is made.
    pub mutation: Option<Mutation>,
    /// What happened, for people.
    pub trace: Trace,
    /// What was reached.
    pub marks: BTreeSet<String>,
    /// What it came to.
    pub counts: Counts,
    /// Writes and reads go on.
    pub load: bool,
    /// What is asked right now is no agent's own idea.
    pub rogue: bool,
    /// Those who come through proxies.
    pub front: Front,
}

impl World {
    /// A world with nobody in it.
    #[must_use]
    pub fn new(seed: Option<u64>) -> World {
        World {
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            rng: Rng::new(seed.unwrap_or(0)),
            chancy: seed.is_some(),
            hosts: Vec::new(),
            places: BTreeMap::new(),
            network: Network::new(Weather::calm()),
            truth: Arc::new(ClusterState::default()),
            store: Store::default(),
            streams: BTreeMap::new(),
            next_stream: 0,
            next_record: 0,
            next_deed: 0,
            clients: Vec::new(),
            writes: Vec::new(),
            named: BTreeMap::new(),
            armed: Vec::new(),
            calms: 0,
            refused: None,
            said: String::new(),
            broken: None,
            witnessed: Witnessed::default(),
            mutation: None,
            trace: Trace::default(),
            marks: BTreeSet::new(),
            counts: Counts::default(),
            load: false,
            rogue: false,
            front: Front::new(seed),
        }
    }

    /// Registers a host and starts its agent.
    pub fn add(&mut self, name: &NodeId, kind: Kind) -> At {
        let at = self.places.get(name).copied().unwrap_or(self.hosts.len());
        let mut host = Host::new(name.clone(), kind);
        if let Some(old) = self.hosts.get(at) {
            (host.clock, host.disk) = (old.clock, old.disk);
            host.agent.begin_life(name, kind, old.agent.life + 1, Vows::default());
            host.server.life = old.server.life + 1;
            host.guard.timer = old.guard.timer;
            (host.agent.turn, host.agent.probe) = (old.agent.turn, old.agent.probe);
            self.drop_streams(at);
            self.hosts[at] = host;
        } else {
            self.hosts.push(host);
            self.network.resize(self.hosts.len());
            self.places.insert(name.clone(), at);
            self.watch_new_agent(at);
        }
        self.start_agent(at);
        at
    }

    /// Puts something on the queue for `at`.
    pub(crate) fn at(&mut self, at: Us, what: What) {
        self.number += 1;
        self.queue.push(Item { at: at.max(self.now), number: self.number, what });
    }

    /// Puts something on the queue for `delay` from now.
    pub(crate) fn after(&mut self, delay: Us, what: What) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// From `low` to `high` by chance, or the middle where chance has no part.
    pub(crate) fn span(&mut self, low: Us, high: Us) -> Us {
        if self.chancy { self.rng.range(low, high) } else { low.midpoint(high) }
    }

    /// Runs until `end`, or until a law is broken.
    pub fn run_until(&mut self, end: Us) {
        while self.broken.is_none() && self.queue.peek().is_some_and(|i| i.at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Runs until `done`, or `end`, or until a law is broken. Says whether it came to `done`.
    pub fn run_while(&mut self, end: Us, done: impl Fn(&World) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let next = self.queue.peek().map(|i| i.at);
            if self.broken.is_some() || next.is_none_or(|at| at > end) {
                self.now = self.now.max(end);
                return false;
            }
            // Conditions change with events, but need not be looked at after every one.
            let until = next.unwrap_or(end) + 2_000;
            while self.broken.is_none() && self.queue.peek().is_some_and(|i| i.at <= until.min(end)) {
                self.step();
            }
        }
    }

    /// Runs for `span` of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + us(span));
    }

    fn step(&mut self) {
        let Some(item) = self.queue.pop() else { return };
        self.now = item.at;
        self.counts.events += 1;
        self.trace.count(item.at, &item.what);
        self.handle(item.what);
        self.judge(&Moment::Step);
    }

    fn handle(&mut self, what: What) {
        match what {
            What::Word(at, report) => self.hear(at, &report),
            What::Turn(at, turn) => self.turn(at, turn),
            What::Probe(at, probe) => self.probe(at, probe),
            What::Alive(at, life) => self.tell(at, life, Event::LeaderAlive(std::time::Duration::ZERO)),
            What::Guard(at, timer) => self.guard(at, timer),
            What::SecondHand(at, life) => self.second_hand(at, life),
            What::AgentStarts(at, life) => self.agent_starts(at, life),
            What::Deed(at, life, number) => self.deed(at, life, number),
            What::Tell(at, life, event) => self.tell(at, life, *event),
            What::Learn(at) => self.learn(at),
            What::Commit(at, life, change) => self.commit(at, life, *change),
            What::Read(at, life, began, term) => self.read(at, life, began, term),
            What::ShutDown(at, life) => self.shut_down(at, life),
            What::Ready(at, life) => self.ready(at, life),
            What::Receive(at, life) if self.hosts[at].server.life == life => self.try_receive(at),
            What::Receive(..) => {}
            What::StartupReloads(at, life) => self.reload_startup(at, life),
            What::CheckpointerReloads(at, life) => self.reload_checkpointer(at, life),
            What::SenderReloads(id) => self.reload_sender(id),
            What::SenderSignalled(id) => self.sender_signalled(id),
            What::Signalled(at, life) => self.signalled(at, life),
            What::Chunk { id, from, chunk, tries } => self.chunk(id, from, chunk, tries),
            What::Received(id, count) => self.received(id, count),
            What::Reply { id, count, tries } => self.replied(id, count, tries),
            What::Status(id) => self.status(id),
            What::SenderEnds(id) => self.end_sender(id),
            What::ReceiverEnds(at, id) => {
                if self.hosts[at].server.receiver.as_ref().is_some_and(|r| r.stream == id) {
                    self.end_receiver(at);
                }
            }
            What::Flushed(at, life, count) => self.synced(at, life, count),
            What::Orphans(at, life, waiters) => self.orphans(at, life, waiters),
            What::Client(client) => self.operate(client),
            What::Patience(client, number) => self.lose_patience(client, number),
            What::RaftTick(at, life) => self.raft_tick(at, life),
            What::RaftWord(at, message) => self.raft_hear(at, *message),
            What::RaftWritten(at, life) => self.raft_written(at, life),
            What::RaftSubmit(at, life, change) => self.raft_submit(at, life, *change),
            What::RaftPassOn(at, life, command) => self.raft_pass_on(at, life, *command, false),
            What::RaftRead(at, life) => self.raft_read(at, life),
            What::Front(due) => self.front(*due),
            What::Over(calms, over) => crate::fault::end(self, calms, *over),
        }
    }

    /// Whether that mistake is being made.
    #[must_use]
    pub fn is(&self, env: Env) -> bool {
        self.mutation == Some(Mutation::Env(env))
    }

    /// A moment that laws look at.
    pub(crate) fn judge(&mut self, moment: &Moment) {
        if self.broken.is_none() {
            self.broken = crate::law::judge(self, moment);
            self.remember(moment);
        }
    }

    /// A moment that armed faults wait for.
    pub(crate) fn reach(&mut self, point: Point, at: At) {
        if !self.armed.is_empty() {
            crate::point::reach(self, point, at);
        }
    }

    /// A line of the trace, made only when somebody reads it.
    pub(crate) fn note(&mut self, at: Option<At>, line: impl FnOnce() -> String) {
        if self.trace.is_kept() {
            let name = at.map_or("-", |at| self.hosts[at].name.as_str()).to_string();
            self.trace.line(self.now, &name, &line());
        }
    }

    /// Remembers that something was reached.
    pub(crate) fn mark(&mut self, mark: &str) {
        if !self.marks.contains(mark) {
            self.marks.insert(mark.to_string());
        }
    }

    /// The agreed state as that node's agent knows it.
    #[must_use]
    pub fn seen_by(&self, at: At) -> &ClusterState {
        self.hosts[at].agent.controller.view(cluster::Time::default(), 0).state
    }

    /// The leader of the current term, once it takes writes.
    #[must_use]
    pub fn open_leader(&self) -> Option<(Term, At)> {
        if self.truth.ctl.phase != Phase::Open {
            return None;
        }
        let at = *self.places.get(&self.truth.ctl.leader.as_ref()?.node)?;
        let host = &self.hosts[at];
        (host.up && host.server.state == ServerState::Primary).then_some((self.truth.ctl.term, at))
    }

    /// The host of that name.
    ///
    /// # Errors
    /// That there is none.
    pub fn place(&self, name: &NodeId) -> Result<At, String> {
        self.places.get(name).copied().ok_or_else(|| format!("there is no {name}"))
    }
}
