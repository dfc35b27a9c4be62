//! The store as it ships: a Raft group with a member on every host that has a seat, by
//! the library's own code and in the one order that is safe ("persist, then speak").
//!
//! What is here is what `store::embedded::member` is: it ticks, writes, sends, applies,
//! repeats what went unanswered, folds the log, and keeps voters in step with members.
//! What is agreed in the world is what the first member applies.

mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cluster::command::{Change, Command};
use cluster::seats::{Change as Voting, next_change};
use cluster::{ClusterState, Term};
use consensus::{HardState, Log, Machine, Message, Snapshot, Tuning, Voters, Work};
use failover::Event;

use crate::clock::{Us, ms};
use crate::network::At;
use crate::rng::Rng;
use crate::world::{What, World};

/// `store::embedded::TICK`.
const TICK: Us = ms(100);
/// `store::SUBMIT_LIMIT`.
const SUBMIT_LIMIT: Us = ms(1800);
/// `store::READ_LIMIT`.
const READ_LIMIT: Us = ms(1000);
/// `store::REPEAT`.
const REPEAT: Us = ms(150);
/// Voters are compared with members this often.
const SEATS_EVERY: Us = ms(200);
/// A node without a seat asks for one this often.
const ASK_SEAT: Us = ms(500);
/// Messages that wait for a member which stands still; more are dropped, as by a full queue.
const INBOX_MAX: usize = 256;

/// A submission on its way through the log.
struct Waiting {
    /// Whether the agent waits, and not an operator.
    agent: bool,
    bytes: Vec<u8>,
    until: Us,
    again: Us,
}

/// A linearizable read.
struct Reading {
    began: Us,
    at: Option<u64>,
    until: Us,
    again: Us,
}

/// One host's member.
#[derive(Default)]
pub struct Seat {
    /// Its number; 0 while it has none.
    id: u64,
    /// By which request it asks for one.
    nonce: Option<u64>,
    disk: Log,
    machine: Option<Machine>,
    life: u32,
    busy: Option<Work>,
    written: bool,
    held_until: Us,
    inbox: VecDeque<Message>,
    applied: u64,
    state: Arc<ClusterState>,
    number: u64,
    waiting: BTreeMap<u64, Waiting>,
    reading: BTreeMap<u64, Reading>,
    seats_at: Us,
    fold: bool,
}

/// All of them.
pub struct Group {
    seats: Vec<Seat>,
    /// The newest entry that anybody has applied, and all of them so far.
    applied: u64,
    log: BTreeMap<u64, Vec<u8>>,
    seed: u64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a group of {} that has agreed on {}", self.seats.len(), self.applied)
    }
}

fn bytes_of(state: &ClusterState) -> Vec<u8> {
    postcard::to_allocvec(state).unwrap_or_default()
}

impl World {
    /// From here on the store is a Raft group, which begins with what is agreed.
    pub fn form_group(&mut self) {
        let id = |w: &World, at: At| w.truth.members.get(&w.hosts[at].name).map_or(0, |m| m.raft_id);
        let ids: Vec<u64> = (0..self.hosts.len()).map(|at| id(self, at)).collect();
        let voters = ids.iter().copied().filter(|id| *id != 0).collect();
        let voters = Voters { voters, learners: Vec::new() };
        let snapshot = Snapshot { data: bytes_of(&self.truth), index: 1, term: 1, voters: voters.clone() };
        let hard = HardState { term: 1, vote: 0, commit: 1 };
        let disk = Log { snapshot, entries: Vec::new(), hard, voters };
        let seat = |id: &u64| Seat { id: *id, disk: disk.clone(), ..Seat::default() };
        let seats = ids.iter().map(seat).collect();
        let seed = self.rng.draw();
        self.store.group = Some(Group { seats, applied: 1, log: BTreeMap::new(), seed });
        for at in 0..self.hosts.len() {
            self.raft_start(at);
        }
    }

    fn seat(&mut self, at: At) -> &mut Seat {
        let seats = &mut self.store.group.as_mut().expect("there is a group").seats;
        while seats.len() <= at {
            seats.push(Seat::default());
        }
        &mut seats[at]
    }

    /// A disk is lost, and its member with it.
    pub(crate) fn raft_wipe(&mut self, at: At) {
        if self.store.group.is_some() {
            *self.seat(at) = Seat::default();
        }
    }

    /// Who comes back asks for a new number.
    pub(crate) fn raft_want_seat(&mut self, at: At, nonce: u64) {
        self.raft_wipe(at);
        self.seat(at).nonce = Some(nonce);
        self.raft_start(at);
    }

