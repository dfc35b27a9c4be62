//! What a server says, and what of it the client gets.
//!
//! Rows and COPY data are hopped over by their headers. A short message is shown
//! whole or not at all, so that a server which dies in the middle of one leaves
//! the client's stream in order.

use alloc::sync::Arc;

use wire::back::{self, Transaction};
use wire::frame::{HEADER_BYTES, Header, int32};

use super::Session;
use super::front::Message;
use crate::backend::Backend;
use crate::expect::{Asker, Expect, Undo};
use crate::pin::Pin;
use crate::plan::Out;
use crate::prepared::Statement;

/// Messages up to so long are shown whole; of longer ones the parts go as they come.
pub const WHOLE_BYTES: u64 = 16 << 10;

/// What may wait for the proof of a commit.
const HELD_BYTES_MAX: usize = 1 << 20;

/// What is needed before more can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// More bytes.
    More,
    /// So many bytes in the buffer, from the first that was not taken.
    Whole(usize),
    /// It has said that it ends this connection, why is in the message of so many bytes at the front
    /// of what was not taken.
    Fatal(usize),
    /// It says what it can't: the connection must not be used any more, and the client must be closed.
    Broken,
    /// It can't be set up for this client any more, which has nothing in it: close it, and link another.
    Unfit,
    /// The client must be closed; its last words are in `out`.
    End,
}

/// What becomes of one message.
pub(super) enum Reply {
    Show,
    Swallow,
    Stop(Heard),
}

impl Session {
    /// Takes what the server has sent. Gives how many bytes were used.
    pub fn back(&mut self, backend: &mut Backend, buf: &[u8], out: &mut Out) -> (usize, Heard) {
        let mut at = 0;
        loop {
            if self.from_server.left > 0 {
                let n = self.from_server.take(buf.len() - at);
                if self.from_server.shown {
                    out.to_client.pass(at..at + n);
                }
                at += n;
                if self.from_server.left > 0 {
                    return (at, Heard::More);
                }
            }
            if self.shows_rows() {
                at += self.pass_rows(&buf[at..], at, out);
            }
            let bytes = &buf[at..];
            let header = match Header::read(bytes) {
                Ok(Some(header)) => header,
                Ok(None) => return (at, Heard::More),
                Err(_) => return (at, Heard::Broken),
            };
            let message = Message { header, bytes, at };
            if message.body().is_none() && header.bytes() <= WHOLE_BYTES {
                return (at, Heard::Whole(usize::try_from(header.bytes()).unwrap_or(usize::MAX)));
            }
            if is_answer(header.tag) {
                self.say_ours(out);
            }
            let shown = match self.reply(&message, backend, out) {
                // Whatever comes after a commit that is not proven waits with it.
                Reply::Show if self.proving || self.tainted => {
                    self.held.extend_from_slice(&bytes[..message.there()]);
                    if self.held.len() > HELD_BYTES_MAX || message.body().is_none() {
                        return (at, Heard::Broken);
                    }
                    false
                }
                // Nothing of it is shown yet, so that it can be run again if its transaction is lost.
                Reply::Show if self.may_hold(&message) => {
                    self.held.extend_from_slice(&bytes[..message.there()]);
                    false
                }
                Reply::Show => {
                    // What comes after the end of a request belongs to the next.
                    self.batch.answered = header.tag != back::READY;
                    self.show_kept_back(out);
                    out.to_client.pass(at..at + message.there());
                    true
                }
                Reply::Swallow => false,
                Reply::Stop(heard) => return (at, heard),
            };
            self.from_server.left = header.bytes() - message.there() as u64;
            self.from_server.shown = shown;
            at += message.there();
            // What belongs to the next request need not be said before its server says something, unless the client
            // asks for it.
            let next = header.tag == back::READY && !self.batch.flushed;
            if !next && is_answer(header.tag) {
                self.say_ours(out);
            }
        }
    }

    /// Whether the answer to a statement in a transaction of ours can still be kept back as a whole.
    fn may_hold(&self, message: &Message<'_>) -> bool {
        let room = self.held.len() as u64 + message.header.bytes() <= super::AGAIN_BYTES_MAX as u64;
        self.wrapped && !self.batch.answered && room
    }

    /// Whether what comes now is for the client.
    pub(super) fn is_for_client(&self) -> bool {
        let next = self.owed.iter().find(|expect| !matches!(expect, Expect::Said { .. }));
        next.is_none_or(Expect::is_clients)
    }

    pub(super) fn show_if(shown: bool) -> Reply {
        if shown { Reply::Show } else { Reply::Swallow }
    }

