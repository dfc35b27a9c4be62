//! Figures for Prometheus, in its text format, over HTTP.
//!
//! Answered by the first thread, from what all of them count anyway: nothing is kept
//! up to date for the case that somebody asks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::admin::show::{self, Held};
use crate::admin::sockets::target;
use crate::admin::stats;
use crate::admin::tally::{self, Tally};
use crate::config::Config;
use crate::facts::{Count, Sample};
use crate::pool::Key;
use crate::reactor::Reactor;
use crate::routing::{Target, Wants};
use crate::run::RunError;
use crate::threads::Threads;

/// Those who may ask at a time; whoever comes then is closed at once.
const ASKING_MAX: usize = 16;
/// Longest that one connection may last: it must leave room for others.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// What Prometheus takes this text for.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Begins to answer, if that is configured.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(config: &Config, reactor: &Rc<Reactor>) -> Result<(), RunError> {
    let Some(metrics) = &config.metrics else { return Ok(()) };
    let failed = |e: std::io::Error| RunError::Listen { address: metrics.listen.clone(), why: e.to_string() };
    let listener = TcpListener::bind(&metrics.listen).await.map_err(failed)?;
    let asking = Rc::new(Cell::new(0));
    let reactor = reactor.clone();
    let doors = reactor.clone();
    let task = tokio::task::spawn_local(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if asking.get() >= ASKING_MAX {
                continue;
            }
            asking.set(asking.get() + 1);
            let (asking, reactor) = (asking.clone(), reactor.clone());
            tokio::task::spawn_local(async move {
                let answers = service_fn(move |request| answer(reactor.clone(), request));
                let served = http1::Builder::new().serve_connection(TokioIo::new(socket), answers);
                let _ = timeout(CONNECTION_LIMIT, served).await;
                asking.set(asking.get() - 1);
            });
        }
    });
    // Closed with the others: the next proxy begins while this one drains.
    doors.doors.borrow_mut().push(task.abort_handle());
    Ok(())
}

async fn answer(
    reactor: Rc<Reactor>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, text(&reactor).await),
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "the figures are at /metrics\n".to_string())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(TEXT));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

/// Writes families one after the other.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP tanist_proxy_{name} {help}\n# TYPE tanist_proxy_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "tanist_proxy_{name}{braces} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }
}

/// What is counted on all threads.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cancels: u64,
    logins_failed: u64,
    settled: [u64; 3],
    lease_waits: u64,
    busy: usize,
}

async fn sums(threads: &Threads) -> Sums {
    let here = |reactor: &Rc<Reactor>| Sums {
        cancels: reactor.counters.cancels.get(),
        logins_failed: reactor.counters.logins_failed.get(),
        settled: std::array::from_fn(|i| reactor.counters.settled[i].get()),
        lease_waits: reactor.strict.waits.get(),
        busy: reactor.busy.get(),
    };
    threads.ask(here).await.into_iter().fold(Sums::default(), |sum, one| Sums {
        cancels: sum.cancels + one.cancels,
        logins_failed: sum.logins_failed + one.logins_failed,
        settled: std::array::from_fn(|i| sum.settled[i] + one.settled[i]),
        lease_waits: sum.lease_waits + one.lease_waits,
        busy: sum.busy + one.busy,
    })
}

/// The whole page.
pub async fn text(reactor: &Rc<Reactor>) -> String {
    let threads = &reactor.threads;
    let (sums, held) = (sums(threads).await, show::held(threads).await);
    let (tallies, done) = (tally::by_key(threads).await, stats::by_database(threads).await);
    let mut page = Page::default();
    whole(&mut page, reactor, &sums, held);
    cluster(&mut page, reactor, &sums);
    pools(&mut page, &tallies);
    databases(&mut page, reactor, &tallies, &done);
    page.0
}

fn whole(page: &mut Page, reactor: &Reactor, sums: &Sums, held: Held) {
    page.family("build_info", "gauge", "Always 1; its labels say what runs.");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let started = reactor.started.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    page.one("start_time_seconds", "gauge", "When it started, in Unix seconds.", started);
    page.one("clients_max", "gauge", "Clients that may be connected.", reactor.config.clients_max);
    page.one("threads", "gauge", "Threads that serve clients.", reactor.threads.count());
    page.one("consoles", "gauge", "Administrators at the console.", held.consoles);
    page.one("prepared_statements", "gauge", "Texts kept to be prepared where needed.", held.prepared);
    page.one("cancels_total", "counter", "Cancels that named a client.", sums.cancels);
    page.one("logins_failed_total", "counter", "Logins refused.", sums.logins_failed);
    page.family("commits_settled_total", "counter", "Commits whose answer was lost, by what became of them.");
    for (fate, n) in ["committed", "not_committed", "unknown"].iter().zip(sums.settled) {
        page.value("commits_settled_total", &[("fate", fate)], n);
    }
}

