//! The five bytes before every message: its type and its length.
//!
//! A proxy hops from header to header and lets the bodies pass. A length is a
//! claim of whoever sent it: it is kept as a u64, checked, and never allocates.

use core::fmt;

/// Type and length.
pub const HEADER_BYTES: usize = 5;
/// What PostgreSQL itself takes at most for one message
/// (`PQ_LARGE_MESSAGE_LIMIT` in libpq/libpq.h: `MaxAllocSize - 1`).
pub const MESSAGE_BYTES_MAX: u64 = 0x3fff_fffe;

/// The header of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is, one of the tags in `front` or `back`.
    pub tag: u8,
    /// Bytes that follow the header, 0 to `MESSAGE_BYTES_MAX`.
    pub body_bytes: u64,
}

/// A length that no message can have: whoever says it can't be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength {
    /// The type of the message.
    pub tag: u8,
    /// The length it claims.
    pub length: u32,
}

impl fmt::Display for BadLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid message length {} of a message of type {}", self.length, self.tag)
    }
}

impl Header {
    /// The header at the front of `bytes`; `None` while less than five are there.
    ///
    /// # Errors
    /// `BadLength` for one below 4 or above what PostgreSQL takes.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Header>, BadLength> {
        let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let body_bytes = u64::from(length).wrapping_sub(4);
        if body_bytes > MESSAGE_BYTES_MAX {
            return Err(BadLength { tag, length });
        }
        Ok(Some(Header { tag, body_bytes }))
    }

    /// Header and body together.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> u64 {
        HEADER_BYTES as u64 + self.body_bytes
    }

    /// The body, if `bytes`, which begin with this header, hold all of it.
    #[inline]
    #[must_use]
    pub fn body(self, bytes: &[u8]) -> Option<&[u8]> {
        let end = usize::try_from(self.bytes()).ok()?;
        bytes.get(HEADER_BYTES..end)
    }
}

/// Cuts the string off that ends with a zero byte; `None` without one.
#[must_use]
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Cuts a big-endian i32 off.
#[must_use]
pub fn int32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*head), tail))
}

/// Cuts a big-endian i16 off.
#[must_use]
pub fn int16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (head, tail) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*head), tail))
}
