//! One connection to a server, in its pool or lent to a client.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use route::{Backend, Settings};
use wire::frame::Header;

use crate::balance::{Load, Use};
use crate::facts::ServerFacts;
use crate::line::Line;
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::share;

/// A client's good-bye.
const TERMINATE: &[u8] = b"X\0\0\0\x04";
/// The timeline stands in the first eight digits of a WAL file's name (`XLogFileName` in access/xlog_internal.h).
const TIMELINE: &str = "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.substr(\
    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END";

/// What a server says against a query of ours.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// SQLSTATE.
    pub code: String,
    /// In its words.
    pub message: String,
}

/// One connection.
pub struct Server {
    /// Its socket.
    pub line: Line,
    /// What is known of it.
    pub backend: Backend,
    /// Where it leads, `host:port`.
    pub address: Rc<str>,
    /// It is on this host: no network is between.
    pub is_local: bool,
    /// Process and secret, for cancelling.
    pub key: (u32, Vec<u8>),
    /// When it was opened.
    pub opened: Instant,
    /// When it was last given back.
    pub used: Instant,
    /// A cancel for it is under way: until that is over nobody else may get it.
    pub cancels: Rc<std::cell::Cell<u32>>,
    /// What is told of it.
    pub facts: Rc<ServerFacts>,
    /// What its server has to do.
    pub load: Rc<Load>,
    /// Counts it there while somebody has it.
    pub in_use: Option<Use>,
    /// Its server was the leader when it was last given to somebody.
    pub led: bool,
    /// So much of the WAL its server has replayed at least; 0 if nobody has asked.
    pub replayed: u64,
    /// Counts it in its pool, for as long as it lives.
    pub place: Place,
}

impl Server {
    /// One that nobody has, on the thread of `reactor` from now on. It was opened at `opened`.
    #[must_use]
    pub fn new(
        reactor: &Rc<Reactor>,
        line: Line,
        backend: Backend,
        address: Rc<str>,
        key: (u32, Vec<u8>),
        opened: Instant,
        place: Place,
    ) -> Box<Server> {
        let facts = reactor.register(&place.pool, address.clone(), line.stream(), key.0);
        // In one place from its login to its end: it changes hands twice for each transaction.
        Box::new(Server {
            is_local: line.stream().is_local(),
            load: reactor.loads.of(&address),
            cancels: facts.cancels.clone(),
            used: reactor.now.get(),
            in_use: None,
            led: false,
            replayed: 0,
            line,
            backend,
            address,
            key,
            opened,
            facts,
            place,
        })
    }
}

/// A place among the connections of a pool; free again when it is dropped.
pub struct Place {
    /// Whose.
    pub pool: Rc<Pool>,
    address: Rc<str>,
    /// The place that all threads count; nothing once the connection went to another.
    pub(crate) shared: Option<share::Place>,
    counts: bool,
}

impl Place {
    /// One in `pool`, for a connection to `address`.
    #[must_use]
    pub fn of(pool: &Rc<Pool>, address: &Rc<str>, shared: share::Place) -> Place {
        let mut place = Place::beside(pool, address);
        place.count(shared);
        place
    }

    /// One on top of the pool's size, for now.
    #[must_use]
    pub fn beside(pool: &Rc<Pool>, address: &Rc<str>) -> Place {
        Place { pool: pool.clone(), address: address.clone(), shared: None, counts: false }
    }

