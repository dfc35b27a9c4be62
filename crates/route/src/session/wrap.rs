//! Transactions of ours around single statements, and the number that a COMMIT's fate hangs on.
//!
//! In a block it is asked for as soon as something was written, while its client
//! thinks, so that it is known before the COMMIT is sent. Where that can't be
//! seen, it is asked for in the same packet; PostgreSQL answers before it commits.
//! A statement in a transaction of ours is committed only once its number is
//! known: a link that is cut leaves nothing open then.

use wire::back::Transaction;
use wire::frame::Header;
use wire::front::{self, BindNames, Parse};

use super::Session;
use super::front::Turn;
use crate::expect::{Asker, Expect};
use crate::plan::Out;
use crate::sql::{self, Traits, Verb};

/// `txid_current_if_assigned()` (`pg_proc.dat`): on every PostgreSQL from 10 on under this number.
pub const XID_FUNCTION: u32 = 3348;

impl Session {
    /// Asks for the number of the transaction that is about to commit.
    ///
    /// A call ends the implicit transaction of an extended batch and closes its portals. So inside a
    /// batch it is made only where a block is surely open.
    pub(super) fn ask_xid(&mut self, in_batch: bool, out: &mut Out) {
        // Asked already, and nothing of the client's came after the question.
        let asked = self.owed.len() == 1 && matches!(self.owed.front(), Some(Expect::Query(Asker::Xid)));
        if matches!(self.xid, Some(Some(_))) || asked && self.transaction == Transaction::Open {
            return;
        }
        // One that had none may have one by now.
        self.xid = None;
        let first = self.batch.requests == 0 && !self.batch.ends && !self.wrapped;
        let open = self.transaction == Transaction::Open && first;
        if !self.rules.settle_commits || self.transaction == Transaction::Failed || in_batch && !open {
            return;
        }
        out.to_server.make(|to| front::call(to, XID_FUNCTION));
        self.owed.push_back(Expect::Query(Asker::Xid));
    }

    /// Something was written in a block, and its client has the answer: asks for the number meanwhile.
    pub(super) fn ask_xid_early(&mut self, out: &mut Out) {
        let rests = self.owed.is_empty() && !self.batch.open && !self.wrapped;
        let known = matches!(self.xid, Some(Some(_)));
        if self.rules.settle_commits && rests && self.wrote && !known && self.transaction == Transaction::Open
        {
            self.wrote = false;
            self.xid = None;
            out.to_server.make(|to| front::call(to, XID_FUNCTION));
            self.owed.push_back(Expect::Query(Asker::Xid));
        }
    }

    /// The number is known, or there is none: the transaction of ours may commit.
    pub(super) fn commit_wrap(&mut self, out: &mut Out) {
        if core::mem::take(&mut self.uncommitted) {
            out.to_server.make(|to| front::query(to, b"COMMIT"));
        }
    }

    pub(super) fn wraps(&self, traits: &Traits) -> bool {
        let alone = self.transaction == Transaction::Idle && self.batch.requests == 1 && self.owed.is_empty();
        self.rules.settle_autocommit && alone && is_write(traits) && !self.wrapped
    }

    pub(super) fn begin_wrap(&mut self, turn: &mut Turn<'_>) {
        self.wrapped = true;
        self.wrapping = true;
        turn.backend.unnamed = 0;
        turn.out.to_server.make(|to| front::query(to, b"BEGIN"));
        self.owed.push_back(Expect::Query(Asker::Begin));
    }

    pub(super) fn end_wrap(&mut self, turn: &mut Turn<'_>) {
        self.wrapping = false;
        // A simple query destroys it.
        turn.backend.unnamed = 0;
        turn.out.to_server.make(|to| front::call(to, XID_FUNCTION));
        self.uncommitted = true;
        self.owed.push_back(Expect::Query(Asker::Xid));
        self.owed.push_back(Expect::Query(Asker::Commit));
    }

    /// Whether a whole batch is here, up to its Sync, that runs one writing statement and nothing else.
    pub(super) fn is_one_write(&self, bytes: &[u8]) -> bool {
        if !self.rules.settle_autocommit || self.wrapped || self.transaction != Transaction::Idle {
            return false;
        }
        let (mut rest, mut writes, mut binds, mut executes) = (bytes, false, 0, 0);
        let mut parsed = None;
        while let Ok(Some(header)) = Header::read(rest) {
            let Some(body) = header.body(rest) else { return false };
            match header.tag {
                front::SYNC => return writes && binds == 1 && executes == 1,
                front::PARSE => parsed = Parse::read(body),
                front::BIND => {
                    let Some(names) = BindNames::read(body) else { return false };
                    let here = parsed.filter(|parse| parse.name == names.statement);
                    writes = match here {
                        Some(parse) => is_write(&sql::look(parse.text)),
                        None => self.statement(names.statement).is_some_and(|s| is_write(&s.traits)),
                    };
                    binds += 1;
                }
                front::EXECUTE => executes += 1,
                front::DESCRIBE | front::FLUSH => {}
                _ => return false,
            }
            rest = &rest[wire::frame::HEADER_BYTES + body.len()..];
        }
        false
    }
}

fn is_write(traits: &Traits) -> bool {
    traits.verb == Verb::Write && !traits.many
}
