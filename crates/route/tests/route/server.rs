//! A model of a PostgreSQL server: the protocol and its transactions as they truly are, and a toy language.
//!
//! Texts are: BEGIN, COMMIT \[AND CHAIN\], ROLLBACK, SELECT n, INSERT INTO t VALUES (n), FAIL, SET name TO value,
//! SHOW name, `set_config`, the questions for settings and for what is temporary, LISTEN, PREPARE, EXECUTE,
//! DEALLOCATE, DISCARD ALL, DISCARD TEMP, CREATE TEMP TABLE name \[ON COMMIT DROP\], DROP TABLE name, SAVEPOINT, COPY t FROM STDIN and COPY t TO STDOUT. All else is a syntax error.

mod language;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use wire::back::{self, Transaction, Words};
use wire::frame::{Header, cstr};
use wire::front::{self, BindNames, Object, Parse};

use crate::words::split;

/// What is in the database, seen by the judge.
#[derive(Debug, Default)]
pub struct Database {
    /// How often each number was inserted and committed.
    pub rows: BTreeMap<u64, u32>,
    /// Whether a transaction has committed.
    pub fates: BTreeMap<u64, bool>,
    next: u64,
}

pub type Shared = Rc<RefCell<Database>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Implicit,
    Open,
    Failed,
}

