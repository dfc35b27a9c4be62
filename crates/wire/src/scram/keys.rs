//! The keys of SCRAM, and how each follows from the one before.
//!
//! ```text
//!   password, salt, iterations ──PBKDF2──▶ SaltedPassword
//!     ──HMAC "Client Key"──▶ ClientKey ──SHA-256──▶ StoredKey
//!     ──HMAC "Server Key"──▶ ServerKey
//! ```
//!
//! Who has the ClientKey can log in; who has the ServerKey can pass for the
//! server; who has only the StoredKey can do neither. All are compared in
//! constant time.
//!
//! Never shows a key in `Debug`.

use core::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Bytes of each key, and of each signature and proof.
pub const KEY_BYTES: usize = 32;

/// A key, or what is as long as one.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

/// What it takes to log in as a user without the password, for as long as salt and iterations stay the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The ClientKey: proves the client to the server.
    pub client: Key,
    /// The ServerKey: proves the server to the client.
    pub server: Key,
}

impl Keys {
    /// The keys that follow from a password (after SASLprep), salt and iterations.
    pub(super) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Keys {
        let salted = salted_password(password, salt, iterations);
        Keys { client: salted.sign(&[b"Client Key"]), server: salted.sign(&[b"Server Key"]) }
    }
}

impl Key {
    /// A key that was kept by somebody else.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key(bytes)
    }

    /// The key's bytes, to be kept as a secret.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The StoredKey, if this is the ClientKey.
    pub(super) fn stored(&self) -> Key {
        Key(Sha256::digest(self.0).into())
    }

    /// The signature under this key of all `parts`, one behind the other.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> Key {
        hmac(&self.0, parts)
    }

    /// Puts a mask on, or takes it off.
    pub(super) fn masked(&self, mask: &Key) -> Key {
        Key(core::array::from_fn(|i| self.0[i] ^ mask.0[i]))
    }
}

/// HMAC-SHA-256 of all `parts`, one behind the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mac = keyed(key);
    Key(parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into())
}

/// PBKDF2 for a result as long as one hash, which is all that SCRAM needs. The keyed state is cloned for each round,
/// which halves the work.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    assert!(iterations > 0, "PBKDF2 without a round");
    let mac = keyed(password);
    let mut round = mac.clone().chain_update(salt).chain_update(1u32.to_be_bytes()).finalize().into_bytes();
    let mut sum = Key(round.into());
    for _ in 1..iterations {
        round = mac.clone().chain_update(round).finalize().into_bytes();
        sum = sum.masked(&Key(round.into()));
    }
    sum
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl ConstantTimeEq for Key {
    fn ct_eq(&self, other: &Key) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}
