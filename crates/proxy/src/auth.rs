//! Lets clients prove who they are.

use std::io;
use std::rc::Rc;

use wire::back::{Authentication, Words};
use wire::scram::client::Credential;
use wire::scram::server::{Offer, Server};
use wire::scram::{Mechanism, Verifier};
use wire::{back, front};

use crate::line::Line;
use crate::login::nonce;
use crate::reactor::Reactor;
use crate::secrets::{Secret, Secrets};

/// Longest message of a client that has not proven itself.
const MESSAGE_BYTES_MAX: u64 = 2_000;

/// Why a client does not come in; the words are for it, and for our log.
#[derive(Debug)]
pub enum Denied {
    /// The socket went.
    Gone(io::Error),
    /// SQLSTATE and words.
    Told(&'static str, String),
}

impl From<io::Error> for Denied {
    fn from(e: io::Error) -> Denied {
        if e.kind() == io::ErrorKind::InvalidData {
            return Denied::Told("08P01", "invalid message length during authentication".to_string());
        }
        Denied::Gone(e)
    }
}

impl Denied {
    /// Appends what the client is told.
    pub fn put(&self, out: &mut Vec<u8>) {
        if let Denied::Told(code, message) = self {
            Words::fatal(code, message).put(out);
        }
    }
}

/// Lets a client prove that it is `user`. Gives what the proxy needs to be that user at a server.
///
/// # Errors
/// Why not.
pub async fn authenticate(
    reactor: &Rc<Reactor>,
    line: &mut Line,
    user: &str,
) -> Result<Option<Credential>, Denied> {
    let secrets = reactor.secrets.borrow().clone();
    let secret = match &*secrets {
        Secrets::Trust => return Ok(None),
        Secrets::List(users) => users.get(user).cloned(),
        Secrets::Cluster(verifiers) => verifiers.get(user).await.map_err(|why| {
            tracing::warn!(%why, "no agent says what this user's secret is");
            Denied::Told("57P03", "the users of the cluster can't be looked up now".to_string())
        })?,
    };
    let failed = || Denied::Told("28P01", format!("password authentication failed for user \"{user}\""));
    // Who is unknown is asked as well, and fails as with a wrong password: nobody learns which users there are.
    let verifier = secret
        .as_ref()
        .map_or_else(|| Verifier::mock(user.as_bytes(), &reactor.mock), |s| s.verifier.clone());
    let keys = scram(line, &verifier).await.map_err(|e| match e {
        Failed::Denied(denied) => denied,
        Failed::Scram(wire::scram::Error::Proof) => failed(),
        Failed::Scram(e) => Denied::Told(e.sqlstate(), e.to_string()),
    })?;
    let Some(Secret { password, .. }) = secret else { return Err(failed()) };
    Ok(Some(password.unwrap_or(Credential::Keys(keys))))
}

enum Failed {
    Denied(Denied),
    Scram(wire::scram::Error),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Failed {
        Failed::Denied(e.into())
    }
}

async fn scram(line: &mut Line, verifier: &Verifier) -> Result<wire::scram::Keys, Failed> {
    let mut out = Vec::new();
    Authentication::Sasl(b"SCRAM-SHA-256\0\0").put(&mut out);
    line.tell(&out).await?;
    let body = password_message(line).await?;
    let malformed = || Failed::Denied(Denied::Told("08P01", "malformed SASL message".to_string()));
    let (name, rest) = wire::frame::cstr(&body).ok_or_else(malformed)?;
    let chosen = Mechanism::from_name(name).filter(|m| *m == Mechanism::Plain);
    let chosen = chosen.ok_or_else(|| {
        Failed::Denied(Denied::Told(
            "08P01",
            "client selected an invalid SASL authentication mechanism".to_string(),
        ))
    })?;
    let (_, client_first) = wire::frame::int32(rest).ok_or_else(malformed)?;
    let nonce = nonce().map_err(|r| Failed::Denied(Denied::Told("58000", r.message)))?;
    let offer = Offer { chosen, end_point: None };
    let (server, first) = Server::begin(verifier, offer, &nonce, client_first).map_err(Failed::Scram)?;
    out.clear();
    Authentication::SaslContinue(first.as_bytes()).put(&mut out);
    line.tell(&out).await?;
    let body = password_message(line).await?;
    let accepted = server.finish(&body).map_err(Failed::Scram)?;
    out.clear();
    Authentication::SaslFinal(accepted.server_final.as_bytes()).put(&mut out);
    line.tell(&out).await?;
    Ok(accepted.keys)
}

async fn password_message(line: &mut Line) -> Result<Vec<u8>, Failed> {
    let (tag, body) = line.message(MESSAGE_BYTES_MAX).await?;
    if tag != front::PASSWORD {
        let text = format!("expected SASL response, got message type {tag}");
        return Err(Failed::Denied(Denied::Told("08P01", text)));
    }
    Ok(body)
}

/// Appends what a client is greeted with once it is believed.
pub fn greeting<'a>(
    out: &mut Vec<u8>,
    told: impl Iterator<Item = (&'a String, &'a String)>,
    pid: u32,
    secret: &[u8],
) {
    Authentication::Ok.put(out);
    for (name, value) in told {
        back::parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    back::backend_key(out, pid, secret);
    back::ready(out, back::Transaction::Idle);
}