type Failure = (&'static str, String);
type Settings = BTreeMap<String, String>;

/// One connection to a server.
#[derive(Debug, Default)]
pub struct Server {
    database: Shared,
    block: Block,
    rows: Vec<u64>,
    xid: Option<u64>,
    settings: Settings,
    before: Settings,
    /// Temporary tables now, when the transaction began, and those that go with it.
    pub temps: BTreeSet<String>,
    temps_before: BTreeSet<String>,
    dropping: BTreeSet<String>,
    reported: Settings,
    statements: BTreeMap<Vec<u8>, String>,
    portals: BTreeMap<Vec<u8>, String>,
    skips: bool,
    copies: Option<Copy>,
    input: Vec<u8>,
    /// Said, and not read by anybody.
    pub output: Vec<u8>,
    flushed: usize,
    /// The next commit's wait for the standbys is cut short.
    pub taints: bool,
}

#[derive(Debug)]
struct Copy {
    extended: bool,
    rows: Vec<u64>,
    /// Statements of the same query that come after it.
    rest: VecDeque<String>,
}

fn fail<T>(code: &'static str, text: impl Into<String>) -> Result<T, Failure> {
    Err((code, text.into()))
}

impl Server {
    pub fn new(database: &Shared) -> Server {
        let reported = Server::first_reports();
        Server { database: database.clone(), reported, ..Server::default() }
    }

    /// What it reports to one who logs in.
    pub fn first_reports() -> Settings {
        BTreeMap::from([("application_name".into(), String::new()), ("server_version".into(), "18".into())])
    }

    /// Takes bytes in; whole messages are worked on.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.step() {}
    }

    /// Works on one message; false if none is whole.
    pub fn step(&mut self) -> bool {
        let Some(header) = Header::read(&self.input).expect("a proxy sends what is valid") else {
            return false;
        };
        let Some(body) = header.body(&self.input).map(<[u8]>::to_vec) else { return false };
        self.input.drain(..wire::frame::HEADER_BYTES + body.len());
        self.message(header.tag, &body);
        true
    }

    /// It gives up: what it had said is sent as well.
    pub fn flush(&mut self) {
        self.flushed = self.output.len();
    }

    /// What was said and sent.
    pub fn sent(&mut self) -> Vec<u8> {
        let rest = self.output.split_off(self.flushed);
        self.flushed = 0;
        std::mem::replace(&mut self.output, rest)
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if self.skips && tag != front::SYNC {
            return;
        }
        if self.copies.is_some() {
            return self.copy_message(tag, body);
        }
        let done = match tag {
            front::QUERY => {
                let text = String::from_utf8_lossy(cstr(body).expect("a text").0).into_owned();
                self.statements.remove(b"".as_slice());
                self.portals.remove(b"".as_slice());
                return self.query(split(&text), false);
            }
            front::FUNCTION_CALL => return self.call(),
            front::SYNC => {
                self.skips = false;
                let done = self.end_implicit();
                if let Err(why) = done {
                    self.error(&why);
                }
                return self.ready();
            }
            front::FLUSH => {
                self.flushed = self.output.len();
                Ok(())
            }
            front::PARSE => self.parse(body),
            front::BIND => self.bind(body),
            front::DESCRIBE => self.describe(body),
            front::EXECUTE => self.execute(body),
            front::CLOSE => self.close(body),
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.error(&why);
            self.skips = true;
        }
    }

    fn error(&mut self, why: &Failure) {
        Words::error(why.0, &why.1).put(&mut self.output);
        self.copies = None;
        match self.block {
            Block::Open | Block::Failed => {
                self.block = Block::Failed;
                self.settings = self.before.clone();
            }
            Block::Implicit | Block::None => self.undo(),
        }
        self.portals.clear();
    }

    fn ready(&mut self) {
        for (name, value) in &self.settings {
            let told = self.reported.get_mut(name);
            if let Some(told) = told.filter(|told| *told != value) {
                told.clone_from(value);
                back::parameter_status(&mut self.output, name.as_bytes(), value.as_bytes());
            }
        }
        let gone: Vec<String> =
            self.reported.keys().filter(|n| !self.settings.contains_key(*n)).cloned().collect();
        for name in gone {
            let first = Server::first_reports().remove(&name).unwrap_or_default();
            if self.reported.insert(name.clone(), first.clone()) != Some(first.clone()) {
                back::parameter_status(&mut self.output, name.as_bytes(), first.as_bytes());
            }
        }
        let state = match self.block {
            Block::None | Block::Implicit => Transaction::Idle,
            Block::Open => Transaction::Open,
            Block::Failed => Transaction::Failed,
        };
        back::ready(&mut self.output, state);
        self.flushed = self.output.len();
    }

    fn start(&mut self) {
        if self.block == Block::None {
            self.block = Block::Implicit;
            self.before = self.settings.clone();
            self.temps_before = self.temps.clone();
        }
    }

    fn commit(&mut self) {
        let mut database = self.database.borrow_mut();
        for row in self.rows.drain(..) {
            *database.rows.entry(row).or_default() += 1;
        }
        if let Some(xid) = self.xid.take() {
            database.fates.insert(xid, true);
            if std::mem::take(&mut self.taints) {
                wire::put::message(&mut self.output, back::NOTICE, |to| {
                    for (key, text) in [(b'S', "WARNING"), (b'C', "01000"), (b'R', "SyncRepWaitForLSN")] {
                        to.push(key);
                        wire::put::cstr(to, text.as_bytes());
                    }
                    to.push(0);
                });
            }
        }
        let dropping = std::mem::take(&mut self.dropping);
        self.temps.retain(|name| !dropping.contains(name));
        self.block = Block::None;
        self.portals.clear();
    }

    fn undo(&mut self) {
        if self.block != Block::None {
            self.settings = std::mem::take(&mut self.before);
            self.temps = std::mem::take(&mut self.temps_before);
            self.dropping.clear();
        }
        if let Some(xid) = self.xid.take() {
            self.database.borrow_mut().fates.insert(xid, false);
        }
        self.rows.clear();
        self.block = Block::None;
        self.portals.clear();
    }

    fn end_implicit(&mut self) -> Result<(), Failure> {
        if self.block != Block::Implicit {
            return Ok(());
        }
        if self.rows.contains(&666) {
            // A deferred constraint.
            self.undo();
            return fail("23505", "deferred");
        }
        self.commit();
        Ok(())
    }

    fn writes(&mut self, row: u64) {
        self.rows.push(row);
        let database = &self.database;
        self.xid.get_or_insert_with(|| {
            let mut database = database.borrow_mut();
            database.next += 1;
            database.next + 700
        });
    }

    fn query(&mut self, mut texts: VecDeque<String>, ended: bool) {
        if texts.is_empty() && !ended {
            back::bare(&mut self.output, back::EMPTY_QUERY);
        }
        self.start();
        while let Some(text) = texts.pop_front() {
            self.start();
            let last = texts.is_empty();
            let at = self.output.len();
            let done = self.run(&text, true);
            if let Some(copy) = self.copies.as_mut().filter(|_| done.is_ok()) {
                copy.rest = texts;
                self.flushed = self.output.len();
                return;
            }
            let end = self.output.len();
            let done = done.and_then(|()| if last { self.end_implicit() } else { Ok(()) });
            if done.is_ok() && self.output.len() > end {
                // What a commit warns of comes before the tag.
                let warning = self.output.split_off(end);
                let whole = self.output.clone();
                self.retract_tag(at);
                let tag = whole[self.output.len()..].to_vec();
                self.output.extend(warning.into_iter().chain(tag));
            }
            if let Err(why) = done {
                self.retract_tag(at);
                self.error(&why);
                break;
            }
        }
        if self.block == Block::Implicit {
            self.block = Block::None;
        }
        self.ready();
    }

    /// CommandComplete comes after the commit, so it was not said when that fails.
    fn retract_tag(&mut self, at: usize) {
        let mut end = at;
        while let Ok(Some(header)) = Header::read(&self.output[end..]) {
            if header.tag == back::COMMAND_COMPLETE {
                break;
            }
            end += usize::try_from(header.bytes()).expect("small");
        }
        self.output.truncate(end);
    }

    fn call(&mut self) {
        self.start();
        if self.block == Block::Failed {
            self.error(&("25P02", "aborted".into()));
        } else {
            let text = self.xid.map(|xid| xid.to_string());
            wire::put::message(&mut self.output, back::FUNCTION_RESULT, |to| match &text {
                Some(text) => {
                    to.extend(i32::try_from(text.len()).expect("short").to_be_bytes());
                    to.extend_from_slice(text.as_bytes());
                }
                None => to.extend((-1_i32).to_be_bytes()),
            });
            if let Err(why) = self.end_implicit() {
                self.error(&why);
            }
        }
        self.ready();
    }

    fn check(&self, text: &str) -> Result<(), Failure> {
        let ends = text.is_empty() || text.starts_with("COMMIT") || text.starts_with("ROLLBACK");
        if self.block == Block::Failed && !ends {
            return fail("25P02", "aborted");
        }
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Failure> {
        let parse = Parse::read(body).expect("a Parse");
        self.start();
        if parse.name.is_empty() {
            self.statements.remove(b"".as_slice());
        }
        let text = String::from_utf8_lossy(parse.text).into_owned();
        if text.starts_with("SYNTAX") {
            return fail("42601", "syntax error");
        }
        self.check(&text)?;
        if self.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            return fail("42P05", format!("prepared statement \"{name}\" already exists"));
        }
        self.statements.insert(parse.name.into(), text);
        back::bare(&mut self.output, back::PARSE_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<String, Failure> {
        let text = String::from_utf8_lossy(name);
        match self.statements.get(name) {
            Some(found) => Ok(found.clone()),
            None if name.is_empty() => fail("26000", "unnamed prepared statement does not exist"),
            None => fail("26000", format!("prepared statement \"{text}\" does not exist")),
        }
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Failure> {
        let names = BindNames::read(body).expect("a Bind");
        self.start();
        let text = self.statement(names.statement)?;
        self.check(&text)?;
        if !names.portal.is_empty() && self.portals.contains_key(names.portal) {
            return fail("42P03", "cursor already exists");
        }
        self.portals.insert(names.portal.into(), text);
        back::bare(&mut self.output, back::BIND_COMPLETE);
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Failure> {
        self.start();
        let text = match Object::read(body).expect("an object") {
            Object::Statement(name) => {
                let text = self.statement(name)?;
                wire::put::message(&mut self.output, back::PARAMETER_DESCRIPTION, |to| to.extend([0, 0]));
                text
            }
            Object::Portal(name) => match self.portals.get(name) {
                Some(text) => text.clone(),
                None => return fail("34000", "portal does not exist"),
            },
        };
        if text.starts_with("SELECT") || text.starts_with("SHOW") {
            self.check(&text)?;
            back::text_columns(&mut self.output, &["x"]);
        } else {
            back::bare(&mut self.output, back::NO_DATA);
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, rows) = front::execute_of(body).expect("an Execute");
        self.start();
        let Some(text) = self.portals.get(name).cloned() else {
            return fail("34000", "portal does not exist");
        };
        self.check(&text)?;
        if text.is_empty() {
            back::bare(&mut self.output, back::EMPTY_QUERY);
            return Ok(());
        }
        if rows == 1 && text.starts_with("SELECT") {
            back::text_row(&mut self.output, [Some(b"1".as_slice())].into_iter());
            back::bare(&mut self.output, back::PORTAL_SUSPENDED);
            return Ok(());
        }
        self.run(&text, false)
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Failure> {
        match Object::read(body).expect("an object") {
            Object::Statement(name) => self.statements.remove(name),
            Object::Portal(name) => self.portals.remove(name),
        };
        back::bare(&mut self.output, back::CLOSE_COMPLETE);
        Ok(())
    }

    fn copy_message(&mut self, tag: u8, body: &[u8]) {
        let copy = self.copies.as_mut().expect("asked before");
        match tag {
            front::COPY_DATA => match std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()) {
                Some(row) => copy.rows.push(row),
                None => self.copy_fails("22P02", "bad data"),
            },
            front::COPY_DONE => {
                let copy = self.copies.take().expect("asked before");
                let count = copy.rows.len();
                copy.rows.into_iter().for_each(|row| self.writes(row));
                let tag = format!("COPY {count}");
                if copy.extended {
                    back::command_complete(&mut self.output, tag.as_bytes());
                } else if let Err(why) = if copy.rest.is_empty() { self.end_implicit() } else { Ok(()) } {
                    self.error(&why);
                    self.ready();
                } else {
                    back::command_complete(&mut self.output, tag.as_bytes());
                    self.query(copy.rest, true);
                }
            }
            front::COPY_FAIL => self.copy_fails("57014", "COPY from stdin failed"),
            front::FLUSH | front::SYNC => {}
            _ => self.copy_fails("08P01", "unexpected message during COPY"),
        }
    }

    fn copy_fails(&mut self, code: &'static str, text: &str) {
        let extended = self.copies.as_ref().is_some_and(|copy| copy.extended);
        self.error(&(code, text.into()));
        if extended {
            self.skips = true;
        } else {
            self.ready();
        }
    }
}
