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

use super::Session;
use super::front::{Message, Next, Step, Turn, dropped, passed};
use crate::expect::{Expect, Undo};
use crate::pin::Pin;
use crate::plan::Out;
use crate::prepared::{self, NAMES_MAX, PARSE_BYTES_MAX, Statement};
use crate::sql::{self, Verb};

/// Names in Bind that are not whole after so much are no names of anybody's.
const NAMES_BYTES_MAX: u64 = 8 << 10;

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

    fn parse(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let Some(parse) = message.body().and_then(Parse::read) else {
            // Too long to keep, or none: the server knows better, under the client's own name.
            self.pins.add(Pin::LongStatement);
            self.owed.push_back(Expect::Parse { shown: true, undo: Vec::new() });
            return passed(message, &mut turn.out.to_server);
        };
        if parse.name.is_empty() {
            return self.parse_unnamed(message, parse, turn);
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
        self.notes(&statement.traits, parse.text);
        let name: Box<[u8]> = parse.name.into();
        self.names.insert(name.clone(), statement.clone());
        let undo = Undo::Name(name, None);
        if turn.backend.has(statement.id) && self.transaction != Transaction::Failed {
            self.say(back::PARSE_COMPLETE, Some(undo), turn.out);
        } else {
            self.prepare(&statement, Some(undo), turn);
        }
        dropped(message)
    }

    fn parse_unnamed(&mut self, message: &Message<'_>, parse: Parse<'_>, turn: &mut Turn<'_>) -> Next {
        if let Some((named, mut tail)) = self.with_our_name(parse.text) {
            self.ensure(&named, turn);
            self.gone_by_sql(parse.text, &named, turn);
            tail.extend_from_slice(&parse.tail[parse.text.len()..]);
            turn.out.to_server.make(|to| front::parse(to, b"", &tail));
            self.unnamed = None;
            turn.backend.unnamed = 0;
            self.owed.push_back(Expect::Parse { shown: true, undo: Vec::new() });
            return dropped(message);
        }
        let statement = Statement::unnamed(parse.tail, parse.text);
        self.notes(&statement.traits, parse.text);
        turn.backend.unnamed = Arc::as_ptr(&statement) as usize;
        self.unnamed = Some(statement);
        let undo = alloc::vec![Undo::Name(Box::default(), None)];
        self.owed.push_back(Expect::Parse { shown: true, undo });
        passed(message, &mut turn.out.to_server)
    }

    /// Lets the server prepare a statement under our name; the client sees the answer if `name` is its own.
    fn prepare(&mut self, statement: &Statement, name: Option<Undo>, turn: &mut Turn<'_>) {
        for id in turn.backend.make_room(statement.id) {
            self.owed.push_back(Expect::Close { shown: false, id });
            turn.out.to_server.make(|to| front::of_statement(to, front::CLOSE, &prepared::name_of(id)));
        }
        turn.out.to_server.make(|to| front::parse(to, &statement.name(), &statement.tail));
        let shown = name.is_some();
        let undo = name.into_iter().chain([Undo::Prepared(statement.id)]).collect();
        self.owed.push_back(Expect::Parse { shown, undo });
    }

    /// Says a message of ours when its turn has come: at once, if nothing is owed before it.
    fn say(&mut self, tag: u8, undo: Option<Undo>, out: &mut Out) {
        if self.owed.is_empty() {
            self.batch.answered = true;
            out.to_client.make(|to| back::bare(to, tag));
        } else {
            self.owed.push_back(Expect::Said { tag, undo });
        }
    }

    /// An error that only we know of: the server is made to fail as well, so that it
    /// gives up what came before in this batch, and reads over what comes after.
    fn cause_error(&mut self, message: &Message<'_>, words: Words<'_>, out: &mut Out) -> Next {
        let mut bytes = Vec::new();
        words.put(&mut bytes);
        out.to_server.make(|to| front::of_statement(to, front::DESCRIBE, b"tanist_no_such_statement"));
        self.owed.push_back(Expect::Refused(bytes.into()));
        dropped(message)
    }

    fn bind(&mut self, message: &Message<'_>, names: Option<BindNames<'_>>, turn: &mut Turn<'_>) -> Next {
        let Some(names) = names else {
            self.owed.push_back(Expect::Bind);
            return passed(message, &mut turn.out.to_server);
        };
        let statement = self.statement(names.statement);
        self.portal = statement.as_ref().map_or_else(Default::default, |s| (s.traits, s.id));
        if let Some(statement) = &statement {
            self.ensure(statement, turn);
        }
        self.owed.push_back(Expect::Bind);
        let Some(statement) = statement.filter(|s| s.id != 0) else {
            return passed(message, &mut turn.out.to_server);
        };
        let head = wire::frame::HEADER_BYTES + names.bytes;
        let tail = message.header.body_bytes - names.bytes as u64;
        turn.out.to_server.make(|to| front::bind_head(to, names.portal, &statement.name(), tail));
        turn.out.to_server.pass(message.at + head..message.at + message.there());
        Next::Took { bytes: message.there(), shown: true }
    }

    pub(super) fn statement(&self, name: &[u8]) -> Option<Arc<Statement>> {
        if name.is_empty() { self.unnamed.clone() } else { self.names.get(name).cloned() }
    }

    /// Lets the server prepare a statement that it lacks.
    fn ensure(&mut self, statement: &Arc<Statement>, turn: &mut Turn<'_>) {
        if statement.id != 0 {
            if !turn.backend.has(statement.id) {
                self.prepare(statement, None, turn);
            }
            return;
        }
        let address = Arc::as_ptr(statement) as usize;
        if turn.backend.unnamed != address {
            turn.backend.unnamed = address;
            turn.out.to_server.make(|to| front::parse(to, b"", &statement.tail));
            self.owed.push_back(Expect::Parse { shown: false, undo: Vec::new() });
        }
    }

    fn execute(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let commit = self.portal.0.verb == Verb::Commit && !self.portal.0.many;
        if commit {
            self.ask_xid(turn.out);
        }
        self.owed.push_back(Expect::Execute { commit });
        passed(message, &mut turn.out.to_server)
    }

    fn describe_or_close(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let object = message.body().and_then(Object::read);
        let closes = message.header.tag == front::CLOSE;
        let named = match object {
            Some(Object::Statement(name)) => Some(name),
            Some(Object::Portal(_)) | None => None,
        };
        if let Some(name) = named.filter(|_| closes) {
            let old = self.forget(name);
            let undo = Undo::Name(name.into(), old);
            self.say(back::CLOSE_COMPLETE, Some(undo), turn.out);
            return dropped(message);
        }
        let statement = named.and_then(|name| self.statement(name));
        if let Some(statement) = &statement {
            self.ensure(statement, turn);
        }
        self.owed.push_back(if closes {
            Expect::Close { shown: true, id: 0 }
        } else {
            Expect::Describe { statement: named.is_some() }
        });
        match statement.filter(|s| s.id != 0) {
            None => passed(message, &mut turn.out.to_server),
            Some(s) => {
                turn.out.to_server.make(|to| front::of_statement(to, message.header.tag, &s.name()));
                dropped(message)
            }
        }
    }

    /// SQL's EXECUTE and DEALLOCATE of what was prepared by a message: the name is ours on the server.
    /// Says whether it has seen to the query.
    pub(super) fn names_in_sql(&mut self, text: &[u8], turn: &mut Turn<'_>) -> bool {
        let Some((statement, new)) = self.with_our_name(text) else { return false };
        if !turn.backend.has(statement.id) {
            self.prepare(&statement, None, turn);
            self.owed.push_back(Expect::Sync { shown: false });
            turn.out.to_server.make(front::sync);
        }
        self.gone_by_sql(text, &statement, turn);
        self.owed.push_back(Expect::Query(crate::expect::Asker::Client));
        turn.out.to_server.make(|to| front::query(to, &new));
        true
    }

    /// A text that names a statement of the client's, with our name for it.
    fn with_our_name(&self, text: &[u8]) -> Option<(Arc<Statement>, Vec<u8>)> {
        let range = sql::prepared_name(text)?;
        let statement = self.names.get(&text[range.clone()])?.clone();
        let new = [&text[..range.start], &statement.name(), &text[range.end..]].concat();
        Some((statement, new))
    }

    /// After DEALLOCATE neither the client nor the server has it.
    fn gone_by_sql(&mut self, text: &[u8], statement: &Statement, turn: &mut Turn<'_>) {
        if self.transaction != Transaction::Failed && sql::look(text).verb == Verb::Deallocate {
            self.names.retain(|_, s| s.id != statement.id);
            turn.backend.remove(statement.id);
        }
    }
}
