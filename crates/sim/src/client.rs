//! Clients that remember what they were told.
//!
//! Each has one session and does one thing at a time: it writes something that
//! nobody else writes, or reads. A write whose connection is lost is ambiguous:
//! it may be there or not. One that was refused must never be seen.

use cluster::Term;

use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::mutation::Env;
use crate::network::At;
use crate::server::Process;
use crate::world::{What, World};

/// Longest that a client waits for an answer.
const PATIENCE: Us = ms(3000);

/// What a client knows of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet.
    Open,
    /// It is committed.
    Acked,
    /// It was refused before it could be done.
    Failed,
    /// The connection was lost.
    Ambiguous,
}

/// A write, and what really became of it.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// What its client was told.
    pub fate: Fate,
    /// Where it was executed.
    pub on: Option<At>,
    /// In which term the server that acknowledged it was promoted.
    pub term: Term,
    /// In which term the server that executed it was promoted.
    pub ran_in: Term,
    /// Its place in that log, counted behind it, and the record's number.
    pub place: (usize, u32),
    /// The transaction id it was given there.
    pub xid: u64,
    /// When it was acknowledged.
    pub acked_at: Us,
    /// Nobody was waited for, by a rule of async.
    pub leased: bool,
    /// An operator has accepted that it may be lost.
    pub forfeited: bool,
}

impl Write {
    fn new() -> Write {
        Write {
            fate: Fate::Open,
            on: None,
            term: Term(0),
            ran_in: Term(0),
            place: (0, 0),
            xid: 0,
            acked_at: 0,
            leased: false,
            forfeited: false,
        }
    }

    /// Its record is written.
    pub(crate) fn place(&mut self, on: At, ran_in: Term, place: (usize, u32), xid: u64) {
        (self.on, self.ran_in, self.place, self.xid) = (Some(on), ran_in, place, xid);
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is connected.
    pub target: At,
    /// The write it waits for.
    pub waits: Option<u32>,
    /// Counts its operations.
    pub number: u64,
    /// Longest pause between two of them.
    pub pause: Us,
}

impl World {
    /// A client's next operation.
    pub(crate) fn operate(&mut self, client: usize) {
        if !self.load || self.clients[client].waits.is_some() {
            return;
        }
        self.counts.operations += 1;
        self.clients[client].number += 1;
        let target = self.clients[client].target;
        let host = &self.hosts[target];
        let answers =
            host.up && !host.paused && host.server.is_primary() && host.server.works(Process::Backend);
        if !answers {
            // As a driver with several hosts: it tries the next one.
            self.clients[client].target = self.rng.below(self.hosts.len() as u64) as At;
            let pause = self.rng.range(ms(5), ms(60));
            return self.after(pause, What::Client(client));
        }
        if self.rng.chance(150) {
            self.judge(&Moment::Read { at: target });
            return self.next_operation(client);
        }
        let write = self.new_write();
        if !self.execute(target, write, client) {
            self.writes[write as usize].fate = Fate::Failed;
            return self.next_operation(client);
        }
        self.clients[client].waits = Some(write);
        let number = self.clients[client].number;
        self.after(PATIENCE, What::Patience(client, number));
    }

    /// A write that nobody has done yet.
    pub(crate) fn new_write(&mut self) -> u32 {
        self.writes.push(Write::new());
        (self.writes.len() - 1) as u32
    }

    fn next_operation(&mut self, client: usize) {
        let most = self.clients[client].pause;
        let pause = ms(1) + self.rng.below(most);
        self.after(pause, What::Client(client));
    }

    /// The server has said that the write is committed. A client on its host
    /// hears that at once, so from here on it counts.
    pub(crate) fn client_hears(&mut self, client: usize, write: u32) {
        let now = self.now;
        let w = &mut self.writes[write as usize];
        w.acked_at = now;
        if w.fate == Fate::Open || w.fate == Fate::Ambiguous {
            w.fate = Fate::Acked;
        }
        self.note(None, || format!("w{write} is acknowledged"));
        if self.clients.get(client).is_some_and(|c| c.waits == Some(write)) {
            self.clients[client].waits = None;
            self.next_operation(client);
        }
    }

    /// A client has waited for too long: it does not know.
    pub(crate) fn lose_patience(&mut self, client: usize, number: u64) {
        if self.clients[client].number == number && self.clients[client].waits.is_some() {
            self.disconnect(client);
        }
    }

    fn disconnect(&mut self, client: usize) {
        let Some(write) = self.clients[client].waits.take() else { return };
        let guesses = self.is(Env::FateGuessed);
        let w = &mut self.writes[write as usize];
        if w.fate == Fate::Open {
            w.fate = if guesses { Fate::Failed } else { Fate::Ambiguous };
        }
        if self.load {
            self.clients[client].target = self.rng.below(self.hosts.len() as u64) as At;
            self.next_operation(client);
        }
    }

    /// A server's connections are gone.
    pub(crate) fn clients_lose(&mut self, at: At) {
        for client in 0..self.clients.len() {
            if self.clients[client].target == at {
                self.disconnect(client);
            }
        }
    }

    /// So many clients, with pauses of up to `pause`.
    pub fn start_load(&mut self, count: usize, pause: Us) {
        self.load = true;
        for _ in 0..count {
            let target = self.rng.below(self.hosts.len() as u64) as At;
            self.clients.push(Client { target, waits: None, number: 0, pause });
            let first = self.rng.below(pause);
            self.after(first, What::Client(self.clients.len() - 1));
        }
    }
}
