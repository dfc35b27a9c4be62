//! Successes that are not shown as they come: a commit that may not have waited for the standbys, and one
//! that was none because a question of ours had failed before it.

use wire::back::{self, Transaction, Words};
use wire::frame::{HEADER_BYTES, Header};

use super::Session;
use super::back::Reply;
use super::front::Message;
use crate::expect::{Asker, Ends, Expect};
use crate::plan::Out;

impl Session {
    /// A cancel for what is under way was passed on: a success that comes now may be one that did not wait.
    pub fn cancelled(&mut self) {
        self.cancelled = self.rules.rides;
    }

    /// Whether what is under way may be stopped when its client has gone: where that can't make a commit
    /// seen that has not reached the standbys.
    #[must_use]
    pub fn may_stop(&self) -> bool {
        let ends = |e: &Expect| match e {
            Expect::Query(Asker::Client(ends)) | Expect::Execute { ends, .. } => *ends != Ends::No,
            Expect::Query(Asker::Commit | Asker::Prove) => true,
            _ => false,
        };
        let in_block = self.transaction != Transaction::Idle && !self.wrapped;
        !self.rules.rides || in_block && !self.owed.iter().any(ends) || self.only_reads()
    }

    /// A statement has succeeded. With `client_min_messages` above warning PostgreSQL does not say that a wait
    /// was cut short, and who was cancelled may have been so in that wait.
    pub(super) fn doubts(&mut self, ends: Ends) {
        let commits = match self.owed.front() {
            Some(Expect::Query(Asker::Commit)) => true,
            Some(Expect::Query(Asker::Client(_))) | None => !self.wrapped && self.commits_now(ends),
            Some(_) => !self.wrapped && self.is_for_client() && self.commits_now(ends),
        };
        if self.rules.rides && commits && (self.cancelled || self.is_mute()) && !self.only_reads() {
            self.cancelled = false;
            self.tainted = true;
        }
    }

    fn commits_now(&self, ends: Ends) -> bool {
        self.transaction == Transaction::Idle && !self.part.begun || ends != Ends::No
    }

    /// Whether PostgreSQL would not say that a commit's wait was cut short.
    pub(super) fn is_mute(&self) -> bool {
        let set = self.settings.get("client_min_messages").map(alloc::string::String::as_str);
        matches!(set, Some("error" | "fatal" | "panic"))
    }

    /// The block ended in a rollback that its client did not ask for: a question of ours had failed in it.
    pub(super) fn rolled_back_unasked(
        &mut self,
        message: &Message<'_>,
        ends: Ends,
        out: &mut Out,
    ) -> Option<Reply> {
        if message.body() != Some(b"ROLLBACK\0".as_slice()) {
            return None;
        }
        if matches!(self.owed.front(), Some(Expect::Query(Asker::Commit)))
            && !holds_error(&self.held)
            && !self.part.failed
        {
            self.held.clear();
            self.held.extend(core::mem::take(&mut self.unasked));
            if self.held.is_empty() {
                Words::error("40001", "the transaction was rolled back").put(&mut self.held);
            }
        }
        if ends == Ends::Commit && !self.unasked.is_empty() {
            let words = core::mem::take(&mut self.unasked);
            out.to_client.make(|to| to.extend_from_slice(&words));
            return Some(Reply::Swallow);
        }
        self.unasked.clear();
        None
    }

    /// The client hears of a block that has failed without a word to it: the word is said now.
    pub(super) fn tells_unasked(&mut self, body: &[u8], out: &mut Out) -> bool {
        if self.unasked.is_empty() || back::field(body, b'C') != Some(b"25P02") {
            return false;
        }
        let words = core::mem::take(&mut self.unasked);
        self.batch.answered = true;
        out.to_client.make(|to| to.extend_from_slice(&words));
        true
    }
}

fn holds_error(held: &[u8]) -> bool {
    let mut rest = held;
    while let Ok(Some(header)) = Header::read(rest) {
        if header.tag == back::ERROR {
            return true;
        }
        let Some(body) = header.body(rest) else { return false };
        rest = &rest[HEADER_BYTES + body.len()..];
    }
    false
}
