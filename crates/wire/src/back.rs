//! What servers say, as far as a proxy must read it or says it itself.
//!
//! Source: PostgreSQL's documentation, "Message Formats" and "Error and Notice
//! Message Fields". DataRow and CopyData are hopped over.

use alloc::vec::Vec;

use crate::frame::{cstr, int16, int32};
use crate::put;

/// Asks for authentication, or says that it is done.
pub const AUTHENTICATION: u8 = b'R';
/// The key for cancelling.
pub const BACKEND_KEY_DATA: u8 = b'K';
/// Bind was done.
pub const BIND_COMPLETE: u8 = b'2';
/// Close was done.
pub const CLOSE_COMPLETE: u8 = b'3';
/// A statement was done.
pub const COMMAND_COMPLETE: u8 = b'C';
/// COPY in both directions begins.
pub const COPY_BOTH: u8 = b'W';
/// Data of a COPY.
pub const COPY_DATA: u8 = b'd';
/// End of a COPY.
pub const COPY_DONE: u8 = b'c';
/// COPY to the server begins.
pub const COPY_IN: u8 = b'G';
/// COPY to the client begins.
pub const COPY_OUT: u8 = b'H';
/// One row.
pub const DATA_ROW: u8 = b'D';
/// Nothing was asked.
pub const EMPTY_QUERY: u8 = b'I';
/// An error.
pub const ERROR: u8 = b'E';
/// What a called function gave.
pub const FUNCTION_RESULT: u8 = b'V';
/// A version of the protocol other than the one asked for.
pub const NEGOTIATE_VERSION: u8 = b'v';
/// No rows will come.
pub const NO_DATA: u8 = b'n';
/// A notice.
pub const NOTICE: u8 = b'N';
/// What somebody NOTIFYed.
pub const NOTIFICATION: u8 = b'A';
/// Types of parameters.
pub const PARAMETER_DESCRIPTION: u8 = b't';
/// The value of a reported setting.
pub const PARAMETER_STATUS: u8 = b'S';
/// Parse was done.
pub const PARSE_COMPLETE: u8 = b'1';
/// The portal has more rows.
pub const PORTAL_SUSPENDED: u8 = b's';
/// Ready for the next one.
pub const READY: u8 = b'Z';
/// Names and types of columns.
pub const ROW_DESCRIPTION: u8 = b'T';

/// Whether a server may say this to one who has logged in.
#[must_use]
pub fn is_known(tag: u8) -> bool {
    b"R23CWdcGHDIEVnNAtS1sZT".contains(&tag)
}

/// State of the transaction, as ReadyForQuery says it. Nothing else is the truth about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// None.
    #[default]
    Idle,
    /// One is open.
    Open,
    /// One is open and failed: only its end is taken.
    Failed,
}

impl Transaction {
    /// Reads the body of ReadyForQuery; `None` if it is none.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Transaction> {
        match body {
            b"I" => Some(Transaction::Idle),
            b"T" => Some(Transaction::Open),
            b"E" => Some(Transaction::Failed),
            _ => None,
        }
    }

    /// The byte that says it.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Transaction::Idle => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        }
    }
}

/// Appends ReadyForQuery.
pub fn ready(out: &mut Vec<u8>, transaction: Transaction) {
    put::message(out, READY, |out| out.push(transaction.byte()));
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// It went on.
    Warning,
    /// It is only said.
    Notice,
}

impl Severity {
    fn word(self) -> &'static [u8] {
        match self {
            Severity::Error => b"ERROR",
            Severity::Fatal => b"FATAL",
            Severity::Warning => b"WARNING",
            Severity::Notice => b"NOTICE",
        }
    }
}

/// What an error or notice of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// SQLSTATE, five characters.
    pub code: &'a str,
    /// One sentence of what happened.
    pub message: &'a str,
    /// More about it; empty for nothing.
    pub detail: &'a str,
    /// What to do; empty for nothing.
    pub hint: &'a str,
}

impl<'a> Words<'a> {
    /// An error that ends the statement.
    #[must_use]
    pub fn error(code: &'a str, message: &'a str) -> Words<'a> {
        Words { severity: Severity::Error, code, message, detail: "", hint: "" }
    }

    /// An error that ends the connection.
    #[must_use]
    pub fn fatal(code: &'a str, message: &'a str) -> Words<'a> {
        Words { severity: Severity::Fatal, ..Words::error(code, message) }
    }

    /// The same with a detail.
    #[must_use]
    pub fn detail(self, detail: &'a str) -> Words<'a> {
        Words { detail, ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: &'a str) -> Words<'a> {
        Words { hint, ..self }
    }

    /// Appends it: ErrorResponse for errors, NoticeResponse for the rest.
    pub fn put(self, out: &mut Vec<u8>) {
        let tag = match self.severity {
            Severity::Error | Severity::Fatal => ERROR,
            Severity::Warning | Severity::Notice => NOTICE,
        };
        put::message(out, tag, |out| {
            let word = self.severity.word();
            let fields: [(u8, &[u8]); 6] = [
                (b'S', word),
                (b'V', word),
                (b'C', self.code.as_bytes()),
                (b'M', self.message.as_bytes()),
                (b'D', self.detail.as_bytes()),
                (b'H', self.hint.as_bytes()),
            ];
            for (key, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
                out.push(key);
                put::cstr(out, text);
            }
            out.push(0);
        });
    }
}

/// One field of an ErrorResponse or NoticeResponse, by its key; `None` if it is not there.
#[must_use]
pub fn field(body: &[u8], key: u8) -> Option<&[u8]> {
    fields(body).find(|(k, _)| *k == key).map(|(_, text)| text)
}

/// All fields of an ErrorResponse or NoticeResponse. Ends at the first thing that is none.
pub fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    core::iter::from_fn(move || {
        let (key, tail) = rest.split_first()?;
        if *key == 0 {
            return None;
        }
        let (text, tail) = cstr(tail)?;
        rest = tail;
        Some((*key, text))
    })
}

/// Whether an ErrorResponse ends its connection. `V` is in no language; servers before 9.6 have only `S`.
#[must_use]
pub fn is_fatal(body: &[u8]) -> bool {
    let severity = field(body, b'V').or_else(|| field(body, b'S')).unwrap_or_default();
    severity == b"FATAL" || severity == b"PANIC"
}

/// Name and value of a ParameterStatus; `None` if it is none.
#[must_use]
pub fn parameter(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = cstr(body)?;
    let (value, rest) = cstr(rest)?;
    rest.is_empty().then_some((name, value))
}

/// Appends ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put::message(out, PARAMETER_STATUS, |out| {
        put::cstr(out, name);
        put::cstr(out, value);
    });
}