fn cluster(page: &mut Page, reactor: &Reactor, sums: &Sums) {
    let routing = reactor.routing.borrow();
    page.one("term", "gauge", "The term that is followed; 0 without a cluster.", routing.term);
    page.one(
        "failovers_total",
        "counter",
        "Changes of the term since the start.",
        reactor.counters.terms.get(),
    );
    page.one("has_primary", "gauge", "1 while somebody takes writes.", u8::from(routing.primary.is_some()));
    page.one("replicas", "gauge", "Replicas that may be read from.", routing.replicas().len());
    page.family("holding", "gauge", "1 while new transactions of this kind are held back.");
    let lag_ms_max = reactor.config.pool.lag_ms_max;
    for kind in [Target::Primary, Target::Replica, Target::Any] {
        let holds = routing.holds(Wants { target: kind, lag_ms_max });
        page.value("holding", &[("target", target(kind))], u8::from(holds));
    }
    let held = reactor.threads.held.load(Ordering::Relaxed);
    page.one("held_bytes", "gauge", "Bytes of statements that wait for a server.", held);
    if reactor.config.needs_leases() {
        let valid = u8::from(reactor.strict.covers(routing.term));
        page.one("lease_valid", "gauge", "1 while strict reads may be given.", valid);
        let waits = "Statements that waited for a lease.";
        page.one("lease_waits_total", "counter", waits, sums.lease_waits);
    }
    page.one("busy_clients", "gauge", "Clients with a transaction on the primary.", sums.busy);
}

/// Figures of each pool: a database, a user, and what for.
fn pools(page: &mut Page, all: &BTreeMap<Key, Tally>) {
    let mut each = |name: &str, help: &str, of: &dyn Fn(&Tally) -> String| {
        page.family(name, "gauge", help);
        all.iter().for_each(|(key, tally)| page.value(name, &labels(key), of(tally)));
    };
    each("clients", "Clients that are connected.", &|t| t.clients.to_string());
    each("clients_waiting", "Clients that wait for a connection to a server.", &|t| t.waiting.to_string());
    each("longest_wait_seconds", "How long the first of those waits.", &|t| {
        seconds(t.longest_wait_ms * 1_000)
    });
    each("pool_size", "Connections to servers at most.", &|t| t.size.to_string());
    each("pool_paused", "1 while an administrator has paused it.", &|t| u8::from(t.paused).to_string());
    each("server_logins", "Logins at servers that are under way.", &|t| t.logins.to_string());
    page.family("servers", "gauge", "Connections to servers, by what they do.");
    for (key, tally) in all {
        let states = [
            ("active", tally.active),
            ("idle", tally.idle),
            ("warm", tally.warm),
            ("active_cancel", tally.active_cancel),
            ("being_canceled", tally.being_canceled),
        ];
        for (state, n) in states {
            let labels = labels(key).into_iter().chain([("state", state)]).collect::<Vec<_>>();
            page.value("servers", &labels, n);
        }
    }
}

fn labels(key: &Key) -> [(&'static str, &str); 3] {
    [("database", &key.database), ("user", &key.user), ("target", target(key.target))]
}

/// What was done in each database since the start.
fn databases(
    page: &mut Page,
    reactor: &Reactor,
    tallies: &BTreeMap<Key, Tally>,
    all: &BTreeMap<String, (Sample, Sample)>,
) {
    let plain = |what: Count| move |s: &Sample| s[what as usize].to_string();
    let time = |what: Count| move |s: &Sample| seconds(s[what as usize]);
    let mut each = |name: &str, help: &str, of: &dyn Fn(&Sample) -> String| {
        page.family(name, "counter", help);
        all.iter().for_each(|(database, (now, _))| page.value(name, &[("database", database)], of(now)));
    };
    each("transactions_total", "Transactions, and statements outside of any.", &plain(Count::Transactions));
    each("queries_total", "Queries, and batches up to Sync.", &plain(Count::Queries));
    each("received_bytes_total", "Bytes from clients.", &plain(Count::Received));
    each("sent_bytes_total", "Bytes to clients.", &plain(Count::Sent));
    each("assignments_total", "Connections to servers given to clients.", &plain(Count::Assignments));
    each("transaction_seconds_total", "Time with a transaction on a server.", &time(Count::TransactionUs));
    each("query_seconds_total", "Time in which clients waited for answers.", &time(Count::QueryUs));
    each("wait_seconds_total", "Time in which clients waited for a server.", &time(Count::WaitUs));
    each("client_parses_total", "Statements that clients prepared.", &plain(Count::ClientParses));
    each("server_parses_total", "Statements prepared at servers.", &plain(Count::ServerParses));
    each("binds_total", "Portals that were bound.", &plain(Count::Binds));
    each("servers_closed_total", "Connections to servers that ended.", &plain(Count::Closed));
    page.family("database_disabled", "gauge", "1 while an administrator lets nobody in.");
    for name in show::database_names(reactor, tallies) {
        let disabled = reactor.threads.gates.is_disabled(&name);
        page.value("database_disabled", &[("database", &name)], u8::from(disabled));
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_times_are_in_seconds() {
        let mut page = Page::default();
        page.value("x", &[("database", "a\"b\\c\nd")], seconds(1_500_000));
        assert_eq!(page.0, "tanist_proxy_x{database=\"a\\\"b\\\\c\\nd\"} 1.500000\n");
    }
}
