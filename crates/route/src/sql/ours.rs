//! What is answered in our own words: `SHOW tanist.lsn`.
//!
//! A position in the WAL behind which everything stands that this client has been
//! told is done. PostgreSQL has the functions; which one is right hangs on who is asked.

use super::tokens::{Token, Tokens};

/// Longest text that is looked at.
const SHOW_BYTES_MAX: usize = 64;

/// What PostgreSQL is asked instead. What was acknowledged is flushed, unless the client wants it faster; a standby
/// tells what it shows.
pub const LSN_QUESTION: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_last_wal_replay_lsn() \
    WHEN pg_catalog.current_setting('synchronous_commit') = 'off' \
    THEN pg_catalog.pg_current_wal_insert_lsn() \
    ELSE pg_catalog.pg_current_wal_flush_lsn() END::pg_catalog.text AS \"tanist.lsn\"";

/// Whether a text is `SHOW tanist.lsn` and nothing else.
#[must_use]
pub fn asks_lsn(text: &[u8]) -> bool {
    if text.len() > SHOW_BYTES_MAX {
        return false;
    }
    let mut tokens = Tokens::of(text);
    let mut word = |is: &[u8]| matches!(tokens.next(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(is));
    if !word(b"show") || !word(b"tanist") {
        return false;
    }
    let dot = matches!(tokens.next(), Some(Token::Symbol(b'.')));
    let lsn = matches!(tokens.next(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(b"lsn"));
    dot && lsn && tokens.all(|token| matches!(token, Token::Symbol(b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_one_text_is_ours() {
        for text in ["SHOW tanist.lsn", "show Tanist.LSN;", " /* now */ show tanist . lsn ; "] {
            assert!(asks_lsn(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "show",
            "show tanist",
            "show tanist.lsn2",
            "show tanist.lsn; select 1",
            "select tanist.lsn",
            "show 'tanist'.lsn",
        ] {
            assert!(!asks_lsn(text.as_bytes()), "{text}");
        }
    }
}
