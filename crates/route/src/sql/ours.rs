//! What is answered in our own words: `SHOW tanist.lsn`, and a `SET tanist.read_after` that is wrong.
//!
//! A position in the WAL behind which everything stands that this client has been
//! told is done. PostgreSQL has the functions; which one is right hangs on who is asked.

use alloc::vec::Vec;

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

/// What a text sets `tanist.read_after` to, if it is one plain SET of that and nothing else.
#[must_use]
pub fn sets_read_after(text: &[u8]) -> Option<Vec<u8>> {
    // Asked of every Parse: two letters tell of most that it is none.
    let start = text.iter().position(|b| !b.is_ascii_whitespace())?;
    if !text[start..].get(..4)?.eq_ignore_ascii_case(b"set ") {
        return None;
    }
    let mut tokens = Tokens::of(&text[start..]).skip(1).peekable();
    let scope = |t: &Token<'_>| matches!(t, Token::Word(w) if is_one_of(w, &[b"session", b"local"]));
    if tokens.peek().is_some_and(scope) {
        tokens.next();
    }
    let mut word = |is: &[u8]| matches!(tokens.next(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(is));
    if !word(b"tanist") || !matches!(tokens.next(), Some(Token::Symbol(b'.'))) {
        return None;
    }
    if !matches!(tokens.next(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(b"read_after")) {
        return None;
    }
    match tokens.next()? {
        Token::Symbol(b'=') => {}
        Token::Word(word) if word.eq_ignore_ascii_case(b"to") => {}
        _ => return None,
    }
    let value = match tokens.next()? {
        Token::Word(word) if word.eq_ignore_ascii_case(b"default") => return None,
        Token::Word(word) => word.to_ascii_lowercase(),
        Token::Literal(literal) => plain(literal)?,
        Token::Quoted(_) | Token::Symbol(_) => return None,
    };
    tokens.all(|token| matches!(token, Token::Symbol(b';'))).then_some(value)
}

fn is_one_of(word: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// What stands in a string of single quotes; `None` where more than that must be known.
fn plain(literal: &[u8]) -> Option<Vec<u8>> {
    let inside = literal.strip_prefix(b"'")?.strip_suffix(b"'")?;
    (!inside.iter().any(|b| matches!(b, b'\'' | b'\\'))).then(|| inside.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_set_to_is_read_where_that_is_plain() {
        for (text, value) in [
            ("SET tanist.read_after = 'x'", "x"),
            (" set\tTanist.Read_After TO '0/1';", "0/1"),
            ("set session tanist.read_after=soon", "soon"),
            ("set local tanist.read_after to ''", ""),
        ] {
            let got = sets_read_after(text.replace('\t', " ").as_bytes());
            assert_eq!(got.as_deref(), Some(value.as_bytes()), "{text}");
        }
        for text in [
            "",
            "set",
            "set tanist.read_after",
            "set tanist.read_after to default",
            "set tanist.read_after = 'x', 'y'",
            "set tanist.read_after = 'x'; select 1",
            "set tanist.read_after = E'\\x41'",
            "set tanist.read_after = 'it''s'",
            "set tanist.read_after = -1",
            "set app.read_after = 'x'",
            "set tanist.read_after = 'x",
            "show tanist.read_after",
            "update t set tanist.read_after = 'x'",
        ] {
            assert_eq!(sets_read_after(text.as_bytes()), None, "{text}");
        }
    }

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
