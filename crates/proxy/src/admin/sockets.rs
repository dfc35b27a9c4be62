//! SHOW CLIENTS and SHOW SERVERS: one row for each connection, in the same columns.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Console;
use super::show::pin_words;
use super::table::{Column, Kind, Row, Value};
use crate::facts::{ClientFacts, ServerFacts, micros};
use crate::reactor::{Listed, Reactor};
use crate::replication::word;
use crate::routing::Target;

use Kind::{Big, Int, Text};

/// PgBouncer's, then ours.
pub const COLUMNS: [Column; 24] = [
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int),
    ("local_addr", Text),
    ("local_port", Int),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int),
    ("wait_us", Int),
    ("close_needed", Int),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int),
    ("id", Big),
    ("target", Text),
    ("pins", Text),
    ("role", Text),
];

/// Rows of clients, and of administrators at the console, whoever asks among them.
#[must_use]
pub fn clients(reactor: &Rc<Reactor>) -> Vec<Row> {
    let clients = reactor.clients.borrow();
    let consoles = reactor.consoles.borrow();
    clients.values().map(client).chain(consoles.values().map(console)).collect()
}

fn client(listed: &Listed) -> Row {
    let key = &listed.key;
    row(&listed.facts, &key.user, &key.database, listed.facts.state(), target(key.target))
}

/// As PgBouncer has them: clients of a database of that name, which are always at work.
fn console(console: &Console) -> Row {
    row(&console.facts, &console.user, "pgbouncer", "active", "")
}

fn row(facts: &ClientFacts, user: &str, database: &str, state: &str, target: &str) -> Row {
    let waited = facts.waits.get().map_or(0, |since| micros(since.elapsed()));
    let linked = facts.server.get();
    vec![
        "C".into(),
        user.into(),
        database.into(),
        word(facts.replication.get()).into(),
        state.into(),
        host(facts.addresses.0).into(),
        port(facts.addresses.0),
        host(facts.addresses.1).into(),
        port(facts.addresses.1),
        moment(facts.connected).into(),
        moment(at(facts.requested.get())).into(),
        (waited / 1_000_000).into(),
        (waited % 1_000_000).into(),
        0_u64.into(),
        format!("c{}", facts.id).into(),
        if linked == 0 { String::new() } else { format!("s{linked}") }.into(),
        0_u64.into(),
        facts.tls.clone().into(),
        facts.application_name.clone().into(),
        facts.prepared.get().into(),
        u64::from(facts.id).into(),
        target.into(),
        if linked == 0 { String::new() } else { pin_words(facts.pins.get()) }.into(),
        "".into(),
    ]
}

/// Rows of connections to servers.
#[must_use]
pub fn servers(reactor: &Rc<Reactor>) -> Vec<Row> {
    reactor.servers().iter().map(|s| server(reactor, s)).collect()
}

fn server(reactor: &Reactor, facts: &Rc<ServerFacts>) -> Row {
    let (remote, remote_port) = split(&facts.address);
    let linked = facts.client.get();
    let clients = reactor.clients.borrow();
    let client = clients.get(&linked);
    let routing = reactor.routing.borrow();
    let role = match routing.primary.as_ref() == Some(&facts.address) {
        true => "primary",
        false if routing.replicas().contains(&facts.address) => "replica",
        false => "none",
    };
    vec![
        "S".into(),
        facts.key().user.clone().into(),
        facts.key().database.clone().into(),
        word(facts.replication.get()).into(),
        facts.state().into(),
        remote.into(),
        remote_port.into(),
        host(facts.local).into(),
        port(facts.local),
        moment(facts.connected).into(),
        moment(at(facts.requested.get())).into(),
        0_u64.into(),
        0_u64.into(),
        facts.close_needed.get().into(),
        format!("s{}", facts.id).into(),
        if linked == 0 { String::new() } else { format!("c{linked}") }.into(),
        facts.pid.into(),
        facts.tls.clone().into(),
        client.map_or(String::new(), |c| c.facts.application_name.clone()).into(),
        facts.prepared.get().into(),
        facts.id.into(),
        target(facts.key().target).into(),
        client.map_or(String::new(), |c| pin_words(c.facts.pins.get())).into(),
        role.into(),
    ]
}

/// What a connection is for, in a word.
#[must_use]
pub fn target(target: Target) -> &'static str {
    crate::target::word(target)
}

/// An address without its port; `unix` without an address, as PgBouncer has it.
#[must_use]
pub fn host(address: Option<SocketAddr>) -> String {
    address.map_or("unix".to_string(), |a| a.ip().to_string())
}

fn port(address: Option<SocketAddr>) -> Value {
    u64::from(address.map_or(0, |a| a.port())).into()
}

/// Host and port of `host:port`.
#[must_use]
pub fn split(address: &str) -> (String, u64) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_string(), port.parse().unwrap_or(0))
}

fn at(moment: Instant) -> SystemTime {
    SystemTime::now().checked_sub(moment.elapsed()).unwrap_or(UNIX_EPOCH)
}

/// A moment as PgBouncer writes it, in UTC: `2026-11-27 09:33:46 UTC`.
#[must_use]
pub fn moment(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a day since 1970, counted in 400-year eras that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (1_795_772_026, "2026-11-27 09:33:46 UTC"),
        ] {
            assert_eq!(moment(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn addresses_are_split() {
        assert_eq!(split("db:5432"), ("db".to_string(), 5432));
        assert_eq!(split("[::1]:6432"), ("::1".to_string(), 6432));
    }
}