    fn reply(&mut self, message: &Message<'_>, backend: &mut Backend, out: &mut Out) -> Reply {
        match message.header.tag {
            back::DATA_ROW => self.row(message),
            back::COPY_DATA | back::COPY_DONE | back::PARAMETER_DESCRIPTION => {
                Session::show_if(self.is_for_client())
            }
            back::READY => match self.is_ready(message, backend, out) {
                Ok(shown) => Session::show_if(shown),
                Err(heard) => Reply::Stop(heard),
            },
            back::COMMAND_COMPLETE | back::EMPTY_QUERY | back::PORTAL_SUSPENDED => {
                self.complete(message, backend, out)
            }
            back::PARSE_COMPLETE | back::BIND_COMPLETE | back::CLOSE_COMPLETE => {
                self.step_done(message.header.tag)
            }
            back::ROW_DESCRIPTION | back::NO_DATA => {
                let shown = self.is_for_client();
                if matches!(self.owed.front(), Some(Expect::Describe { .. })) {
                    self.done();
                }
                Session::show_if(shown)
            }
            back::COPY_IN | back::COPY_OUT | back::COPY_BOTH => self.copy(message.header.tag),
            back::FUNCTION_RESULT => self.function_result(message),
            back::ERROR => self.error(message, backend, out),
            back::NOTICE => self.notice(message),
            back::PARAMETER_STATUS => self.parameter(message, backend),
            back::NOTIFICATION => Session::show_if(self.pins.iter().any(|p| p == Pin::Listen)),
            _ => Reply::Stop(Heard::Broken),
        }
    }

    /// The first thing that was owed is done. What is ours to say after it is said
    /// once the message that ended it has been shown.
    pub(super) fn done(&mut self) {
        self.owed.pop_front();
    }

    /// Says what is ours to say now.
    #[inline]
    pub(super) fn say_ours(&mut self, out: &mut Out) {
        if let Some(Expect::Said { .. } | Expect::CopyEnd) = self.owed.front() {
            self.say_all_of_ours(out);
        }
    }

    fn say_all_of_ours(&mut self, out: &mut Out) {
        while let Some(Expect::Said { .. } | Expect::CopyEnd) = self.owed.front() {
            if let Some(Expect::Said { tag, .. }) = self.owed.pop_front() {
                if self.tainted || self.wrapped && !self.batch.answered {
                    back::bare(&mut self.held, tag);
                } else {
                    self.batch.answered = true;
                    out.to_client.make(|to| back::bare(to, tag));
                }
            }
        }
    }

    fn step_done(&mut self, tag: u8) -> Reply {
        let shown = match (tag, self.owed.front()) {
            (back::PARSE_COMPLETE, Some(Expect::Parse { shown, .. })) => *shown,
            (back::CLOSE_COMPLETE, Some(Expect::Close { shown, .. })) => *shown,
            (back::BIND_COMPLETE, Some(Expect::Bind { .. })) => true,
            _ => return Reply::Stop(Heard::Broken),
        };
        self.done();
        Session::show_if(shown)
    }

    fn copy(&mut self, tag: u8) -> Reply {
        if tag == back::COPY_BOTH {
            self.pins.add(Pin::Replication);
        }
        let clients =
            matches!(self.owed.front(), Some(Expect::Execute { .. } | Expect::Query(Asker::Client(_))));
        if tag == back::COPY_IN && clients {
            // Syncs that were sent ahead are read over while data is awaited. Anything else ends the COPY.
            let mut read_over = false;
            while let Some(Expect::Sync { .. }) = self.owed.get(1) {
                self.owed.remove(1);
                self.batch.over = self.batch.over.wrapping_add(1);
                read_over = matches!(self.owed.front(), Some(Expect::Execute { .. }));
            }
            // Then the one that ends its batch is still to come.
            self.batch.open |= read_over && !self.owed.iter().any(Expect::ends_ready);
            self.copying = self.owed.len() == 1;
        }
        Session::show_if(self.is_for_client())
    }

    fn function_result(&mut self, message: &Message<'_>) -> Reply {
        if !matches!(self.owed.front(), Some(Expect::Query(Asker::Xid))) {
            return Session::show_if(self.is_for_client());
        }
        let body = message.body().unwrap_or_default();
        let text = int32(body)
            .filter(|(length, _)| *length >= 0)
            .and_then(|(_, text)| core::str::from_utf8(text).ok());
        let xid: Option<u64> = text.and_then(|text| text.parse().ok());
        // 'None' counts for what came before the question: if it is asked again, that answer counts.
        let again = self.owed.iter().skip(1).any(|e| matches!(e, Expect::Query(Asker::Xid)));
        if xid.is_some() || !again {
            self.xid = Some(xid);
        }
        Reply::Swallow
    }

