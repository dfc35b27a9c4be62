//! Connections for replication: a server of their own, and bytes both ways.
//!
//! What is said there is no query that could be moved: a stream belongs to one
//! walsender. So a server is logged in at with the client's own startup message, and
//! given to nobody else.
//!
//! ```text
//!   login as everywhere ▶ a place in the pool ▶ login at the server ▶ bytes both ways
//!                          (or an idle one makes room)                 │
//!            the server does not lead any more, KILL, one side goes ◀──┘
//! ```
//! Whoever streams from a leader is ended when another leads, and finds that one by
//! connecting again. A replica that falls behind keeps those who stream from it:
//! they chose it to copy, not to read what is newest.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout, timeout_at};
use wire::back::Words;
use wire::frame::{HEADER_BYTES, Header};
use wire::start::{Replication, Startup};

use crate::accept::{Door, Seat, begin, known_code, names};
use crate::auth::{self, Asker, Denied};
use crate::control::{Control, Order};
use crate::facts::{ClientFacts, Count, ServerFacts, count};
use crate::line::Line;
use crate::origin::Origin;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::routing::{Routing, Target};
use crate::server::{Place, Server};
use crate::waiter::Refusal;
use crate::{cancel, login};

/// Longest that last words may take to be sent.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// Names of a startup message that the login at a server sets by itself.
const OURS: [&[u8]; 2] = [b"user", b"database"];
/// Options of the protocol itself, which are not spoken to servers.
const PROTOCOL_OPTION: &[u8] = b"_pq_.";

/// Serves one client from its startup message on.
pub async fn serve(door: &Door, mut line: Line, startup: &Startup, origin: &Origin) {
    let limit = door.reactor.config.timeouts.client_login;
    let mut words = Vec::new();
    match timeout(limit, enter(door, &mut line, startup, origin)).await {
        Ok(Ok((server, control, facts, seat))) => {
            let reactor = door.reactor.clone();
            let relay = Relay { reactor, client: line, server, control, facts, hops: Hops::default() };
            relay.run().await;
            drop(seat);
            return;
        }
        Ok(Err(denied)) => {
            count(&door.reactor.counters.logins_failed);
            denied.log(startup, origin);
            denied.put(&mut words);
        }
        Err(_) => Denied::Told("08006", "authentication took too long".to_string()).put(&mut words),
    }
    let _ = timeout(LAST_WORDS_LIMIT, line.tell(&words)).await;
    let _ = timeout(LAST_WORDS_LIMIT, poll_fn(|cx| line.poll_close(cx))).await;
}

async fn enter(
    door: &Door,
    line: &mut Line,
    startup: &Startup,
    origin: &Origin,
) -> Result<(Box<Server>, Rc<Control>, Rc<ClientFacts>, Seat), Denied> {
    let reactor = &door.reactor;
    let version = begin(line, startup, door.tls_required()).await?;
    let (user, database) = names(startup)?;
    reactor.has_seat(false)?;
    let asker = Asker { origin, user: &user, database: &database, target: door.way.target };
    let pool = door.believe(line, asker).await?;
    let server = open(reactor, &pool, startup).await?;
    let name = startup.parameter(b"application_name").unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let ((control, facts), secret, seat) = door.seat(&pool, version, origin, name)?;
    facts.replication.set(startup.replication());
    server.facts.replication.set(startup.replication());
    facts.server.set(server.facts.id);
    server.facts.client.set(facts.id);
    let mut out = Vec::new();
    auth::greeting(&mut out, server.backend.reported.iter(), facts.id, &secret);
    line.tell(&out).await?;
    pool.totals.add(Count::Assignments, 1);
    Ok((server, control, facts, seat))
}

/// A place among the connections of its pool, as soon as one is free.
async fn wait_for_place(reactor: &Rc<Reactor>, pool: &Rc<Pool>, address: &Rc<str>) -> Result<Place, Denied> {
    let limit = reactor.config.hold.timeout;
    let end = tokio::time::Instant::now() + limit;
    loop {
        let changed = reactor.threads.emptied.notified();
        if let Some(place) = pool.take_place(address) {
            return Ok(place);
        }
        if timeout_at(end, changed).await.is_err() {
            let words = format!("no connection to a server became free within {} s", limit.as_secs_f64());
            return Err(Denied::Told("57P03", words));
        }
    }
}

