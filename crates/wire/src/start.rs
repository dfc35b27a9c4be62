//! What a client says first.
//!
//! ```text
//!   bytes ──▶ 0x16 ...                    direct TLS, nothing consumed
//!         ──▶ length, code 1234.5679      SSLRequest ──▶ answer 'S' or 'N', look again
//!         ──▶ length, code 1234.5680      GSSENCRequest ──▶ answer 'N', look again
//!         ──▶ length, code 1234.5678      cancel request ──▶ act, close
//!         ──▶ length, version, pairs      startup
//! ```
//!
//! A stranger wrote these bytes: they may come one by one, and their length
//! field may say anything. So the length is judged as soon as it is there, and
//! nothing is allocated before the whole packet has come.
//!
//! Never counts requests: that SSLRequest and GSSENCRequest may come once each
//! is for the caller to watch, as is the deadline.

pub mod ask;
mod error;
mod negotiate;
mod options;
mod startup;
mod version;

use core::fmt;

pub use error::{Encryption, StartError};
pub use negotiate::{Negotiation, negotiate};
pub use options::Setting;
pub use startup::{NAME_BYTES_MAX, Pairs, Replication, Startup};
pub use version::Version;

/// The most that may follow the length field: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const BODY_BYTES_MAX: usize = 10_000;
/// A cancel key's least length, and its only one before protocol 3.2.
pub const CANCEL_KEY_BYTES_MIN: usize = 4;
/// A cancel key's greatest length, from protocol 3.2 on.
pub const CANCEL_KEY_BYTES_MAX: usize = 256;

const LENGTH_BYTES: usize = 4;
const HEADER_BYTES: usize = 8;
/// The first byte of a TLS record that carries a handshake. As a length it would be far too long.
const TLS_HANDSHAKE: u8 = 0x16;

const CANCEL_REQUEST: Version = Version { major: 1234, minor: 5678 };
const SSL_REQUEST: Version = Version { major: 1234, minor: 5679 };
const GSS_ENC_REQUEST: Version = Version { major: 1234, minor: 5680 };

/// What the bytes received so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<'a> {
    /// Nothing can be said yet.
    NeedMore {
        /// How many bytes there must be, in all, before another look can tell more.
        at_least: usize,
    },
    /// A whole first message.
    Found {
        /// What it is.
        what: First<'a>,
        /// How many of the bytes it took. What follows belongs to the next message.
        bytes_consumed: usize,
    },
}

/// A client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// "May we speak TLS?" Answer with one byte, `S` or `N`.
    SslRequest,
    /// "May we speak GSSAPI encryption?" Answer with one byte, `N`.
    GssEncRequest,
    /// A TLS handshake without asking (PostgreSQL 17 and later). Takes no bytes: all are for the TLS library,
    /// which must insist on the protocol name `postgresql`.
    DirectTls,
    /// "Cancel what that connection is doing." No answer; close.
    Cancel(Cancel<'a>),
    /// "I am this user and want that database."
    Startup(Startup),
}

/// A cancel request. Who knows the secret may cancel, so `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cancel<'a> {
    /// The process id that was handed out with the secret.
    pub pid: u32,
    /// 4 to 256 bytes.
    pub secret: &'a [u8],
}

impl First<'_> {
    /// Looks at the bytes `received` so far.
    ///
    /// An error is final: say it to the client where the protocol allows, and close.
    pub fn look(received: &[u8]) -> Result<Look<'_>, StartError> {
        match received.first() {
            None => return Ok(Look::NeedMore { at_least: 1 }),
            Some(&TLS_HANDSHAKE) => return Ok(Look::Found { what: First::DirectTls, bytes_consumed: 0 }),
            Some(_) => {}
        }
        let Some(length) = received.first_chunk() else {
            return Ok(Look::NeedMore { at_least: LENGTH_BYTES });
        };
        let length = packet_length(*length)?;
        match received.get(..length) {
            None => Ok(Look::NeedMore { at_least: length }),
            Some(packet) => Ok(Look::Found { what: parse(packet)?, bytes_consumed: length }),
        }
    }

    /// Refuses what a client sent in clear behind its SSLRequest or GSSENCRequest, before we answered: somebody in
    /// the middle may have put it there to be read as if it had come through TLS (CVE-2021-23214).
    ///
    /// `rest` is all that was received and not consumed before the answer, whatever that is; `behind` what was asked.
    pub fn nothing_behind(behind: Encryption, rest: &[u8]) -> Result<(), StartError> {
        if rest.is_empty() { Ok(()) } else { Err(StartError::Unencrypted(behind)) }
    }
}

/// The whole packet's length, as far as it is believable.
fn packet_length(field: [u8; LENGTH_BYTES]) -> Result<usize, StartError> {
    let length = usize::try_from(u32::from_be_bytes(field)).map_err(|_| StartError::Length)?;
    let believable = (HEADER_BYTES..=LENGTH_BYTES + BODY_BYTES_MAX).contains(&length);
    if believable { Ok(length) } else { Err(StartError::Length) }
}

fn parse(packet: &[u8]) -> Result<First<'_>, StartError> {
    let (_, rest) = packet.split_at(LENGTH_BYTES);
    let (code, rest) = rest.split_first_chunk().ok_or(StartError::Length)?;
    match Version::from_code(u32::from_be_bytes(*code)) {
        SSL_REQUEST => bare(rest, First::SslRequest),
        GSS_ENC_REQUEST => bare(rest, First::GssEncRequest),
        CANCEL_REQUEST => Cancel::parse(rest).map(First::Cancel),
        version => Startup::parse(version, rest).map(First::Startup),
    }
}

/// A request that is its header and nothing else. PostgreSQL skips what else it may hold; no client sends any.
fn bare<'a>(rest: &[u8], what: First<'a>) -> Result<First<'a>, StartError> {
    if rest.is_empty() { Ok(what) } else { Err(StartError::Length) }
}

impl Cancel<'_> {
    fn parse(rest: &[u8]) -> Result<Cancel<'_>, StartError> {
        let (pid, secret) = rest.split_first_chunk().ok_or(StartError::CancelLength)?;
        if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&secret.len()) {
            return Err(StartError::CancelLength);
        }
        Ok(Cancel { pid: u32::from_be_bytes(*pid), secret })
    }
}

impl fmt::Debug for Cancel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel {{ pid: {}, secret: {} bytes }}", self.pid, self.secret.len())
    }
}
