//! What a client says, and what of it goes to its server.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::back::{self, Transaction, Words};
use wire::frame::Header;
use wire::front::{self, Object};

use super::{Mode, Session, by_name};
use crate::backend::Backend;
use crate::expect::{Asker, Ends, Expect, OWED_MAX};
use crate::pin::Pin;
use crate::plan::{Out, Plan};
use crate::prepared::{Shelf, Statement};
use crate::read_after;
use crate::sql::{self, Traits, Verb};

/// A simple query up to so long is waited for; of a longer one the beginning is looked at.
pub const QUERY_LOOK_BYTES: u64 = 16 << 10;

/// `set_config()` (`pg_proc.dat`), for those who call it by its number.
const SET_CONFIG_FUNCTION: i32 = 2078;

/// Longest message that is waited for before a server is asked for, in bytes.
const WHOLE_BYTES_MAX: u64 = 16 << 10;

/// What is needed before more can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes.
    More,
    /// So many bytes in the buffer, from the first that was not taken.
    Whole(usize),
    /// A server.
    Link,
    /// Something from the server first.
    Wait,
    /// Nothing: the client has said good-bye, or can't be followed; its last words are in `out`.
    End,
}

/// How far a buffer was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that were, which the caller must not hand in again.
    pub bytes: usize,
    /// What comes next.
    pub step: Step,
}

/// What one call works with.
pub(super) struct Turn<'a> {
    pub shelf: &'a mut Shelf,
    pub backend: &'a mut Backend,
    pub out: &'a mut Out,
}

/// One message in the caller's buffer.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub header: Header,
    /// From its header to the end of the buffer.
    pub bytes: &'a [u8],
    /// Where that is in the buffer.
    pub at: usize,
}

impl<'a> Message<'a> {
    pub fn body(&self) -> Option<&'a [u8]> {
        self.header.body(self.bytes)
    }

    /// What there is of the body.
    pub fn beginning(&self) -> &'a [u8] {
        let there = self.there();
        &self.bytes[wire::frame::HEADER_BYTES.min(there)..there]
    }

    /// Bytes of it that are in the buffer.
    pub fn there(&self) -> usize {
        usize::try_from(self.header.bytes()).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// The step that waits for all of it.
    pub fn whole(&self) -> Next {
        Next::Stop(Step::Whole(usize::try_from(self.header.bytes()).unwrap_or(usize::MAX)))
    }
}

/// What became of one message.
pub(super) enum Next {
    /// So many bytes of it were used; the rest goes the same way.
    Took {
        bytes: usize,
        shown: bool,
    },
    Stop(Step),
}

pub(super) fn passed(message: &Message<'_>, plan: &mut Plan) -> Next {
    plan.pass(message.at..message.at + message.there());
    Next::Took { bytes: message.there(), shown: true }
}

pub(super) fn dropped(message: &Message<'_>) -> Next {
    Next::Took { bytes: message.there(), shown: false }
}

impl Session {
    /// Takes what the client has sent. `backend` is its server, if it has one.
    pub fn front(
        &mut self,
        shelf: &mut Shelf,
        backend: Option<&mut Backend>,
        buf: &[u8],
        out: &mut Out,
    ) -> Taken {
        let mut backend = backend;
        let mut at = 0;
        loop {
            if self.from_client.left > 0 {
                let n = self.from_client.take(buf.len() - at);
                if self.from_client.shown {
                    out.to_server.pass(at..at + n);
                }
                at += n;
                if self.from_client.left > 0 {
                    return Taken { bytes: at, step: Step::More };
                }
            }
            let bytes = &buf[at..];
            let header = match Header::read(bytes) {
                Ok(Some(header)) => header,
                Ok(None) => return Taken { bytes: at, step: Step::More },
                Err(_) => return self.unusable(at, "invalid message length", out),
            };
            if !front::is_known(header.tag) {
                let text = alloc::format!("invalid frontend message type {}", header.tag);
                return self.unusable(at, &text, out);
            }
            let message = Message { header, bytes, at };
            match self.message(&message, shelf, backend.as_deref_mut(), out) {
                Next::Took { bytes, shown } => {
                    self.from_client.left = header.bytes() - bytes as u64;
                    self.from_client.shown = shown;
                    at += bytes;
                }
                Next::Stop(step) => return Taken { bytes: at, step },
            }
        }
    }

