//! What we say first to a server, and what it answers.
//!
//! The mirror of what a client says to us. What a server sends before TLS may
//! come from anybody in the middle, so it is one byte that is understood, or a
//! fault whose text nobody is shown (CVE-2021-23222, CVE-2024-10977).
//!
//! Never falls back: whether a connection without TLS will do is for the
//! caller's configuration to say.

use alloc::vec::Vec;

use super::negotiate::write_length;
use super::startup::take_text;
use super::{
    BODY_BYTES_MAX, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN, CANCEL_REQUEST, LENGTH_BYTES, SSL_REQUEST,
    Version,
};

/// The SSLRequest packet: length 8, code 1234.5679.
pub const SSL_REQUEST_PACKET: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const _: () = assert!(SSL_REQUEST.major == 0x04d2 && SSL_REQUEST.minor == 0x162f);

/// What went wrong between us and the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A pair can't be said: its name is empty, or one of the two holds a zero byte, which would end it early and let
    /// the rest be read as another pair.
    #[error("a startup parameter that is empty or holds a zero byte")]
    Parameter,
    /// The pairs are longer than a server would take.
    #[error("a startup packet of more than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `S` nor `N` came. An `E` begins an error message of a server or of somebody else: not to be shown.
    #[error("received invalid response to SSL negotiation: byte {0:#04x}")]
    Answer(u8),
    /// More came with the `S`: a faulty server, or somebody in the middle.
    #[error("received unencrypted data after SSL response")]
    Unencrypted,
    /// A NegotiateProtocolVersion that makes no sense, and why.
    #[error("received invalid protocol negotiation message: {0}")]
    Negotiation(&'static str),
}

/// Appends a startup packet that asks for `version` with `pairs` of name and value, or leaves `out` as it was.
pub fn startup<'a>(
    version: Version,
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let start = out.len();
    out.extend([0; LENGTH_BYTES]);
    out.extend(version.code().to_be_bytes());
    let written = write_pairs(pairs, start, out);
    match written {
        Ok(()) => write_length(out, start),
        Err(_) => out.truncate(start),
    }
    written
}

fn write_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    for (name, value) in pairs {
        if name.is_empty() || name.contains(&0) || value.contains(&0) {
            return Err(Fault::Parameter);
        }
        let bytes_so_far = out.len() - start - LENGTH_BYTES;
        if bytes_so_far + name.len() + value.len() + 3 > BODY_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        for text in [name, value] {
            out.extend(text);
            out.push(0);
        }
    }
    out.push(0);
    Ok(())
}

/// Appends a cancel request for the server process `pid`, with the `secret` that the server gave us, 4 to 256 bytes.
pub fn cancel(pid: u32, secret: &[u8], out: &mut Vec<u8>) {
    let bytes = secret.len();
    assert!((CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&bytes), "a cancel key of {bytes} bytes");
    let start = out.len();
    out.extend([0; LENGTH_BYTES]);
    out.extend(CANCEL_REQUEST.code().to_be_bytes());
    out.extend(pid.to_be_bytes());
    out.extend(secret);
    write_length(out, start);
}

/// A server's answer to SSLRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslAnswer {
    /// `S`: begin the handshake.
    Willing,
    /// `N`: no TLS here. The same connection may go on in clear.
    Unwilling,
}

impl SslAnswer {
    /// The answer in the bytes `received` since the request; `None` if there are none yet. It takes one byte.
    pub fn look(received: &[u8]) -> Result<Option<SslAnswer>, Fault> {
        match received {
            [] => Ok(None),
            [b'S'] => Ok(Some(SslAnswer::Willing)),
            [b'S', ..] => Err(Fault::Unencrypted),
            [b'N', ..] => Ok(Some(SslAnswer::Unwilling)),
            [byte, ..] => Err(Fault::Answer(*byte)),
        }
    }
}

/// What a server said in NegotiateProtocolVersion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The version to speak, not above the one we asked for.
    pub version: Version,
    /// Those of our `_pq_.` options that it doesn't know.
    pub unsupported: Vec<Vec<u8>>,
}

impl Offer {
    /// Reads a NegotiateProtocolVersion's `body`, the part behind type and length, in answer to a startup packet that
    /// asked for the version `asked` and the protocol options `options`. Strict, as libpq of PostgreSQL 18 is.
    pub fn parse(body: &[u8], asked: Version, options: &[&[u8]]) -> Result<Offer, Fault> {
        let (version, rest) = body.split_first_chunk().ok_or(Fault::Negotiation("too short"))?;
        let (count, mut rest) = rest.split_first_chunk().ok_or(Fault::Negotiation("too short"))?;
        let version = acceptable(Version::from_code(u32::from_be_bytes(*version)), asked)?;
        let mut unsupported = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let name = take_text(&mut rest).ok_or(Fault::Negotiation("fewer options than it says"))?;
            if !options.contains(&name) {
                return Err(Fault::Negotiation("an unsupported parameter that was not requested"));
            }
            unsupported.push(name.to_vec());
        }
        match (rest, version == asked && unsupported.is_empty()) {
            ([], false) => Ok(Offer { version, unsupported }),
            ([], true) => Err(Fault::Negotiation("server negotiated but asks for no changes")),
            _ => Err(Fault::Negotiation("more bytes than its options need")),
        }
    }
}

fn acceptable(version: Version, asked: Version) -> Result<Version, Fault> {
    if version > asked {
        Err(Fault::Negotiation("server requested downgrade to a higher-numbered version"))
    } else if version < Version::V3_0 {
        Err(Fault::Negotiation("server requested downgrade to pre-3.0 protocol version"))
    } else if version == Version::V3_1 {
        Err(Fault::Negotiation("server requested downgrade to non-existent 3.1 protocol version"))
    } else {
        Ok(version)
    }
}
