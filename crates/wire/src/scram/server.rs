//! SCRAM's server side: is the client who it says it is?
//!
//! ```text
//!   Server::begin(client-first) ──▶ Server, server-first
//!   Server::finish(client-final) ──▶ Accepted: server-final, and the keys of the user
//! ```
//!
//! A fake verifier goes the whole way and fails only at its end, where a wrong
//! password does.
//!
//! Never says which of user, password or proof was wrong.

use alloc::format;
use alloc::string::String;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq};

use super::attributes::Attributes;
use super::nonce::is_printable;
use super::verifier::decode_key;
use super::{END_POINT, END_POINT_HEADER, Error, Keys, Mechanism, Nonce, Verifier, binding_text};

/// The longest message that a client may send: PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// What was offered to the client, and what it chose.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The mechanism that the client named.
    pub chosen: Mechanism,
    /// The hash of our certificate (`tls-server-end-point`, RFC 5929), if we offered SCRAM-SHA-256-PLUS too.
    pub end_point: Option<&'a [u8]>,
}

/// An exchange in which the client has still to prove itself.
#[derive(Debug)]
pub struct Server {
    verifier: Verifier,
    chosen: Mechanism,
    /// What `c=` must hold.
    binding: String,
    /// Both nonces.
    nonce: String,
    /// The client's first message without its header, a comma, and ours.
    conversation: String,
}

/// The client has proven itself.
#[derive(Debug)]
pub struct Accepted {
    /// What to send in AuthenticationSASLFinal.
    pub server_final: String,
    /// What it takes to log in as this user elsewhere.
    pub keys: Keys,
}

impl Server {
    /// Reads the client's first message, and gives the text of ours for AuthenticationSASLContinue.
    pub fn begin(
        verifier: &Verifier,
        offer: Offer<'_>,
        nonce: &Nonce,
        client_first: &[u8],
    ) -> Result<(Server, String), Error> {
        let mut message = Attributes::of(client_first, MESSAGE_BYTES_MAX)?;
        let binding = header(&mut message, offer)?;
        let bare = message.rest();
        let nonce = format!("{}{}", client_nonce(message)?, nonce.text());
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let conversation = format!("{bare},{server_first}");
        let verifier = verifier.clone();
        Ok((Server { verifier, chosen: offer.chosen, binding, nonce, conversation }, server_first))
    }

    /// Reads the client's final message and judges its proof.
    pub fn finish(self, client_final: &[u8]) -> Result<Accepted, Error> {
        let message = Attributes::of(client_final, MESSAGE_BYTES_MAX)?;
        let ClientFinal { binding, nonce, proof, without_proof } = ClientFinal::read(message)?;
        self.check_binding(binding)?;
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(Error::NonceMismatch);
        }
        let proof = decode_key(proof).ok_or(Error::Malformed("Malformed proof in client-final-message."))?;
        let signed: [&[u8]; 3] = [self.conversation.as_bytes(), b",", without_proof.as_bytes()];
        let client = proof.masked(&self.verifier.stored.sign(&signed));
        let is_right = client.stored().ct_eq(&self.verifier.stored);
        if !bool::from(is_right & Choice::from(u8::from(self.verifier.is_genuine))) {
            return Err(Error::Proof);
        }
        let server_final = format!("v={}", STANDARD.encode(self.verifier.server.sign(&signed).as_bytes()));
        Ok(Accepted { server_final, keys: Keys { client, server: self.verifier.server } })
    }

    fn check_binding(&self, binding: &str) -> Result<(), Error> {
        if bool::from(binding.as_bytes().ct_eq(self.binding.as_bytes())) {
            return Ok(());
        }
        Err(match self.chosen {
            Mechanism::Plain => Error::BindingUnexpected,
            Mechanism::Plus => Error::Binding,
        })
    }
}

/// What the client says of binding to the TLS connection.
enum Flag<'a> {
    /// `n`: it can't, or won't.
    Unsupported,
    /// `y`: it could, but believes that we can't.
    NotOffered,
    /// `p`: it does, in this way.
    Bound(&'a str),
}

impl<'a> Flag<'a> {
    fn read(message: &mut Attributes<'a>) -> Result<Flag<'a>, Error> {
        if message.take("n,") {
            Ok(Flag::Unsupported)
        } else if message.take("y,") {
            Ok(Flag::NotOffered)
        } else if message.rest().starts_with('p') {
            message.value('p').map(Flag::Bound)
        } else {
            Err(Error::Malformed("Unexpected channel-binding flag."))
        }
    }
}

/// Takes the header off the client's first message, and gives what `c=` must hold in its second.
fn header(message: &mut Attributes<'_>, offer: Offer<'_>) -> Result<String, Error> {
    let binding = match (Flag::read(message)?, offer.chosen, offer.end_point) {
        (Flag::Unsupported, Mechanism::Plain, _) => Ok(binding_text("n,,", &[])),
        (Flag::NotOffered, Mechanism::Plain, None) => Ok(binding_text("y,,", &[])),
        (Flag::NotOffered, Mechanism::Plain, Some(_)) => Err(Error::Downgrade),
        (Flag::Unsupported | Flag::NotOffered, Mechanism::Plus, _) => {
            Err(Error::Malformed("SCRAM-SHA-256-PLUS without channel binding data."))
        }
        (Flag::Bound(_), Mechanism::Plain, _) => {
            Err(Error::Malformed("SCRAM-SHA-256 with channel binding data."))
        }
        (Flag::Bound(_), Mechanism::Plus, None) => {
            Err(Error::Malformed("SCRAM-SHA-256-PLUS was not offered."))
        }
        (Flag::Bound(END_POINT), Mechanism::Plus, Some(hash)) => Ok(binding_text(END_POINT_HEADER, hash)),
        (Flag::Bound(_), Mechanism::Plus, Some(_)) => Err(Error::BindingType),
    };
    no_identity(message)?;
    binding
}

/// The header's end: between two commas, nobody else for whom the client would act.
fn no_identity(message: &mut Attributes<'_>) -> Result<(), Error> {
    if message.rest().starts_with('a') {
        return Err(Error::AuthorizationIdentity);
    }
    let ended = message.take(",");
    ended.then_some(()).ok_or(Error::Malformed("Unexpected attribute in client-first-message."))
}

/// The nonce. The user's name before it is not read: the startup packet's counts. Extensions behind it may be skipped.
fn client_nonce<'a>(mut message: Attributes<'a>) -> Result<&'a str, Error> {
    if message.rest().starts_with('m') {
        return Err(Error::Extension);
    }
    message.value('n')?;
    let nonce = message.value('r')?;
    if !is_printable(nonce) {
        return Err(Error::NonceUnprintable);
    }
    while !message.rest().is_empty() {
        message.any()?;
    }
    Ok(nonce)
}

/// The client's final message in its parts.
struct ClientFinal<'a> {
    binding: &'a str,
    nonce: &'a str,
    proof: &'a str,
    /// What the proof signs: all before the comma in front of it.
    without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    fn read(mut message: Attributes<'a>) -> Result<ClientFinal<'a>, Error> {
        let whole = message.rest();
        let (binding, nonce) = (message.value('c')?, message.value('r')?);
        loop {
            let before = whole.len() - message.rest().len();
            if let ('p', proof) = message.any()? {
                message.end()?;
                return Ok(ClientFinal { binding, nonce, proof, without_proof: &whole[..before - 1] });
            }
        }
    }
}
