//! Lets clients prove who they are.
//!
//! ```text
//!   where from, which user and database ──▶ rule ──▶ method ──▶ proof ──▶ what it is good for at a server
//! ```
//! Who is unknown is asked as well, and fails as with a wrong password: nobody
//! learns which users there are.

use std::io;
use std::rc::Rc;

use wire::back::{Authentication, Words};
use wire::scram::server::{Offer, Server};
use wire::scram::{Keys, Mechanism, Verifier};
use wire::start::Startup;
use wire::{back, front};

use crate::hba::{Method, Rule};
use crate::line::Line;
use crate::login::nonce;
use crate::lookup::Asked;
use crate::origin::Origin;
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::secrets::{Asks, Common, Proof, Secret, Secrets};

/// Longest message of SCRAM.
const SASL_BYTES_MAX: u64 = 2_000;
/// Longest password, or answer to MD5: PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`, as a token in a password's place may
/// be long.
const PASSWORD_BYTES_MAX: u64 = 65_535;
/// Both mechanisms, best first, each with its zero, and one at the end.
const OFFER_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const OFFER_PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";

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
    /// Logs it with who it was and where from; a stranger chose the names.
    pub fn log(&self, startup: &Startup, origin: &Origin) {
        if let Denied::Told(code, why) = self {
            let text = |name: &[u8]| String::from_utf8_lossy(name).escape_debug().to_string();
            let (user, database) = (text(startup.user()), text(startup.database()));
            tracing::info!(from = %origin.host_words(), user, database, code, %why, "a login was refused");
        }
    }

    /// Appends what the client is told.
    pub fn put(&self, out: &mut Vec<u8>) {
        if let Denied::Told(code, message) = self {
            Words::fatal(code, message).put(out);
        }
    }
}

/// Who asks to come in.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Where it is.
    pub origin: &'a Origin,
    /// Who it says it is.
    pub user: &'a str,
    /// What it wants, in the words of clients.
    pub database: &'a str,
    /// What its door leads to.
    pub target: Target,
}

/// Lets a client prove who it is. Gives what the proxy needs to be that user at a server.
///
/// # Errors
/// Why not.
pub async fn authenticate(
    reactor: &Rc<Reactor>,
    line: &mut Line,
    asker: Asker<'_>,
) -> Result<Option<Proof>, Denied> {
    let secrets = reactor.secrets.borrow().clone();
    let rule = match &secrets.common.hba {
        Some(hba) => Some(hba.find(asker.origin, asker.database, asker.user)?),
        None => None,
    };
    match rule.map_or(secrets.common.method, |rule| rule.method) {
        Method::Trust => {}
        // `find` has said so already.
        Method::Reject => return Err(failed(asker.user)),
        Method::Cert => certificate(&secrets, rule, asker)?,
        Method::Peer => peer(&secrets, rule, asker).await?,
        method => return by_secret(reactor, &secrets, line, asker, method).await,
    }
    Ok(secrets.common.list.get(asker.user).and_then(Secret::proof))
}

fn failed(user: &str) -> Denied {
    Denied::Told("28P01", format!("password authentication failed for user \"{user}\""))
}

fn is_mapped(secrets: &Secrets, rule: Option<&Rule>, system: &str, user: &str) -> bool {
    let map = rule.and_then(|rule| rule.map.as_deref());
    match &secrets.common.hba {
        Some(hba) => hba.maps.allow(map, system, user),
        None => system == user,
    }
}

fn certificate(secrets: &Secrets, rule: Option<&Rule>, asker: Asker<'_>) -> Result<(), Denied> {
    let name = asker.origin.certificate.as_deref();
    if name.is_some_and(|name| is_mapped(secrets, rule, name, asker.user)) {
        return Ok(());
    }
    tracing::info!(user = asker.user, certificate = ?name, "the certificate is not this user's");
    let words = match name {
        Some(_) => format!("certificate authentication failed for user \"{}\"", asker.user),
        None => "connection requires a valid client certificate".to_string(),
    };
    Err(Denied::Told("28000", words))
}

async fn peer(secrets: &Secrets, rule: Option<&Rule>, asker: Asker<'_>) -> Result<(), Denied> {
    let name = match asker.origin.uid {
        // Where users are is the system's own affair, and may take it a while.
        Some(uid) => tokio::task::spawn_blocking(move || nix::unistd::User::from_uid(uid.into())).await,
        None => Ok(Ok(None)),
    };
    let name = name.ok().and_then(Result::ok).flatten().map(|user| user.name);
    if name.as_deref().is_some_and(|name| is_mapped(secrets, rule, name, asker.user)) {
        return Ok(());
    }
    tracing::info!(user = asker.user, process = ?name, "the process is not this user's");
    Err(Denied::Told("28000", format!("Peer authentication failed for user \"{}\"", asker.user)))
}

async fn by_secret(
    reactor: &Rc<Reactor>,
    secrets: &Secrets,
    line: &mut Line,
    asker: Asker<'_>,
    method: Method,
) -> Result<Option<Proof>, Denied> {
    let secret = find(reactor, secrets, asker).await?;
    let proven = match method {
        Method::Password => password(line, secret.as_ref(), asker.user).await,
        Method::Md5 => match secret.as_ref().and_then(|s| s.md5(asker.user)) {
            Some(stored) => md5(line, &stored, asker.user).await.map(|()| None),
            None => by_scram(secrets, line, secret.as_ref(), asker).await,
        },
        _ => by_scram(secrets, line, secret.as_ref(), asker).await,
    };
    if let (Err(Denied::Told("28P01", _)), Asks::Query) = (&proven, &secrets.asks) {
        // It may have been changed since it was asked for.
        secrets.common.answers.forget(asker.user);
    }
    let shown = proven?;
    Ok(secret.as_ref().and_then(Secret::proof).or(shown))
}

