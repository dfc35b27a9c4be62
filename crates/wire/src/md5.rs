//! PostgreSQL's MD5 password method, for servers and user lists that have
//! nothing better yet.
//!
//! ```text
//!   stored   = "md5" + hex(md5(password + user))
//!   response = "md5" + hex(md5(the stored hex + salt))
//! ```
//!
//! Whoever reads a stored text can log in with it, and the salt has only
//! 4 bytes: use SCRAM wherever there is a choice.
//!
//! Never logs or shows what it computes.

use alloc::string::String;
use core::fmt::Write;

use ::md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// Bytes of the salt in AuthenticationMD5Password.
pub const SALT_BYTES: usize = 4;
const PREFIX: &str = "md5";
const HEX_CHARS: usize = 32;

/// What PostgreSQL stores for `user`. As secret as the password.
pub fn stored(user: &[u8], password: &[u8]) -> String {
    encrypt(password, user)
}

/// A client's response to `salt`, from the password.
pub fn response(user: &[u8], password: &[u8], salt: [u8; SALT_BYTES]) -> String {
    let stored = stored(user, password);
    encrypt(&stored.as_bytes()[PREFIX.len()..], &salt)
}

/// A client's response to `salt`, from what PostgreSQL stores; `None` if `stored` isn't "md5" and 32 hex digits.
pub fn response_from_stored(stored: &str, salt: [u8; SALT_BYTES]) -> Option<String> {
    let hex = stored.strip_prefix(PREFIX)?;
    let is_hex = hex.len() == HEX_CHARS && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| encrypt(hex.as_bytes(), &salt))
}

/// Whether `answer`, without its final zero, is the right response to `salt` for the `stored` text. Takes as long
/// for a wrong answer as for the right one. No answer is right if `stored` isn't such a text.
pub fn is_right(stored: &str, salt: [u8; SALT_BYTES], answer: &[u8]) -> bool {
    response_from_stored(stored, salt).is_some_and(|right| right.as_bytes().ct_eq(answer).into())
}

/// PostgreSQL's `pg_md5_encrypt`.
fn encrypt(secret: &[u8], salt: &[u8]) -> String {
    let digest = Md5::new().chain_update(secret).chain_update(salt).finalize();
    let mut text = String::from(PREFIX);
    for byte in digest {
        write!(text, "{byte:02x}").expect("a String takes any text");
    }
    text
}
