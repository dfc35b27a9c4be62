//! A statement is complete: what its tag tells, and whether the client hears of it yet.

use wire::back;

use super::Session;
use super::back::Reply;
use super::front::Message;
use super::temporary;
use crate::backend::Backend;
use crate::expect::{Asker, Ends, Expect};
use crate::pin::Pin;
use crate::plan::Out;

impl Session {
    pub(super) fn complete(&mut self, message: &Message<'_>, backend: &mut Backend, out: &mut Out) -> Reply {
        let shown = self.is_for_client();
        if message.header.tag == back::COMMAND_COMPLETE {
            self.tag(message.body().unwrap_or_default(), backend);
        }
        if message.header.tag == back::PORTAL_SUSPENDED {
            self.asks |= self.sets;
        }
        let simple = matches!(self.owed.front(), Some(Expect::Query(_)));
        let ends = match self.owed.front() {
            Some(Expect::Execute { ends, .. }) => {
                let ends = *ends;
                self.done();
                ends
            }
            Some(Expect::Query(Asker::Client(ends))) if self.part.ended == Ends::No => *ends,
            _ => Ends::No,
        };
        self.part.behind |= self.part.ended != Ends::No && !simple;
        if message.header.tag == back::COMMAND_COMPLETE && ends != Ends::No {
            self.part.ended = self.part.ended.then(ends);
        }
        if message.header.tag == back::COMMAND_COMPLETE {
            self.part.begun |= begins(message.body().unwrap_or_default());
            self.doubts(ends);
            if let Some(reply) = self.rolled_back_unasked(message, ends, out) {
                return reply;
            }
        }
        // Said only once the commit is certain. In a batch it never says so: ReadyForQuery does.
        self.completion_at = usize::MAX;
        if shown && simple && self.wrapped && message.header.tag == back::COMMAND_COMPLETE {
            self.completion_at = self.held.len();
            self.held.extend_from_slice(&message.bytes[..message.there()]);
            return Reply::Swallow;
        }
        Session::show_if(shown)
    }

    /// What a statement has left behind, by its tag.
    fn tag(&mut self, tag: &[u8], backend: &mut Backend) {
        self.asks |= self.sets && self.is_for_client();
        match tag.strip_suffix(b"\0").unwrap_or(tag) {
            b"RESET" if self.is_for_client() => self.asks = true,
            b"LISTEN" => self.pins.add(Pin::Listen),
            b"PREPARE" => self.pins.add(Pin::SqlPrepared),
            b"LOAD" => self.pins.add(Pin::Loaded),
            b"DEALLOCATE ALL" => {
                backend.forget_prepared();
                self.names.clear();
                self.pins.remove(Pin::SqlPrepared);
            }
            b"DISCARD ALL" => {
                backend.forget_prepared();
                self.names.clear();
                self.discarded();
                self.asks = true;
            }
            tag if !self.pins.is_empty() => self.temporary.may_be_gone(temporary::ends_some(tag)),
            _ => {}
        }
    }
}

/// Whether a statement of that tag has begun a block.
fn begins(tag: &[u8]) -> bool {
    matches!(tag, b"BEGIN\0" | b"START TRANSACTION\0")
}
