//! An application: one session at a proxy, one operation at a time, and it remembers what
//! it was told.

use std::sync::Arc;

use cluster::Durability;
use route::Session;
use wire::back::{self, Transaction, Words};
use wire::frame::{HEADER_BYTES, Header};
use wire::front;

use crate::clock::{Us, ms};
use crate::world::{What, World};

use super::Due;
use super::pool::Who;
use super::settle::Settling;
use super::told::{Loss, Op, Told};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One INSERT, as a simple query.
    Single,
    /// One INSERT by a statement that is prepared once.
    Prepared,
    /// BEGIN, INSERT, COMMIT.
    Block,
    /// The same in one batch.
    AtOnce,
    /// BEGIN, INSERT, ROLLBACK.
    Undone,
    /// A SELECT.
    Read,
}

/// One.
#[derive(Debug)]
pub struct App {
    /// Whose client it is.
    pub proxy: usize,
    /// What the proxy knows of it.
    pub session: Session,
    /// Sent, and not taken by the proxy.
    pub(super) input: Vec<u8>,
    /// The server that it has.
    pub(super) conn: Option<u64>,
    /// That has not been sent anything of its yet.
    pub(super) fresh: bool,
    /// It waits for one, since then.
    pub(super) waits_since: Option<Us>,
    /// The fate of its transaction is being asked for.
    pub(super) settling: Option<Settling>,
    /// The proxy has closed it.
    pub closed: bool,
    /// Said to it, and not read.
    pub(super) heard: Vec<u8>,
    /// How its server was last lost.
    pub(super) loss: Loss,
    /// What it does now.
    pub op: Option<usize>,
    kind: Kind,
    step: usize,
    /// Answers that are owed to it.
    owed: u32,
    /// What its block has failed with.
    failed: Option<String>,
    prepared: bool,
    /// Counts its operations and their steps.
    number: u64,
    /// Longest pause between two of them; none for one that a story moves.
    pause: Option<Us>,
    /// When it was last told that a write is done.
    pub done_at: Us,
}

impl App {
    /// The number of its operation's present step.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Longest pause between two operations; none for one that a story moves.
    #[must_use]
    pub fn pause(&self) -> Option<Us> {
        self.pause
    }

    /// What it waits for, in words.
    #[must_use]
    pub fn waits_for(&self) -> String {
        format!(
            "in the queue since {:?}, settling {:?}, connection {:?}, sent and not taken {} bytes, {:?}",
            self.waits_since,
            self.settling,
            self.conn,
            self.input.len(),
            self.session
        )
    }
}

impl World {
    /// So many applications, shared out among the proxies, with pauses of up to `pause`.
    pub fn start_apps(&mut self, count: usize, pause: Us) {
        self.load = true;
        for i in 0..count {
            let app = self.add_app(i % self.front.proxies.len(), Some(pause));
            let first = self.front_span(0, pause);
            self.after(first, What::Front(Box::new(Due::App(app, 0))));
        }
    }

    /// One more application.
    pub fn add_app(&mut self, proxy: usize, pause: Option<Us>) -> usize {
        let app = self.new_app(proxy, pause);
        self.front.apps.push(app);
        self.front.apps.len() - 1
    }

    fn new_app(&self, proxy: usize, pause: Option<Us>) -> App {
        let reported = [("in_hot_standby", "off"), ("server_version", "18")];
        let reported = Arc::new(reported.map(|(n, v)| (n.to_string(), v.to_string())).into());
        App {
            proxy,
            session: Session::new(self.front.proxies[proxy].rules, Arc::default(), reported),
            input: Vec::new(),
            conn: None,
            fresh: false,
            waits_since: None,
            settling: None,
            closed: false,
            heard: Vec::new(),
            loss: Loss::default(),
            op: None,
            kind: Kind::Read,
            step: 0,
            owed: 0,
            failed: None,
            prepared: false,
            number: 0,
            pause,
            done_at: 0,
        }
    }

