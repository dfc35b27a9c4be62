//! The server's end of a connection: PostgreSQL's messages in, what it says out, with its
//! transactions on the model's log.
//!
//! It answers one message before it reads the next, and what it has said is sent with
//! `ReadyForQuery`. A commit waits for its own disk and the standbys like any other of that
//! server; while it does nothing more is read.

use std::collections::{BTreeMap, VecDeque};

use wire::back::{self, Transaction, Words};
use wire::frame::{HEADER_BYTES, Header, cstr};
use wire::front::{self, BindNames, Object, Parse};

use crate::client::Fate;
use crate::clock::ms;
use crate::mutation::Env;
use crate::network::At;
use crate::point::Point;
use crate::server::{Process, Waiter};
use crate::wal::Step;
use crate::world::{What, World};

use super::Due;
use super::conn::Down;
use super::language::{Failure, argument, split};

/// How far a transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Block {
    #[default]
    None,
    Implicit,
    Open,
    Failed,
}

/// What goes on once a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Commits {
    #[default]
    No,
    /// The rest of a query.
    Query,
    /// The rest of a batch.
    Batch,
    /// The answer to a Sync.
    Sync,
}

/// What a statement has come to.
pub(super) enum Done {
    /// It is complete, with that tag.
    Tag(&'static str),
    /// It ends a transaction that commits.
    Commits,
}

/// One process.
#[derive(Debug, Default)]
pub struct Backend {
    /// Come in, and not looked at.
    pub(super) input: Vec<u8>,
    /// The other end is closed.
    pub(super) hung_up: bool,
    pub(super) block: Block,
    /// The number of its transaction, and the write that it commits.
    pub(super) xid: Option<(u64, u32)>,
    pub(super) output: Vec<u8>,
    statements: BTreeMap<Vec<u8>, String>,
    portals: BTreeMap<Vec<u8>, String>,
    skips: bool,
    rest: VecDeque<String>,
    tag: &'static str,
    commits: Commits,
    /// A cancel has come that nobody has looked at.
    cancelled: bool,
    /// What was just done for which faults may wait.
    pub(super) point: Option<&'static str>,
}

impl Backend {
    /// Whether it waits for a commit to be acknowledged.
    pub(super) fn waits(&self) -> bool {
        self.commits != Commits::No
    }

    fn fails(&mut self, why: &Failure) {
        Words::error(why.0, &why.1).put(&mut self.output);
        self.block =
            if matches!(self.block, Block::Open | Block::Failed) { Block::Failed } else { Block::None };
        self.xid = None;
        self.portals.clear();
        self.rest.clear();
    }

    fn state(&self) -> Transaction {
        match self.block {
            Block::None | Block::Implicit => Transaction::Idle,
            Block::Open => Transaction::Open,
            Block::Failed => Transaction::Failed,
        }
    }

    pub(super) fn starts(&mut self) {
        if self.block == Block::None {
            self.block = Block::Implicit;
        }
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let header = Header::read(&self.input).ok().flatten()?;
        let body = header.body(&self.input)?.to_vec();
        self.input.drain(..HEADER_BYTES + body.len());
        Some((header.tag, body))
    }
}

impl World {
    /// Works on what has come in, as far as it can.
    pub(super) fn work(&mut self, id: u64) {
        loop {
            let Some(conn) = self.front.conns.get(&id).filter(|c| !c.ended) else { return };
            let at = conn.at;
            let host = &self.hosts[at];
            if conn.backend.waits() {
                return;
            }
            if host.paused || !host.server.works(Process::Backend) {
                return self.after(ms(50), What::Front(Box::new(Due::Work(id))));
            }
            let Some(conn) = self.front.conns.get_mut(&id) else { return };
            let mut backend = std::mem::take(&mut conn.backend);
            let taken = backend.message();
            let over = taken.is_none();
            if let Some((tag, body)) = taken {
                self.on_message(id, at, &mut backend, tag, &body);
            }
            let over_now = over && backend.hung_up;
            let Some(conn) = self.front.conns.get_mut(&id) else { return };
            let point = backend.point.take();
            conn.backend = backend;
            if let Some(what) = point {
                self.reach(Point { what, step: 0 }, at);
            }
            if over_now {
                self.end_backend(id, false);
            }
            if over {
                return;
            }
        }
    }