    /// Whether what a client without a server has sent begins with a whole message that needs one: `front` would say
    /// `Step::Link`, at more cost.
    #[must_use]
    pub fn asks_for_server(&self, buf: &[u8]) -> bool {
        let plain = self.from_client.left == 0 && !self.skipping && self.fallen.is_none();
        let Ok(Some(header)) = Header::read(buf) else { return false };
        let asks = matches!(header.tag, front::QUERY | front::PARSE | front::BIND);
        plain && self.refusal.is_empty() && asks && header.body(buf).is_some()
    }

    #[cold]
    pub(super) fn unusable(&mut self, at: usize, why: &str, out: &mut Out) -> Taken {
        out.to_client.make(|to| Words::fatal("08P01", why).put(to));
        Taken { bytes: at, step: Step::End }
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        shelf: &mut Shelf,
        backend: Option<&mut Backend>,
        out: &mut Out,
    ) -> Next {
        if message.header.tag == front::TERMINATE {
            return Next::Stop(Step::End);
        }
        if self.skipping && message.header.tag != front::SYNC {
            return dropped(message);
        }
        if self.fallen.is_some() {
            return self.fallen_message(message, shelf, out);
        }
        if !self.refusal.is_empty() && self.owed.is_empty() {
            return self.refused(message, out);
        }
        let Some(backend) = backend else { return self.unlinked(message, out) };
        if self.must_wait(message.header.tag) {
            return Next::Stop(Step::Wait);
        }
        let turn = &mut Turn { shelf, backend, out };
        match message.header.tag {
            front::QUERY => self.query(message, turn),
            front::FUNCTION_CALL => self.call(message, turn),
            // What comes after the COPY is over, or failed, means nothing.
            front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL if self.owed.is_empty() => {
                dropped(message)
            }
            front::COPY_DATA => {
                self.batch.again.keep(None);
                passed(message, &mut turn.out.to_server)
            }
            front::COPY_DONE | front::COPY_FAIL => {
                self.batch.again.keep(None);
                self.copying = false;
                self.owed.push_back(Expect::CopyEnd);
                passed(message, &mut turn.out.to_server)
            }
            front::FLUSH if self.owed.is_empty() && !self.batch.open => dropped(message),
            front::FLUSH => {
                if self.batch.open {
                    self.keep(message);
                }
                self.batch.flushed = true;
                self.say_ours(turn.out);
                passed(message, &mut turn.out.to_server)
            }
            front::SYNC => self.sync(message, turn),
            _ => self.extended(message, turn),
        }
    }

    /// Whether nothing of the client's may be sent before the server has answered.
    fn must_wait(&mut self, tag: u8) -> bool {
        self.barrier &= !self.owed.is_empty();
        let barred = self.barrier && !self.batch.open;
        // What a COPY needs is part of what is under way.
        let goes_on = matches!(tag, front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL | front::SYNC);
        self.applying || self.proving || self.uncommitted || self.owed.len() >= OWED_MAX || barred && !goes_on
    }

    /// Answers a request with the refusal that waits for it.
    #[cold]
    fn refused(&mut self, message: &Message<'_>, out: &mut Out) -> Next {
        match message.header.tag {
            front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL | front::FLUSH => return dropped(message),
            _ => {}
        }
        let refusal = core::mem::take(&mut self.refusal);
        let transaction = self.transaction();
        out.to_client.make(|to| {
            to.extend_from_slice(&refusal);
            if matches!(message.header.tag, front::QUERY | front::FUNCTION_CALL | front::SYNC) {
                back::ready(to, transaction);
            }
        });
        self.skipping = !matches!(message.header.tag, front::QUERY | front::FUNCTION_CALL | front::SYNC);
        dropped(message)
    }

