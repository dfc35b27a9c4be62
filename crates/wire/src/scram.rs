//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both ends, as
//! PostgreSQL does them.
//!
//! ```text
//!   client                                   server
//!     n,,n=,r=<nonce>               ──▶
//!                                   ◀──      r=<nonce+nonce>,s=<salt>,i=<iterations>
//!     c=<binding>,r=<nonces>,p=<proof> ──▶
//!                                   ◀──      v=<signature>
//! ```
//!
//! The proof is the ClientKey, masked. A server that checks it learns the
//! ClientKey, and who has that and the ServerKey can be the client of another
//! server that holds the same verifier: so a proxy logs in as its client
//! without ever knowing a password.
//!
//! Each step takes the state by value, so no step can be taken twice.
//!
//! Never makes a random number, and never applies SASLprep: nonces, salts and
//! prepared passwords are handed in. PostgreSQL prepares a password where it
//! can and takes it as it is where it can't; a caller has to do the same.

mod attributes;
pub mod client;
mod error;
mod keys;
mod nonce;
pub mod server;
mod verifier;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use alloc::string::String;

pub use error::Error;
pub use keys::{KEY_BYTES, Key, Keys};
pub use nonce::{NONCE_BYTES, Nonce};
pub use verifier::{ITERATIONS_DEFAULT, Invalid, SALT_BYTES_DEFAULT, Verifier};

/// The longest salt that we take or use. PostgreSQL's has 16 bytes.
pub const SALT_BYTES_MAX: usize = 256;
/// The most iterations that we compute. A server names the number, and each costs a client two hashes: this many take
/// a good part of a second. PostgreSQL's default is 4,096; OWASP advises 600,000.
pub const ITERATIONS_MAX: u32 = 1_000_000;

const END_POINT: &str = "tls-server-end-point";
const END_POINT_HEADER: &str = "p=tls-server-end-point,,";

/// The two mechanisms. With PLUS both ends prove that they see the same TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Plain,
    /// SCRAM-SHA-256-PLUS.
    Plus,
}

impl Mechanism {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "SCRAM-SHA-256",
            Mechanism::Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &[u8]) -> Option<Mechanism> {
        [Mechanism::Plain, Mechanism::Plus].into_iter().find(|m| m.name().as_bytes() == name)
    }
}

/// What `c=` holds: the client's header, and behind it the hash of the server's certificate for PLUS.
fn binding_text(header: &str, end_point: &[u8]) -> String {
    STANDARD.encode([header.as_bytes(), end_point].concat())
}
