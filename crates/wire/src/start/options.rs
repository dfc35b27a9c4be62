//! The parameter `options`: a command line for the server, as one text.
//!
//! ```text
//!   -c search_path=a\ b --work-mem=4MB     ──▶  search_path = "a b", work_mem = "4MB"
//! ```
//!
//! Split like PostgreSQL's `pg_split_opts`, read like its
//! `process_postgres_switches`, for `-c` and `--`. Its other switches, `-S 1024`
//! for `work_mem` and the like, are refused by name.
//!
//! Never judges a setting's name or value: that is the server's to do.

use alloc::format;
use alloc::string::String;
use alloc::vec::{IntoIter, Vec};

use super::StartError;

/// A setting of the server, and what the client wants it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Never empty; ASCII case doesn't count.
    pub name: Vec<u8>,
    /// May be empty.
    pub value: Vec<u8>,
}

/// The settings in `options`, in order.
pub(super) fn parse(options: &[u8]) -> Result<Vec<Setting>, StartError> {
    let mut words = split(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        settings.push(setting(&word, &mut words)?);
    }
    Ok(settings)
}

/// The words between unescaped spaces. A backslash makes the next byte an ordinary one; the last byte of all is
/// dropped if it is a backslash.
fn split(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut escaped = false;
    for &byte in options {
        if is_space(byte) && !escaped {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        escaped = byte == b'\\' && !escaped;
        if !escaped {
            word.push(byte);
        }
    }
    words.extend(word);
    words
}

/// C's `isspace`, to which a vertical tab is one too.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn setting(word: &[u8], rest: &mut IntoIter<Vec<u8>>) -> Result<Setting, StartError> {
    match word {
        [b'-', b'-', text @ ..] if !text.is_empty() => assignment("--", text),
        [b'-', b'c'] => assignment("-c ", &rest.next().ok_or_else(|| stray(word))?),
        [b'-', b'c', text @ ..] => assignment("-c ", text),
        [b'-', letter, ..] if *letter != b'-' => Err(StartError::OptionSwitch(char::from(*letter))),
        _ => Err(stray(word)),
    }
}

/// `name=value`, with `-` in the name meaning `_`.
fn assignment(switch: &str, text: &[u8]) -> Result<Setting, StartError> {
    let Some(equals) = text.iter().position(|byte| *byte == b'=') else {
        return Err(StartError::OptionValue(format!("{switch}{}", String::from_utf8_lossy(text))));
    };
    if equals == 0 {
        return Err(stray(text));
    }
    let name = text[..equals].iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect();
    Ok(Setting { name, value: text[equals + 1..].to_vec() })
}

fn stray(word: &[u8]) -> StartError {
    StartError::OptionWord(String::from_utf8_lossy(word).into_owned())
}
