//! SCRAM's client side: we prove ourselves to a server, and it to us.
//!
//! ```text
//!   Client::new ──▶ first() ──▶ server
//!   Client::answer(server-first) ──▶ Waiting, client-final
//!   Waiting::finish(server-final) ──▶ the keys, worth keeping: they save the iterations next time
//! ```
//!
//! A connection is only the server's after `finish`: before, anybody could be
//! at its other end.
//!
//! Never sends the user's name: PostgreSQL takes it from the startup packet.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::attributes::Attributes;
use super::nonce::is_printable;
use super::verifier::{decode_key, number};
use super::{END_POINT_HEADER, Error, ITERATIONS_MAX, Keys, Mechanism, Nonce, SALT_BYTES_MAX, binding_text};

/// The longest message that a server may send: libpq's bound for authentication.
pub const MESSAGE_BYTES_MAX: usize = 2_000;

/// By what we log in. `Debug` hides it.
#[derive(Clone)]
pub enum Credential {
    /// The password, after SASLprep.
    Password(Vec<u8>),
    /// The keys, from an earlier exchange, or from a client's that we accepted.
    Keys(Keys),
}

/// How the exchange is bound to the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// Not at all: no TLS, or we don't want it.
    Unsupported,
    /// We could, but the server offered only SCRAM-SHA-256. If that isn't what it said, it will notice.
    NotOffered,
    /// By the hash of the server's certificate (`tls-server-end-point`), with SCRAM-SHA-256-PLUS.
    EndPoint(&'a [u8]),
}

/// An exchange in which we have said our nonce, and no more.
#[derive(Debug)]
pub struct Client {
    credential: Credential,
    nonce: Nonce,
    mechanism: Mechanism,
    header: &'static str,
    /// What `c=` holds.
    binding: String,
}

/// An exchange in which the server has still to prove itself.
#[derive(Debug)]
pub struct Waiting {
    keys: Keys,
    /// All that was said: what both sides sign.
    conversation: String,
}

impl Client {
    /// Begins an exchange.
    pub fn new(credential: Credential, binding: Binding<'_>, nonce: Nonce) -> Client {
        let (mechanism, header, hash): (_, _, &[u8]) = match binding {
            Binding::Unsupported => (Mechanism::Plain, "n,,", &[]),
            Binding::NotOffered => (Mechanism::Plain, "y,,", &[]),
            Binding::EndPoint(hash) => (Mechanism::Plus, END_POINT_HEADER, hash),
        };
        Client { credential, nonce, mechanism, header, binding: binding_text(header, hash) }
    }

    /// The mechanism to name in SASLInitialResponse.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What to send in SASLInitialResponse.
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce.text())
    }

    /// Reads AuthenticationSASLContinue, and gives what to send in SASLResponse. With a password this takes as long as
    /// the server wants it to, up to a good part of a second.
    pub fn answer(self, server_first: &[u8]) -> Result<(Waiting, String), Error> {
        let message = Attributes::of(server_first, MESSAGE_BYTES_MAX)?;
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(message, &self.nonce)?;
        let without_proof = format!("c={},r={nonce}", self.binding);
        let conversation = format!("{},{},{without_proof}", self.bare(), message.rest());
        let keys = match self.credential {
            Credential::Password(password) => Keys::derive(&password, &salt, iterations),
            Credential::Keys(keys) => keys,
        };
        let proof = keys.client.masked(&keys.client.stored().sign(&[conversation.as_bytes()]));
        let client_final = format!("{without_proof},p={}", STANDARD.encode(proof.as_bytes()));
        Ok((Waiting { keys, conversation }, client_final))
    }
}

impl Waiting {
    /// Reads AuthenticationSASLFinal. Gives the keys if the server is the one that holds our verifier.
    pub fn finish(self, server_final: &[u8]) -> Result<Keys, Error> {
        let mut message = Attributes::of(server_final, MESSAGE_BYTES_MAX)?;
        if message.rest().starts_with('e') {
            let printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
            return Err(Error::Server(message.value('e')?.chars().filter(printable).collect()));
        }
        let signature = message.value('v')?;
        message.end()?;
        let signature = decode_key(signature).ok_or(Error::Malformed("Malformed server signature."))?;
        if signature == self.keys.server.sign(&[self.conversation.as_bytes()]) {
            Ok(self.keys)
        } else {
            Err(Error::ServerSignature)
        }
    }
}

/// The server's first message in its parts, judged.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn read(mut message: Attributes<'a>, ours: &Nonce) -> Result<ServerFirst<'a>, Error> {
        let nonce = message.value('r')?;
        let theirs = nonce.strip_prefix(ours.text()).ok_or(Error::ServerNonce)?;
        if !is_printable(theirs) {
            return Err(Error::ServerNonce);
        }
        let salt = STANDARD.decode(message.value('s')?).map_err(|_| Error::Malformed("Invalid salt."))?;
        let iterations = number(message.value('i')?).filter(|n| (1..=ITERATIONS_MAX).contains(n));
        message.end()?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(Error::Salt);
        }
        Ok(ServerFirst { nonce, salt, iterations: iterations.ok_or(Error::Iterations)? })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password(_) => "Password(hidden)",
            Credential::Keys(_) => "Keys(hidden)",
        })
    }
}