/// Appends CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &[u8]) {
    put::message(out, COMMAND_COMPLETE, |out| put::cstr(out, tag));
}

/// Appends a message without a body, as ParseComplete, BindComplete, CloseComplete, NoData.
pub fn bare(out: &mut Vec<u8>, tag: u8) {
    put::message(out, tag, |_| {});
}

/// Appends the process and its secret, as clients give them back to cancel.
pub fn backend_key(out: &mut Vec<u8>, pid: u32, secret: &[u8]) {
    put::message(out, BACKEND_KEY_DATA, |out| {
        out.extend(pid.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Process and secret of a BackendKeyData; `None` if it is none (a secret has 4 to 256 bytes).
#[must_use]
pub fn key_of(body: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    (4..=256).contains(&secret.len()).then(|| (u32::from_be_bytes(*pid), secret))
}

/// What a server asks for, or says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It is done.
    Ok,
    /// The password itself.
    Cleartext,
    /// Its MD5 with this salt.
    Md5([u8; 4]),
    /// SASL, with these mechanisms: strings that end with a zero byte, and an empty one at the end.
    Sasl(&'a [u8]),
    /// SASL goes on with this.
    SaslContinue(&'a [u8]),
    /// SASL ends with this.
    SaslFinal(&'a [u8]),
    /// Something that is not spoken here.
    Other(i32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of a message of type `AUTHENTICATION`; `None` if it is none.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Authentication<'a>> {
        let (kind, rest) = int32(body)?;
        Some(match kind {
            0 => Authentication::Ok,
            3 => Authentication::Cleartext,
            5 => Authentication::Md5(rest.try_into().ok()?),
            10 => Authentication::Sasl(rest),
            11 => Authentication::SaslContinue(rest),
            12 => Authentication::SaslFinal(rest),
            other => Authentication::Other(other),
        })
    }

    /// Appends it.
    pub fn put(self, out: &mut Vec<u8>) {
        let (kind, rest): (i32, &[u8]) = match &self {
            Authentication::Ok => (0, b""),
            Authentication::Cleartext => (3, b""),
            Authentication::Md5(salt) => (5, salt),
            Authentication::Sasl(rest) => (10, rest),
            Authentication::SaslContinue(rest) => (11, rest),
            Authentication::SaslFinal(rest) => (12, rest),
            Authentication::Other(kind) => (*kind, b""),
        };
        put::message(out, AUTHENTICATION, |out| {
            out.extend(kind.to_be_bytes());
            out.extend_from_slice(rest);
        });
    }
}

/// Appends RowDescription of columns of type text.
pub fn text_columns(out: &mut Vec<u8>, names: &[&str]) {
    const TEXT: u32 = 25;
    put::message(out, ROW_DESCRIPTION, |out| {
        out.extend(count(names.len()));
        for name in names {
            put::cstr(out, name.as_bytes());
            out.extend([0; 6]); // of no table
            out.extend(TEXT.to_be_bytes());
            out.extend((-1_i16).to_be_bytes()); // of any length
            out.extend((-1_i32).to_be_bytes());
            out.extend([0; 2]); // as text
        }
    });
}

/// Appends DataRow of texts; `None` is NULL.
pub fn text_row<'a>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    put::message(out, DATA_ROW, |out| {
        out.extend(count(values.len()));
        for value in values {
            let Some(value) = value else {
                out.extend((-1_i32).to_be_bytes());
                continue;
            };
            let length = i32::try_from(value.len()).expect("a text of ours is far below 2 GB");
            out.extend(length.to_be_bytes());
            out.extend_from_slice(value);
        }
    });
}

fn count(n: usize) -> [u8; 2] {
    i16::try_from(n).expect("a table of ours has few columns").to_be_bytes()
}

/// The values of a DataRow, `None` for NULL. Ends at the first thing that is none.
pub fn values(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let (count, mut rest) = int16(body).unwrap_or((0, b""));
    (0..count).map_while(move |_| {
        let (length, tail) = int32(rest)?;
        let Ok(length) = usize::try_from(length) else {
            rest = tail;
            return Some(None);
        };
        let (value, tail) = tail.split_at_checked(length)?;
        rest = tail;
        Some(Some(value))
    })
}
