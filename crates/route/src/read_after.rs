//! `tanist.read_after`: the position in the WAL that a reader must see, and what is said of a value that is none.
//!
//! No server checks this setting: to PostgreSQL it is one of the application's own. So it is checked here, as
//! PostgreSQL checks its own: the statement that sets it wrongly fails, and what was set before it holds.

use alloc::string::String;
use alloc::vec::Vec;

use wire::back::Words;

/// The setting's name.
pub const READ_AFTER: &str = "tanist.read_after";

/// A position in the WAL as PostgreSQL writes it; `None` if it is none.
#[must_use]
pub fn position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |digits: &str| {
        let hex = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    Some(part(high)? << 32 | part(low)?)
}

/// Whether it may be set to `value`: a position, or nothing.
#[must_use]
pub fn is_valid(value: &str) -> bool {
    value.is_empty() || position(value).is_some()
}

/// PostgreSQL's words for it (`set_config_option` in utils/misc/guc.c), as a message.
pub(crate) fn invalid(value: &str) -> Vec<u8> {
    let text = alloc::format!("invalid value for parameter \"{READ_AFTER}\": \"{value}\"");
    let mut bytes = Vec::new();
    Words::error("22023", &text).hint("It is an LSN, as SHOW tanist.lsn gives it.").put(&mut bytes);
    bytes
}

/// The error that a statement must fail with, if it surely does nothing but set this to what is no position.
pub(crate) fn refusal(text: &[u8]) -> Option<Vec<u8>> {
    let value = crate::sql::sets_read_after(text)?;
    let value = String::from_utf8_lossy(&value);
    (!is_valid(&value)).then(|| invalid(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_postgresql_writes_them() {
        assert_eq!(position("0/16B3748"), Some(0x016B_3748));
        assert_eq!(position(" 1A/0 "), Some(0x1A << 32));
        assert_eq!(position("FFFFFFFF/ffffffff"), Some(u64::MAX));
        for bad in ["", "/", "0/", "/0", "0", "0/1/2", "+1/0", "0/G", "1FFFFFFFF/0", "0/-1", "now"] {
            assert_eq!(position(bad), None, "{bad}");
        }
        assert!(is_valid("") && is_valid("0/0") && !is_valid("soon"));
    }
}
