//! ReadyForQuery: a request is over, and what follows from that.

use wire::back::{self, Transaction};
use wire::front;

use super::back::Heard;
use super::front::Message;
use super::{Session, Xid};
use crate::backend::Backend;
use crate::expect::{Asker, Expect};
use crate::plan::Out;
use crate::settings;

/// A commit that waits for the standbys like any other, and changes nothing.
const PROOF: &[u8] = b"SELECT pg_catalog.pg_logical_emit_message(true, 'tanist', '')";

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
        let asker = match self.owed.front() {
            Some(Expect::Query(asker)) => Some(*asker),
            Some(Expect::Sync { shown: true }) => Some(Asker::Client),
            Some(Expect::Sync { shown: false }) => None,
            _ => return Err(Heard::Broken),
        };
        self.done();
        self.transaction = transaction;
        self.copying &= asker.is_none();
        let shown = match asker {
            None | Some(Asker::Begin | Asker::Xid) => false,
            Some(Asker::Client | Asker::ClientCommit) if self.tainted && transaction == Transaction::Idle => {
                self.prove(message, out);
                false
            }
            Some(Asker::Client | Asker::ClientCommit) => !self.wrapped,
            Some(Asker::Commit) if self.tainted => {
                self.prove(message, out);
                false
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
                self.asked(backend);
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
        self.ask_settings(out);
        Ok(shown)
    }

    /// Says what was held until the commit was certain.
    fn show_held(&mut self, out: &mut Out) {
        self.wrapped = false;
        self.xid = Xid::NotAsked;
        if !self.held.is_empty() {
            let held = core::mem::take(&mut self.held);
            self.batch.answered = true;
            out.to_client.make(|to| to.extend_from_slice(&held));
        }
    }

    /// A commit's wait was cut short: one of ours that waits shows that all before it is safe as well.
    fn prove(&mut self, ready: &Message<'_>, out: &mut Out) {
        self.tainted = false;
        self.proving = true;
        self.held.extend_from_slice(&ready.bytes[..ready.there()]);
        out.to_server.make(|to| front::query(to, PROOF));
        self.owed.push_back(Expect::Query(Asker::Prove));
    }

    fn proved(&mut self, backend: &mut Backend, out: &mut Out) {
        if self.tainted {
            // Cut short as well.
            self.tainted = false;
            out.to_server.make(|to| front::query(to, PROOF));
            self.owed.push_back(Expect::Query(Asker::Prove));
            return;
        }
        self.proving = false;
        if backend.clean {
            self.show_held(out);
        } else {
            self.held.clear();
            self.wrapped = false;
            out.to_client.make(|to| {
                super::loss::unknown().put(to);
                back::ready(to, Transaction::Idle);
            });
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
            out.to_client.make(|to| back::Words::fatal(code, text).put(to));
            return Err(Heard::End);
        }
        backend.settings = self.settings.clone();
        backend.clean = true;
        self.tell_reported(backend, out);
        Ok(())
    }

    /// Asks what the client has set, once its transaction is over.
    fn ask_settings(&mut self, out: &mut Out) {
        let over = self.transaction == Transaction::Idle && self.owed.is_empty() && !self.batch.open;
        if !self.asks || !over {
            return;
        }
        self.asks = false;
        self.answer.clear();
        let question = settings::question(self.own.iter());
        out.to_server.make(|to| front::query(to, &question));
        self.owed.push_back(Expect::Query(Asker::Ask));
    }

    fn asked(&mut self, backend: &mut Backend) {
        let answer = alloc::sync::Arc::new(core::mem::take(&mut self.answer));
        self.settings = answer.clone();
        backend.settings = answer;
    }
}
