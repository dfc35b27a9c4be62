//! HAProxy's PROXY protocol, versions 1 and 2: who the client is, told by a
//! load balancer in front of us, before the client's own first byte.
//!
//! ```text
//!   v1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 5432\r\n
//!   v2   12 bytes of signature, version and command, family, length, addresses, TLVs
//! ```
//!
//! No first byte of PostgreSQL's protocol begins like either, so a connection
//! without a header is told apart with its first byte.
//!
//! Never decides whom to believe: anybody can send a header, so the caller
//! looks for one only on connections from networks that it trusts.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A v1 header's greatest length, its CRLF included; the protocol's own figure.
pub const V1_BYTES_MAX: usize = 107;
/// A v2 header's greatest length that we take. The addresses need 52 bytes or, for unix sockets, 232; the rest is
/// room for the TLVs of cloud balancers and for a TLS client's name.
pub const V2_BYTES_MAX: usize = 2_048;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// What the bytes received so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The beginning of a header, perhaps.
    NeedMore {
        /// How many bytes there must be, in all, before another look can tell more.
        at_least: usize,
    },
    /// A whole header.
    Found {
        /// The client's address and port; `None` if the balancer speaks for itself (a health check), doesn't know, or
        /// its client didn't come by TCP. The connection's own peer counts then.
        source: Option<(IpAddr, u16)>,
        /// How many of the bytes it took. The client's own follow.
        bytes_consumed: usize,
    },
    /// No header: these bytes are the client's own.
    NotOne,
}

/// A header that begins as one and goes on as none. Close: nothing behind it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A v1 header that isn't at its end after 107 bytes.
    #[error("a PROXY header of version 1 without an end")]
    Endless,
    /// A v1 header whose words aren't those of the protocol.
    #[error("a PROXY header of version 1 that is not understood")]
    Line,
    /// A v2 header with an unknown version, command or family.
    #[error("a PROXY header of version 2 with an unknown version, command or family")]
    Kind,
    /// A v2 header too short for its addresses, or longer than we take.
    #[error("a PROXY header of version 2 with an impossible length")]
    Length,
}

/// Looks at the bytes `received` so far.
pub fn look(received: &[u8]) -> Result<Look, Malformed> {
    if begins(received, V1_START) {
        v1(received)
    } else if begins(received, V2_START) {
        v2(received)
    } else {
        Ok(Look::NotOne)
    }
}

/// Whether `received` begins with `start`, or may yet.
fn begins(received: &[u8], start: &[u8]) -> bool {
    let common = received.len().min(start.len());
    received[..common] == start[..common]
}

fn v1(received: &[u8]) -> Result<Look, Malformed> {
    let at_most = &received[..received.len().min(V1_BYTES_MAX)];
    match at_most.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => {
            let line = core::str::from_utf8(&received[..end]).map_err(|_| Malformed::Line)?;
            Ok(Look::Found { source: v1_source(line)?, bytes_consumed: end + 2 })
        }
        None if received.len() >= V1_BYTES_MAX => Err(Malformed::Endless),
        None => Ok(Look::NeedMore { at_least: received.len() + 1 }),
    }
}

/// The source in `PROXY TCP4 source destination port port`. Behind `UNKNOWN` anything may stand, and is skipped.
fn v1_source(line: &str) -> Result<Option<(IpAddr, u16)>, Malformed> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Malformed::Line)?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Malformed::Line);
    let (source, _destination) = (v1_address(family, word()?)?, v1_address(family, word()?)?);
    let (source_port, _destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
    if words.next().is_none() { Ok(Some((source, source_port))) } else { Err(Malformed::Line) }
}

fn v1_address(family: &str, word: &str) -> Result<IpAddr, Malformed> {
    let address = match family {
        "TCP4" => word.parse().ok().map(IpAddr::V4),
        "TCP6" => word.parse().ok().map(IpAddr::V6),
        _ => None,
    };
    address.ok_or(Malformed::Line)
}

/// Digits only and without a leading zero, so that nobody reads another number than we do.
fn v1_port(word: &str) -> Result<u16, Malformed> {
    let is_plain = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if !is_plain {
        return Err(Malformed::Line);
    }
    word.parse().map_err(|_| Malformed::Line)
}

fn v2(received: &[u8]) -> Result<Look, Malformed> {
    let Some((fixed, rest)) = received.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Look::NeedMore { at_least: V2_FIXED_BYTES });
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED_BYTES + length > V2_BYTES_MAX {
        return Err(Malformed::Length);
    }
    let kind = Kind::of(command, family)?;
    match rest.get(..length) {
        None => Ok(Look::NeedMore { at_least: V2_FIXED_BYTES + length }),
        Some(block) => {
            Ok(Look::Found { source: kind.source(block)?, bytes_consumed: V2_FIXED_BYTES + length })
        }
    }
}

/// Which addresses a v2 header holds.
enum Kind {
    Tcp4,
    Tcp6,
    /// Local, unspecified, or not TCP: none that we use.
    Other,
}

impl Kind {
    /// Version and command are halves of one byte, address family and transport of the next.
    fn of(command: u8, family: u8) -> Result<Kind, Malformed> {
        match (command, family >> 4, family & 0xf) {
            (0x20, _, _) => Ok(Kind::Other),
            (0x21, 1, 1) => Ok(Kind::Tcp4),
            (0x21, 2, 1) => Ok(Kind::Tcp6),
            (0x21, 0..=3, 0..=2) => Ok(Kind::Other),
            _ => Err(Malformed::Kind),
        }
    }

    fn source(&self, block: &[u8]) -> Result<Option<(IpAddr, u16)>, Malformed> {
        match self {
            Kind::Tcp4 => {
                let &[a, b, c, d, _, _, _, _, high, low, _, _] =
                    block.first_chunk().ok_or(Malformed::Length)?;
                Ok(Some((Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))))
            }
            Kind::Tcp6 => {
                let addresses: &[u8; 36] = block.first_chunk().ok_or(Malformed::Length)?;
                let source: &[u8; 16] = addresses.first_chunk().ok_or(Malformed::Length)?;
                let port = u16::from_be_bytes([addresses[32], addresses[33]]);
                Ok(Some((Ipv6Addr::from(*source).into(), port)))
            }
            Kind::Other => Ok(None),
        }
    }
}