    /// What needs no server, while there is none.
    fn unlinked(&mut self, message: &Message<'_>, out: &mut Out) -> Next {
        match message.header.tag {
            // After an error: its end. Alone: it asks whether we are there.
            front::SYNC => {
                self.skipping = false;
                let transaction = self.transaction();
                out.to_client.make(|to| back::ready(to, transaction));
                dropped(message)
            }
            front::FLUSH | front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL => dropped(message),
            front::CLOSE => match message.body().map(Object::read) {
                Some(Some(Object::Statement(name))) => {
                    self.forget(name);
                    out.to_client.make(|to| back::bare(to, back::CLOSE_COMPLETE));
                    dropped(message)
                }
                _ => Next::Stop(Step::Link),
            },
            // Whoever has said half of it must not keep a server from others. A long one is not waited for.
            _ if message.body().is_none() && message.header.bytes() <= WHOLE_BYTES_MAX => message.whole(),
            _ => Next::Stop(Step::Link),
        }
    }

    pub(super) fn forget(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        if name.is_empty() { self.unnamed.take() } else { self.names.remove(name) }
    }

    /// A request begins: one that begins when nothing is owed may be run again.
    pub(super) fn begins(&mut self) {
        let ours = || matches!(self.owed.front(), Some(Expect::Query(Asker::Ask | Asker::Temporary)));
        let clear = self.owed.is_empty() || self.owed.len() == 1 && ours();
        if clear && !self.batch.open {
            self.batch.requests = 0;
            self.batch.answered = false;
            self.batch.flushed = false;
            self.batch.again.begin(self.rules.rides && self.transaction == Transaction::Idle);
            if self.transaction == Transaction::Idle {
                self.xid = None;
            }
        } else if !self.batch.open && (self.batch.number != self.batch.over || self.wrapped || self.proving) {
            self.batch.again.next();
        }
    }

    /// The first request of the client's that is owed has its answer.
    pub(super) fn request_over(&mut self) {
        self.batch.again.over();
        self.batch.answered = false;
    }

    /// A request ends here: a query, a call, a Sync.
    fn is_request(&mut self) {
        self.batch.requests = self.batch.requests.saturating_add(1);
        self.batch.number = self.batch.number.wrapping_add(1);
        self.counts.requests = self.counts.requests.wrapping_add(1);
        self.batch.open = false;
        self.batch.ends = false;
    }

    /// Keeps a message, if it may be said again.
    pub(super) fn keep(&mut self, message: &Message<'_>) {
        let whole = message.body().map(|_| &message.bytes[..message.there()]);
        self.batch.again.keep(whole);
    }

    fn query(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        let whole = message.body();
        if whole.is_none() && message.header.bytes() <= QUERY_LOOK_BYTES {
            return message.whole();
        }
        let text = match whole.unwrap_or(message.beginning()) {
            [text @ .., 0] => text,
            text => text,
        };
        let mut traits = sql::look(text);
        let is_ours = whole.is_some() && traits.verb == Verb::Other && sql::asks_lsn(text);
        if is_ours {
            traits = sql::look(sql::LSN_QUESTION.as_bytes());
        }
        if self.rules.mode == Mode::Statement && traits.verb == Verb::Begin {
            return self.no_blocks(turn.out);
        }
        if let Some(words) = self.wrong_setting(text, &traits).filter(|_| whole.is_some() && !self.batch.open)
        {
            return self.query_in_vain(message, words, turn);
        }
        let names = whole.is_some() && by_name::may_name(&traits);
        let busy = !self.owed.is_empty() && !self.batch.open;
        if names && busy && sql::prepared_name(text).is_some() {
            // Which statement it means, and whether it succeeds, hangs on what is under way.
            return Next::Stop(Step::Wait);
        }
        let named = if names { self.with_our_name(text) } else { None };
        self.begins();
        self.keep(message);
        let in_batch = self.batch.open;
        self.no_more_unnamed();
        self.is_request();
        turn.backend.unnamed = 0;
        self.notes(text, &traits);
        self.marks(&traits);
        if let Some(named) = named {
            self.query_by_name(&named, &traits, in_batch, turn);
            return dropped(message);
        }
        let ends = if whole.is_some() { Ends::of(&traits) } else { Ends::Maybe };
        if ends == Ends::Commit && !in_batch {
            self.ask_xid(false, turn.out);
        }
        let wraps = whole.is_some() && !in_batch && self.wraps(&traits);
        if wraps {
            self.begin_wrap(turn);
        }
        self.owed.push_back(Expect::Query(Asker::Client(ends)));
        if is_ours {
            turn.out.to_server.make(|to| front::query(to, sql::LSN_QUESTION.as_bytes()));
            return dropped(message);
        }
        let next = passed(message, &mut turn.out.to_server);
        if wraps {
            self.end_wrap(turn);
        }
        next
    }

