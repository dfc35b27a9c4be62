//! The thread that owns one member of the group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::seats::{Change, next_change};
use cluster::{ClusterState, Command, NodeId};
use consensus::{Committed, Machine, Message};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{FOLD_ENTRIES, Outgoing, TICK};
use crate::disk::{Disk, Identity, Step};
use crate::{Ask, Health, READ_LIMIT, REPEAT, SUBMIT_LIMIT, SubmitError};

/// Between two tries of a disk that would not write.
const DISK_AGAIN: Duration = Duration::from_millis(200);
/// Voters are compared with members this often.
const SEATS_EVERY: Duration = Duration::from_millis(200);

/// A command on its way through the log.
#[derive(Serialize, Deserialize)]
struct Proposal {
    boot: u64,
    number: u64,
    command: Command,
}

enum Input {
    Message(NodeId, Bytes),
    Ask(Ask),
}

/// Where messages from other nodes' stores go in.
#[derive(Clone)]
pub struct Wire(Sender<Input>);

impl Wire {
    /// A message from the store of `from`.
    pub fn deliver(&self, from: NodeId, body: Bytes) {
        // A closed channel means that the store ended; so does the agent then.
        let _ = self.0.send(Input::Message(from, body));
    }
}

pub(super) struct Parts {
    pub identity: Identity,
    pub machine: Machine,
    pub disk: Disk,
    pub asks: mpsc::UnboundedReceiver<Ask>,
    pub state: watch::Sender<Arc<ClusterState>>,
    pub health: watch::Sender<Health>,
    pub out: mpsc::UnboundedSender<Outgoing>,
}

type Answer = oneshot::Sender<Result<Arc<ClusterState>, SubmitError>>;

struct Waiting {
    bytes: Vec<u8>,
    answer: Answer,
    until: Instant,
    again: Instant,
}

struct Reading {
    answer: oneshot::Sender<Arc<ClusterState>>,
    at: Option<u64>,
    until: Instant,
    again: Instant,
}

struct Member {
    identity: Identity,
    machine: Machine,
    disk: Disk,
    state: watch::Sender<Arc<ClusterState>>,
    health: watch::Sender<Health>,
    out: mpsc::UnboundedSender<Outgoing>,
    addresses: HashMap<u64, NodeId>,
    boot: u64,
    number: u64,
    waiting: BTreeMap<u64, Waiting>,
    reading: BTreeMap<u64, Reading>,
    applied: u64,
    fold_now: bool,
    seats_at: Instant,
}

/// Starts the thread. It ends when every handle is gone.
pub(super) fn spawn(parts: Parts) -> Wire {
    let (tx, rx) = channel();
    let Parts { identity, machine, disk, mut asks, state, health, out } = parts;
    let forward = tx.clone();
    tokio::spawn(async move {
        while let Some(ask) = asks.recv().await {
            if forward.send(Input::Ask(ask)).is_err() {
                return;
            }
        }
    });
    let mut member = Member {
        identity,
        machine,
        disk,
        state,
        health,
        out,
        addresses: HashMap::new(),
        boot: std::process::id().into(),
        number: 0,
        waiting: BTreeMap::new(),
        reading: BTreeMap::new(),
        applied: 0,
        fold_now: false,
        seats_at: Instant::now(),
    };
    member.boot = (member.boot << 40) ^ unix_nanos();
    let spawned = std::thread::Builder::new().name("store".into()).spawn(move || member.run(&rx));
    spawned.expect("a process that can't start a thread can't run an agent");
    Wire(tx)
}

fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
}