    /// An agent's process begins with what is on its disk.
    pub(crate) fn raft_start(&mut self, at: At) {
        let life = self.hosts[at].agent.life;
        let seat = self.seat(at);
        let log = seat.disk.clone();
        let state: Arc<ClusterState> = Arc::new(postcard::from_bytes(&log.snapshot.data).unwrap_or_default());
        let machine = (seat.id != 0).then(|| Machine::new(seat.id, log, Tuning::default()).ok()).flatten();
        *seat = Seat {
            id: seat.id,
            nonce: seat.nonce,
            applied: seat.disk.snapshot.index,
            disk: std::mem::take(&mut seat.disk),
            machine,
            life,
            state,
            ..Seat::default()
        };
        self.raft_tell(at);
        let first = self.span(ms(1), TICK);
        self.after(first, What::RaftTick(at, life));
    }

    /// The agent hears what its member has applied.
    fn raft_tell(&mut self, at: At) {
        let state = self.seat(at).state.clone();
        if state.exists() && state.revision > self.hosts[at].agent.revision {
            self.hosts[at].agent.revision = state.revision;
            self.adopt_seat(at, &state);
            let life = self.hosts[at].agent.life;
            self.tell(at, life, Event::State(state));
        }
    }

    /// Whether the member's process is the one of then.
    fn raft_lives(&mut self, at: At, life: u32) -> bool {
        let host = &self.hosts[at];
        let runs = host.up && host.agent.runs && host.agent.life == life;
        runs && self.seat(at).life == life
    }

    fn raft_is_held(&mut self, at: At) -> bool {
        let now = self.now;
        let awake = self.hosts[at].is_awake();
        let seat = self.seat(at);
        !awake || seat.busy.is_some() || seat.held_until > now
    }

    pub(crate) fn raft_tick(&mut self, at: At, life: u32) {
        if !self.raft_lives(at, life) {
            return;
        }
        self.after(TICK, What::RaftTick(at, life));
        if self.raft_is_held(at) {
            return;
        }
        if self.seat(at).machine.is_none() {
            return self.raft_ask_seat(at);
        }
        self.raft_hear_all(at);
        self.raft_with(at, Machine::tick);
        self.raft_repeat(at);
        self.raft_seats(at);
        self.raft_work(at, life);
    }

    /// Whoever has no seat asks for one until it is agreed, and then begins with nothing.
    fn raft_ask_seat(&mut self, at: At) {
        let name = self.hosts[at].name.clone();
        let (Some(nonce), now) = (self.seat(at).nonce, self.now) else { return };
        let given = self.truth.members.get(&name).filter(|m| m.nonce == nonce && m.raft_id != 0);
        if let Some(id) = given.map(|m| m.raft_id) {
            let seat = self.seat(at);
            (seat.id, seat.nonce) = (id, None);
            seat.machine = Machine::new(id, Log::default(), Tuning::default()).ok();
            return;
        }
        if now >= self.seat(at).seats_at {
            self.seat(at).seats_at = now + ASK_SEAT;
            let addresses = cluster::command::Addresses::default();
            let _ = self.ask(&name, Change::Join { node: name.clone(), addresses, nonce });
        }
    }

    /// Does something with a member, whose patience comes from the seed.
    fn raft_with<T>(&mut self, at: At, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        let seed = self.store.group.as_ref().map_or(0, |g| g.seed);
        let seat = self.seat(at);
        let machine = seat.machine.as_mut()?;
        let done = act(machine);
        let election = Tuning::default().election;
        let mut chance = Rng::new(seed ^ (seat.id << 32) ^ machine.term());
        machine.set_patience(election + chance.below(election as u64) as usize);
        Some(done)
    }

    pub(crate) fn raft_hear(&mut self, at: At, message: Message) {
        let life = self.hosts[at].agent.life;
        if !self.raft_lives(at, life) || message.to != self.seat(at).id {
            return;
        }
        let seat = self.seat(at);
        seat.inbox.push_back(message);
        if seat.inbox.len() > INBOX_MAX {
            seat.inbox.pop_front();
        }
        if !self.raft_is_held(at) {
            self.raft_hear_all(at);
            self.raft_work(at, life);
        }
    }

    fn raft_hear_all(&mut self, at: At) {
        while let Some(message) = self.seat(at).inbox.pop_front() {
            self.raft_with(at, |m| m.step(&message));
        }
    }

    /// An agent submits, and waits.
    pub(crate) fn raft_submit(&mut self, at: At, life: u32, change: Change) {
        let command = self.command(at, change);
        self.raft_pass_on(at, life, command, true);
    }

    /// Proposes, and again until it is answered or given up: for the `agent`, or an operator.
    pub(crate) fn raft_pass_on(&mut self, at: At, life: u32, command: Command, agent: bool) {
        let now = self.now;
        if !self.raft_lives(at, life) {
            return;
        }
        let seat = self.seat(at);
        seat.number += 1;
        let number = seat.number;
        let Ok(bytes) = postcard::to_allocvec(&(own(at, life), number, command)) else { return };
        seat.waiting.insert(
            number,
            Waiting { agent, bytes: bytes.clone(), until: now + SUBMIT_LIMIT, again: now + REPEAT },
        );
        self.raft_propose(at, life, bytes);
    }

