//! Statements that name others: EXECUTE and DEALLOCATE in SQL, of what a client has prepared by a message.
//!
//! The server knows them by names of ours. A statement with a name of its own
//! may stand for many clients, so it is never prepared with another's name in
//! it: where it is bound, what it says of *this* client's statements is prepared
//! in the unnamed place. So is the unnamed statement itself, once more: whom it
//! names is not asked before it is bound.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::back::Transaction;
use wire::front;

use super::Session;
use super::front::Turn;
use crate::expect::{Asker, Ends, Expect, Undo};
use crate::prepared::Statement;
use crate::sql::{self, Traits, Verb};

/// Whether a statement names another, whoever's that may be.
pub(super) fn names_another(statement: &Statement) -> bool {
    names_one(&statement.traits, statement.text())
}

/// The same of a text, of which the traits are known.
pub(super) fn names_one(traits: &Traits, text: &[u8]) -> bool {
    matches!(traits.verb, Verb::Deallocate | Verb::Other) && sql::prepared_name(text).is_some()
}

impl Session {
    /// What is to be bound, or else only described, for a statement of the client's; the server has it then.
    pub(super) fn with_its_name(
        &mut self,
        statement: Arc<Statement>,
        binds: bool,
        turn: &mut Turn<'_>,
    ) -> Arc<Statement> {
        // What DEALLOCATE is described as does not hang on whom it names, and a block that has failed parses nothing.
        let runs = statement.traits.verb != Verb::Deallocate;
        let names = (binds || runs) && names_another(&statement);
        let found = if names { self.with_our_name(statement.text()) } else { None };
        let Some((other, mut tail)) = found else {
            self.ensure(&statement, turn);
            return statement;
        };
        self.ensure(&other, turn);
        let text = statement.text();
        tail.extend_from_slice(&statement.tail[text.len()..]);
        turn.backend.unnamed = 0;
        self.unnamed_changed = Some(self.batch.number);
        turn.out.to_server.make(|to| front::parse(to, b"", &tail));
        let name = sql::prepared_name(text).map(|range| text[range].into());
        let back = name.filter(|_| self.deallocates(text)).map(|name| Undo::Name(name, Some(other.clone())));
        let undo = [Undo::Unnamed].into_iter().chain(back).collect();
        self.owed.push_back(Expect::Parse { shown: false, undo });
        self.gone_by_sql(text, &other, turn);
        // Where it runs the other, what that does is what counts; how it ends a block is not looked into.
        let mut traits = if runs { other.traits } else { statement.traits };
        traits.many |= traits.ends;
        Arc::new(Statement { id: 0, tail: tail.into(), traits })
    }

    /// Whether a text takes away the statement that it names.
    fn deallocates(&self, text: &[u8]) -> bool {
        let goes_on = self.transaction != Transaction::Failed || self.batch.ends;
        goes_on && sql::look(text).verb == Verb::Deallocate
    }

    /// SQL's EXECUTE and DEALLOCATE of what was prepared by a message: the name is ours on the server.
    /// `new` is the text with it. A Sync of ours would end a batch of the client's that is open.
    #[cold]
    pub(super) fn query_by_name(
        &mut self,
        text: &[u8],
        new: &[u8],
        statement: &Arc<Statement>,
        in_batch: bool,
        turn: &mut Turn<'_>,
    ) {
        if !turn.backend.has(statement.id) {
            self.prepare(statement, None, turn);
            if !in_batch {
                self.owed.push_back(Expect::Sync { shown: false });
                turn.out.to_server.make(front::sync);
                self.batch.number = self.batch.number.wrapping_add(1);
            }
        }
        self.marks(&statement.traits);
        self.gone_by_sql(text, statement, turn);
        let ends = if statement.traits.ends { Ends::Maybe } else { Ends::No };
        self.owed.push_back(Expect::Query(Asker::Client(ends)));
        turn.out.to_server.make(|to| front::query(to, new));
    }

    /// A text that names a statement of the client's, with our name for it.
    pub(super) fn with_our_name(&self, text: &[u8]) -> Option<(Arc<Statement>, Vec<u8>)> {
        let range = sql::prepared_name(text)?;
        let statement = self.names.get(&text[range.clone()])?.clone();
        let new = [&text[..range.start], &statement.name(), &text[range.end..]].concat();
        Some((statement, new))
    }

    /// After DEALLOCATE neither the client nor the server has it.
    pub(super) fn gone_by_sql(&mut self, text: &[u8], statement: &Statement, turn: &mut Turn<'_>) {
        if self.deallocates(text) {
            // Another name of the client's for the same text stays.
            let name = sql::prepared_name(text).map(|range| &text[range]).unwrap_or_default();
            let old = self.names.remove(name);
            self.batch.again.renames(name, old);
            // Should it not come to that, it is closed before it is prepared again.
            turn.backend.spoil(statement.id);
        }
    }
}
