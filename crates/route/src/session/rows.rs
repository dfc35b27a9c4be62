//! Rows and COPY's data: most of what servers say, and nothing that changes anything for their client.

use alloc::string::String;

use wire::back::{self, Transaction};
use wire::frame::HEADER_BYTES;

use super::Session;
use super::back::Reply;
use super::front::Message;
use crate::expect::{Asker, Ends, Expect};
use crate::pin::Pin;
use crate::plan::Out;
use crate::settings::SETTINGS_MAX;

impl Session {
    /// Whether rows that come now are the client's, and nothing of them is kept back.
    pub(super) fn shows_rows(&self) -> bool {
        let theirs =
            matches!(self.owed.front(), Some(Expect::Query(Asker::Client(_)) | Expect::Execute { .. }));
        theirs && !self.wrapped && !self.proving && !self.tainted
    }

    /// Passes the rows at the front, and the plain end of their request if that is all that there is behind them. `at`
    /// is where this stands in the buffer. Gives how many bytes that were.
    pub(super) fn pass_rows(&mut self, buf: &[u8], at: usize, out: &mut Out) -> usize {
        let simple = matches!(self.owed.front(), Some(Expect::Query(_)));
        let rows = rows_of(buf, simple);
        self.batch.answered |= rows > 0;
        let whole = simple && self.ends_plainly(&buf[rows..]);
        let passed = if whole { buf.len() } else { rows };
        out.to_client.pass(at..at + passed);
        passed
    }

    /// Whether the rest is the plain end of a request, which is then over: CommandComplete and ReadyForQuery of one
    /// SELECT by itself, with which nothing else is to be done. Most requests end so.
    fn ends_plainly(&mut self, rest: &[u8]) -> bool {
        let plain = is_plain_end(rest) && self.owed.len() == 1 && self.leaves_nothing();
        if plain {
            self.owed.clear();
            self.batch.over = self.batch.over.wrapping_add(1);
            self.copying = false;
            self.comes_to_rest(Transaction::Idle, true);
            self.answered_request();
        }
        plain
    }

    /// Whether what is under way is a query outside of a block of which nothing is noted that matters once it is
    /// over: there `complete` and `is_ready` find nothing to do either. What they look at is to be looked at here.
    fn leaves_nothing(&self) -> bool {
        let simple = matches!(self.owed.front(), Some(Expect::Query(Asker::Client(Ends::No))));
        let sets = self.sets || self.asks || self.due || self.temporary.is_doubted();
        let told = self.cancelled || !self.unasked.is_empty() || self.rules.rides && self.is_mute();
        simple && self.transaction == Transaction::Idle && !self.batch.open && !sets && !told
    }

    /// A row by itself, of the client's or of ours.
    pub(super) fn row(&mut self, message: &Message<'_>) -> Reply {
        if let Some(Expect::Query(Asker::Ask)) = self.owed.front() {
            let mut values = message.body().into_iter().flat_map(back::values).flatten();
            let text = |b: &[u8]| String::from_utf8(b.to_vec());
            let pair = values.next().zip(values.next()).map(|(name, value)| (text(name), text(value)));
            match pair {
                Some((Ok(name), Ok(value))) if self.answer.len() < SETTINGS_MAX => {
                    self.answer.insert(name, value);
                }
                // Of an application's own, and not set.
                None if message.body().is_some() => {}
                // In another encoding, too long, too many.
                Some(_) | None => self.pins.add(Pin::Settings),
            }
        }
        if let Some(Expect::Query(Asker::Temporary)) = self.owed.front() {
            self.temporary_row(message.body().unwrap_or_default());
        }
        Session::show_if(self.is_for_client())
    }
}

/// Bytes of the whole rows, and of the COPY's data, at the front. In the answer to a simple query their description
/// changes nothing either.
fn rows_of(buf: &[u8], simple: bool) -> usize {
    let mut rest = buf;
    while let [tag, a, b, c, d, ..] = *rest {
        let described = simple && tag == back::ROW_DESCRIPTION;
        if !described && !matches!(tag, back::DATA_ROW | back::COPY_DATA) {
            break;
        }
        let body = (u32::from_be_bytes([a, b, c, d]) as usize).wrapping_sub(HEADER_BYTES - 1);
        let Some(next) = rest.get(HEADER_BYTES..).and_then(|rest| rest.get(body..)) else { break };
        rest = next;
    }
    buf.len() - rest.len()
}

/// Bytes of ReadyForQuery.
const READY_BYTES: usize = HEADER_BYTES + 1;
/// Tags of statements that leave nothing behind begin so.
const PLAIN_TAG: &[u8] = b"SELECT ";

/// Whether these bytes are the end of a SELECT outside of a block, and nothing else.
fn is_plain_end(rest: &[u8]) -> bool {
    let Some((complete, ready)) = rest.split_last_chunk::<READY_BYTES>() else { return false };
    let [back::COMMAND_COMPLETE, a, b, c, d, tag @ ..] = complete else { return false };
    let whole = u32::from_be_bytes([*a, *b, *c, *d]) as usize == tag.len() + HEADER_BYTES - 1;
    whole && tag.starts_with(PLAIN_TAG) && *ready == [back::READY, 0, 0, 0, 5, b'I']
}
