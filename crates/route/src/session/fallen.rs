//! A transaction that went with its server, as its client must see it until it ends it.
//!
//! Without this a script that does not look at errors would go on in autocommit
//! after a failover and commit the second half of its transaction.

use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};
use wire::front::{self, BindNames, Object, Parse};

use super::Session;
use super::front::{Message, Next, Step, dropped};
use super::tell::describe_nothing;
use crate::expect::Ends;
use crate::plan::Out;
use crate::prepared::{NAMES_MAX, Shelf, Statement};
use crate::sql::{self, Traits, Verb};

/// PostgreSQL's own words (`errdetail_abort` and its callers in tcop/postgres.c).
const ABORTED: &str = "current transaction is aborted, commands ignored until end of transaction block";

impl Session {
    /// Answers a message while the transaction is gone.
    pub(super) fn fallen_message(&mut self, message: &Message<'_>, shelf: &mut Shelf, out: &mut Out) -> Next {
        let small = message.header.bytes() <= super::front::QUERY_LOOK_BYTES;
        if small && message.body().is_none() {
            return message.whole();
        }
        let body = message.body().unwrap_or_default();
        match message.header.tag {
            front::QUERY => self.fallen_query(body, out),
            front::PARSE => self.fallen_parse(body, shelf, out),
            front::BIND => {
                let statement = BindNames::read(body).and_then(|n| self.statement(n.statement));
                self.portal = statement.map_or_else(Default::default, |s| s.traits);
                self.fallen_step(back::BIND_COMPLETE, out);
            }
            front::EXECUTE if self.portal_ends() => self.fallen_end(out),
            front::DESCRIBE => {
                let statement = matches!(Object::read(body), Some(Object::Statement(_)));
                if let Some(Object::Statement(name)) = Object::read(body) {
                    self.portal = self.statement(name).map_or_else(Default::default, |s| s.traits);
                }
                if self.portal_ends() {
                    out.to_client.make(|to| describe_nothing(to, statement));
                } else {
                    self.fallen_error(out);
                }
            }
            front::CLOSE => {
                if let Some(Object::Statement(name)) = Object::read(body) {
                    self.forget(name);
                }
                out.to_client.make(|to| back::bare(to, back::CLOSE_COMPLETE));
            }
            front::EXECUTE => self.fallen_error(out),
            front::FUNCTION_CALL => {
                self.fallen_error(out);
                self.skipping = false;
                out.to_client.make(|to| back::ready(to, Transaction::Failed));
            }
            front::SYNC => {
                self.skipping = false;
                let transaction = self.transaction();
                out.to_client.make(|to| back::ready(to, transaction));
            }
            front::FLUSH | front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL => {}
            _ => return Next::Stop(Step::End),
        }
        dropped(message)
    }

    fn portal_ends(&self) -> bool {
        ends(&self.portal)
    }

    fn fallen_query(&mut self, body: &[u8], out: &mut Out) {
        let traits = sql::look(body.strip_suffix(b"\0").unwrap_or(body));
        if ends(&traits) {
            self.portal = traits;
            self.fallen_end(out);
        } else {
            self.fallen_error(out);
        }
        self.skipping = false;
        let transaction = self.transaction();
        out.to_client.make(|to| back::ready(to, transaction));
    }

    fn fallen_parse(&mut self, body: &[u8], shelf: &mut Shelf, out: &mut Out) {
        let Some(parse) = Parse::read(body).filter(|p| ends(&sql::look(p.text))) else {
            return self.fallen_error(out);
        };
        let taken = self.names.contains_key(parse.name) || self.names.len() >= NAMES_MAX;
        if !parse.name.is_empty() && taken {
            return self.fallen_error(out);
        }
        if parse.name.is_empty() {
            self.unnamed = Some(Statement::unnamed(parse.tail, parse.text));
        } else {
            self.names.insert(parse.name.into(), shelf.get(parse.tail, parse.text));
        }
        out.to_client.make(|to| back::bare(to, back::PARSE_COMPLETE));
    }

    fn fallen_step(&mut self, tag: u8, out: &mut Out) {
        if self.portal_ends() {
            out.to_client.make(|to| back::bare(to, tag));
        } else {
            self.fallen_error(out);
        }
    }

    /// The client ends its transaction. Who COMMITs and was told nothing yet must not take it for done.
    fn fallen_end(&mut self, out: &mut Out) {
        let told = self.fallen.as_ref().is_none_or(|f| f.told);
        if told || self.portal.verb == Verb::Rollback {
            out.to_client.make(|to| back::command_complete(to, b"ROLLBACK"));
        } else {
            self.fallen_error(out);
        }
        self.fallen = None;
    }

    fn fallen_error(&mut self, out: &mut Out) {
        let mut bytes = Vec::new();
        if let Some(fallen) = self.fallen.as_mut() {
            if core::mem::replace(&mut fallen.told, true) {
                Words::error("25P02", ABORTED).put(&mut bytes);
            } else {
                Words::error(&fallen.code, &fallen.message).put(&mut bytes);
            }
        }
        out.to_client.make(|to| to.extend_from_slice(&bytes));
        // Of an extended batch nothing more is read.
        self.skipping = true;
    }
}

/// Whether a statement ends a transaction, and does not begin the next at once.
fn ends(traits: &Traits) -> bool {
    matches!(Ends::of(traits), Ends::Commit | Ends::Rollback)
}
