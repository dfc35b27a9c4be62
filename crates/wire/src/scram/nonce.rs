//! A nonce: what makes each exchange one that can't be replayed.
//!
//! Made from random bytes that are handed in, as base64 like PostgreSQL's, so
//! it holds nothing that the protocol forbids.
//!
//! Never random by itself.

use alloc::string::String;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Random bytes in a nonce of ours; PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
pub const NONCE_BYTES: usize = 18;

/// One side's nonce: printable ASCII without a comma, not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// The nonce of `random` bytes, which must come from a generator fit for secrets, anew for each exchange.
    pub fn from_random(random: [u8; NONCE_BYTES]) -> Nonce {
        Nonce(STANDARD.encode(random))
    }

    /// A nonce that is text already, as in test vectors; `None` if it can't be one.
    pub fn from_text(text: &str) -> Option<Nonce> {
        is_printable(text).then(|| Nonce(text.into()))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Whether `text` may be a nonce: PostgreSQL's `is_scram_printable`, and not empty.
pub(super) fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}
