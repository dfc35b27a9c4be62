//! What a server keeps of a password: PostgreSQL's `rolpassword`.
//!
//! ```text
//!   SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>
//! ```
//!
//! For a user that doesn't exist there is a fake, the same each time one asks,
//! which no proof satisfies: a stranger can't tell it from a wrong password.
//!
//! Never shows its keys in `Debug`, and has no `Display`: the text is a secret.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::hmac;
use super::{ITERATIONS_MAX, KEY_BYTES, Key, Keys, Mechanism, SALT_BYTES_MAX};

/// PostgreSQL's default number of iterations.
pub const ITERATIONS_DEFAULT: u32 = 4_096;
/// Bytes of PostgreSQL's salt.
pub const SALT_BYTES_DEFAULT: usize = 16;

/// Salt, iterations and the two keys by which a server checks a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored: Key,
    pub(super) server: Key,
    /// Whether there is such a user. A fake satisfies no proof, whatever its keys are.
    pub(super) is_genuine: bool,
}

/// Why a text or a password makes no verifier. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It doesn't begin with `SCRAM-SHA-256$`: a password in clear, perhaps, or an MD5 one.
    #[error("not a SCRAM-SHA-256 verifier")]
    Scheme,
    /// The iterations aren't a number within bounds.
    #[error("a SCRAM verifier whose iteration count is out of bounds")]
    Iterations,
    /// The salt isn't base64, is empty, or too long.
    #[error("a SCRAM verifier whose salt is not base64 of 1 to {SALT_BYTES_MAX} bytes")]
    Salt,
    /// The keys aren't base64 of 32 bytes each.
    #[error("a SCRAM verifier whose keys are not base64 of {KEY_BYTES} bytes")]
    Keys,
}

impl Verifier {
    /// Reads PostgreSQL's text. The iterations may go up to `i32::MAX`, as there: it is the client that computes them.
    pub fn parse(text: &str) -> Result<Verifier, Invalid> {
        let rest = text.strip_prefix(Mechanism::Plain.name()).and_then(|rest| rest.strip_prefix('$'));
        let (iterations, rest) = rest.and_then(|rest| rest.split_once(':')).ok_or(Invalid::Scheme)?;
        let (salt, keys) = rest.split_once('$').ok_or(Invalid::Salt)?;
        let (stored, server) = keys.split_once(':').ok_or(Invalid::Keys)?;
        let iterations = number(iterations).filter(|n| (1..=i32::MAX as u32).contains(n));
        Ok(Verifier {
            iterations: iterations.ok_or(Invalid::Iterations)?,
            salt: STANDARD.decode(salt).map_err(|_| Invalid::Salt).and_then(checked_salt)?,
            stored: decode_key(stored).ok_or(Invalid::Keys)?,
            server: decode_key(server).ok_or(Invalid::Keys)?,
            is_genuine: true,
        })
    }

    /// Makes one from a password (after SASLprep), with a random salt of 1 to 256 bytes and 1 to 1,000,000 iterations.
    pub fn from_password(password: &[u8], salt: Vec<u8>, iterations: u32) -> Result<Verifier, Invalid> {
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(Invalid::Iterations);
        }
        let salt = checked_salt(salt)?;
        let Keys { client, server } = Keys::derive(password, &salt, iterations);
        Ok(Verifier { iterations, salt, stored: client.stored(), server, is_genuine: true })
    }

    /// Whether it was made from this password (after SASLprep). As dear as making one.
    pub fn is_of_password(&self, password: &[u8]) -> bool {
        self.fits(&Keys::derive(password, &self.salt, self.iterations))
    }

    /// A fake for the unknown `user`: the same for the same user as long as the cluster's `secret` is the same, so that
    /// asking twice tells nothing. It looks like a user's with PostgreSQL's default iterations and salt.
    pub fn mock(user: &[u8], secret: &[u8]) -> Verifier {
        let derived = |purpose: &[u8]| hmac(secret, &[purpose, b"\0", user]);
        Verifier {
            iterations: ITERATIONS_DEFAULT,
            salt: derived(b"mock salt").as_bytes()[..SALT_BYTES_DEFAULT].to_vec(),
            stored: derived(b"mock stored key"),
            server: derived(b"mock server key"),
            is_genuine: false,
        }
    }

    /// PostgreSQL's text. A secret: who has it can pass for the server. Not for a fake.
    pub fn to_text(&self) -> String {
        assert!(self.is_genuine, "a fake must not become a user's verifier");
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored, server) =
            (text(&self.salt), text(self.stored.as_bytes()), text(self.server.as_bytes()));
        format!("{}${}:{salt}${stored}:{server}", Mechanism::Plain.name(), self.iterations)
    }

    /// Whether these keys, perhaps kept from an earlier login, are those of this verifier.
    pub fn fits(&self, keys: &Keys) -> bool {
        self.is_genuine && keys.client.stored() == self.stored && keys.server == self.server
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier {{ iterations: {}, hidden }}", self.iterations)
    }
}

/// Digits only: no sign, no space.
pub(super) fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A key in base64.
pub(super) fn decode_key(text: &str) -> Option<Key> {
    let bytes = STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(Key::from_bytes)
}

fn checked_salt(salt: Vec<u8>) -> Result<Vec<u8>, Invalid> {
    if (1..=SALT_BYTES_MAX).contains(&salt.len()) { Ok(salt) } else { Err(Invalid::Salt) }
}
