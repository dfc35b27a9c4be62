//! From a fresh socket to a client that may speak.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use route::{Session, Settings};
use subtle::ConstantTimeEq;
use tokio::time::timeout;
use wire::start::{self, Encryption, First, Look, Startup, Version, negotiate};

use crate::admin;
use crate::after;
use crate::auth::{self, Asker, Denied};
use crate::balancer;
use crate::cancel_key::{self, Owner};
use crate::client::Client;
use crate::client::serving::Serving;
use crate::client_tls::{ClientTls, FrontTls};
use crate::control::{Control, Order};
use crate::facts::{ClientFacts, count};
use crate::line::Line;
use crate::network::Network;
use crate::origin::Origin;
use crate::peering;
use crate::pool::{Key, Pool};
use crate::reactor::{Listed, Reactor};
use crate::replication;
use crate::routing::Target;
use crate::server::Refused;
use crate::stream::{self, Stream};
use crate::target;
use crate::welcomes::Reported;

/// What a client calls itself.
const APPLICATION_NAME: &str = "application_name";
/// Servers that are tried at a login because those before can't be set up any more.
const TRIES_MAX: u32 = 50;
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// How to reach a client that is in, and what is told of it.
pub(crate) type Handles = (Rc<Control>, Rc<ClientFacts>);

/// A client's place among the others: free again when it is dropped, also if its login does not come to an end.
pub(crate) struct Seat(Rc<Reactor>, Rc<Pool>, u32);

impl Seat {
    fn new(reactor: &Rc<Reactor>, pool: &Rc<Pool>, pid: u32) -> Seat {
        pool.share.entered();
        reactor.threads.entered(reactor.index);
        Seat(reactor.clone(), pool.clone(), pid)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.1.share.left();
        self.0.clients.borrow_mut().remove(&self.2);
        self.0.threads.left(self.0.index);
    }
}

/// What listens.
#[derive(Clone)]
pub struct Door {
    /// The thread's.
    pub reactor: Rc<Reactor>,
    /// How clients come in by it.
    pub way: Way,
    /// For TLS, as it is when a client comes; `None` while TLS is not offered.
    pub tls: Option<FrontTls>,
}

/// How clients come in by a door; the same on all threads.
#[derive(Clone)]
pub struct Way {
    /// What they want.
    pub target: Target,
    /// Who connects from there is a balancer: it says first who its client is.
    pub balancers: Arc<[Network]>,
}

impl Door {
    /// One that nobody has come through yet.
    #[must_use]
    pub fn new(reactor: Rc<Reactor>, way: Way) -> Door {
        Door { reactor, way, tls: None }
    }

    /// Whether TLS must be spoken.
    #[must_use]
    pub fn tls_required(&self) -> bool {
        self.reactor.config.tls.as_ref().is_some_and(ClientTls::is_required)
    }

