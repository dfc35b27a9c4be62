//! ReadyForQuery: a request is over, and what follows from that.

use alloc::string::String;
use alloc::sync::Arc;

use wire::back::{self, Transaction};
use wire::front;

use super::back::Heard;
use super::front::Message;
use super::{Part, Session};
use crate::backend::Backend;
use crate::expect::{Asker, Ends, Expect};
use crate::pin::Pin;
use crate::plan::Out;
use crate::read_after::{self, READ_AFTER};
use crate::settings::{self, Settings};

/// A commit that waits for the standbys like any other, and changes nothing: whatever the client has set that
/// would keep it from waiting, or from being told that the wait was cut short, does not hold in it.
pub const BARRIER: &str = "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL client_min_messages = warning; \
    SET LOCAL statement_timeout = 0; SELECT pg_catalog.pg_logical_emit_message(true, 'tanist', ''); COMMIT";

/// Proofs that are asked for when each of them is cut short in turn.
const PROOFS_MAX: u32 = 5;

/// Servers that are replaced one after the other because they can't be set up.
const UNFIT_MAX: u8 = 50;

/// Whether an error says that a server can't be set up as others can: once a session has had a temporary table its
/// `temp_buffers` stay as they are (`check_temp_buffers`).
#[must_use]
pub fn is_spent(code: &str, message: &str) -> bool {
    code == "22023" && message.contains("temp_buffers")
}

impl Session {
    /// Whether the client sees it; `Err` if nothing was owed that it could end.
    pub(super) fn is_ready(
        &mut self,
        message: &Message<'_>,
        backend: &mut Backend,
        out: &mut Out,
    ) -> Result<bool, Heard> {
        let transaction = Session::state_of(message).ok_or(Heard::Broken)?;
        while let Some(Expect::CopyEnd) = self.owed.front() {
            self.owed.pop_front();
        }
        let asker = self.asker()?;
        self.done();
        while let Some(Expect::CopyEnd) = self.owed.front() {
            self.owed.pop_front();
        }
        if asker.is_none_or(Asker::is_client) {
            self.batch.over = self.batch.over.wrapping_add(1);
        }
        self.copying &= asker.is_none();
        let clients = matches!(asker, Some(Asker::Client(_) | Asker::Commit));
        self.comes_to_rest(transaction, clients);
        let shown = match asker {
            None | Some(Asker::Begin) => false,
            Some(Asker::Xid) => {
                self.commit_wrap(out);
                false
            }
            Some(Asker::Client(_)) if self.wrapped => false,
            Some(Asker::Client(_) | Asker::Commit) if self.tainted => {
                self.prove(message, backend, out);
                false
            }
            Some(Asker::Client(_)) => {
                self.answered_request();
                self.cancelled = false;
                true
            }
            Some(Asker::Commit) => {
                self.show_held(out);
                true
            }
            Some(Asker::Apply) => {
                self.applied(backend, out)?;
                false
            }
            Some(Asker::Ask) => {
                self.asked(backend, out);
                false
            }
            Some(Asker::Temporary) => {
                self.temporary_told();
                false
            }
            Some(Asker::Prove) => {
                self.proved(backend, out);
                false
            }
        };
        if self.rules.mode == super::Mode::Statement && transaction != Transaction::Idle && !self.wrapped {
            let words =
                back::Words::fatal("08P01", "transaction blocks not allowed in statement pooling mode");
            out.to_client.make(|to| words.put(to));
            return Err(Heard::End);
        }
        self.ask_xid_early(out);
        self.ask_settings(backend, out);
        self.ask_temporary(backend, out);
        Ok(shown)
    }

    /// A request is over, of the client's or of ours, and leaves the transaction so.
    pub(super) fn comes_to_rest(&mut self, transaction: Transaction, clients: bool) {
        self.transaction = transaction;
        let ended = clients && transaction == Transaction::Idle;
        self.counts.transactions = self.counts.transactions.wrapping_add(u32::from(ended));
        if transaction == Transaction::Idle && !self.wrapped {
            self.takes.clear();
            self.due |= self.asks;
            self.asks = false;
        }
        self.temporary.may_be_gone(self.part.failed);
    }

    /// A request of the client's has its answer; a number that was known is of no use after its transaction.
    pub(super) fn answered_request(&mut self) {
        self.request_over();
        if self.transaction == Transaction::Idle || self.part.ended != Ends::No {
            self.xid = None;
            // What was sent behind it may have written as well.
            self.wrote &= self.is_busy();
        }
        self.part = Part::default();
    }

    /// Who asked for what is over now; nobody where it only ends a batch of ours.
    fn asker(&self) -> Result<Option<Asker>, Heard> {
        match self.owed.front() {
            Some(Expect::Query(asker)) => Ok(Some(*asker)),
            Some(Expect::Sync { shown: true }) => Ok(Some(Asker::Client(Ends::No))),
            Some(Expect::Sync { shown: false }) => Ok(None),
            _ => Err(Heard::Broken),
        }
    }

    /// Says what was held until the commit was certain.
    fn show_held(&mut self, out: &mut Out) {
        self.cancelled = false;
        self.wrapped = false;
        self.xid = None;
        self.part = Part::default();
        if !self.held.is_empty() {
            let held = core::mem::take(&mut self.held);
            out.to_client.make(|to| to.extend_from_slice(&held));
        }
        self.request_over();
    }