    /// The next operation, or the next step of the one under way.
    pub(super) fn app_goes_on(&mut self, app: usize, number: u64) {
        let a = &self.front.apps[app];
        if a.number != number || a.closed || a.owed > 0 {
            return;
        }
        if a.op.is_some() {
            return self.app_sends(app);
        }
        if !self.load {
            return;
        }
        let kind = match self.front.rng.below(20) {
            0..6 => Kind::Single,
            6..10 => Kind::Prepared,
            10..15 => Kind::Block,
            15 => Kind::AtOnce,
            16 | 17 => Kind::Undone,
            _ => Kind::Read,
        };
        self.app_begins(app, kind);
    }

    /// Begins an operation. Gives its number.
    pub fn app_begins(&mut self, app: usize, kind: Kind) -> usize {
        self.counts.operations += 1;
        let op = self.front.ops.len();
        let settings = &self.truth.settings;
        let asynchronous = settings.durability == Durability::Async;
        self.front.ops.push(Op::new(app, kind, self.now, asynchronous));
        let a = &mut self.front.apps[app];
        (a.op, a.kind, a.step, a.failed) = (Some(op), kind, 0, None);
        a.loss = Loss::default();
        if self.front_chance(60) {
            let when = self.front.rng.below(ms(60));
            let number = self.front.apps[app].number + 1;
            self.after(when, What::Front(Box::new(Due::Cancels(app, number))));
        }
        self.app_sends(app);
        op
    }

    fn app_sends(&mut self, app: usize) {
        let a = &mut self.front.apps[app];
        let Some(op) = a.op else { return };
        a.number += 1;
        let to = &mut a.input;
        let insert = format!("INSERT INTO t VALUES ({op})");
        match (a.kind, a.step) {
            _ if a.failed.is_some() => front::query(to, b"ROLLBACK"),
            (Kind::Single, _) => front::query(to, insert.as_bytes()),
            (Kind::Prepared, _) => prepared(to, op, !a.prepared),
            (Kind::Read, _) => front::query(to, b"SELECT 1"),
            (Kind::Block | Kind::Undone, 0) => front::query(to, b"BEGIN"),
            (Kind::Block | Kind::Undone, 1) => front::query(to, insert.as_bytes()),
            (Kind::Block, _) => front::query(to, b"COMMIT"),
            (Kind::Undone, _) => front::query(to, b"ROLLBACK"),
            (Kind::AtOnce, _) => at_once(to, &["BEGIN", &insert, "COMMIT"]),
        }
        a.owed = 1;
        self.app_turn(app);
    }

    /// Reads what it was told, answer by answer.
    pub(super) fn app_reads(&mut self, app: usize) {
        if self.front.apps[app].closed && self.front.apps[app].op.is_some() {
            return self.app_told(app, Told::Closed);
        }
        while let Some(answer) = take_answer(&mut self.front.apps[app].heard) {
            let a = &mut self.front.apps[app];
            a.prepared |= answer.parsed && a.kind == Kind::Prepared;
            a.owed = a.owed.saturating_sub(1);
            if a.failed.is_none() {
                a.failed.clone_from(&answer.code);
            }
            self.app_judges(app, &answer);
        }
    }

    fn app_judges(&mut self, app: usize, answer: &Answer) {
        let a = &mut self.front.apps[app];
        let last = match a.kind {
            Kind::Single | Kind::Prepared | Kind::AtOnce | Kind::Read => true,
            Kind::Block | Kind::Undone => a.step >= 2,
        };
        a.step += 1;
        let open = answer.state != Transaction::Idle;
        match a.failed.clone() {
            // It ends its block, and takes it for failed, whatever that says.
            Some(_) if open => self.app_soon(app),
            Some(code) => self.app_told(app, Told::Failed(code)),
            None if !last => self.app_soon(app),
            None if answer.rolled_back => self.app_told(app, Told::Failed("ROLLBACK".into())),
            None => self.app_told(app, Told::Done),
        }
    }

    fn app_soon(&mut self, app: usize) {
        let number = self.front.apps[app].number;
        let pause = if self.front_chance(100) { ms(150) } else { ms(4) };
        let pause = self.front_span(200, pause);
        self.after(pause, What::Front(Box::new(Due::App(app, number))));
    }