    /// Serves one socket from its first byte to its last.
    pub async fn serve(mut self, socket: Stream) {
        self.tls = self.reactor.client_tls.borrow().clone();
        if let Stream::Tcp(socket) = &socket {
            let _ = stream::tune(socket);
            let idle = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
            let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&idle);
        }
        let entered = timeout(self.reactor.config.timeouts.client_login, self.come_in(socket)).await;
        let Ok(Ok(Some((line, startup, origin)))) = entered else { return };
        self.admit(line, startup, origin).await;
    }

    async fn come_in(&self, mut socket: Stream) -> io::Result<Option<(Line, Startup, Origin)>> {
        let told = balancer::told(&mut socket, &self.way.balancers).await?;
        let Some((line, startup)) = self.enter(socket).await? else { return Ok(None) };
        let end_point = self.tls.as_ref().and_then(|tls| tls.end_point.clone());
        let is_physical = startup.replication() == start::Replication::Physical;
        let origin = Origin { is_physical, ..Origin::of(line.stream(), told, end_point) };
        Ok(Some((line, startup, origin)))
    }

    /// TLS, version and names; `None` for whoever only wanted to cancel.
    async fn enter(&self, socket: Stream) -> io::Result<Option<(Line, Startup)>> {
        let mut line = self.direct_tls(socket).await?;
        let mut asked = [false; 2];
        loop {
            let there = line.input.filled();
            let (what, bytes) = match First::look(there) {
                Ok(Look::NeedMore { at_least }) => {
                    line.whole = at_least;
                    if poll_fn(|cx| line.poll_fill(cx)).await? == 0 {
                        return Ok(None);
                    }
                    line.whole = 0;
                    continue;
                }
                Ok(Look::Found { what, bytes_consumed }) => (what, bytes_consumed),
                Err(e) => return refuse(&mut line, e.sqlstate(), &e.to_string()).await,
            };
            match what {
                First::SslRequest if !asked[0] && !line.stream().is_tls() => {
                    line.input.consume(bytes);
                    asked[0] = true;
                    nothing_behind(&mut line, Encryption::Ssl).await?;
                    line = self.answer_ssl(line).await?;
                }
                First::GssEncRequest if !asked[1] && !line.stream().is_tls() => {
                    line.input.consume(bytes);
                    asked[1] = true;
                    nothing_behind(&mut line, Encryption::Gss).await?;
                    line.tell(b"N").await?;
                }
                First::SslRequest | First::GssEncRequest | First::DirectTls => {
                    return refuse(&mut line, "08P01", "invalid length of startup packet").await;
                }
                First::Cancel(cancel) => {
                    self.cancel(cancel.pid, cancel.secret).await;
                    poll_fn(|cx| line.poll_close(cx)).await?;
                    return Ok(None);
                }
                First::Startup(startup) => {
                    line.input.consume(bytes);
                    return Ok(Some((line, startup)));
                }
            }
        }
    }

    /// TLS without asking, which its first byte tells (PostgreSQL 17).
    async fn direct_tls(&self, socket: Stream) -> io::Result<Line> {
        let socket = match socket {
            Stream::Tcp(socket) => socket,
            other => return Ok(Line::new(other)),
        };
        let mut first = [0];
        socket.peek(&mut first).await?;
        let Some(tls) = self.tls.as_ref().filter(|_| first[0] == TLS_HANDSHAKE) else {
            return Ok(Line::new(Stream::Tcp(socket)));
        };
        let stream = tls.acceptor.accept(socket).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"postgresql".as_slice()) {
            return Err(io::Error::other("direct TLS without ALPN"));
        }
        Ok(Line::new(Stream::Accepted(Box::new(stream))))
    }

    async fn answer_ssl(&self, mut line: Line) -> io::Result<Line> {
        // Nobody can listen at a unix socket: PostgreSQL speaks no TLS there either.
        let Some(tls) = self.tls.as_ref().filter(|_| !line.stream().is_unix()) else {
            line.tell(b"N").await?;
            return Ok(line);
        };
        line.tell(b"S").await?;
        match line.into_stream() {
            Stream::Tcp(socket) => {
                Ok(Line::new(Stream::Accepted(Box::new(tls.acceptor.accept(socket).await?))))
            }
            other => Ok(Line::new(other)),
        }
    }

    /// Carries a cancel to whoever it is for, on whatever thread and whichever proxy of the set. On this proxy it
    /// has arrived when this is over: whoever sent it may rely on that.
    async fn cancel(&self, pid: u32, secret: &[u8]) {
        if !peering::is_own(&self.reactor, pid) {
            return peering::pass_on(&self.reactor, pid, secret);
        }
        // Nobody passes on what is for a proxy without a set.
        let in_a_set = self.reactor.config.peer_id != 0;
        let secret = if in_a_set { cancel_key::read(secret).0 } else { secret };
        let to = usize::from(Owner::of(pid).reactor);
        if to == self.reactor.index {
            cancel(&self.reactor, pid, secret);
            return;
        }
        let secret = secret.to_vec();
        self.reactor.threads.ask_one(to, move |reactor| cancel(reactor, pid, &secret)).await;
    }

    async fn admit(&self, mut line: Line, startup: Startup, origin: Origin) {
        if admin::is_console(startup.database()) {
            return admin::serve(self, line, &startup, &origin).await;
        }
        if startup.replication() != start::Replication::Off {
            return replication::serve(self, line, &startup, &origin).await;
        }
        let mut words = Vec::new();
        let limit = self.reactor.config.timeouts.client_login;
        match timeout(limit, self.log_in(&mut line, &startup, &origin)).await {
            Ok(Ok((pool, session, listed, seat))) => {
                let reactor = self.reactor.clone();
                // A task of its own: this one has room for a login, which an idle client must not keep.
                let client = Client::new(reactor, pool, line, session, listed);
                tokio::task::spawn_local(Serving::new(client, seat));
                return;
            }
            Ok(Err(denied)) => {
                count(&self.reactor.counters.logins_failed);
                denied.log(&startup, &origin);
                denied.put(&mut words);
            }
            Err(_) => Denied::Told("08006", "authentication took too long".to_string()).put(&mut words),
        }
        let _ = timeout(Duration::from_secs(5), line.tell(&words)).await;
        let _ = timeout(Duration::from_secs(5), poll_fn(|cx| line.poll_close(cx))).await;
    }

    async fn log_in(
        &self,
        line: &mut Line,
        startup: &Startup,
        origin: &Origin,
    ) -> Result<(Rc<Pool>, Session, Handles, Seat), Denied> {
        let version = begin(line, startup, self.tls_required()).await?;
        let (user, database) = names(startup)?;
        self.reactor.has_seat(false)?;
        let mut settings = settings(startup)?;
        let asked = target::take(&mut settings)?;
        let (meant, by_name) = self.reactor.config.meant(&database);
        let target = asked.or(by_name).unwrap_or(self.way.target);
        let asker = Asker { origin, user: &user, database: meant, target };
        let pool = self.believe(line, asker).await?;
        let settings = Arc::new(settings);
        let told = welcome(&pool, &settings).await?;
        let application = settings.get(APPLICATION_NAME).cloned().unwrap_or_default();
        let (handles, secret, seat) = self.seat(&pool, version, origin, application)?;
        let mut out = Vec::new();
        auth::greeting(&mut out, told.iter(), handles.1.id, &secret);
        line.tell(&out).await?;
        let rules = self.reactor.rules_of(&pool.key.database, &pool.key.user);
        let session = Session::new(rules, settings, told);
        Ok((pool, session, handles, seat))
    }

    /// Lets a client prove who it is, and gives the pool that is for it then.
    pub(crate) async fn believe(&self, line: &mut Line, asker: Asker<'_>) -> Result<Rc<Pool>, Denied> {
        let (database, target) = (asker.database, asker.target);
        let own = asker.user;
        let credential = auth::authenticate(&self.reactor, line, asker).await?;
        let (user, forced) = self.reactor.at_servers(database, own);
        self.reactor.may_enter(database, &user, false)?;
        let pool = self.reactor.pool(&Key { database: database.to_string(), user, target });
        if let Some(proof) = forced.or(credential) {
            *pool.credential.borrow_mut() = Some(proof);
        }
        Ok(pool)
    }

    /// Gives a client its place among the others and the key that it may cancel with. Others may have come in since
    /// it was believed.
    pub(crate) fn seat(
        &self,
        pool: &Rc<Pool>,
        version: Version,
        origin: &Origin,
        application: String,
    ) -> Result<(Handles, Vec<u8>, Seat), Denied> {
        let (handles, secret) = self.list(pool, version, origin, application)?;
        let seat = Seat::new(&self.reactor, pool, handles.1.id);
        self.reactor.may_enter(&pool.key.database, &pool.key.user, true)?;
        Ok((handles, secret, seat))
    }

    /// Gives a client the key that it may cancel with.
    fn list(
        &self,
        pool: &Rc<Pool>,
        version: Version,
        origin: &Origin,
        application: String,
    ) -> Result<(Handles, Vec<u8>), Denied> {
        let no_random = |e: getrandom::Error| Denied::Told("58000", format!("no random bytes: {e}"));
        let secret = cancel_key::secret(version).map_err(no_random)?;
        let mut clients = self.reactor.clients.borrow_mut();
        let owner = Owner::at(self.reactor.config.peer_id, self.reactor.index);
        let pid = owner.free_pid(|pid| !clients.contains_key(&pid)).map_err(no_random)?;
        let full = || Denied::Told("53300", "sorry, too many clients already".to_string());
        let pid = pid.ok_or_else(full)?;
        let control = Rc::new(Control::default());
        let facts = ClientFacts::new(pid, origin, application, self.reactor.now.get());
        let handles = (control.clone(), facts.clone());
        let (key, pool) = (pool.key.clone(), pool.clone());
        clients.insert(pid, Listed { control, secret: secret.clone(), key, pool, facts });
        Ok((handles, secret))
    }
}

