//! Parse, Bind, Describe, Execute and Close: a client's names become ours on the way.
//!
//! A statement with a name is prepared on a server under a name of ours, once
//! for all clients. The unnamed one stays unnamed: it is only said again where
//! the server is another than the one that parsed it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};
use wire::front::{self, BindNames, Object, Parse};

use super::by_name;
use super::front::{Message, Next, Step, Turn, dropped, passed};
use super::{Change, Session};
use crate::expect::{Asker, Ends, Expect, Undo};
use crate::pin::Pin;
use crate::plan::Out;
use crate::prepared::{self, NAMES_MAX, PARSE_BYTES_MAX, Shelf, Statement};
use crate::read_after;
use crate::sql;

/// Names in Bind that are not whole after so much are no names of anybody's.
const NAMES_BYTES_MAX: u64 = 8 << 10;
/// What is prepared under this name is closed at once.
const PROBE: &[u8] = b"tanist_probe";
/// What is described to make a server fail.
pub(super) const NO_STATEMENT: &[u8] = b"tanist_no_such_statement";

/// What stands behind the name of a Parse, with our question for its text.
fn with_our_text(parse: &Parse<'_>) -> Vec<u8> {
    [sql::LSN_QUESTION.as_bytes(), &parse.tail[parse.text.len()..]].concat()
}

impl Session {
    /// One message of an extended batch.
    pub(super) fn extended(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let bytes = message.header.bytes();
        let needs_all = message.header.tag != front::BIND;
        if message.body().is_none() && needs_all && bytes <= PARSE_BYTES_MAX as u64 {
            return message.whole();
        }
        let names =
            if message.header.tag == front::BIND { BindNames::read(message.beginning()) } else { None };
        if message.header.tag == front::BIND && names.is_none() && message.body().is_none() {
            return if message.bytes.len() as u64 >= NAMES_BYTES_MAX {
                Next::Stop(self.unusable(message.at, "name of a statement is too long", turn.out).step)
            } else {
                Next::Stop(Step::Whole(message.bytes.len() + 1))
            };
        }
        if self.hangs(message, names, turn.shelf) {
            return Next::Stop(Step::Wait);
        }
        self.begins();
        if !self.batch.open && self.owed.is_empty() && self.is_one_write(message.bytes) {
            self.begin_wrap(turn);
        }
        self.keep(message);
        self.batch.open = true;
        match message.header.tag {
            front::PARSE => self.parse(message, turn),
            front::BIND => self.bind(message, names, turn),
            front::EXECUTE => self.execute(message, turn),
            _ => self.describe_or_close(message, turn),
        }
    }

    /// Whether what this message means hangs on a batch before this one that is not over.
    fn hangs(&mut self, message: &Message<'_>, names: Option<BindNames<'_>>, shelf: &mut Shelf) -> bool {
        while self.changes.front().is_some_and(|change| self.is_over(change.batch)) {
            self.changes.pop_front();
        }
        if self.changes.is_empty() && self.unnamed_changed.is_none() {
            return false;
        }
        let body = message.body();
        let (name, mut id) = match message.header.tag {
            front::PARSE => match body.and_then(Parse::read).filter(|parse| !parse.name.is_empty()) {
                Some(parse) => (parse.name, shelf.get(parse.tail, parse.text).id),
                None => return false,
            },
            front::BIND => match names {
                Some(names) => (names.statement, 0),
                None => return false,
            },
            _ => match body.and_then(Object::read) {
                Some(Object::Statement(name)) if message.header.tag != front::EXECUTE => (name, 0),
                Some(Object::Statement(_) | Object::Portal(_)) | None => return false,
            },
        };
        let means = self.named(name);
        if means.is_some_and(|statement| by_name::names_another(statement)) {
            // What it means, and whether it succeeds, hangs on everything before, also on a commit of ours. Questions
            // of ours may be a part of this batch, and then wait for its Sync.
            let asks = |e: &Expect| matches!(e, Expect::Query(Asker::Begin | Asker::Xid));
            return self.owed.iter().any(|expect| expect.ends_ready() && !asks(expect));
        }
        if name.is_empty() {
            let changed = self.unnamed_changed.filter(|batch| *batch != self.batch.number);
            return changed.is_some_and(|batch| !self.is_over(batch));
        }
        id = means.map_or(id, |statement| statement.id);
        let same = |change: &Change| change.id == id && id != 0 || *change.name == *name;
        self.changes.iter().any(|change| change.batch != self.batch.number && same(change))
    }

