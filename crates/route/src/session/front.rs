//! What a client says, and what of it goes to its server.

use alloc::string::String;
use alloc::sync::Arc;

use wire::back::{self, Transaction, Words};
use wire::frame::Header;
use wire::front::{self, Object};

use super::{AGAIN_BYTES_MAX, Mode, Session, Xid};
use crate::backend::Backend;
use crate::expect::{Asker, Expect, OWED_MAX};
use crate::pin::Pin;
use crate::plan::{Out, Plan};
use crate::prepared::{Shelf, Statement};
use crate::sql::{self, Traits, Verb};

/// A simple query up to so long is waited for; of a longer one the beginning is looked at.
pub const QUERY_LOOK_BYTES: u64 = 16 << 10;

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
        if self.applying || self.owed.len() >= OWED_MAX {
            return Next::Stop(Step::Wait);
        }
        let turn = &mut Turn { shelf, backend, out };
        match message.header.tag {
            front::QUERY => self.query(message, turn),
            front::FUNCTION_CALL => self.call(message, turn),
            front::COPY_DATA => passed(message, &mut turn.out.to_server),
            front::COPY_DONE | front::COPY_FAIL => {
                self.copying = false;
                self.owed.push_back(Expect::CopyEnd);
                passed(message, &mut turn.out.to_server)
            }
            front::FLUSH => passed(message, &mut turn.out.to_server),
            front::SYNC => self.sync(message, turn),
            _ => self.extended(message, turn),
        }
    }

    /// Answers a request with the refusal that waits for it.
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
            _ => Next::Stop(Step::Link),
        }
    }

    pub(super) fn forget(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        if name.is_empty() { self.unnamed.take() } else { self.names.remove(name) }
    }

    /// A request begins: one that begins when nothing is owed may be run again.
    pub(super) fn begins(&mut self) {
        if self.owed.is_empty() && !self.batch.open {
            self.batch.requests = 0;
            self.batch.answered = false;
            self.batch.again.clear();
            self.xid = Xid::NotAsked;
        }
    }

    /// Keeps a message of the first request, if that may be run again.
    pub(super) fn keep(&mut self, message: &Message<'_>) {
        let room = self.batch.again.len() + message.bytes.len().min(message.there()) <= AGAIN_BYTES_MAX;
        let whole = message.body().is_some();
        if self.rules.rides
            && self.transaction == Transaction::Idle
            && room
            && whole
            && self.batch.requests == 0
        {
            self.batch.again.extend_from_slice(&message.bytes[..message.there()]);
        } else {
            // What is kept of it is not all of it any more.
            self.batch.again.clear();
            self.batch.requests += u32::from(self.batch.requests == 0 && self.batch.open && !room);
        }
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
        let traits = sql::look(text);
        if self.rules.mode == Mode::Statement && traits.verb == Verb::Begin {
            return self.no_blocks(turn.out);
        }
        self.begins();
        self.keep(message);
        self.batch.requests += 1;
        self.unnamed = None;
        turn.backend.unnamed = 0;
        self.notes(&traits, text);
        if whole.is_some() && self.names_in_sql(text, turn) {
            return dropped(message);
        }
        let alone = whole.is_some() && !traits.many;
        if alone && traits.verb == Verb::Commit {
            self.ask_xid(turn.out);
            self.owed.push_back(Expect::Query(Asker::ClientCommit));
            return passed(message, &mut turn.out.to_server);
        }
        let wraps = alone && self.wraps(&traits);
        if wraps {
            self.begin_wrap(turn);
        }
        self.owed.push_back(Expect::Query(Asker::Client));
        let next = passed(message, &mut turn.out.to_server);
        if wraps {
            self.end_wrap(turn.out);
        }
        next
    }

    fn no_blocks(&mut self, out: &mut Out) -> Next {
        let words = Words::fatal("08P01", "transaction blocks not allowed in statement pooling mode");
        out.to_client.make(|to| words.put(to));
        Next::Stop(Step::End)
    }

    /// What a text will leave behind in its session.
    pub(super) fn notes(&mut self, traits: &Traits, text: &[u8]) {
        let pins = [
            (traits.temporary, Pin::Temporary),
            (traits.holds, Pin::HeldCursor),
            (traits.locks, Pin::AdvisoryLock),
        ];
        for (_, pin) in pins.into_iter().filter(|(there, _)| *there) {
            self.pins.add(pin);
        }
        if traits.sets {
            self.asks = true;
            let own = sql::own_settings(text).filter_map(|name| core::str::from_utf8(name).ok());
            let room = crate::settings::SETTINGS_MAX.saturating_sub(self.own.len());
            self.own.extend(own.take(room).map(String::from));
        }
    }

    fn call(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        self.begins();
        self.keep(message);
        self.batch.requests += 1;
        self.owed.push_back(Expect::Query(Asker::Client));
        passed(message, &mut turn.out.to_server)
    }

    fn sync(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) -> Next {
        self.skipping = false;
        self.begins();
        // PostgreSQL reads over a Sync in the middle of a COPY (`CopyGetData` in commands/copyfromparse.c).
        if self.copying {
            return passed(message, &mut turn.out.to_server);
        }
        self.keep(message);
        self.batch.requests += 1;
        self.batch.open = false;
        self.owed.push_back(Expect::Sync { shown: true });
        let next = passed(message, &mut turn.out.to_server);
        if self.wrapped && self.xid == Xid::NotAsked {
            self.end_wrap(turn.out);
        }
        next
    }
}
