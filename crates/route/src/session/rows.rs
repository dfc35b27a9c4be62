//! Rows and COPY's data: most of what servers say, and nothing that changes anything for their client.

use alloc::string::String;

use wire::back;
use wire::frame::HEADER_BYTES;

use super::Session;
use super::back::Reply;
use super::front::Message;
use crate::expect::{Asker, Expect};
use crate::pin::Pin;
use crate::settings::SETTINGS_MAX;

impl Session {
    /// Whether rows that come now are the client's, and nothing of them is kept back.
    pub(super) fn shows_rows(&self) -> bool {
        let theirs =
            matches!(self.owed.front(), Some(Expect::Query(Asker::Client(_)) | Expect::Execute { .. }));
        theirs && !self.wrapped && !self.proving && !self.tainted
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
pub(super) fn rows_of(buf: &[u8], simple: bool) -> usize {
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