    /// Whether all that was sent with this number is answered. Numbers go round.
    fn is_over(&self, batch: u32) -> bool {
        self.batch.over.wrapping_sub(batch).wrapping_sub(1) < u32::MAX / 2
    }

    pub(super) fn changes(&mut self, id: u64, name: &[u8]) {
        self.changes.push_back(Change { batch: self.batch.number, id, name: name.into() });
    }

    /// The client has seen nothing of the first request, and it left nothing behind; nor did those after it.
    /// Gives whether the unnamed statement was changed.
    pub(super) fn rename_back(&mut self) -> bool {
        let mut unnamed = false;
        while let Some((name, old)) = self.batch.again.last_renamed() {
            unnamed |= name.is_empty();
            self.stands_for(name, old);
        }
        unnamed
    }

    /// A name of the client's stands for this, or for nothing.
    pub(super) fn stands_for(&mut self, name: Box<[u8]>, statement: Option<Arc<Statement>>) {
        match statement {
            _ if name.is_empty() => self.unnamed = statement,
            Some(statement) => drop(self.names.insert(name, statement)),
            None => drop(self.names.remove(&name)),
        }
    }

    fn parse(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let Some(parse) = message.body().and_then(Parse::read) else {
            // Too long to keep, or none: the server knows better, under the client's own name.
            self.pins.add(Pin::LongStatement);
            if message.beginning().first() == Some(&0) {
                self.unnamed = None;
                turn.backend.unnamed = 0;
            }
            self.owed.push_back(Expect::Parse { shown: true, undo: Vec::new() });
            return passed(message, &mut turn.out.to_server);
        };
        let instead = sql::asks_lsn(parse.text).then(|| with_our_text(&parse));
        let parse = match &instead {
            Some(tail) => Parse { text: sql::LSN_QUESTION.as_bytes(), tail, name: parse.name },
            None => parse,
        };
        if self.transaction != Transaction::Failed
            && let Some(words) = read_after::refusal(parse.text)
        {
            return self.cause(message, words, turn.out);
        }
        if parse.name.is_empty() {
            return self.parse_unnamed(message, parse, instead.is_some(), turn);
        }
        if self.names.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            let text = alloc::format!("prepared statement \"{name}\" already exists");
            return self.cause_error(message, Words::error("42P05", &text), turn.out);
        }
        if self.names.len() >= NAMES_MAX {
            let words = Words::error("53400", "this client has prepared too many statements")
                .hint("close those that are not needed any more");
            return self.cause_error(message, words, turn.out);
        }
        let statement = turn.shelf.get(parse.tail, parse.text);
        self.notes(parse.text, &statement.traits);
        self.counts.parses = self.counts.parses.wrapping_add(1);
        let name: Box<[u8]> = parse.name.into();
        self.names.insert(name.clone(), statement.clone());
        self.batch.again.renames(&name, None);
        self.changes(statement.id, &name);
        let undo = Undo::Name(name, None);
        if !turn.backend.has(statement.id) {
            self.prepare(&statement, Some(undo), turn);
        } else if self.transaction == Transaction::Failed || self.batch.over != self.batch.number {
            // Refused if the transaction has failed, and only the server knows. It is parsed once more to see.
            turn.out.to_server.make(|to| {
                front::parse(to, PROBE, parse.tail);
                front::of_statement(to, front::CLOSE, PROBE);
            });
            self.owed.push_back(Expect::Parse { shown: true, undo: alloc::vec![undo] });
            self.owed.push_back(Expect::Close { shown: false, id: 0 });
        } else {
            self.say(back::PARSE_COMPLETE, Some(undo));
        }
        dropped(message)
    }

    fn parse_unnamed(
        &mut self,
        message: &Message<'_>,
        parse: Parse<'_>,
        is_ours: bool,
        turn: &mut Turn<'_>,
    ) -> Next {
        let statement = Statement::unnamed(parse.tail, parse.text);
        self.notes(parse.text, &statement.traits);
        self.takes_unnamed_place(statement, turn);
        if is_ours {
            turn.out.to_server.make(|to| front::parse(to, b"", parse.tail));
            return dropped(message);
        }
        passed(message, &mut turn.out.to_server)
    }

    fn takes_unnamed_place(&mut self, statement: Arc<Statement>, turn: &mut Turn<'_>) {
        turn.backend.unnamed = Arc::as_ptr(&statement) as usize;
        self.unnamed_changed = Some(self.batch.number);
        let old = self.unnamed.replace(statement);
        self.batch.again.renames(b"", old.clone());
        let undo = alloc::vec![Undo::Name(Box::default(), old)];
        self.owed.push_back(Expect::Parse { shown: true, undo });
    }

    /// Lets the server prepare a statement under our name; the client sees the answer if `name` is its own.
    pub(super) fn prepare(&mut self, statement: &Statement, name: Option<Undo>, turn: &mut Turn<'_>) {
        for id in turn.backend.make_room(statement.id) {
            self.changes(id, b"");
            self.owed.push_back(Expect::Close { shown: false, id });
            turn.out.to_server.make(|to| front::of_statement(to, front::CLOSE, &prepared::name_of(id)));
        }
        turn.out.to_server.make(|to| front::parse(to, &statement.name(), &statement.tail));
        let shown = name.is_some();
        self.changes(statement.id, b"");
        self.counts.server_parses = self.counts.server_parses.wrapping_add(1);
        let undo = name.into_iter().chain([Undo::Prepared(statement.id)]).collect();
        self.owed.push_back(Expect::Parse { shown, undo });
    }

    /// Says a message of ours when its turn has come: before the next of the server's, or when the client asks
    /// for all that there is. Not sooner, for a request of which something was shown is not run again.
    fn say(&mut self, tag: u8, undo: Option<Undo>) {
        self.owed.push_back(Expect::Said { tag, undo });
    }

    /// An error that only we know of: the server is made to fail as well, so that it
    /// gives up what came before in this batch, and reads over what comes after.
    fn cause_error(&mut self, message: &Message<'_>, words: Words<'_>, out: &mut Out) -> Next {
        let mut bytes = Vec::new();
        words.put(&mut bytes);
        self.cause(message, bytes, out)
    }

    fn cause(&mut self, message: &Message<'_>, error: Vec<u8>, out: &mut Out) -> Next {
        out.to_server.make(|to| front::of_statement(to, front::DESCRIBE, NO_STATEMENT));
        self.owed.push_back(Expect::Refused(error.into()));
        dropped(message)
    }

    fn bind(&mut self, message: &Message<'_>, names: Option<BindNames<'_>>, turn: &mut Turn<'_>) -> Next {
        let Some(names) = names else {
            self.owed.push_back(Expect::Bind { id: 0 });
            return passed(message, &mut turn.out.to_server);
        };
        let statement = self.statement(names.statement);
        if self.is_nobodys(names.statement, statement.is_some()) {
            return self.no_unnamed(message, turn.out);
        }
        self.takes_no_more(names.portal);
        let statement = statement.map(|statement| self.with_its_name(statement, Some(names.portal), turn));
        let traits = statement.as_ref().map_or_else(Default::default, |s| s.traits);
        if names.portal.is_empty() {
            self.portal = traits;
        } else {
            self.named_ends |= traits.ends;
        }
        self.marks(&traits);
        self.counts.binds = self.counts.binds.wrapping_add(1);
        self.owed.push_back(Expect::Bind { id: statement.as_ref().map_or(0, |s| s.id) });
        let Some(name) = statement.filter(|_| !names.statement.is_empty()).map(|s| s.server_name()) else {
            return passed(message, &mut turn.out.to_server);
        };
        let head = wire::frame::HEADER_BYTES + names.bytes;
        let tail = message.header.body_bytes - names.bytes as u64;
        turn.out.to_server.make(|to| front::bind_head(to, names.portal, &name, tail));
        turn.out.to_server.pass(message.at + head..message.at + message.there());
        Next::Took { bytes: message.there(), shown: true }
    }

    /// Whether a client means its unnamed statement and has none. The server may have one of somebody else's.
    fn is_nobodys(&self, name: &[u8], known: bool) -> bool {
        name.is_empty() && !known && !self.pins.iter().any(|pin| pin == Pin::LongStatement)
    }

    fn no_unnamed(&mut self, message: &Message<'_>, out: &mut Out) -> Next {
        let words = Words::error("26000", "unnamed prepared statement does not exist");
        self.cause_error(message, words, out)
    }

    pub(super) fn statement(&self, name: &[u8]) -> Option<Arc<Statement>> {
        self.named(name).cloned()
    }

    fn named(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.names.get(name) }
    }

    /// Lets the server prepare a statement that it lacks.
    pub(super) fn ensure(&mut self, statement: &Arc<Statement>, turn: &mut Turn<'_>) {
        if statement.id != 0 {
            if !turn.backend.has(statement.id) {
                self.prepare(statement, None, turn);
            }
            return;
        }
        let address = Arc::as_ptr(statement) as usize;
        if turn.backend.unnamed != address {
            turn.backend.unnamed = address;
            self.unnamed_changed = Some(self.batch.number);
            turn.out.to_server.make(|to| front::parse(to, b"", &statement.tail));
            self.owed.push_back(Expect::Parse { shown: false, undo: alloc::vec![Undo::Unnamed] });
        }
    }

    fn execute(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let unnamed = message.beginning().first() == Some(&0);
        let ends = match unnamed {
            true => Ends::of(&self.portal),
            false if self.named_ends => Ends::Maybe,
            false => Ends::No,
        };
        if ends == Ends::Commit {
            self.ask_xid(true, turn.out);
        }
        self.batch.ends |= ends != Ends::No;
        let undo = message.body().and_then(|execute| self.takes_by(execute, turn));
        self.owed.push_back(Expect::Execute { ends, undo });
        passed(message, &mut turn.out.to_server)
    }

    fn describe_or_close(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let object = message.body().and_then(Object::read);
        let closes = message.header.tag == front::CLOSE;
        let named = match object {
            Some(Object::Statement(name)) => Some(name),
            Some(Object::Portal(_)) | None => None,
        };
        let under_its_own_name = |name: &[u8]| {
            !self.names.contains_key(name) && self.pins.iter().any(|pin| pin == Pin::LongStatement)
        };
        if let Some(name) = named.filter(|name| closes && !under_its_own_name(name)) {
            self.changes(0, name);
            if name.is_empty() {
                self.unnamed_changed = Some(self.batch.number);
            }
            let old = self.forget(name);
            self.batch.again.renames(name, old.clone());
            let undo = Undo::Name(name.into(), old);
            self.say(back::CLOSE_COMPLETE, Some(undo));
            return dropped(message);
        }
        let statement = named.and_then(|name| self.statement(name));
        if named.is_some_and(|name| self.is_nobodys(name, statement.is_some())) {
            return self.no_unnamed(message, turn.out);
        }
        let statement = statement.map(|statement| self.with_its_name(statement, None, turn));
        self.owed.push_back(if closes {
            Expect::Close { shown: true, id: 0 }
        } else {
            Expect::Describe { statement: named.is_some(), id: statement.as_ref().map_or(0, |s| s.id) }
        });
        match statement.filter(|_| named != Some(b"")) {
            None => passed(message, &mut turn.out.to_server),
            Some(s) => {
                turn.out.to_server.make(|to| front::of_statement(to, message.header.tag, &s.server_name()));
                dropped(message)
            }
        }
    }
}
