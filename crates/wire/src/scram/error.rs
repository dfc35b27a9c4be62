//! Why an exchange failed, in PostgreSQL's words.
//!
//! What a server tells its client about a wrong password is always the same
//! "password authentication failed", whether or not there is such a user.
//!
//! Never holds a secret.

use alloc::string::String;

use super::{ITERATIONS_MAX, SALT_BYTES_MAX};

/// A failed exchange. The first group is what a server finds in its client, the second what a client finds in its
/// server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Either side: not a SCRAM message. The detail stands behind the colon.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client says that it could bind to the TLS connection if only we offered it. We did: somebody in the middle
    /// took it out of the offer.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// Another binding than `tls-server-end-point`.
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    /// Client and server see different certificates: somebody is in the middle.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// `c=` isn't the header that the client sent before.
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    BindingUnexpected,
    /// The client wants to act for somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The client demands what we don't know.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// A nonce may only hold printable ASCII, and no comma.
    #[error("non-printable characters in SCRAM nonce")]
    NonceUnprintable,
    /// The nonce isn't the one of this exchange: a replay.
    #[error("invalid SCRAM response: Nonce does not match.")]
    NonceMismatch,
    /// A wrong password, or no such user. The caller names the user.
    #[error("password authentication failed")]
    Proof,

    /// The server's nonce doesn't continue ours: a replay, or no SCRAM server.
    #[error("invalid SCRAM response (nonce mismatch)")]
    ServerNonce,
    /// No iterations, or so many that computing them would be an attack on us.
    #[error("a SCRAM iteration count that is not within 1 and {ITERATIONS_MAX}")]
    Iterations,
    /// An empty salt, or too long.
    #[error("a SCRAM salt that is not within 1 and {SALT_BYTES_MAX} bytes")]
    Salt,
    /// The server ended the exchange, and says why. Only printable ASCII is kept.
    #[error("error received from server in SCRAM exchange: {0}")]
    Server(String),
    /// The server doesn't know the verifier: not the server that we think it is.
    #[error("incorrect server signature")]
    ServerSignature,
}

impl Error {
    /// The SQLSTATE that PostgreSQL gives with it; for what a server did wrong, what to tell our own client.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::Malformed(_)
            | Error::BindingType
            | Error::BindingUnexpected
            | Error::NonceUnprintable
            | Error::NonceMismatch => "08P01",
            Error::Downgrade | Error::Binding => "28000",
            Error::AuthorizationIdentity | Error::Extension => "0A000",
            Error::Proof => "28P01",
            Error::ServerNonce
            | Error::Iterations
            | Error::Salt
            | Error::Server(_)
            | Error::ServerSignature => "08001",
        }
    }
}