    fn error(&mut self, message: &Message<'_>, backend: &mut Backend, out: &mut Out) -> Reply {
        let body = message.body().unwrap_or(&message.bytes[HEADER_BYTES..message.there()]);
        if back::is_fatal(body) {
            return Reply::Stop(Heard::Fatal(message.there()));
        }
        self.say_ours(out);
        self.copying = false;
        self.part.failed |=
            self.is_for_client() || matches!(self.owed.front(), Some(Expect::Query(Asker::Commit)));
        if matches!(self.owed.front(), Some(Expect::Query(Asker::Client(_)))) && self.tells_unasked(body, out)
        {
            return Reply::Swallow;
        }
        match self.owed.front() {
            Some(Expect::Query(Asker::Apply)) => self.unapplied = message.bytes[..message.there()].to_vec(),
            // Cancelled: it is asked for again.
            Some(Expect::Query(Asker::Prove)) if back::field(body, b'C') == Some(b"57014") => {
                self.tainted = true
            }
            Some(Expect::Query(Asker::Ask | Asker::Prove)) => backend.clean = false,
            // The block had failed before, and its client knows.
            Some(Expect::Query(Asker::Xid)) if back::field(body, b'C') == Some(b"25P02") => {}
            // Ours failed, and the transaction with it: its client is told so, instead of a success.
            Some(Expect::Query(Asker::Xid | Asker::Begin)) => {
                self.unbegun |= matches!(self.owed.front(), Some(Expect::Query(Asker::Begin)));
                self.unasked = message.bytes[..message.there()].to_vec();
            }
            // Deferred constraints fail at COMMIT: the client is told that, and nothing that was held.
            Some(Expect::Query(Asker::Commit)) => {
                self.held.truncate(self.completion_at);
                return Reply::Show;
            }
            Some(Expect::Query(_) | Expect::Sync { .. } | Expect::Said { .. } | Expect::CopyEnd) | None => {}
            Some(Expect::Refused(bytes)) => {
                let bytes = bytes.clone();
                if self.wrapped && !self.batch.answered {
                    self.held.extend_from_slice(&bytes);
                } else {
                    self.batch.answered = true;
                    out.to_client.make(|to| to.extend_from_slice(&bytes));
                }
                self.batch_failed(backend);
                return Reply::Swallow;
            }
            Some(Expect::Bind { id } | Expect::Describe { id, .. }) => {
                // 'cached plan must not change result type', or it is gone: prepared anew the next time.
                if matches!(back::field(body, b'C'), Some(b"0A000" | b"26000")) {
                    backend.spoil(*id);
                }
                self.batch_failed(backend);
                return Reply::Show;
            }
            Some(Expect::Parse { shown: false, .. })
                if matches!(self.owed.get(1), Some(Expect::Sync { shown: false })) =>
            {
                // Before a query that names it, which fails as well.
                self.batch_failed(backend);
                return Reply::Swallow;
            }
            Some(expect @ (Expect::Parse { .. } | Expect::Execute { .. } | Expect::Close { .. })) => {
                // It is there under our name, though we did not know: closed before it is prepared again.
                let taken = match expect {
                    Expect::Parse { undo, .. } if back::field(body, b'C') == Some(b"42P05") => ours(undo),
                    _ => None,
                };
                return self.step_failed(taken, body, backend, out);
            }
        }
        Session::show_if(self.is_for_client())
    }

    fn step_failed(
        &mut self,
        taken: Option<u64>,
        body: &[u8],
        backend: &mut Backend,
        out: &mut Out,
    ) -> Reply {
        self.part.failed = true;
        let told = self.tells_unasked(body, out);
        self.batch_failed(backend);
        if let Some(id) = taken {
            backend.spoil(id);
        }
        Session::show_if(!told)
    }

    /// The server reads over everything up to Sync, so none of it is answered or done.
    fn batch_failed(&mut self, backend: &mut Backend) {
        let sync = self.owed.iter().position(|e| matches!(e, Expect::Sync { .. }));
        // The client has not sent it yet. What it sends before is read over here as well.
        self.skipping |= sync.is_none();
        self.batch.open |= sync.is_none();
        let end = sync.unwrap_or(self.owed.len());
        // A Parse that fails takes the unnamed statement with it.
        let took_unnamed = match self.owed.front() {
            Some(Expect::Parse { shown: true, undo }) => {
                matches!(undo.as_slice(), [Undo::Name(name, _)] if name.is_empty())
            }
            _ => false,
        };
        let given_up: alloc::vec::Vec<Expect> = self.owed.drain(..end).collect();
        let queries = given_up.iter().filter(|e| e.is_clients() && e.ends_ready()).count();
        for expect in given_up.into_iter().rev() {
            self.take_back(expect, Some(backend));
        }
        self.batch.over = self.batch.over.wrapping_add(u32::try_from(queries).unwrap_or(u32::MAX));
        (0..queries).for_each(|_| self.batch.again.over());
        if took_unnamed {
            self.restore_unnamed(None);
        }
    }

