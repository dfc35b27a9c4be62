//! Statements that name others: EXECUTE and DEALLOCATE in SQL, of what a client has prepared by a message.
//!
//! The server knows them by names of ours. A statement with a name of its own
//! may stand for many clients, so it is never prepared with another's name in
//! it: where it is bound, what it says of *this* client's statements is prepared
//! in the unnamed place. So is the unnamed statement itself, once more: whom it
//! names is not asked before it is bound. What DEALLOCATE names is gone when its
//! portal is executed.

use alloc::boxed::Box;
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
    may_name(&statement.traits) && sql::prepared_name(statement.text()).is_some()
}

/// Whether a text may name one, as far as its first word tells.
pub(super) fn may_name(traits: &Traits) -> bool {
    matches!(traits.verb, Verb::Deallocate | Verb::Other)
}

/// A text that names a statement of the client's.
pub(super) struct Named<'a> {
    name: &'a [u8],
    statement: Arc<Statement>,
    /// The text with our name for it.
    new: Vec<u8>,
}

/// A portal that takes a name of the client's away once it is executed.
#[derive(Debug)]
pub(super) struct Takes {
    portal: Box<[u8]>,
    name: Box<[u8]>,
}

/// Most portals that are bound to a DEALLOCATE and not executed; of more the first are forgotten.
const TAKES_MAX: usize = 16;

impl Session {
    /// What is to be bound to a portal, or else only described, for a statement of the client's; the server has it then.
    pub(super) fn with_its_name(
        &mut self,
        statement: Arc<Statement>,
        portal: Option<&[u8]>,
        turn: &mut Turn<'_>,
    ) -> Arc<Statement> {
        let takes = statement.traits.verb == Verb::Deallocate;
        // What DEALLOCATE is described as does not hang on whom it names, and a block that has failed parses nothing.
        let any = takes && portal.is_none();
        let text = statement.text();
        let named = if !any && may_name(&statement.traits) { self.with_our_name(text) } else { None };
        let Some(Named { name, statement: other, new: mut tail }) = named else {
            self.ensure(&statement, turn);
            return statement;
        };
        self.ensure(&other, turn);
        tail.extend_from_slice(&statement.tail[text.len()..]);
        turn.backend.unnamed = 0;
        self.unnamed_changed = Some(self.batch.number);
        turn.out.to_server.make(|to| front::parse(to, b"", &tail));
        self.owed.push_back(Expect::Parse { shown: false, undo: alloc::vec![Undo::Unnamed] });
        if let Some(portal) = portal.filter(|_| takes) {
            self.will_take(portal, name);
        }
        // Where it runs the other, what that does is what counts; how it ends a block is not looked into.
        let mut traits = if takes { statement.traits } else { other.traits };
        traits.many |= traits.ends;
        Arc::new(Statement { id: 0, tail: tail.into(), traits })
    }

    /// A portal was bound to a DEALLOCATE.
    fn will_take(&mut self, portal: &[u8], name: &[u8]) {
        if self.takes.len() >= TAKES_MAX {
            self.takes.remove(0);
        }
        self.takes.push(Takes { portal: portal.into(), name: name.into() });
    }

    /// A portal is bound, to whatever it is.
    pub(super) fn takes_no_more(&mut self, portal: &[u8]) {
        self.takes.retain(|takes| *takes.portal != *portal);
    }

    /// A portal is executed. Gives what is taken back if that fails.
    pub(super) fn takes_by(&mut self, execute: &[u8], turn: &mut Turn<'_>) -> Option<Undo> {
        // Hardly ever there is one.
        if self.takes.is_empty() {
            return None;
        }
        let (portal, _) = front::execute_of(execute)?;
        let at = self.takes.iter().position(|takes| *takes.portal == *portal)?;
        let name = self.takes.remove(at).name;
        self.take_away(&name, turn)
    }

    /// DEALLOCATE is about to run: neither the client nor the server has what it names.
    fn take_away(&mut self, name: &[u8], turn: &mut Turn<'_>) -> Option<Undo> {
        // In a block that has failed it fails as well.
        if self.transaction == Transaction::Failed && !self.batch.ends {
            return None;
        }
        // Another name of the client's for the same text stays.
        let old = self.names.remove(name)?;
        self.batch.again.renames(name, Some(old.clone()));
        // Should it not come to that, it is closed before it is prepared again.
        turn.backend.spoil(old.id);
        Some(Undo::Name(name.into(), Some(old)))
    }

    /// SQL's EXECUTE and DEALLOCATE of what was prepared by a message: the name is ours on the server.
    /// `new` is the text with it. A Sync of ours would end a batch of the client's that is open.
    #[cold]
    pub(super) fn query_by_name(
        &mut self,
        Named { name, statement, new }: &Named<'_>,
        traits: &Traits,
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
        if traits.verb == Verb::Deallocate {
            let _ = self.take_away(name, turn);
        }
        // Other statements of the same text may end it as well.
        let ends = if statement.traits.ends || traits.ends { Ends::Maybe } else { Ends::No };
        self.owed.push_back(Expect::Query(Asker::Client(ends)));
        turn.out.to_server.make(|to| front::query(to, new));
    }

    /// What a text names, if it is a statement of the client's.
    pub(super) fn with_our_name<'a>(&self, text: &'a [u8]) -> Option<Named<'a>> {
        let range = sql::prepared_name(text)?;
        let name = &text[range.clone()];
        let statement = self.names.get(name)?.clone();
        let new = [&text[..range.start], &statement.name(), &text[range.end..]].concat();
        Some(Named { name, statement, new })
    }
}