    /// A simple query destroys it.
    fn no_more_unnamed(&mut self) {
        if let Some(old) = self.unnamed.take() {
            self.batch.again.renames(b"", Some(old));
        }
        self.unnamed_changed = Some(self.batch.number);
    }

    /// The error that a text must fail with instead of being run. In a block that has failed it fails anyway.
    pub(super) fn wrong_setting(&self, text: &[u8], traits: &Traits) -> Option<Vec<u8>> {
        let failed = self.transaction == Transaction::Failed;
        if traits.sets && !failed { read_after::refusal(text) } else { None }
    }

    /// A query that only we know to be wrong: the server is made to fail as well, and its transaction with it.
    #[cold]
    fn query_in_vain(&mut self, message: &Message<'_>, words: Vec<u8>, turn: &mut Turn<'_>) -> Next {
        self.begins();
        self.keep(message);
        self.no_more_unnamed();
        turn.backend.unnamed = 0;
        self.is_request();
        self.owed.push_back(Expect::Refused(words.into()));
        self.owed.push_back(Expect::Sync { shown: true });
        turn.out.to_server.make(|to| {
            front::of_statement(to, front::DESCRIBE, super::extended::NO_STATEMENT);
            front::sync(to);
        });
        dropped(message)
    }

    #[cold]
    fn no_blocks(&mut self, out: &mut Out) -> Next {
        let words = Words::fatal("08P01", "transaction blocks not allowed in statement pooling mode");
        out.to_client.make(|to| words.put(to));
        Next::Stop(Step::End)
    }

    /// The names of settings that a text may set.
    #[inline]
    pub(super) fn notes(&mut self, text: &[u8], traits: &Traits) {
        if traits.sets {
            self.notes_settings(text);
        }
    }

    fn notes_settings(&mut self, text: &[u8]) {
        if !sql::can_follow(text) {
            self.pins.add(Pin::Settings);
        }
        let own = sql::own_settings(text).filter_map(|name| core::str::from_utf8(name).ok());
        let room = crate::settings::SETTINGS_MAX.saturating_sub(self.own.len());
        self.own.extend(own.take(room).map(String::from));
    }

    /// What a statement that is about to run will leave behind in its session.
    pub(super) fn marks(&mut self, traits: &Traits) {
        self.sets |= traits.sets;
        // The first of many words says nothing of the others.
        self.wrote |=
            traits.many || matches!(traits.verb, Verb::Write | Verb::With | Verb::Copy | Verb::Other);
        self.barrier |= matches!(traits.verb, Verb::Deallocate | Verb::Discard) || traits.many;
        // RESET goes back to the startup message's values, which are set again before anything else runs.
        self.barrier |= traits.sets && !self.startup.is_empty();
        let pins = [
            (traits.temporary, Pin::Temporary),
            (traits.holds, Pin::HeldCursor),
            (traits.locks, Pin::AdvisoryLock),
        ];
        for (_, pin) in pins.into_iter().filter(|(there, _)| *there) {
            self.pins.add(pin);
        }
        if traits.temporary {
            self.temporary.made();
        }
    }

    fn call(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        self.begins();
        self.keep(message);
        self.is_request();
        // Large objects are written so.
        self.wrote = true;
        let function = wire::frame::int32(message.beginning()).map(|(oid, _)| oid);
        if function == Some(SET_CONFIG_FUNCTION) {
            self.pins.add(Pin::Settings);
        }
        self.owed.push_back(Expect::Query(Asker::Client(Ends::No)));
        passed(message, &mut turn.out.to_server)
    }

    fn sync(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        self.skipping = false;
        self.begins();
        // PostgreSQL reads over a Sync in the middle of a COPY (`CopyGetData` in commands/copyfromparse.c).
        // Were it sent, and the COPY had just failed, it would be answered after all.
        if self.copying {
            return dropped(message);
        }
        self.keep(message);
        self.is_request();
        self.owed.push_back(Expect::Sync { shown: true });
        let next = passed(message, &mut turn.out.to_server);
        if self.wrapping {
            self.end_wrap(turn);
        }
        next
    }
}
