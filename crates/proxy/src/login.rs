//! Logging in at a server, as the user of a pool.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use route::Backend;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use wire::back::{self, Authentication};
use wire::front;
use wire::scram::client::{Binding, Client, Credential};
use wire::scram::{Mechanism, Nonce};
use wire::start::Version;
use wire::start::ask::{self, SslAnswer};

use crate::connect_query;
use crate::line::Line;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::routing::Target;
use crate::secrets::Proof;
use crate::server::{Place, Server};
use crate::stream::{self, Stream};
use crate::waiter::Refusal;

/// Longest message of a server during login.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
/// Unacknowledged bytes break a connection after so long, so that a silent cut is noticed.
pub const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens one connection for a pool.
///
/// # Errors
/// Why not; `ends` when it is no use to try again.
pub async fn open(
    reactor: &Rc<Reactor>,
    pool: &Rc<Pool>,
    address: Rc<str>,
    place: Place,
) -> Result<Box<Server>, Refusal> {
    let mut server = open_with(reactor, pool, address.clone(), place, &[]).await?;
    let ready = async {
        if reactor.rules.rides && pool.key.target == Target::Primary {
            server = prove_leader(server, &address).await?;
        }
        connect_query::run(&reactor.config, &mut server).await?;
        Ok(server)
    };
    timeout(reactor.config.timeouts.server_connect, ready)
        .await
        .map_err(|_| unreachable_at(&address, &io::ErrorKind::TimedOut.into()))?
}

/// The same at any server, with more in its startup message than user and database.
///
/// # Errors
/// As `open`.
pub async fn open_with(
    reactor: &Rc<Reactor>,
    pool: &Rc<Pool>,
    address: Rc<str>,
    place: Place,
    more: &[(&[u8], &[u8])],
) -> Result<Box<Server>, Refusal> {
    let opening = async {
        let stream = connect(reactor, &address).await.map_err(|e| unreachable_at(&address, &e))?;
        let mut line = Line::new(stream);
        let (reported, key) = log_in(&mut line, pool, &address, more).await?;
        let term = reactor.routing.borrow().term;
        let backend = Backend::new(term, reported, reactor.config.pool.prepared_max);
        Ok(Server::new(reactor, line, backend, address.clone(), key, Instant::now(), place))
    };
    timeout(reactor.config.timeouts.server_connect, opening)
        .await
        .map_err(|_| unreachable_at(&address, &io::ErrorKind::TimedOut.into()))?
}

/// Takes for the leader only what takes writes, and learns in whose term it does: where routes are late, an older
/// leader may be back as a standby, or lead again (C-20).
pub(crate) async fn prove_leader(mut server: Box<Server>, address: &str) -> Result<Box<Server>, Refusal> {
    match server.timeline().await {
        Ok(Some(timeline)) => {
            server.backend.timeline = timeline;
            Ok(server)
        }
        Ok(None) => {
            let message = format!("the server at {address} is in recovery, and does not lead");
            Err(Refusal::for_now("57P03", message))
        }
        Err(why) => Err(unreachable_at(address, &why)),
    }
}

fn unreachable_at(address: &str, why: &io::Error) -> Refusal {
    Refusal::for_now("08006", format!("no connection to the server at {address}: {why}"))
}

/// Connects, and speaks TLS if that is asked for.
///
/// # Errors
/// What the socket says.
pub async fn connect(reactor: &Reactor, address: &str) -> io::Result<Stream> {
    let mut socket = match stream::dial(address).await? {
        Stream::Tcp(socket) => socket,
        // On this host, and nobody can listen: no TLS, as PostgreSQL has none there.
        other => return Ok(other),
    };
    let options = socket2::SockRef::from(&socket);
    options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let idle = socket2::TcpKeepalive::new().with_time(USER_TIMEOUT).with_interval(Duration::from_secs(1));
    options.set_tcp_keepalive(&idle)?;
    let Some(tls) = &reactor.server_tls else { return Ok(Stream::Tcp(socket)) };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    socket.write_all(&ask::SSL_REQUEST_PACKET).await?;
    // One byte and no more: what came with it was said by somebody in the middle.
    let mut answer = [0];
    socket.read_exact(&mut answer).await?;
    match SslAnswer::look(&answer).map_err(io::Error::other)? {
        Some(SslAnswer::Willing) => {
            let name = ServerName::try_from(peers::certs::COMMON_NAME).map_err(io::Error::other)?;
            Ok(Stream::Connected(Box::new(tls.connect(name, socket).await?)))
        }
        Some(SslAnswer::Unwilling) | None => Err(io::Error::other("the server speaks no TLS")),
    }
}

type Welcome = (BTreeMap<String, String>, (u32, Vec<u8>));

