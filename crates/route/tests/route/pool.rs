//! A few clients, sessions and model servers, and somebody who hands the bytes on in any order and in any pieces.

use std::sync::Arc;

use route::session::{Heard, Step, Taken};
use route::{Backend, Mode, Out, Rules, Session, Shelf};
use wire::frame::Header;
use wire::front;

use crate::server::{Server, Shared};

/// Turns in which nothing moved after which nothing will: a long message is taken in one of 24 or so.
const IDLE_MAX: usize = 1_000;

/// Any order, the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % n.max(1) as u64).expect("below n")
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub struct Client {
    pub session: Session,
    /// What it will send.
    pub script: Vec<u8>,
    pub sent: usize,
    /// Sent and not taken.
    pub waiting: Vec<u8>,
    pub heard: Vec<u8>,
    pub server: Option<usize>,
    wants: bool,
}

pub struct Linked {
    pub backend: Backend,
    pub server: Server,
    /// Said, and not taken.
    waiting: Vec<u8>,
    to_server: Vec<u8>,
    client: Option<usize>,
}

pub struct Pool {
    pub clients: Vec<Client>,
    pub servers: Vec<Linked>,
    shelf: Shelf,
    mode: Mode,
    /// Clients say nothing before they have the answer to what they said last, and answers come whole.
    pub patient: bool,
}

pub fn new_session(rules: Rules) -> Session {
    Session::new(rules, Arc::default(), Arc::new(Server::first_reports()))
}

pub fn new_backend() -> Backend {
    Backend::new(1, Server::first_reports(), 2)
}

impl Pool {
    pub fn new(rules: Rules, scripts: Vec<Vec<u8>>, servers: usize, database: &Shared) -> Pool {
        let client = |script| Client {
            session: new_session(rules),
            script,
            sent: 0,
            waiting: Vec::new(),
            heard: Vec::new(),
            server: None,
            wants: false,
        };
        let linked = || Linked {
            backend: new_backend(),
            server: Server::new(database),
            waiting: Vec::new(),
            to_server: Vec::new(),
            client: None,
        };
        Pool {
            clients: scripts.into_iter().map(client).collect(),
            servers: (0..servers).map(|_| linked()).collect(),
            shelf: Shelf::new(0, 1),
            mode: rules.mode,
            patient: false,
        }
    }

    /// Runs until all is said and heard; `Err` says what stands still.
    pub fn run(&mut self, dice: &mut Dice) -> Result<(), String> {
        let mut idle = 0;
        while idle < IDLE_MAX {
            let moved = match dice.below(4) {
                0 => self.client_sends(dice),
                1 => self.front(dice)?,
                2 => self.server_works(dice),
                _ => self.back(dice)?,
            };
            idle = if moved { 0 } else { idle + 1 };
        }
        let left = |c: &Client| c.sent < c.script.len() || !c.waiting.is_empty() || !c.session.is_between();
        match self.clients.iter().position(left) {
            None => Ok(()),
            Some(i) => Err(format!("client {i} stands still: {:?}", self.clients[i].session)),
        }
    }

    fn client_sends(&mut self, dice: &mut Dice) -> bool {
        let i = dice.below(self.clients.len());
        let c = &mut self.clients[i];
        let left = &c.script[c.sent..];
        let n = match self.patient {
            true if !c.waiting.is_empty() => 0,
            true => first_request(left, c.session.is_busy()),
            false if dice.one_in(2) => left.len(),
            false => left.len().min(dice.below(60) + 1),
        };
        c.waiting.extend_from_slice(&c.script[c.sent..c.sent + n]);
        c.sent += n;
        n > 0
    }

    fn link(&mut self, i: usize, out: &mut Out) -> bool {
        let c = &mut self.clients[i];
        c.wants = c.server.is_none();
        let Some(s) = self.servers.iter().position(|s| s.client.is_none() && s.backend.clean) else {
            return false;
        };
        c.wants = false;
        c.server = Some(s);
        self.servers[s].client = Some(i);
        c.session.attach(&mut self.servers[s].backend, out);
        self.hand_on(i, &[], out);
        true
    }

    fn hand_on(&mut self, i: usize, came_in: &[u8], out: &mut Out) {
        let c = &mut self.clients[i];
        out.to_client.slices(came_in).for_each(|bytes| c.heard.extend_from_slice(bytes));
        let server = c.server;
        for bytes in out.to_server.slices(came_in) {
            let s = server.expect("bytes for a server that is there");
            self.servers[s].to_server.extend_from_slice(bytes);
        }
        out.clear();
    }