    fn on_message(&mut self, id: u64, at: At, b: &mut Backend, tag: u8, body: &[u8]) {
        if b.skips && tag != front::SYNC {
            return;
        }
        b.cancelled = false;
        let done = match tag {
            front::QUERY => {
                b.statements.remove(b"".as_slice());
                b.rest = split(cstr(body).map_or(b"", |(text, _)| text));
                return self.query_on(id, at, b);
            }
            front::FUNCTION_CALL => return self.call(id, b),
            front::SYNC => {
                b.skips = false;
                if b.block == Block::Implicit && self.commit_block(id, at, b) {
                    b.commits = Commits::Sync;
                    return;
                }
                return self.say_ready(id, b);
            }
            front::PARSE => parse(b, body),
            front::BIND => bind(b, body),
            front::DESCRIBE => describe(b, body),
            front::EXECUTE => self.execute_portal(id, at, b, body),
            front::CLOSE => {
                if let Some(Object::Statement(name)) = Object::read(body) {
                    b.statements.remove(name);
                }
                back::bare(&mut b.output, back::CLOSE_COMPLETE);
                Ok(())
            }
            front::TERMINATE => {
                b.hung_up = true;
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(why) = done {
            b.fails(&why);
            b.skips = true;
        }
    }

    fn say_ready(&mut self, id: u64, b: &mut Backend) {
        let state = b.state();
        back::ready(&mut b.output, state);
        let said = std::mem::take(&mut b.output);
        self.send_down(id, Down::Bytes(said));
    }

    /// Runs what is left of a query.
    fn query_on(&mut self, id: u64, at: At, b: &mut Backend) {
        while let Some(text) = b.rest.pop_front() {
            b.starts();
            let last = b.rest.is_empty();
            let done = match self.run_text(at, id, b, &text) {
                Err(why) => {
                    b.fails(&why);
                    break;
                }
                Ok(done) => done,
            };
            let (tag, commits) = match done {
                Done::Tag(tag) => (tag, last && b.block == Block::Implicit),
                Done::Commits => ("COMMIT", true),
            };
            if commits && self.commit_block(id, at, b) {
                (b.tag, b.commits) = (tag, Commits::Query);
                return;
            }
            back::command_complete(&mut b.output, tag.as_bytes());
        }
        self.say_ready(id, b);
    }

    fn call(&mut self, id: u64, b: &mut Backend) {
        if b.block == Block::Failed {
            b.fails(&("25P02", "current transaction is aborted".into()));
        } else {
            let text = b.xid.map(|(xid, _)| xid.to_string());
            wire::put::message(&mut b.output, back::FUNCTION_RESULT, |to| match &text {
                Some(text) => {
                    to.extend(i32::try_from(text.len()).unwrap_or(0).to_be_bytes());
                    to.extend_from_slice(text.as_bytes());
                }
                None => to.extend((-1_i32).to_be_bytes()),
            });
        }
        self.say_ready(id, b);
    }

    fn execute_portal(&mut self, id: u64, at: At, b: &mut Backend, body: &[u8]) -> Result<(), Failure> {
        let (name, _) = front::execute_of(body).unwrap_or_default();
        b.starts();
        let Some(text) = b.portals.get(name).cloned() else {
            return Err(("34000", "portal does not exist".into()));
        };
        match self.run_text(at, id, b, &text)? {
            Done::Tag(tag) => back::command_complete(&mut b.output, tag.as_bytes()),
            Done::Commits if self.commit_block(id, at, b) => (b.tag, b.commits) = ("COMMIT", Commits::Batch),
            Done::Commits => back::command_complete(&mut b.output, b"COMMIT"),
        }
        Ok(())
    }

    /// Its transaction commits; whether that has to be waited for.
    fn commit_block(&mut self, id: u64, at: At, b: &mut Backend) -> bool {
        b.block = Block::None;
        b.portals.clear();
        let Some((xid, write)) = b.xid else { return false };
        self.next_record += 1;
        let record = self.next_record;
        let s = &mut self.hosts[at].server;
        s.wal.append_step(record, Some(write), Step::Commits);
        let count = s.wal.records.len();
        s.flushing.push_back(Waiter { count, write, client: usize::MAX, conn: Some(id) });
        let ran_in = self.hosts[at].ghost.leads;
        self.writes[write as usize].place(at, ran_in, (count, record), xid);
        self.sync(at);
        self.judge_commit(at, write);
        b.point = Some("front-commit");
        true
    }

    /// Its commit is acknowledged, or the wait for that was cut short.
    pub(crate) fn released(&mut self, id: u64, write: u32, cut_short: bool) {
        let Some(conn) = self.front.conns.get_mut(&id).filter(|c| !c.ended) else { return };
        let at = conn.at;
        let mut b = std::mem::take(&mut conn.backend);
        b.xid = None;
        if cut_short {
            self.mark("front: a commit's wait was cut short");
            if let Some(op) = self.front.op_of.get(&write) {
                self.front.ops[*op].cut_short = true;
            }
        }
        if cut_short && !self.is(Env::NoticeLost) {
            wire::put::message(&mut b.output, back::NOTICE, |to| {
                for (key, text) in
                    [(b'S', "WARNING"), (b'V', "WARNING"), (b'C', "01000"), (b'R', "SyncRepWaitForLSN")]
                {
                    to.push(key);
                    wire::put::cstr(to, text.as_bytes());
                }
                to.push(0);
            });
        } else {
            self.writes[write as usize].fate = Fate::Acked;
        }
        match std::mem::take(&mut b.commits) {
            Commits::No => {}
            Commits::Sync => self.say_ready(id, &mut b),
            Commits::Batch => back::command_complete(&mut b.output, b.tag.as_bytes()),
            Commits::Query => {
                back::command_complete(&mut b.output, b.tag.as_bytes());
                self.query_on(id, at, &mut b);
            }
        }
        b.point = Some("front-answer");
        if let Some(conn) = self.front.conns.get_mut(&id) {
            conn.backend = b;
        }
        self.after(0, What::Front(Box::new(Due::Work(id))));
    }

    /// A cancel arrives: a wait for the standbys is cut short; whoever does anything else is done already.
    pub(super) fn cancel_backend(&mut self, id: u64) {
        let delay = self.front_delay();
        self.after(delay, What::Front(Box::new(Due::CancelDone(id))));
        self.cut_wait(id);
    }

    /// Ends the wait of that backend for its standbys, if it has come so far; if it waits for its own disk, then.
    pub(super) fn cut_wait(&mut self, id: u64) {
        let Some(conn) = self.front.conns.get_mut(&id).filter(|c| !c.ended && c.backend.waits()) else {
            return;
        };
        let at = conn.at;
        conn.backend.cancelled = true;
        self.cut_cancelled(at);
    }

    /// Those that were cancelled before their wait began do not wait.
    pub(crate) fn cut_cancelled(&mut self, at: At) {
        let cancelled = |w: &Waiter| {
            let conn = w.conn.and_then(|id| self.front.conns.get(&id));
            conn.is_some_and(|c| c.backend.cancelled)
        };
        let cut: Vec<Waiter> =
            self.hosts[at].server.waiting.iter().filter(|w| cancelled(w)).copied().collect();
        for waiter in cut {
            self.hosts[at].server.waiting.retain(|w| w.conn != waiter.conn);
            if let Some(id) = waiter.conn {
                self.released(id, waiter.write, true);
            }
        }
    }

    /// Everybody's wait at a server is cut short, as `pg_cancel_backend` does.
    pub fn cancel_waits(&mut self, at: At) {
        let ids: Vec<u64> = self.front.conns.iter().filter(|(_, c)| c.at == at).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.cut_wait(id));
    }

    /// All backends of a server end: with their postmaster, or told to, which those that wait in a commit do
    /// without a word.
    pub(crate) fn end_backends(&mut self, at: At, told: bool) {
        let ids: Vec<u64> = self.front.conns.iter().filter(|(_, c)| c.at == at).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.end_backend(id, told));
    }