    /// A commit's wait was cut short: one of ours that waits shows that all before it is safe as well.
    /// Where that can't be done, for the client has gone on, nobody can say it.
    fn prove(&mut self, ready: &Message<'_>, backend: &mut Backend, out: &mut Out) {
        self.tainted = false;
        if self.transaction != Transaction::Idle || !self.owed.is_empty() || self.batch.open {
            self.unproven(out);
            return;
        }
        self.proving = true;
        self.held.extend_from_slice(&ready.bytes[..ready.there()]);
        self.send_proof(backend, out);
    }

    fn send_proof(&mut self, backend: &mut Backend, out: &mut Out) {
        self.proofs += 1;
        backend.unnamed = 0;
        // One that was cancelled has left its transaction behind.
        let first = if self.proofs > 1 { "ROLLBACK; " } else { "" };
        out.to_server.make(|to| front::query(to, [first, BARRIER].concat().as_bytes()));
        self.owed.push_back(Expect::Query(Asker::Prove));
    }

    fn unproven(&mut self, out: &mut Out) {
        self.held.clear();
        self.request_over();
        self.wrapped = false;
        self.part = Part::default();
        self.xid = None;
        let transaction = self.transaction;
        out.to_client.make(|to| {
            super::tell::unknown().put(to);
            back::ready(to, transaction);
        });
    }

    fn proved(&mut self, backend: &mut Backend, out: &mut Out) {
        let cut_short = core::mem::take(&mut self.tainted);
        if cut_short && self.proofs < PROOFS_MAX {
            self.send_proof(backend, out);
            return;
        }
        self.proving = false;
        self.proofs = 0;
        if backend.clean && !cut_short {
            self.show_held(out);
        } else {
            self.unproven(out);
        }
    }

    fn applied(&mut self, backend: &mut Backend, out: &mut Out) -> Result<(), Heard> {
        self.applying = false;
        if !self.unapplied.is_empty() {
            // As PostgreSQL does with a startup message whose settings it can't take.
            let why = core::mem::take(&mut self.unapplied);
            let text = back::field(&why[wire::frame::HEADER_BYTES..], b'M').unwrap_or_default();
            let code = back::field(&why[wire::frame::HEADER_BYTES..], b'C').unwrap_or_default();
            let words = (core::str::from_utf8(code), core::str::from_utf8(text));
            let (Ok(code), Ok(text)) = words else { return Err(Heard::Broken) };
            if is_spent(code, text) && self.may_replace() {
                self.unfit += 1;
                return Err(Heard::Unfit);
            }
            out.to_client.make(|to| back::Words::fatal(code, text).put(to));
            return Err(Heard::End);
        }
        self.unfit = 0;
        backend.settings = self.settings.clone();
        backend.clean = true;
        self.tell_reported(backend, out);
        Ok(())
    }

    /// Whether its server can be replaced by another: there is nothing of the client's in it.
    fn may_replace(&self) -> bool {
        let untouched = self.rules.mode != super::Mode::Session || self.counts.requests == 0;
        untouched && self.pins.is_empty() && self.unfit < UNFIT_MAX
    }

    /// Asks what the client has set, once its transaction is over.
    fn ask_settings(&mut self, backend: &mut Backend, out: &mut Out) {
        let over = self.transaction == Transaction::Idle && self.owed.is_empty() && !self.batch.open;
        if !over {
            return;
        }
        self.sets = false;
        if !self.due {
            return;
        }
        // A simple query destroys it.
        backend.unnamed = 0;
        self.answer.clear();
        let theirs = backend.base.iter().flat_map(|base| base.keys());
        let theirs = theirs.filter(|name| name.contains('.') && !self.own.contains(*name));
        let question = settings::question(self.own.iter().chain(theirs));
        out.to_server.make(|to| front::query(to, &question));
        self.owed.push_back(Expect::Query(Asker::Ask));
    }

    /// What is not in the answer was RESET, to what the client's startup message says.
    fn asked(&mut self, backend: &mut Backend, out: &mut Out) {
        self.due = false;
        if !backend.clean {
            self.pins.add(Pin::Settings);
            return;
        }
        let mut answer = core::mem::take(&mut self.answer);
        let reset = backend.base.as_ref().map(|base| settings::without_base(&mut answer, base));
        let reset = reset.unwrap_or_default();
        let answer = Arc::new(answer);
        backend.settings = answer.clone();
        // Not as it was before, whatever it is: set right below.
        Arc::make_mut(&mut backend.settings).extend(reset.iter().map(|name| (name.clone(), String::new())));
        let (answer, wrong) = self.without_wrong(answer);
        let lacks = wrong || !reset.is_empty() || self.startup.keys().any(|name| !answer.contains_key(name));
        self.settings = match lacks {
            false => answer,
            true => {
                let mut all = (*self.startup).clone();
                all.extend(answer.iter().map(|(name, value)| (name.clone(), value.clone())));
                Arc::new(all)
            }
        };
        if lacks {
            self.apply(backend, out);
        }
    }

    /// What a function or one text of several statements has set wrongly is what it was before, and the next
    /// statement is told so. Whether there was something of the kind.
    fn without_wrong(&mut self, answer: Arc<Settings>) -> (Arc<Settings>, bool) {
        let Some(value) = answer.get(READ_AFTER).filter(|value| !read_after::is_valid(value)) else {
            return (answer, false);
        };
        self.refusal = read_after::invalid(value);
        let mut right = (*answer).clone();
        right.remove(READ_AFTER);
        right.extend(self.settings.get(READ_AFTER).map(|before| (READ_AFTER.into(), before.clone())));
        (Arc::new(right), true)
    }
}
