//! Which protocol version we speak with a client, and whether it must be told.
//!
//! ```text
//!   asked for    spoken   told
//!   3.0          3.0      only if it asked for _pq_ options
//!   3.1          3.0      yes: 3.1 is reserved
//!   3.2          3.2      only if it asked for _pq_ options
//!   3.3 ...      3.2      yes
//! ```
//!
//! PostgreSQL 19's libpq asks for 3.9999 on purpose, and drops a server that
//! doesn't negotiate. A server's own answer is no use here: we may have asked
//! it for something else.
//!
//! Never sends: the message goes out before any other, also before
//! authentication.

use alloc::vec::Vec;

use super::{Startup, Version};

const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';

/// What came of a client's wishes.
#[derive(Clone, Copy, Debug)]
pub struct Negotiation<'a> {
    startup: &'a Startup,
    /// The version to speak from here on: 3.0 or 3.2.
    pub version: Version,
    /// Whether the client must be told, with NegotiateProtocolVersion.
    pub owed: bool,
}

/// Settles the version for the client that sent `startup`.
pub fn negotiate(startup: &Startup) -> Negotiation<'_> {
    let asked = startup.version();
    let version = if asked >= Version::V3_2 { Version::V3_2 } else { Version::V3_0 };
    let owed = version != asked || startup.unknown_options().next().is_some();
    Negotiation { startup, version, owed }
}

impl Negotiation<'_> {
    /// Appends the NegotiateProtocolVersion message, type and length included. Only where it is `owed`: libpq takes
    /// one that changes nothing for an error.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.owed, "nothing to negotiate: {:?}", self.startup);
        out.push(NEGOTIATE_PROTOCOL_VERSION);
        let start = out.len();
        let count = self.startup.unknown_options().count();
        let count = u32::try_from(count).expect("a startup packet has at most 10,000 bytes");
        out.extend([0; 4]);
        out.extend(self.version.code().to_be_bytes());
        out.extend(count.to_be_bytes());
        for name in self.startup.unknown_options() {
            out.extend(name);
            out.push(0);
        }
        write_length(out, start);
    }
}

/// Fills in the length of what was written from `start` on: the field itself, and all behind it.
pub(super) fn write_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).expect("far below 4 GB: its parts are bounded");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