    fn front(&mut self, dice: &mut Dice) -> Result<bool, String> {
        let i = dice.below(self.clients.len());
        let mut out = Out::default();
        if self.clients[i].wants && !self.link(i, &mut out) {
            return Ok(false);
        }
        let c = &mut self.clients[i];
        let came_in = c.waiting.clone();
        let asks = c.server.is_none() && c.session.asks_for_server(&came_in);
        let backend = c.server.map(|s| &mut self.servers[s].backend);
        let taken = c.session.front(&mut self.shelf, backend, &came_in, &mut out);
        let links = taken == Taken { bytes: 0, step: Step::Link } && out.to_client.is_empty();
        assert!(links || !asks, "it would get a server without need: {taken:?}");
        c.waiting.drain(..taken.bytes);
        let moved = taken.bytes > 0 || !out.to_client.is_empty();
        self.hand_on(i, &came_in, &mut out);
        match taken.step {
            Step::Link => return Ok(self.link(i, &mut out) || moved),
            Step::End => return Err(format!("client {i} was ended")),
            Step::More | Step::Wait | Step::Whole(_) => {}
        }
        self.release(i);
        Ok(moved)
    }

    fn server_works(&mut self, dice: &mut Dice) -> bool {
        let i = dice.below(self.servers.len());
        let s = &mut self.servers[i];
        let all = self.patient || dice.one_in(2);
        let n = if all { s.to_server.len() } else { dice.below(40) + 1 }.min(s.to_server.len());
        let bytes: Vec<u8> = s.to_server.drain(..n).collect();
        s.server.take(&bytes);
        let said = s.server.sent();
        s.waiting.extend_from_slice(&said);
        n > 0
    }

    fn back(&mut self, dice: &mut Dice) -> Result<bool, String> {
        let i = dice.below(self.servers.len());
        let s = &mut self.servers[i];
        let all = self.patient || dice.one_in(2);
        let n = if all { s.waiting.len() } else { dice.below(40) + 1 }.min(s.waiting.len());
        let Some(client) = s.client else { return Ok(false) };
        let came_in = s.waiting[..n].to_vec();
        let mut out = Out::default();
        let (used, heard) = self.clients[client].session.back(&mut s.backend, &came_in, &mut out);
        s.waiting.drain(..used);
        self.hand_on(client, &came_in, &mut out);
        match heard {
            Heard::More | Heard::Whole(_) => {}
            Heard::Fatal(_) | Heard::Broken | Heard::Unfit | Heard::End => {
                return Err(format!("client {client}: {heard:?}, {:?}", self.clients[client].session));
            }
        }
        self.release(client);
        Ok(used > 0)
    }

    fn release(&mut self, i: usize) {
        let c = &mut self.clients[i];
        let Some(s) = c.server.filter(|_| c.session.is_free() && self.mode != Mode::Session) else { return };
        let linked = &mut self.servers[s];
        assert!(linked.waiting.is_empty(), "it was given back with answers under way");
        // What came after a COPY had failed means nothing to the server either.
        let nothing = |(tag, _): &(char, Vec<u8>)| matches!(tag, 'd' | 'c' | 'f' | 'H');
        let left = crate::words::messages(&linked.to_server);
        assert!(left.iter().all(nothing), "it was given back with requests under way: {left:?}");
        assert!(linked.backend.clean, "it was given back unclean");
        assert!(linked.server.temps.is_empty(), "it was given back with {:?}", linked.server.temps);
        linked.client = None;
        c.server = None;
    }
}

/// Bytes up to the end of the first request; nothing while it is busy, but for what a COPY needs, and its Sync.
fn first_request(script: &[u8], busy: bool) -> usize {
    let mut n = 0;
    while let Ok(Some(header)) = Header::read(&script[n..]) {
        let goes_on =
            matches!(header.tag, front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL | front::SYNC);
        if busy && !goes_on {
            return n;
        }
        n += usize::try_from(header.bytes()).expect("small");
        if matches!(header.tag, front::QUERY | front::SYNC) {
            return n;
        }
    }
    n
}

/// What a client hears that talks to a server of its own.
pub fn directly(script: &[u8], database: &Shared) -> Vec<u8> {
    let mut server = Server::new(database);
    server.take(script);
    server.output
}