    /// One ends, and its transaction with it.
    pub(super) fn end_backend(&mut self, id: u64, told: bool) {
        let Some(conn) = self.front.conns.get_mut(&id).filter(|c| !c.ended) else { return };
        conn.ended = true;
        let at = conn.at;
        let mut b = std::mem::take(&mut conn.backend);
        if let Some((_, write)) = b.xid.take()
            && self.writes[write as usize].fate == Fate::Open
        {
            self.writes[write as usize].fate = Fate::Ambiguous;
        }
        if !self.hosts[at].up || !conn.open {
            return self.forget_conn(id);
        }
        if told && !b.waits() {
            Words::fatal("57P01", "terminating connection due to administrator command").put(&mut b.output);
            let said = std::mem::take(&mut b.output);
            self.send_down(id, Down::Bytes(said));
        }
        let end = if b.input.is_empty() { Down::Fin } else { Down::Reset };
        self.send_down(id, end);
        self.forget_conn(id);
    }
}

fn parse(b: &mut Backend, body: &[u8]) -> Result<(), Failure> {
    let Some(parse) = Parse::read(body) else { return Err(("08P01", "no Parse".into())) };
    b.starts();
    if b.block == Block::Failed {
        return Err(("25P02", "current transaction is aborted".into()));
    }
    if !parse.name.is_empty() && b.statements.contains_key(parse.name) {
        return Err(("42P05", "prepared statement already exists".into()));
    }
    b.statements.insert(parse.name.to_vec(), String::from_utf8_lossy(parse.text).into_owned());
    back::bare(&mut b.output, back::PARSE_COMPLETE);
    Ok(())
}

fn bind(b: &mut Backend, body: &[u8]) -> Result<(), Failure> {
    let Some(names) = BindNames::read(body) else { return Err(("08P01", "no Bind".into())) };
    b.starts();
    let Some(text) = b.statements.get(names.statement) else {
        return Err(("26000", "prepared statement does not exist".into()));
    };
    if b.block == Block::Failed {
        return Err(("25P02", "current transaction is aborted".into()));
    }
    let text =
        argument(&body[names.bytes..]).map_or_else(|| text.clone(), |value| text.replace("$1", &value));
    b.portals.insert(names.portal.to_vec(), text);
    back::bare(&mut b.output, back::BIND_COMPLETE);
    Ok(())
}

fn describe(b: &mut Backend, body: &[u8]) -> Result<(), Failure> {
    if let Some(Object::Statement(_)) = Object::read(body) {
        wire::put::message(&mut b.output, back::PARAMETER_DESCRIPTION, |to| to.extend([0, 0]));
    }
    back::bare(&mut b.output, back::NO_DATA);
    Ok(())
}
