//! What clients say after they have logged in, as far as a proxy must read it.
//!
//! Source: PostgreSQL's documentation, "Message Formats". Bind's parameters and
//! CopyData are never looked at.

use alloc::vec::Vec;

use crate::frame::{cstr, int32};
use crate::put;

/// Bind a statement to a portal.
pub const BIND: u8 = b'B';
/// Close a statement or portal.
pub const CLOSE: u8 = b'C';
/// Data of a COPY.
pub const COPY_DATA: u8 = b'd';
/// End of a COPY.
pub const COPY_DONE: u8 = b'c';
/// A COPY given up.
pub const COPY_FAIL: u8 = b'f';
/// Describe a statement or portal.
pub const DESCRIBE: u8 = b'D';
/// Run a portal.
pub const EXECUTE: u8 = b'E';
/// Send what there is.
pub const FLUSH: u8 = b'H';
/// Call a function by its number.
pub const FUNCTION_CALL: u8 = b'F';
/// Parse a statement.
pub const PARSE: u8 = b'P';
/// A password, or what SASL says.
pub const PASSWORD: u8 = b'p';
/// A simple query.
pub const QUERY: u8 = b'Q';
/// End of a batch.
pub const SYNC: u8 = b'S';
/// Good-bye.
pub const TERMINATE: u8 = b'X';

/// A Parse message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub text: &'a [u8],
    /// Everything after the name: text, zero byte, types.
    pub tail: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a whole body; `None` if it is no Parse.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Parse<'a>> {
        let (name, tail) = cstr(body)?;
        let (text, types) = cstr(tail)?;
        let (count, types) = types.split_first_chunk::<2>()?;
        (types.len() == 4 * usize::from(u16::from_be_bytes(*count))).then_some(Parse { name, text, tail })
    }
}

/// Appends Parse for a statement whose text and types are `tail`, as they came.
pub fn parse(out: &mut Vec<u8>, name: &[u8], tail: &[u8]) {
    put::message(out, PARSE, |out| {
        put::cstr(out, name);
        out.extend_from_slice(tail);
    });
}

/// The names at the front of a Bind message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindNames<'a> {
    /// The portal.
    pub portal: &'a [u8],
    /// The statement.
    pub statement: &'a [u8],
    /// Bytes of both with their zero bytes.
    pub bytes: usize,
}

impl<'a> BindNames<'a> {
    /// Reads what there is of a body; `None` while the names are not whole.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<BindNames<'a>> {
        let (portal, rest) = cstr(body)?;
        let (statement, _) = cstr(rest)?;
        Some(BindNames { portal, statement, bytes: portal.len() + statement.len() + 2 })
    }
}

/// Appends the head of a Bind of which `tail_bytes` more follow: header, portal, statement.
///
/// # Panics
/// When the whole would be longer than a length can say: the caller has checked the message it came from.
pub fn bind_head(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], tail_bytes: u64) {
    out.push(BIND);
    let names = portal.len() as u64 + statement.len() as u64 + 2;
    let length = u32::try_from(4 + names + tail_bytes).expect("checked when it came in");
    out.extend(length.to_be_bytes());
    put::cstr(out, portal);
    put::cstr(out, statement);
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Object<'a> {
    /// Reads the body of a Describe or Close; `None` if it is none.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Object<'a>> {
        let (kind, rest) = body.split_first()?;
        let (name, rest) = cstr(rest)?;
        if !rest.is_empty() {
            return None;
        }
        match kind {
            b'S' => Some(Object::Statement(name)),
            b'P' => Some(Object::Portal(name)),
            _ => None,
        }
    }
}

/// Appends Describe (`DESCRIBE`) or Close (`CLOSE`) of a statement.
pub fn of_statement(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    put::message(out, tag, |out| {
        out.push(b'S');
        put::cstr(out, name);
    });
}

/// The portal that an Execute runs and the most rows it asks for (0: all); `None` if it is no Execute.
#[must_use]
pub fn execute_of(body: &[u8]) -> Option<(&[u8], i32)> {
    let (portal, rest) = cstr(body)?;
    let (rows, rest) = int32(rest)?;
    rest.is_empty().then_some((portal, rows))
}

/// Appends a simple query.
pub fn query(out: &mut Vec<u8>, text: &[u8]) {
    put::message(out, QUERY, |out| put::cstr(out, text));
}

/// Appends Sync.
pub fn sync(out: &mut Vec<u8>) {
    put::message(out, SYNC, |_| {});
}

/// Appends Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    put::message(out, TERMINATE, |_| {});
}

/// Appends a password, or what SASL has to say, as its body.
pub fn password(out: &mut Vec<u8>, body: &[u8]) {
    put::message(out, PASSWORD, |out| out.extend_from_slice(body));
}

/// Appends a call of the function `oid` without arguments whose result shall come as text.
pub fn call(out: &mut Vec<u8>, oid: u32) {
    put::message(out, FUNCTION_CALL, |out| {
        out.extend(oid.to_be_bytes());
        // No formats of arguments, no arguments, the result as text.
        out.extend([0; 6]);
    });
}

/// Whether a client may say this after it has logged in. Anything else means that
/// the stream can't be trusted any more.
#[must_use]
pub fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        BIND | CLOSE
            | COPY_DATA
            | COPY_DONE
            | COPY_FAIL
            | DESCRIBE
            | EXECUTE
            | FLUSH
            | FUNCTION_CALL
            | PARSE
            | QUERY
            | SYNC
            | TERMINATE
    )
}