    fn app_told(&mut self, app: usize, told: Told) {
        let Some(op) = self.front.apps[app].op.take() else { return };
        self.front.apps[app].owed = 0;
        self.note(None, || format!("app {app} is told of op {op}: {told:?}"));
        self.judge_told(op, told);
        let Some(pause) = self.front.apps[app].pause else { return };
        let pause = ms(1) + self.front.rng.below(pause);
        let number = self.front.apps[app].number;
        self.after(pause, What::Front(Box::new(Due::App(app, number))));
    }

    /// Its proxy has died: it connects anew, to whoever comes up there.
    pub(super) fn app_lost(&mut self, app: usize) {
        self.app_told(app, Told::Lost);
        let (proxy, pause, done_at) = {
            let a = &self.front.apps[app];
            (a.proxy, a.pause, a.done_at)
        };
        let number = self.front.apps[app].number;
        let mut fresh = self.new_app(proxy, pause);
        (fresh.number, fresh.done_at) = (number, done_at);
        self.front.apps[app] = fresh;
    }

    /// It cancels what it waits for (`Client::cancel`).
    pub(super) fn app_cancels(&mut self, app: usize, number: u64) {
        let a = &mut self.front.apps[app];
        if a.number != number || a.owed == 0 || a.closed {
            return;
        }
        let proxy = a.proxy;
        if a.waits_since.take().is_some() {
            a.session.refuse(Words::error("57014", "canceling statement due to user request"));
            self.leave_queue(proxy, Who::App(app));
            return self.app_turn(app);
        }
        let Some(id) = a.conn.filter(|_| a.session.may_cancel()) else { return };
        a.session.cancelled();
        self.mark("front: a cancel was passed on");
        if let Some(conn) = self.front.conns.get_mut(&id) {
            conn.cancels += 1;
            let delay = 2 * self.front_delay();
            self.after(delay, What::Front(Box::new(Due::Cancel(id))));
        }
    }

    /// The connection that carried a cancel is closed.
    pub(super) fn cancel_done(&mut self, id: u64) {
        let Some(conn) = self.front.conns.get_mut(&id) else { return };
        conn.cancels = conn.cancels.saturating_sub(1);
        let user = conn.user;
        self.forget_conn(id);
        if let Some(Who::App(app)) = user {
            self.app_turn(app);
        }
    }
}

/// A batch that inserts by a prepared statement.
fn prepared(to: &mut Vec<u8>, op: usize, parse: bool) {
    if parse {
        front::parse(to, b"w", b"INSERT INTO t VALUES ($1)\0\0\0");
    }
    let value = op.to_string();
    let tail_bytes = 2 + 2 + 4 + value.len() as u64 + 2;
    front::bind_head(to, b"", b"w", tail_bytes);
    to.extend([0, 0, 0, 1]);
    to.extend(u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
    to.extend_from_slice(value.as_bytes());
    to.extend([0, 0]);
    wire::put::message(to, front::EXECUTE, |to| to.extend([0; 5]));
    front::sync(to);
}

/// All of it in one batch.
fn at_once(to: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        front::parse(to, b"", format!("{text}\0\0\0").as_bytes());
        front::bind_head(to, b"", b"", 6);
        to.extend([0; 6]);
        wire::put::message(to, front::EXECUTE, |to| to.extend([0; 5]));
    }
    front::sync(to);
}

/// What it was told of one request.
struct Answer {
    code: Option<String>,
    rolled_back: bool,
    parsed: bool,
    state: Transaction,
}

fn take_answer(heard: &mut Vec<u8>) -> Option<Answer> {
    let mut answer = Answer { code: None, rolled_back: false, parsed: false, state: Transaction::Idle };
    let mut at = 0;
    loop {
        let header = Header::read(&heard[at..]).ok().flatten()?;
        let body = header.body(&heard[at..])?;
        match header.tag {
            back::ERROR => {
                let code = back::field(body, b'C').unwrap_or_default();
                answer.code = Some(String::from_utf8_lossy(code).into_owned());
            }
            back::PARSE_COMPLETE => answer.parsed = true,
            back::COMMAND_COMPLETE => answer.rolled_back = body.starts_with(b"ROLLBACK"),
            back::READY => answer.state = Transaction::read(body).unwrap_or_default(),
            _ => {}
        }
        at += HEADER_BYTES + body.len();
        if header.tag == back::READY {
            heard.drain(..at);
            return Some(answer);
        }
    }
}