/// A cancel came; whether it was for somebody on this thread.
fn cancel(reactor: &Reactor, pid: u32, secret: &[u8]) -> bool {
    let client = {
        let clients = reactor.clients.borrow();
        let listed = clients.get(&pid).filter(|c| bool::from(c.secret.as_slice().ct_eq(secret)));
        listed.map(|listed| listed.control.give(Order::Cancel)).is_some()
    };
    let found = client || admin::cancel(reactor, pid, secret);
    if found {
        count(&reactor.counters.cancels);
    }
    found
}

/// Who a client says that it is, and which database it asks for.
///
/// # Errors
/// They are not in UTF-8.
pub(crate) fn names(startup: &Startup) -> Result<(String, String), Denied> {
    let text = |b: &[u8]| String::from_utf8(b.to_vec());
    match (text(startup.user()), text(startup.database())) {
        (Ok(user), Ok(database)) => Ok((user, database)),
        _ => Err(Denied::Told("22021", "user and database must be named in UTF-8".to_string())),
    }
}

/// What comes before it is known who a client is: the version that is spoken, and whether in clear.
///
/// # Errors
/// It must speak TLS and does not, or it went.
pub(crate) async fn begin(line: &mut Line, startup: &Startup, tls_required: bool) -> Result<Version, Denied> {
    let negotiation = negotiate(startup);
    if negotiation.owed {
        let mut out = Vec::new();
        negotiation.encode(&mut out);
        line.tell(&out).await?;
    }
    if tls_required && !line.stream().is_tls() && !line.stream().is_unix() {
        return Err(Denied::Told("28000", "this proxy takes only connections with TLS".to_string()));
    }
    Ok(negotiation.version)
}

