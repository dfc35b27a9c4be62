//! Writing messages: the length is counted from the bytes written, never given.

use alloc::vec::Vec;

/// Appends a message of type `tag` whose body `body` writes.
///
/// # Panics
/// When the body is longer than a length can say (4 GB): a bug of the caller's.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    untagged(out, body);
}

/// Appends a message as they are before the type byte exists: length and body.
///
/// # Panics
/// As `message`.
pub fn untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() - at).expect("a message of ours is far below 4 GB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A string and the zero byte that ends it. Zero bytes inside are left out: they would end it early,
/// and what follows would be read as something else.
pub fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|b| **b != 0));
    out.push(0);
}