    /// It counts from now on.
    pub fn count(&mut self, shared: share::Place) {
        self.shared = Some(shared);
        if !std::mem::replace(&mut self.counts, true) {
            self.pool.place_taken(&self.address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared = None;
        if self.counts {
            self.pool.place_free(&self.address);
        }
    }
}

impl Server {
    /// Whether an idle one is still good: nothing has come but notices and settings, and it has not ended.
    /// Costs nothing while nothing came.
    pub fn is_alive(&mut self) -> bool {
        if self.line.is_quiet() {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.line.poll_fill(&mut cx) {
                Poll::Pending => return self.line.input.filled().is_empty(),
                Poll::Ready(Ok(0) | Err(_)) => return false,
                Poll::Ready(Ok(_)) => {
                    if !self.takes_idle_words() {
                        return false;
                    }
                }
            }
        }
    }

    /// What may come while nobody uses it. An error then always ends the connection.
    #[cold]
    fn takes_idle_words(&mut self) -> bool {
        loop {
            let there = self.line.input.filled();
            let Ok(header) = Header::read(there) else { return false };
            let Some((header, body)) = header.and_then(|h| Some((h, h.body(there)?))) else { return true };
            match header.tag {
                wire::back::PARAMETER_STATUS => {
                    if let Some((name, value)) = wire::back::parameter(body) {
                        self.backend.report(name, value);
                    }
                }
                wire::back::NOTICE | wire::back::NOTIFICATION => {}
                _ => return false,
            }
            let bytes = wire::frame::HEADER_BYTES + body.len();
            self.line.input.consume(bytes);
        }
    }

    /// Sets it up for a client with these settings, or leaves it as it was.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn set_up(&mut self, settings: &Arc<Settings>) -> io::Result<()> {
        if let Some(change) =
            route::settings::change(&self.backend.settings, settings, self.backend.base.as_deref())
        {
            self.ask(&String::from_utf8_lossy(&change)).await?;
            self.backend.settings = settings.clone();
        }
        Ok(())
    }

    /// The timeline that it writes on; `None` while it is in recovery, and 0 where its user may not ask.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn timeline(&mut self) -> io::Result<Option<u32>> {
        let rows = match self.ask(TIMELINE).await {
            Ok(rows) => rows,
            Err(why) if why.get_ref().is_some_and(|e| e.is::<Refused>()) => {
                tracing::debug!(%why, "a server does not tell its timeline");
                let standby = self.backend.on_standby();
                return Ok((!standby).then_some(0));
            }
            Err(why) => return Err(why),
        };
        let said = rows.into_iter().flatten().flatten().next();
        Ok(said.map(|digits| u32::from_str_radix(&digits, 16).unwrap_or(0)))
    }

    /// Takes everything out of it that a client may have left, also what nobody can see from outside.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn wash(&mut self) -> io::Result<()> {
        self.ask("DISCARD ALL").await?;
        self.backend.forget_prepared();
        self.backend.settings = Arc::default();
        Ok(())
    }

    /// Lets it finish what its client asked for before it said good-bye, and closes it; nobody takes the answers.
    pub async fn finish(mut self) {
        let mut said = false;
        std::future::poll_fn(|cx| {
            let told = if std::mem::replace(&mut said, true) { Ok(()) } else { self.line.say(cx, TERMINATE) };
            let drained = self.line.poll_drain(cx);
            if told.is_err() || matches!(drained, Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            while let Ok(1..) = ready!(self.line.poll_fill(cx)) {
                let bytes = self.line.input.filled().len();
                self.line.input.consume(bytes);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Runs one of our own queries and gives its rows; nobody else may use the connection meanwhile.
    ///
    /// # Errors
    /// What the socket says; in it `Refused`, if the server gave an error.
    pub async fn ask(&mut self, text: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let mut bytes = Vec::new();
        wire::front::query(&mut bytes, text.as_bytes());
        self.line.tell(&bytes).await?;
        self.rows().await
    }

    /// The rows of what was asked, up to the end of the answer.
    ///
    /// # Errors
    /// As `ask`.
    pub async fn rows(&mut self) -> io::Result<Vec<Vec<Option<String>>>> {
        const ROW_BYTES_MAX: u64 = 1 << 20;
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let (tag, body) = self.line.message(ROW_BYTES_MAX).await?;
            match tag {
                wire::back::DATA_ROW => {
                    let text = |v: Option<&[u8]>| v.map(|v| String::from_utf8_lossy(v).into_owned());
                    rows.push(wire::back::values(&body).map(text).collect());
                }
                wire::back::ERROR => {
                    let field =
                        |key| wire::back::field(&body, key).map(String::from_utf8_lossy).unwrap_or_default();
                    error =
                        Some(Refused { code: field(b'C').into_owned(), message: field(b'M').into_owned() });
                    if wire::back::is_fatal(&body) {
                        break;
                    }
                }
                wire::back::PARAMETER_STATUS => {
                    if let Some((name, value)) = wire::back::parameter(&body) {
                        self.backend.report(name, value);
                    }
                }
                // Its own commit did not wait for the standbys.
                wire::back::NOTICE if wire::back::field(&body, b'R') == Some(b"SyncRepWaitForLSN") => {
                    error = Some(Refused {
                        code: "57014".to_string(),
                        message: "the wait was cut short".to_string(),
                    });
                }
                // A transaction of ours that was left open would be somebody else's.
                wire::back::READY if body != b"I" && error.is_none() => {
                    return Err(io::Error::other("a transaction was left open"));
                }
                wire::back::READY => break,
                _ => {}
            }
        }
        error.map_or(Ok(rows), |refused| Err(io::Error::other(refused)))
    }
}