    /// The unnamed statement is what it was before the batch that is given up; a later batch may have
    /// replaced it, and falls back on that.
    fn restore_unnamed(&mut self, old: Option<Arc<Statement>>) {
        if self.unnamed_changed.is_none_or(|batch| batch == self.batch.over) {
            self.unnamed = old;
            return;
        }
        // A query takes it away, whatever it was.
        let until_query = self.owed.iter_mut().take_while(|e| !matches!(e, Expect::Query(Asker::Client(_))));
        let later = until_query.filter_map(|expect| match expect {
            Expect::Parse { undo, .. } => undo.iter_mut().find_map(Undo::of_unnamed),
            Expect::Said { undo: Some(undo), .. } => undo.of_unnamed(),
            _ => None,
        });
        let later = later.into_iter().next();
        if let Some(later) = later {
            *later = old;
        }
    }

    /// Takes back what would be so now if the server had answered to it.
    pub(super) fn take_back(&mut self, expect: Expect, mut backend: Option<&mut Backend>) {
        let mut one = |undo: Undo| match undo {
            Undo::Name(name, old) if name.is_empty() => {
                self.restore_unnamed(old);
                if let Some(backend) = backend.as_deref_mut() {
                    backend.unnamed = 0;
                }
            }
            Undo::Name(name, old) => {
                self.batch.again.found(&name, old.as_ref());
                self.stands_for(name, old);
            }
            Undo::Prepared(id) => {
                if let Some(backend) = backend.as_deref_mut() {
                    backend.remove(id);
                }
            }
            Undo::Unnamed => {
                if let Some(backend) = backend.as_deref_mut() {
                    backend.unnamed = 0;
                }
            }
        };
        match expect {
            Expect::Parse { undo, .. } => undo.into_iter().rev().for_each(one),
            Expect::Said { undo: Some(undo), .. } | Expect::Execute { undo: Some(undo), .. } => one(undo),
            Expect::Close { shown: false, id } => {
                if let Some(backend) = backend {
                    backend.spoil(id);
                }
            }
            Expect::Query(_)
            | Expect::Bind { .. }
            | Expect::Describe { .. }
            | Expect::Execute { undo: None, .. }
            | Expect::Close { .. }
            | Expect::Sync { .. }
            | Expect::CopyEnd
            | Expect::Said { undo: None, .. }
            | Expect::Refused(_) => {}
        }
    }

    fn notice(&mut self, message: &Message<'_>) -> Reply {
        let body = message.body().unwrap_or_default();
        // syncrep.c: somebody cancelled the wait, or ended this backend, after it had committed on its own disk.
        if back::field(body, b'R') == Some(b"SyncRepWaitForLSN") {
            self.tainted = true;
            return Session::show_if(!self.rules.rides && self.is_for_client());
        }
        // What triggers say while a commit of ours goes on is for the client.
        let commits = matches!(self.owed.front(), Some(Expect::Query(Asker::Commit)));
        Session::show_if(self.is_for_client() || commits)
    }

    fn parameter(&mut self, message: &Message<'_>, backend: &mut Backend) -> Reply {
        let Some((name, value)) = message.body().and_then(back::parameter) else {
            return Reply::Stop(Heard::Broken);
        };
        backend.report(name, value);
        // Promoted, if it was a standby.
        self.on_standby &= backend.on_standby();
        // In no list of settings, so it can't be followed.
        let user = name == b"session_authorization";
        let known = core::str::from_utf8(name).ok().and_then(|name| self.told.get(name));
        let news = known.is_none_or(|known| known.as_bytes() != value);
        if self.applying {
            // Told together once all of them are applied.
            return Reply::Swallow;
        }
        if user && news {
            self.pins.add(Pin::Authorization);
        }
        self.told = Arc::clone(&backend.reported);
        Session::show_if(news)
    }

    /// State of the transaction after a message of type `READY`.
    pub(super) fn state_of(message: &Message<'_>) -> Option<Transaction> {
        message.body().and_then(Transaction::read)
    }
}

/// Whether a message answers something: the others come at any time, and an error may end the connection.
fn is_answer(tag: u8) -> bool {
    !matches!(tag, back::NOTICE | back::PARAMETER_STATUS | back::NOTIFICATION | back::ERROR)
}

/// The statement of ours that a Parse was to prepare.
fn ours(undo: &[Undo]) -> Option<u64> {
    undo.iter().find_map(|undo| match undo {
        Undo::Prepared(id) => Some(*id),
        _ => None,
    })
}
