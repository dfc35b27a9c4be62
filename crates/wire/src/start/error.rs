//! Why a client's first words were refused, in PostgreSQL's own words.
//!
//! The client's driver and its user know these texts and SQLSTATEs from
//! PostgreSQL, and some act on them, so they are copied and not improved.
//!
//! Never holds more of the client's text than its packet did.

use alloc::string::String;
use core::fmt;

use super::Version;

/// A refusal. `Display` is the message for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The length field is too small or too great for its packet.
    #[error("invalid length of startup packet")]
    Length,
    /// A cancel request without a process id, or with a key that isn't 4 to 256 bytes. Nobody reads an answer.
    #[error("invalid length of cancel key in cancel request packet")]
    CancelLength,
    /// Another major version; also a second SSLRequest or GSSENCRequest, which PostgreSQL takes for one (1234.5679).
    #[error("unsupported frontend protocol {0}: server supports 3.0 to 3.2")]
    Unsupported(Version),
    /// The pairs of name and value don't end where the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// No `user`, or an empty one.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// `replication` is neither a boolean nor `database`. Valid are: "false", 0, "true", 1, "database".
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
    /// `options` names a setting without a value. The text begins with the switch: `-c a` or `--a`.
    #[error("{0} requires a value")]
    OptionValue(String),
    /// `options` holds a word that is no switch, or a switch without its argument.
    #[error("invalid command-line argument for server process: {0}")]
    OptionWord(String),
    /// `options` holds one of the server's single-letter switches. PostgreSQL would take some of them; we can't know
    /// what each means in every version, so we refuse instead of guessing.
    #[error("unsupported switch \"-{0}\" in options: only -c name=value and --name=value are supported")]
    OptionSwitch(char),
    /// Bytes in clear behind a request for encryption: a faulty client, or somebody in the middle.
    #[error("received unencrypted data after {0} request")]
    Unencrypted(Encryption),
}

/// What a client asks for before it says anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// TLS.
    Ssl,
    /// GSSAPI, which nobody gets here.
    Gss,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encryption::Ssl => "SSL",
            Encryption::Gss => "GSSAPI encryption",
        })
    }
}

impl StartError {
    /// The SQLSTATE that PostgreSQL gives with this message.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            StartError::Length
            | StartError::CancelLength
            | StartError::Layout
            | StartError::Unencrypted(_) => "08P01",
            StartError::Unsupported(_) | StartError::OptionSwitch(_) => "0A000",
            StartError::NoUser => "28000",
            StartError::Replication(_) => "22023",
            StartError::OptionValue(_) | StartError::OptionWord(_) => "42601",
        }
    }
}