/// Logs in at a server that may be had for this; waits for one while nobody leads.
async fn open(reactor: &Rc<Reactor>, pool: &Rc<Pool>, startup: &Startup) -> Result<Box<Server>, Denied> {
    let ours = |name: &[u8]| OURS.contains(&name) || name.starts_with(PROTOCOL_OPTION);
    // Who it is there is the pool's to say.
    let own = |(name, value)| (name, if name == b"user" { pool.key.user.as_bytes() } else { value });
    let pairs: Vec<(&[u8], &[u8])> = startup.pairs().filter(|(name, _)| !ours(name)).map(own).collect();
    let end = Instant::now() + reactor.config.hold.timeout;
    loop {
        let refusal = match next(reactor, pool) {
            None => Refusal::for_now("57P03", reactor.why_waiting(pool.wants.get())),
            // If the login fails, its place goes with it.
            Some(address) => {
                let place = wait_for_place(reactor, pool, &address).await?;
                let login = reactor.log_in();
                let opened = login::open_with(reactor, pool, address, place, &pairs).await;
                drop(login);
                // One that takes SQL as well shows that it leads, as for any client (C-20).
                let proves =
                    startup.replication() == Replication::Database && pool.key.target == Target::Primary;
                let opened = match opened {
                    Ok(server) if proves => {
                        let address = server.address.clone();
                        login::prove_leader(server, &address).await
                    }
                    opened => opened,
                };
                match opened {
                    Ok(server) => return Ok(server),
                    Err(refusal) => refusal,
                }
            }
        };
        if refusal.ends || Instant::now() >= end {
            return Err(Denied::Told(known_code(&refusal.code), refusal.message));
        }
        sleep(crate::retry::PAUSE_MAX).await;
    }
}

fn next(reactor: &Reactor, pool: &Pool) -> Option<Rc<str>> {
    let routing = reactor.routing.borrow();
    let free = !routing.holds(pool.wants.get()) && reactor.may_log_in() && !pool.paused.get();
    let (address, load) =
        reactor.loads.least(routing.candidates(pool.wants.get()).iter()).filter(|_| free)?;
    reactor.loads.took(&load);
    Some(address)
}

/// Whether whoever streams from `address` must go: another one leads.
fn leads_elsewhere(routing: &Routing, target: Target, address: &Rc<str>) -> bool {
    target == Target::Primary && routing.primary.as_ref().is_some_and(|primary| primary != address)
}

/// Where the messages of a stream end.
#[derive(Debug, Default)]
struct Hops {
    header: [u8; HEADER_BYTES],
    there: usize,
    left: u64,
}

impl Hops {
    /// These bytes pass; `false` if they are no messages.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEADER_BYTES - self.there).min(bytes.len());
            self.header[self.there..self.there + n].copy_from_slice(&bytes[..n]);
            self.there += n;
            bytes = &bytes[n..];
            if self.there == HEADER_BYTES {
                let Ok(Some(header)) = Header::read(&self.header) else { return false };
                self.left = header.body_bytes;
                self.there = 0;
            }
        }
        true
    }

    /// Whether a message has ended, so that another may follow.
    fn is_between(&self) -> bool {
        self.left == 0 && self.there == 0
    }
}

/// Both ends of one connection for replication.
struct Relay {
    reactor: Rc<Reactor>,
    client: Line,
    server: Box<Server>,
    control: Rc<Control>,
    facts: Rc<ClientFacts>,
    /// What goes to the client.
    hops: Hops,
}

/// It is over.
struct End;

impl Relay {
    async fn run(mut self) {
        let words = poll_fn(|cx| self.poll(cx)).await;
        if let Some(words) = words.filter(|_| self.hops.is_between()) {
            let mut bytes = Vec::new();
            words.put(&mut bytes);
            let _ = timeout(LAST_WORDS_LIMIT, self.client.tell(&bytes)).await;
        }
        drop(self.server);
        let closed = poll_fn(|cx| self.client.poll_close(cx));
        let _ = timeout(LAST_WORDS_LIMIT, closed).await;
    }

