//! Whether what a text sets can be followed: PostgreSQL lists what a session has set, but for
//! settings of an application's own, whose names must then be read in the text.

use super::tokens::{Token, Tokens};
use super::{WORD_BYTES_MAX, lowercase};

/// Whether the names of all settings that a text sets beyond its transaction stand in it plainly.
#[must_use]
pub fn can_follow(text: &[u8]) -> bool {
    let mut tokens = Tokens::of(text).peekable();
    let mut starts = true;
    while let Some(token) = tokens.next() {
        let begins = core::mem::replace(&mut starts, matches!(token, Token::Symbol(b';')));
        let (Token::Word(word) | Token::Quoted(word)) = token else { continue };
        let mut lower = [0; WORD_BYTES_MAX];
        let word = lowercase(word, &mut lower);
        let followed = match word {
            b"set" if begins => plain_name(text, &mut tokens),
            b"set_config" | b"\"set_config\"" => plain_call(&mut tokens),
            _ => true,
        };
        if !followed {
            return false;
        }
    }
    true
}

type Rest<'a> = core::iter::Peekable<Tokens<'a>>;

/// SET [SESSION | LOCAL] name: one word, or several with dots and nothing between.
fn plain_name(text: &[u8], tokens: &mut Rest<'_>) -> bool {
    while let Some(token) = tokens.peek() {
        match token {
            Token::Quoted(_) => return false,
            Token::Word(word) if word.eq_ignore_ascii_case(b"to") => return true,
            Token::Word(_) => {}
            Token::Symbol(b'.') => {
                tokens.next();
                let Some(Token::Word(part)) = tokens.peek() else { return false };
                let at = part.as_ptr() as usize - text.as_ptr() as usize;
                let joined = at >= 2 && text[at - 1] == b'.' && !text[at - 2].is_ascii_whitespace();
                if !joined {
                    return false;
                }
            }
            Token::Symbol(_) | Token::Literal(_) => return true,
        }
        tokens.next();
    }
    true
}

/// The arguments of `set_config`: a plain string first, or `true` third, which is for the transaction only.
fn plain_call(tokens: &mut Rest<'_>) -> bool {
    if !matches!(tokens.peek(), Some(Token::Symbol(b'('))) {
        // A name and no call.
        return true;
    }
    let (mut depth, mut argument, mut parts) = (0_u32, 0, 0);
    let (mut plain, mut local) = (false, false);
    for token in tokens.by_ref() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth == 1 => break,
            Token::Symbol(b')') => depth -= 1,
            Token::Symbol(b',') if depth == 1 => {
                argument += 1;
                parts = 0;
                continue;
            }
            _ => {}
        }
        if depth == 1 && !matches!(token, Token::Symbol(b'(')) || depth > 1 {
            parts += 1;
        }
        match (argument, &token) {
            (0, Token::Literal(bytes)) => {
                plain = parts == 1 && bytes.first() == Some(&b'\'') && !bytes.contains(&b'\\');
            }
            (0, Token::Symbol(b'(')) if depth == 1 => {}
            (0, _) => plain = false,
            (2, Token::Word(word)) => local = parts == 1 && word.eq_ignore_ascii_case(b"true"),
            (2, _) => local = false,
            _ => {}
        }
    }
    plain || local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_followed_and_others_are_not() {
        for text in [
            "set app.x = 1",
            "SET LOCAL app.x TO '1'",
            "set session work_mem = '1MB'",
            "select set_config('app.x', $1, false)",
            "select set_config($1, $2, true)",
            "set timezone to 'x'; select 1",
            "select 1",
            "select set_config('search_path', concat('a', 'b'), false), set_config('app.x', '1', false)",
        ] {
            assert!(can_follow(text.as_bytes()), "{text}");
        }
        for text in [
            "set \"app\".\"x\" = 1",
            "set app.\"x\" = 1",
            "set /*c*/ app . x = 1",
            "select set_config($1, $2, false)",
            "select set_config('app'||'.x', '1', false)",
            "select set_config(E'app\\x2ex', '1', false)",
            "select \"set_config\"(name, '1', false) from names",
            "select set_config('app'\n'.x', '1', false)",
        ] {
            assert!(!can_follow(text.as_bytes()), "{text}");
        }
    }
}
