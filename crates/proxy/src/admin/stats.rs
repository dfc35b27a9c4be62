//! SHOW STATS and its kin: what was done since the start, and on average in the last period.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::command::Show;
use super::table::{Column, Kind, Row, Value};
use crate::facts::{COUNTS, Count, Sample, micros};
use crate::pool::Pool;
use crate::reactor::Reactor;
use crate::threads::Threads;

/// One count: what it is called as a total and as an average, and what its average is over: a second, or
/// each of something else.
struct Named {
    what: Count,
    total: &'static str,
    average: &'static str,
    plain: &'static str,
    per: Option<Count>,
}

const fn named(what: Count, [total, average, plain]: [&'static str; 3], per: Option<Count>) -> Named {
    Named { what, total, average, plain, per }
}

/// In PgBouncer's order.
const ALL: [Named; COUNTS] = [
    named(
        Count::Assignments,
        ["total_server_assignment_count", "avg_server_assignment_count", "server_assignment_count"],
        None,
    ),
    named(Count::Transactions, ["total_xact_count", "avg_xact_count", "xact_count"], None),
    named(Count::Queries, ["total_query_count", "avg_query_count", "query_count"], None),
    named(Count::Received, ["total_received", "avg_recv", "bytes_received"], None),
    named(Count::Sent, ["total_sent", "avg_sent", "bytes_sent"], None),
    named(Count::TransactionUs, ["total_xact_time", "avg_xact_time", "xact_time"], Some(Count::Transactions)),
    named(Count::QueryUs, ["total_query_time", "avg_query_time", "query_time"], Some(Count::Queries)),
    named(Count::WaitUs, ["total_wait_time", "avg_wait_time", "wait_time"], Some(Count::Assignments)),
    named(
        Count::ClientParses,
        ["total_client_parse_count", "avg_client_parse_count", "client_parse_count"],
        None,
    ),
    named(
        Count::ServerParses,
        ["total_server_parse_count", "avg_server_parse_count", "server_parse_count"],
        None,
    ),
    named(Count::Binds, ["total_bind_count", "avg_bind_count", "bind_count"], None),
    named(
        Count::Closed,
        ["total_server_closed_count", "avg_server_closed_count", "server_closed_count"],
        None,
    ),
    named(
        Count::LifetimeUs,
        ["total_server_lifetime", "avg_server_lifetime", "server_lifetime"],
        Some(Count::Closed),
    ),
];

/// Their columns.
#[must_use]
pub fn columns(show: Show) -> Vec<Column> {
    let number = |name: &'static str| (name, Kind::Numeric);
    let database = ("database", Kind::Text);
    let totals = ALL.iter().map(|n| number(n.total));
    let averages = ALL.iter().map(|n| number(n.average));
    match show {
        Show::Totals => vec![("name", Kind::Text), number("value")],
        Show::StatsTotals | Show::StatsAverages => {
            [database].into_iter().chain(ALL.iter().map(|n| number(n.plain))).collect()
        }
        _ => [database].into_iter().chain(totals).chain(averages).collect(),
    }
}

/// Their rows.
pub async fn rows(show: Show, reactor: &Reactor) -> Vec<Row> {
    let all = by_database(&reactor.threads).await;
    let period = reactor.now.get().saturating_duration_since(reactor.periods.get().1);
    if show == Show::Totals {
        let mut sum = (Sample::default(), Sample::default());
        all.values().for_each(|(now, then)| add(&mut sum, now, then));
        let (totals, averages) = (totals(&sum.0), averages(&sum.0, &sum.1, period));
        let row = |name: &str, value: u64| vec![name.into(), value.into()];
        let totals = ALL.iter().zip(totals).map(|(n, v)| row(n.total, v));
        return totals.chain(ALL.iter().zip(averages).map(|(n, v)| row(n.average, v))).collect();
    }
    let row = |(database, (now, then)): (String, (Sample, Sample))| {
        let totals = totals(&now).into_iter().filter(|_| show != Show::StatsAverages);
        let averages = averages(&now, &then, period).into_iter().filter(|_| show != Show::StatsTotals);
        [database.into()].into_iter().chain(totals.chain(averages).map(Value::Number)).collect()
    };
    all.into_iter().map(row).collect()
}

/// What the pools of each database have done on all threads: now, and when the period began.
pub async fn by_database(threads: &Threads) -> BTreeMap<String, (Sample, Sample)> {
    let mut all: BTreeMap<String, (Sample, Sample)> = BTreeMap::new();
    for (database, now, then) in threads.ask(here).await.into_iter().flatten() {
        add(all.entry(database).or_default(), &now, &then);
    }
    all
}

fn here(reactor: &Rc<Reactor>) -> Vec<(String, Sample, Sample)> {
    let of = |pool: &Rc<Pool>| (pool.key.database.clone(), pool.totals.now(), pool.totals.before());
    reactor.pools().iter().map(of).collect()
}

fn add(sum: &mut (Sample, Sample), now: &Sample, then: &Sample) {
    sum.0.iter_mut().zip(now).for_each(|(sum, n)| *sum = sum.wrapping_add(*n));
    sum.1.iter_mut().zip(then).for_each(|(sum, n)| *sum = sum.wrapping_add(*n));
}

fn totals(now: &Sample) -> [u64; COUNTS] {
    std::array::from_fn(|i| now[ALL[i].what as usize])
}

fn averages(now: &Sample, then: &Sample, period: Duration) -> [u64; COUNTS] {
    let more = |what: Count| now[what as usize].wrapping_sub(then[what as usize]);
    std::array::from_fn(|i| {
        let (done, over) = match ALL[i].per {
            Some(each) => (u128::from(more(ALL[i].what)), more(each)),
            None => (u128::from(more(ALL[i].what)) * 1_000_000, micros(period)),
        };
        u64::try_from(done / u128::from(over.max(1))).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_per_second_or_per_piece() {
        let (mut now, mut then) = (Sample::default(), Sample::default());
        (now[Count::Queries as usize], then[Count::Queries as usize]) = (300, 100);
        (now[Count::QueryUs as usize], then[Count::QueryUs as usize]) = (5_000, 1_000);
        let averages = averages(&now, &then, Duration::from_secs(10));
        let of = |name| averages[ALL.iter().position(|n| n.average == name).expect("it is there")];
        assert_eq!((of("avg_query_count"), of("avg_query_time"), of("avg_xact_time")), (20, 20, 0));
    }

    #[test]
    fn the_names_are_in_the_order_of_the_counts() {
        assert!(ALL.iter().enumerate().all(|(i, n)| n.what as usize == i));
    }
}