async fn log_in(
    line: &mut Line,
    pool: &Pool,
    address: &str,
    more: &[(&[u8], &[u8])],
) -> Result<Welcome, Refusal> {
    let broken = |e: io::Error| unreachable_at(address, &e);
    let mut bytes = Vec::new();
    let dbname = pool.dbname.borrow().clone();
    let pairs = [("user", pool.key.user.as_str()), ("database", dbname.as_str())];
    let pairs = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).chain(more.iter().copied());
    ask::startup(Version::V3_0, pairs, &mut bytes)
        .map_err(|e| unreachable_at(address, &io::Error::other(e)))?;
    line.tell(&bytes).await.map_err(broken)?;
    let mut reported = BTreeMap::new();
    let mut key = (0, Vec::new());
    loop {
        let (tag, body) = line.message(MESSAGE_BYTES_MAX).await.map_err(broken)?;
        match tag {
            back::AUTHENTICATION => authenticate(line, pool, &body, address).await?,
            back::PARAMETER_STATUS => {
                if let Some((name, value)) = back::parameter(&body) {
                    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                    reported.insert(text(name), text(value));
                }
            }
            back::BACKEND_KEY_DATA => {
                key = back::key_of(&body).map(|(pid, secret)| (pid, secret.to_vec())).unwrap_or_default();
            }
            back::READY => return Ok((reported, key)),
            back::ERROR => return Err(refused(&body)),
            back::NOTICE => {}
            other => {
                let why = format!("message type {other} during login");
                return Err(unreachable_at(address, &io::Error::other(why)));
            }
        }
    }
}

/// What the server says against it. Some of it passes by itself.
fn refused(body: &[u8]) -> Refusal {
    let text =
        |key| back::field(body, key).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
    let code = text(b'C');
    // Starting up, shutting down, no place free, no memory.
    let passes = code.starts_with("57P0") || code.starts_with("53");
    Refusal { ends: !passes, message: text(b'M'), code }
}

async fn authenticate(line: &mut Line, pool: &Pool, body: &[u8], address: &str) -> Result<(), Refusal> {
    let broken = |e: io::Error| unreachable_at(address, &e);
    let credential = pool.credential.borrow().clone();
    let user = pool.key.user.as_bytes();
    let mut bytes = Vec::new();
    match Authentication::read(body) {
        Some(Authentication::Ok) => return Ok(()),
        Some(Authentication::Sasl(mechanisms)) => {
            let offered = mechanisms.split(|b| *b == 0).any(|m| m == Mechanism::Plain.name().as_bytes());
            let credential = credential.filter(|_| offered).and_then(|proof| proof.for_scram());
            let credential = credential.ok_or_else(|| no_secret(address))?;
            return scram(line, credential, address).await;
        }
        Some(Authentication::Md5(salt)) => match credential.and_then(|proof| proof.for_md5(user, salt)) {
            Some(response) => bytes.extend(response.bytes().chain([0])),
            None => return Err(no_secret(address)),
        },
        Some(Authentication::Cleartext) => match credential {
            // In clear to anybody who listens: only where nobody can.
            Some(Proof::Password(password)) if line.stream().is_tls() || line.stream().is_local() => {
                bytes.extend(password.into_iter().chain([0]))
            }
            Some(_) | None => return Err(no_secret(address)),
        },
        Some(Authentication::SaslContinue(_) | Authentication::SaslFinal(_) | Authentication::Other(_))
        | None => {
            return Err(no_secret(address));
        }
    }
    let mut message = Vec::new();
    front::password(&mut message, &bytes);
    line.tell(&message).await.map_err(broken)
}

fn no_secret(address: &str) -> Refusal {
    let message = format!("the server at {address} asks for a proof of this user that the proxy can't give");
    Refusal { code: "28000".to_string(), message, ends: true }
}

async fn scram(line: &mut Line, credential: Credential, address: &str) -> Result<(), Refusal> {
    let broken = |e: io::Error| unreachable_at(address, &e);
    let failed =
        |e: wire::scram::Error| Refusal { code: "28000".to_string(), message: e.to_string(), ends: true };
    let client = Client::new(credential, Binding::Unsupported, nonce()?);
    let first = client.first();
    let mut body = client.mechanism().name().as_bytes().to_vec();
    body.push(0);
    body.extend(u32::try_from(first.len()).unwrap_or(0).to_be_bytes());
    body.extend(first.as_bytes());
    say_password(line, &body).await.map_err(broken)?;
    let answer = expect_sasl(line, address).await?;
    let (waiting, last) = client.answer(&answer).map_err(failed)?;
    say_password(line, last.as_bytes()).await.map_err(broken)?;
    let answer = expect_sasl(line, address).await?;
    waiting.finish(&answer).map_err(failed)?;
    Ok(())
}

async fn say_password(line: &mut Line, body: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::new();
    front::password(&mut bytes, body);
    line.tell(&bytes).await
}

async fn expect_sasl(line: &mut Line, address: &str) -> Result<Vec<u8>, Refusal> {
    let (tag, body) = line.message(MESSAGE_BYTES_MAX).await.map_err(|e| unreachable_at(address, &e))?;
    match (tag, Authentication::read(&body)) {
        (
            back::AUTHENTICATION,
            Some(Authentication::SaslContinue(said) | Authentication::SaslFinal(said)),
        ) => Ok(said.to_vec()),
        (back::ERROR, _) => Err(refused(&body)),
        _ => Err(no_secret(address)),
    }
}

/// A fresh nonce.
///
/// # Errors
/// When the system gives no random bytes.
pub fn nonce() -> Result<Nonce, Refusal> {
    let mut random = [0; wire::scram::NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|e| Refusal::for_now("58000", format!("no random bytes: {e}")))?;
    Ok(Nonce::from_random(random))
}