    fn command(&self, at: At, change: Change) -> Command {
        let host = &self.hosts[at];
        Command { at_ms: host.clock.wall_ms(self.now), by: host.name.clone(), change }
    }

    /// Somebody asks through whatever member can take it.
    pub(crate) fn raft_ask(&mut self, command: &Command) {
        let by = self.places.get(&command.by).copied();
        let can = |w: &mut World, at: At| w.seat(at).machine.is_some() && w.hosts[at].is_awake();
        let all = by.into_iter().chain(0..self.hosts.len());
        let Some(at) = all.into_iter().find(|at| can(self, *at)) else { return };
        let life = self.hosts[at].agent.life;
        self.after(0, What::RaftPassOn(at, life, Box::new(command.clone())));
    }

    fn raft_propose(&mut self, at: At, life: u32, bytes: Vec<u8>) {
        if self.raft_lives(at, life) && !self.raft_is_held(at) {
            // Without a leader it is dropped, and proposed again by whoever waits.
            self.raft_with(at, |m| drop(m.propose(bytes)));
            self.raft_work(at, life);
        }
    }

    /// A linearizable read.
    pub(crate) fn raft_read(&mut self, at: At, life: u32) {
        if !self.raft_lives(at, life) {
            return;
        }
        let now = self.now;
        let seat = self.seat(at);
        seat.number += 1;
        let number = seat.number;
        seat.reading.insert(
            number,
            Reading { began: now.max(1), at: None, until: now + READ_LIMIT, again: now + REPEAT },
        );
        if !self.raft_is_held(at) {
            self.raft_with(at, |m| m.read_index(number.to_le_bytes().to_vec()));
            self.raft_work(at, life);
        }
    }

    /// What went unanswered is asked again, or given up.
    fn raft_repeat(&mut self, at: At) {
        let (now, life) = (self.now, self.hosts[at].agent.life);
        let seat = self.seat(at);
        let over: Vec<u64> = seat.waiting.iter().filter(|(_, w)| now >= w.until).map(|(n, _)| *n).collect();
        let unanswered = over.iter().filter(|n| seat.waiting[n].agent).count();
        let unread: Vec<u64> = seat.reading.iter().filter(|(_, r)| now >= r.until).map(|(n, _)| *n).collect();
        seat.waiting.retain(|n, _| !over.contains(n));
        seat.reading.retain(|n, _| !unread.contains(n));
        let mut again = Vec::new();
        for w in seat.waiting.values_mut().filter(|w| now >= w.again) {
            w.again = now + REPEAT;
            again.push(w.bytes.clone());
        }
        let mut reads = Vec::new();
        for (n, r) in seat.reading.iter_mut().filter(|(_, r)| r.at.is_none() && now >= r.again) {
            r.again = now + REPEAT;
            reads.push(n.to_le_bytes().to_vec());
        }
        for bytes in again {
            self.raft_with(at, |m| drop(m.propose(bytes)));
        }
        for context in reads {
            self.raft_with(at, |m| m.read_index(context));
        }
        for _ in 0..unanswered {
            let lost = Event::Submitted(Err("the store did not answer in time".into()));
            self.after(0, What::Tell(at, life, Box::new(lost)));
        }
        for _ in unread {
            self.after(0, What::Read(at, life, 0, Term(0)));
        }
    }

    /// The group's leader keeps its voters in step with the members.
    fn raft_seats(&mut self, at: At) {
        let now = self.now;
        let seat = self.seat(at);
        let Some(machine) = seat.machine.as_ref().filter(|m| m.leads()) else { return };
        if now < seat.seats_at {
            return;
        }
        let all = machine.voters();
        let change =
            next_change(&seat.state, seat.id, &all.voters, &all.learners, |id| machine.is_caught_up(id));
        seat.seats_at = now + SEATS_EVERY;
        let Some(change) = change else { return };
        self.raft_with(at, |m| {
            let _ = match change {
                Voting::Learner(id) => m.change_voter(id, Some(true)),
                Voting::Voter(id) => m.change_voter(id, Some(false)),
                Voting::Remove(id) => m.change_voter(id, None),
                Voting::HandOver(id) => {
                    m.transfer_leader(id);
                    Ok(())
                }
            };
        });
    }

    /// Whoever leads the group stands still until then.
    pub(crate) fn raft_hold_leader(&mut self, until: Us) {
        let Some(group) = &mut self.store.group else { return };
        let leads = |s: &&mut Seat| s.machine.as_ref().is_some_and(Machine::leads);
        for seat in group.seats.iter_mut().filter(leads) {
            seat.held_until = until;
        }
    }

    /// Nobody is held any more.
    pub(crate) fn raft_calm(&mut self) {
        for seat in self.store.group.iter_mut().flat_map(|g| &mut g.seats) {
            seat.held_until = 0;
        }
    }
}

/// Which process proposed something.
fn own(at: At, life: u32) -> u64 {
    ((at as u64 + 1) << 32) | u64::from(life)
}
