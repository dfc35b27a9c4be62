//! SCRAM's messages as attributes: `r=...,s=...,i=...`.
//!
//! Read like PostgreSQL's `read_attr_value`: a value goes up to the next comma,
//! and holds what it holds.
//!
//! Never copies: what it gives out are pieces of the message.

use super::Error;

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(&'a str);

impl<'a> Attributes<'a> {
    /// Begins to read `message`, which may have `bytes_max` bytes.
    pub(super) fn of(message: &'a [u8], bytes_max: usize) -> Result<Attributes<'a>, Error> {
        if message.is_empty() {
            return Err(Error::Malformed("The message is empty."));
        }
        if message.len() > bytes_max {
            return Err(Error::Malformed("The message is too long."));
        }
        if message.contains(&0) {
            return Err(Error::Malformed("Message length does not match input length."));
        }
        core::str::from_utf8(message)
            .map(Attributes)
            .map_err(|_| Error::Malformed("The message is not UTF-8."))
    }

    /// All that is left, as it is.
    pub(super) fn rest(self) -> &'a str {
        self.0
    }

    /// Takes `text` off the front, if it is there.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// The value of the attribute that comes next, which must be `name`.
    pub(super) fn value(&mut self, name: char) -> Result<&'a str, Error> {
        match self.any()? {
            (found, value) if found == name => Ok(value),
            _ => Err(Error::Malformed("Another attribute was expected.")),
        }
    }

    /// Name and value of the attribute that comes next.
    pub(super) fn any(&mut self) -> Result<(char, &'a str), Error> {
        let mut chars = self.0.chars();
        match (chars.next(), chars.next()) {
            (None, _) => Err(Error::Malformed("Attribute expected, but found end of string.")),
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => {
                let (value, rest) = chars.as_str().split_once(',').unwrap_or((chars.as_str(), ""));
                self.0 = rest;
                Ok((name, value))
            }
            (Some(name), _) if name.is_ascii_alphabetic() => {
                Err(Error::Malformed("Expected character \"=\" for an attribute."))
            }
            _ => Err(Error::Malformed("Attribute expected, but found an invalid character.")),
        }
    }

    /// That nothing is left.
    pub(super) fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed("Garbage found at the end.")) }
    }
}