/// Says why not, and that is all.
async fn refuse<T>(line: &mut Line, code: &'static str, message: &str) -> io::Result<T> {
    let mut out = Vec::new();
    Denied::Told(code, message.to_string()).put(&mut out);
    line.tell(&out).await?;
    Err(io::Error::other("refused"))
}

/// What came behind a request for encryption was said in clear, and must not be read as if it had been encrypted.
/// PostgreSQL refuses it also where its answer is no.
async fn nothing_behind(line: &mut Line, request: Encryption) -> io::Result<()> {
    match First::nothing_behind(request, line.input.filled()) {
        Ok(()) => Ok(()),
        Err(e) => refuse(line, e.sqlstate(), &e.to_string()).await,
    }
}

/// What the client's startup message sets.
fn settings(startup: &Startup) -> Result<Settings, Denied> {
    let pairs = startup.settings().map_err(|e| Denied::Told(e.sqlstate(), e.to_string()))?;
    let mut settings = Settings::new();
    for pair in pairs {
        let text = |b: Vec<u8>| {
            String::from_utf8(b).map_err(|_| Denied::Told("22021", "a setting is not in UTF-8".to_string()))
        };
        let name = text(pair.name)?;
        let lower = name.to_ascii_lowercase();
        settings.insert(canonical(&lower).to_string(), text(pair.value)?);
    }
    Ok(settings)
}

/// What a client calls itself; empty if it does not, or if its settings can't be read.
pub(crate) fn application_name(startup: &Startup) -> String {
    let own = settings(startup).ok().and_then(|mut settings| settings.remove(APPLICATION_NAME));
    own.unwrap_or_default()
}

/// Settings whose reported names have capitals.
fn canonical(lower: &str) -> &str {
    match lower {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        other => other,
    }
}

/// What a server of this pool reports of itself to a client with these settings. One that nobody had before is
/// tried at once: PostgreSQL lets nobody in whose settings it can't take, and knows how it reports them.
async fn welcome(pool: &Rc<Pool>, settings: &Settings) -> Result<Reported, Denied> {
    let mut tried = settings.clone();
    // Taken whatever it is, and unlike the others seldom the same twice.
    let name = tried.remove(APPLICATION_NAME);
    // Checked already, and never the same for long.
    tried.remove(after::READ_AFTER);
    let known = pool.share.welcomes.get(&tried);
    let told = match known {
        Some(known) => known,
        None => try_out(pool, tried).await?,
    };
    let Some(name) = name.filter(|name| told.get(APPLICATION_NAME) != Some(name)) else { return Ok(told) };
    let mut told = (*told).clone();
    told.insert(APPLICATION_NAME.to_string(), name);
    Ok(Arc::new(told))
}

async fn try_out(pool: &Rc<Pool>, settings: Settings) -> Result<Reported, Denied> {
    let settings = Arc::new(settings);
    let mut tries = 0;
    let server = loop {
        let mut server = pool.get().await.map_err(|r| Denied::Told(known_code(&r.code), r.message))?;
        let Err(why) = server.set_up(&settings).await else { break server };
        let Some(said) = why.get_ref().and_then(|e| e.downcast_ref::<Refused>()) else {
            return Err(Denied::Told("08006", format!("the server was lost during login: {why}")));
        };
        tries += 1;
        if tries < TRIES_MAX && route::session::is_spent(&said.code, &said.message) {
            continue;
        }
        let denied = Denied::Told(known_code(&said.code), said.message.clone());
        pool.give_back(server);
        return Err(denied);
    };
    let reported = server.backend.reported.clone();
    pool.give_back(server);
    pool.share.welcomes.learn(settings, reported.clone());
    Ok(reported)
}

/// The same code, in a form that lives as long as we do.
pub(crate) fn known_code(code: &str) -> &'static str {
    const CODES: [&str; 16] = [
        "28000", "28P01", "3D000", "57014", "42501", "53300", "57P03", "55000", "22023", "0A000", "42704",
        "42602", "55P02", "22021", "22P05", "25001",
    ];
    CODES.into_iter().find(|c| *c == code).unwrap_or("08006")
}