impl Member {
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut ticked = Instant::now();
        if self.machine.voters().voters == [self.identity.raft_id] {
            self.machine.campaign();
        }
        loop {
            let rest = TICK.saturating_sub(ticked.elapsed());
            match inputs.recv_timeout(rest) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.machine.tick();
                self.repeat();
                self.seats();
            }
            self.work();
            if self.state.is_closed() && self.out.is_closed() {
                return;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message(from, body) => {
                if let Ok(message) = postcard::from_bytes::<Message>(&body) {
                    self.addresses.insert(message.from, from);
                    if message.to == self.identity.raft_id {
                        self.machine.step(&message);
                    }
                }
            }
            Input::Ask(Ask::Submit(command, answer)) => self.submit(*command, answer),
            Input::Ask(Ask::Read(answer)) => self.read(answer),
        }
    }

    fn submit(&mut self, command: Command, answer: Answer) {
        self.number += 1;
        let (boot, number, now) = (self.boot, self.number, Instant::now());
        let Ok(bytes) = postcard::to_allocvec(&Proposal { boot, number, command }) else { return };
        // Without a leader it is dropped, and proposed again.
        let _ = self.machine.propose(bytes.clone());
        self.waiting
            .insert(number, Waiting { bytes, answer, until: now + SUBMIT_LIMIT, again: now + REPEAT });
    }

    fn read(&mut self, answer: oneshot::Sender<Arc<ClusterState>>) {
        self.number += 1;
        let now = Instant::now();
        self.machine.read_index(self.number.to_le_bytes().to_vec());
        let reading = Reading { answer, at: None, until: now + READ_LIMIT, again: now + REPEAT };
        self.reading.insert(self.number, reading);
    }

    /// What went unanswered is asked again, or given up.
    fn repeat(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|_, w| now < w.until);
        self.reading.retain(|_, r| now < r.until);
        for w in self.waiting.values_mut().filter(|w| now >= w.again) {
            w.again = now + REPEAT;
            let _ = self.machine.propose(w.bytes.clone());
        }
        for (number, r) in self.reading.iter_mut().filter(|(_, r)| r.at.is_none() && now >= r.again) {
            r.again = now + REPEAT;
            self.machine.read_index(number.to_le_bytes().to_vec());
        }
    }

    /// The group's leader keeps its voters in step with the members.
    fn seats(&mut self) {
        if !self.machine.leads() || self.seats_at.elapsed() < SEATS_EVERY {
            return;
        }
        self.seats_at = Instant::now();
        let state = self.state.borrow().clone();
        let all = self.machine.voters();
        let own = self.identity.raft_id;
        let change = next_change(&state, own, &all.voters, &all.learners, |id| self.machine.is_caught_up(id));
        let asked = match change {
            Some(Change::Learner(id)) => self.machine.change_voter(id, Some(true)),
            Some(Change::Voter(id)) => self.machine.change_voter(id, Some(false)),
            Some(Change::Remove(id)) => self.machine.change_voter(id, None),
            Some(Change::HandOver(id)) => {
                self.machine.transfer_leader(id);
                Ok(())
            }
            None => Ok(()),
        };
        if let Err(why) = asked {
            tracing::debug!(?change, why = %why.0, "voters stay as they are for now");
        }
    }

    /// Everything that is ready: write, then speak, then apply.
    fn work(&mut self) {
        while let Some(work) = self.machine.work() {
            self.send(&work.now);
            let hard = work.hard;
            let began = Instant::now();
            let step = Step {
                snapshot: work.snapshot.as_ref(),
                entries: &work.entries,
                hard: hard.as_ref(),
                voters: work.snapshot.as_ref().map(|s| &s.voters),
            };
            self.write(&step);
            if let Some(snapshot) = &work.snapshot {
                self.applied = snapshot.index;
                self.state.send_replace(Arc::new(postcard::from_bytes(&snapshot.data).unwrap_or_default()));
            }
            self.apply(&work.committed);
            for (context, index) in work.reads {
                let number = context.try_into().map(u64::from_le_bytes).unwrap_or_default();
                if let Some(r) = self.reading.get_mut(&number) {
                    r.at = Some(index);
                }
            }
            let rest = self.machine.finish();
            self.send(&rest.messages);
            self.apply(&rest.committed);
            self.answer_reads();
            self.fold();
            self.tell_health(began.elapsed());
        }
        self.tell_leader();
    }

    /// Blocks until it is written: a member that can't write says nothing.
    fn write(&mut self, step: &Step<'_>) {
        if step.is_empty() {
            return;
        }
        while let Err(why) = self.disk.write(step) {
            tracing::error!(%why, "TAN0205: the store can't write; this node neither votes nor agrees until it can");
            self.health.send_modify(|h| h.trouble = Some(why));
            std::thread::sleep(DISK_AGAIN);
        }
    }

    fn send(&mut self, messages: &[Message]) {
        for m in messages {
            let state = self.state.borrow().clone();
            let known = state.members.iter().find(|(_, r)| r.raft_id == m.to).map(|(n, _)| n.clone());
            let Some(to) = known.or_else(|| self.addresses.get(&m.to).cloned()) else { continue };
            let Ok(bytes) = postcard::to_allocvec(m) else { continue };
            let _ = self.out.send(Outgoing { to, body: bytes.into() });
            if m.kind == raft_snapshot() {
                self.machine.report_snapshot_sent(m.to);
            }
        }
    }

    fn apply(&mut self, committed: &[Committed]) {
        let before = self.state.borrow().clone();
        let mut state = before.clone();
        let done = self.applied;
        for c in committed.iter().filter(|c| c.index > done) {
            self.applied = c.index;
            if let Some(voters) = &c.voters {
                let step = Step { voters: Some(voters), ..Step::default() };
                self.write(&step);
                // Whoever joins takes only a snapshot that names it.
                self.fold_now = true;
            }
            let Ok(p) = postcard::from_bytes::<Proposal>(&c.data) else { continue };
            let judged = state.apply(&p.command).map(Arc::new);
            if let Ok(next) = &judged {
                state = next.clone();
            }
            let mine = (p.boot == self.boot).then(|| self.waiting.remove(&p.number)).flatten();
            if let Some(w) = mine {
                let _ = w.answer.send(judged.map_err(SubmitError::Refused));
            }
        }
        if state != before {
            self.state.send_replace(state);
        }
    }

    fn answer_reads(&mut self) {
        let applied = self.applied;
        let due: Vec<u64> = self
            .reading
            .iter()
            .filter(|(_, r)| r.at.is_some_and(|at| at <= applied))
            .map(|(n, _)| *n)
            .collect();
        for number in due {
            if let Some(r) = self.reading.remove(&number) {
                let _ = r.answer.send(self.state.borrow().clone());
            }
        }
    }

    /// Folds a long log into a snapshot.
    fn fold(&mut self) {
        if self.machine.log_length() < FOLD_ENTRIES && !self.fold_now {
            return;
        }
        self.fold_now = false;
        let Ok(data) = postcard::to_allocvec(&**self.state.borrow()) else { return };
        let snapshot = self.machine.compact(self.applied, data);
        self.write(&Step { snapshot: Some(&snapshot), ..Step::default() });
    }

    fn tell_health(&mut self, took: Duration) {
        let write_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // How long the last write took is no news to whoever waits for some.
        self.health.send_if_modified(|h| {
            let healed = h.trouble.is_some();
            (h.write_us, h.trouble) = (write_us, None);
            healed
        });
    }

    fn tell_leader(&mut self) {
        let (leader, term, applied) = (self.machine.leader(), self.machine.term(), self.applied);
        let voters = self.machine.voters().voters.clone();
        self.health.send_if_modified(|h| {
            let changed = (h.leader, h.term, h.applied) != (leader, term, applied) || h.voters != voters;
            (h.leader, h.term, h.applied, h.voters) = (leader, term, applied, voters);
            changed
        });
    }
}

/// The library's number of a snapshot message (MsgSnapshot in eraftpb).
fn raft_snapshot() -> i32 {
    7
}