    /// Carries bytes until it is over; with what the client is to be told.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Words<'static>>> {
        self.control.wakes(cx.waker());
        if !self.control.is_quiet()
            && let Some(words) = self.obey()
        {
            return Poll::Ready(Some(words));
        }
        let (server, client) = (&mut self.server.line, &mut self.client);
        let totals = &self.server.place.pool.totals;
        let to_client = carry(
            cx,
            server,
            client,
            || true,
            |bytes| {
                totals.add(Count::Sent, bytes.len() as u64);
                self.hops.pass(bytes)
            },
        );
        let may = || may_pass(&self.reactor, &self.facts, &self.control, &self.server.facts);
        let to_server = carry(cx, client, server, may, |bytes| {
            totals.add(Count::Received, bytes.len() as u64);
            self.facts.requested.set(self.reactor.now.get());
            true
        });
        match (to_client, to_server) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            (Poll::Ready(End), _) | (_, Poll::Ready(End)) => Poll::Ready(None),
        }
    }

    fn obey(&mut self) -> Option<Words<'static>> {
        let _ = self.control.take(Order::Look);
        let _ = self.control.take(Order::Late);
        let _ = self.control.take(Order::Cut);
        if self.control.take(Order::Cancel) {
            cancel::forward(&self.server, &self.control);
        }
        // A stream is never between two transactions: whoever must go goes now.
        if self.control.take(Order::End) | self.control.take(Order::Leave) {
            return Some(Words::fatal("57P01", "terminating connection due to administrator command"));
        }
        let (routing, target) = (self.reactor.routing.borrow(), self.server.facts.key().target);
        leads_elsewhere(&routing, target, &self.server.address).then(|| {
            let words = Words::fatal("57P01", "terminating connection: another server leads");
            words.hint("connect again, and you reach it")
        })
    }
}

/// Whether what a client has said may go to its server: strictly, only while that surely leads. Else the client looks
/// again when it does.
fn may_pass(reactor: &Reactor, facts: &ClientFacts, control: &Rc<Control>, server: &ServerFacts) -> bool {
    let routing = reactor.routing.borrow();
    let needs = server.pool.strict.get() && routing.primary.as_ref() == Some(&server.address);
    let may = !needs || reactor.strict.covers(routing.term);
    if !may {
        reactor.strict.wait(facts.id, control, Some(std::time::Instant::now()));
    }
    may
}

/// Carries what comes from one side to the other, until nothing comes, or nothing can be taken or may pass.
fn carry(
    cx: &mut Context<'_>,
    from: &mut Line,
    to: &mut Line,
    may: impl Fn() -> bool,
    mut look: impl FnMut(&[u8]) -> bool,
) -> Poll<End> {
    loop {
        if ready!(to.poll_drain(cx)).is_err() {
            return Poll::Ready(End);
        }
        if from.input.filled().is_empty() && !matches!(ready!(from.poll_fill(cx)), Ok(1..)) {
            return Poll::Ready(End);
        }
        if !may() {
            return Poll::Pending;
        }
        let bytes = from.input.filled();
        let mut plan = route::Plan::default();
        plan.pass(0..bytes.len());
        let sent = to.send(cx, &plan, bytes);
        if !look(bytes) || sent.is_err() {
            return Poll::Ready(End);
        }
        let n = bytes.len();
        from.input.consume(n);
    }
}

/// PgBouncer's word for what a connection replicates.
#[must_use]
pub fn word(replication: Replication) -> &'static str {
    match replication {
        Replication::Off => "none",
        Replication::Physical => "physical",
        Replication::Database => "logical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_lengths_say() {
        let stream = b"d\0\0\0\x06abZ\0\0\0\x05Ic\0\0\0\x04";
        let ends = [7, 13, 18];
        for split in 0..=stream.len() {
            let mut hops = Hops::default();
            assert!(hops.pass(&stream[..split]));
            assert_eq!(hops.is_between(), split == 0 || ends.contains(&split), "{split}");
            assert!(hops.pass(&stream[split..]) && hops.is_between());
        }
        assert!(!Hops::default().pass(b"d\0\0\0\x01"));
    }

    #[test]
    fn only_another_leader_ends_a_stream() {
        let (a, b): (Rc<str>, Rc<str>) = ("a:1".into(), "b:1".into());
        let leads = |who: Option<&Rc<str>>| Routing { primary: who.cloned(), ..Routing::default() };
        for (primary, target, ends) in [
            (Some(&a), Target::Primary, false),
            (None, Target::Primary, false),
            (Some(&b), Target::Primary, true),
            (Some(&b), Target::Replica, false),
        ] {
            assert_eq!(leads_elsewhere(&leads(primary), target, &a), ends, "{primary:?} {target:?}");
        }
    }
}