async fn find(reactor: &Rc<Reactor>, secrets: &Secrets, asker: Asker<'_>) -> Result<Option<Secret>, Denied> {
    if let Some(secret) = secrets.common.list.get(asker.user) {
        return Ok(Some(secret.clone()));
    }
    match &secrets.asks {
        Asks::Nobody => Ok(None),
        Asks::Cluster(verifiers) => verifiers.get(asker.user).await.map_err(|why| {
            tracing::warn!(%why, "no agent says what this user's secret is");
            Denied::Told("57P03", "the users of the cluster can't be looked up now".to_string())
        }),
        Asks::Query => {
            let Asker { user, database, target, .. } = asker;
            let Common { list, answers, .. } = &secrets.common;
            answers.get(reactor, list, Asked { user, database, target }).await
        }
    }
}

/// By its password in clear.
async fn password(line: &mut Line, secret: Option<&Secret>, user: &str) -> Result<Option<Proof>, Denied> {
    let mut out = Vec::new();
    Authentication::Cleartext.put(&mut out);
    line.tell(&out).await?;
    let body = password_message(line).await?;
    let said = body.strip_suffix(b"\0").filter(|p| !p.is_empty() && !p.contains(&0));
    match said.filter(|said| secret.is_some_and(|s| s.is_password(user, said))) {
        Some(right) => Ok(Some(Proof::Password(right.to_vec()))),
        None => Err(failed(user)),
    }
}

/// By the MD5 of what is stored of it.
async fn md5(line: &mut Line, stored: &str, user: &str) -> Result<(), Denied> {
    let mut salt = [0; wire::md5::SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|e| Denied::Told("58000", format!("no random bytes: {e}")))?;
    let mut out = Vec::new();
    Authentication::Md5(salt).put(&mut out);
    line.tell(&out).await?;
    let body = password_message(line).await?;
    let is_right = body.strip_suffix(b"\0").is_some_and(|said| wire::md5::is_right(stored, salt, said));
    if is_right { Ok(()) } else { Err(failed(user)) }
}

async fn by_scram(
    secrets: &Secrets,
    line: &mut Line,
    secret: Option<&Secret>,
    asker: Asker<'_>,
) -> Result<Option<Proof>, Denied> {
    let known = secret.and_then(Secret::verifier).cloned();
    let verifier = known.unwrap_or_else(|| Verifier::mock(asker.user.as_bytes(), &secrets.mock));
    match scram(line, &verifier, asker.origin.end_point.as_deref()).await {
        Ok(keys) => Ok(Some(Proof::Keys(keys))),
        Err(Failed::Denied(denied)) => Err(denied),
        Err(Failed::Scram(wire::scram::Error::Proof)) => Err(failed(asker.user)),
        Err(Failed::Scram(e)) => Err(Denied::Told(e.sqlstate(), e.to_string())),
    }
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

impl From<Denied> for Failed {
    fn from(e: Denied) -> Failed {
        Failed::Denied(e)
    }
}

/// One exchange. With an `end_point` the client may bind it to the TLS connection, and may not say that it was
/// never asked to.
async fn scram(line: &mut Line, verifier: &Verifier, end_point: Option<&[u8]>) -> Result<Keys, Failed> {
    let mut out = Vec::new();
    Authentication::Sasl(if end_point.is_some() { OFFER_PLUS } else { OFFER_PLAIN }).put(&mut out);
    line.tell(&out).await?;
    let body = sasl_message(line).await?;
    let malformed = || Denied::Told("08P01", "malformed SASL message".to_string());
    let (name, rest) = wire::frame::cstr(&body).ok_or_else(malformed)?;
    let offered = |m: &Mechanism| *m == Mechanism::Plain || end_point.is_some();
    let chosen = Mechanism::from_name(name).filter(offered).ok_or_else(|| {
        Denied::Told("08P01", "client selected an invalid SASL authentication mechanism".to_string())
    })?;
    let (_, client_first) = wire::frame::int32(rest).ok_or_else(malformed)?;
    let nonce = nonce().map_err(|r| Denied::Told("58000", r.message))?;
    let offer = Offer { chosen, end_point };
    let (server, first) = Server::begin(verifier, offer, &nonce, client_first).map_err(Failed::Scram)?;
    out.clear();
    Authentication::SaslContinue(first.as_bytes()).put(&mut out);
    line.tell(&out).await?;
    let body = sasl_message(line).await?;
    let accepted = server.finish(&body).map_err(Failed::Scram)?;
    out.clear();
    Authentication::SaslFinal(accepted.server_final.as_bytes()).put(&mut out);
    line.tell(&out).await?;
    Ok(accepted.keys)
}

async fn password_message(line: &mut Line) -> Result<Vec<u8>, Denied> {
    expect(line, "password", PASSWORD_BYTES_MAX).await
}

async fn sasl_message(line: &mut Line) -> Result<Vec<u8>, Denied> {
    expect(line, "SASL", SASL_BYTES_MAX).await
}

async fn expect(line: &mut Line, what: &str, bytes_max: u64) -> Result<Vec<u8>, Denied> {
    let (tag, body) = line.message(bytes_max).await?;
    if tag != front::PASSWORD {
        return Err(Denied::Told("08P01", format!("expected {what} response, got message type {tag}")));
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
