//! The tables of SHOW: PgBouncer's columns with its names and types, ours behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::command::{Command, Show};
use super::table::{Column, Kind, Row, Value};
use super::tally::{self, Tally};
use super::{VERSION, config, sockets, stats};
use crate::limits::ANY;
use crate::pool::Key;
use crate::reactor::Reactor;
use crate::threads::Threads;

use Kind::{Big, Int, Text};

/// The detail of SHOW HELP.
pub const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|SOCKETS|USERS|VERSION
\tSHOW LISTS|MEM|STATE|STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSHOW ROUTES|PINS|PREPARED
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tWAIT_CLOSE [<db>]
\tKILL <db>
\tKILL_CLIENT <client_id>
\tRELOAD
\tSHUTDOWN [WAIT_FOR_CLIENTS]
";

const POOLS: [Column; 20] = [
    ("database", Text),
    ("user", Text),
    ("cl_active", Int),
    ("cl_waiting", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active", Int),
    ("sv_active_cancel", Int),
    ("sv_being_canceled", Int),
    ("sv_idle", Int),
    ("sv_used", Int),
    ("sv_tested", Int),
    ("sv_login", Int),
    ("maxwait", Int),
    ("maxwait_us", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("sv_read", Int),
    ("pool_size", Int),
    ("paused", Int),
];

const DATABASES: [Column; 17] = [
    ("name", Text),
    ("host", Text),
    ("port", Int),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int),
    ("min_pool_size", Int),
    ("reserve_pool_size", Int),
    ("server_lifetime", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int),
    ("current_connections", Int),
    ("max_client_connections", Int),
    ("current_client_connections", Int),
    ("paused", Int),
    ("disabled", Int),
];

const USERS: [Column; 8] = [
    ("name", Text),
    ("pool_size", Text),
    ("reserve_pool_size", Text),
    ("pool_mode", Text),
    ("max_user_connections", Int),
    ("current_connections", Int),
    ("max_user_client_connections", Int),
    ("current_client_connections", Int),
];

const PINS: [Column; 7] = [
    ("id", Int),
    ("user", Text),
    ("database", Text),
    ("application_name", Text),
    ("addr", Text),
    ("server", Text),
    ("pins", Text),
];

/// The columns of what a command answers; `None` if it answers no table.
#[must_use]
pub fn columns(command: &Command) -> Option<Vec<Column>> {
    let show = match command {
        Command::Show(show) => *show,
        Command::Setting(name, _) => return Some(vec![(name, Text)]),
        Command::One => return Some(vec![("?column?", Int)]),
        _ => return None,
    };
    Some(match show {
        Show::Help => return None,
        Show::Version => vec![("version", Text)],
        Show::Pools => POOLS.to_vec(),
        Show::Clients | Show::Servers | Show::Sockets => sockets::COLUMNS.to_vec(),
        Show::Databases => DATABASES.to_vec(),
        Show::Users => USERS.to_vec(),
        Show::Lists => vec![("list", Text), ("items", Int)],
        Show::Config => config::COLUMNS.to_vec(),
        Show::Mem => vec![("name", Text), ("size", Int), ("used", Int), ("free", Int), ("memtotal", Int)],
        Show::State => vec![("key", Text), ("value", Text)],
        Show::Stats | Show::StatsTotals | Show::StatsAverages | Show::Totals => stats::columns(show),
        Show::Routes => {
            vec![("term", Big), ("primary", Text), ("replicas", Text), ("holding", Int), ("openings", Text)]
        }
        Show::Pins => PINS.to_vec(),
        Show::Prepared => {
            vec![("id", Big), ("name", Text), ("references", Int), ("bytes", Int), ("query", Text)]
        }
        Show::DnsHosts => vec![("hostname", Text), ("ttl", Big), ("addrs", Text)],
        Show::DnsZones => vec![("zonename", Text), ("serial", Big), ("count", Int)],
        Show::Peers => vec![("peer_id", Int), ("host", Text), ("port", Int), ("pool_size", Int)],
        Show::PeerPools => vec![
            ("peer_id", Int),
            ("cl_active_cancel_req", Int),
            ("cl_waiting_cancel_req", Int),
            ("sv_active_cancel", Int),
            ("sv_login", Int),
        ],
    })
}

/// The rows of what a command answers, of all threads.
pub async fn rows(reactor: &Rc<Reactor>, command: &Command) -> Vec<Row> {
    let show = match command {
        Command::Show(show) => *show,
        Command::Setting(_, value) => return vec![vec![(*value).into()]],
        Command::One => return vec![vec![1_u64.into()]],
        _ => return Vec::new(),
    };
    let threads = &reactor.threads;
    match show {
        Show::Version => vec![vec![VERSION.into()]],
        Show::Clients => threads.ask(sockets::clients).await.concat(),
        Show::Servers => threads.ask(sockets::servers).await.concat(),
        Show::Sockets => threads.ask(|r| [sockets::clients(r), sockets::servers(r)].concat()).await.concat(),
        Show::Pins => threads.ask(|r| pins(r)).await.concat(),
        Show::Prepared => threads.ask(|r| prepared(r)).await.concat(),
        Show::Pools => pools(reactor, &tally::by_key(threads).await),
        Show::Databases => databases(reactor, &tally::by_key(threads).await),
        Show::Users => users(reactor, &tally::by_key(threads).await),
        Show::Lists => lists(reactor, &tally::by_key(threads).await, held(threads).await),
        Show::Mem => memory(held(threads).await),
        Show::Config => config::rows(&reactor.config),
        Show::State => state(reactor),
        Show::Stats | Show::StatsTotals | Show::StatsAverages | Show::Totals => {
            stats::rows(show, reactor).await
        }
        Show::Routes => vec![routes(reactor)],
        Show::Help | Show::DnsHosts | Show::DnsZones | Show::Peers | Show::PeerPools => Vec::new(),
    }
}

type Tallies = BTreeMap<Key, Tally>;

/// One row for each database and user, as exporters expect; those who only read are in it.
fn pools(reactor: &Rc<Reactor>, tallies: &Tallies) -> Vec<Row> {
    let all = tally::by(tallies, |key| (key.database.clone(), key.user.clone()));
    all.into_iter().map(|((database, user), tally)| pool(reactor, &database, &user, &tally)).collect()
}

fn pool(reactor: &Reactor, database: &str, user: &str, tally: &Tally) -> Row {
    vec![
        database.into(),
        user.into(),
        (tally.clients - tally.waiting).into(),
        tally.waiting.into(),
        0_u64.into(),
        0_u64.into(),
        tally.active.into(),
        tally.active_cancel.into(),
        tally.being_canceled.into(),
        tally.idle.into(),
        0_u64.into(),
        0_u64.into(),
        tally.logins.into(),
        (tally.longest_wait_ms / 1_000).into(),
        (tally.longest_wait_ms % 1_000 * 1_000).into(),
        config::mode_word(reactor.config.mode(database, user)).into(),
        Value::Null,
        tally.reads.into(),
        tally.size.into(),
        tally.paused.into(),
    ]
}

/// Databases that are configured, or that somebody has asked for.
pub fn database_names(reactor: &Reactor, tallies: &Tallies) -> BTreeSet<String> {
    let configured = reactor.config.databases.iter().map(|d| d.name.clone()).filter(|n| n != ANY);
    configured.chain(tallies.keys().map(|key| key.database.clone())).collect()
}

fn databases(reactor: &Rc<Reactor>, tallies: &Tallies) -> Vec<Row> {
    let all = tally::by(tallies, |key| key.database.clone());
    let tally = |name: &String| all.get(name).copied().unwrap_or_default();
    database_names(reactor, tallies).iter().map(|name| database(reactor, name, &tally(name))).collect()
}

fn database(reactor: &Rc<Reactor>, name: &str, tally: &Tally) -> Row {
    let entry = reactor.config.database(name);
    let primary = reactor.routing.borrow().primary.clone();
    let (host, port) = primary.as_deref().map_or((None, None), |address| {
        let (host, port) = sockets::split(address);
        (Some(host), Some(port))
    });
    vec![
        name.into(),
        host.into(),
        port.into(),
        entry.dbname(name).into(),
        Value::Null,
        entry.size(&reactor.config).into(),
        reactor.config.age(name).least.into(),
        reactor.config.reserve_of_database(name).into(),
        reactor.config.age(name).lifetime.map_or(0, |l| l.as_secs()).into(),
        entry.0.and_then(|d| d.mode).map(config::mode_word).into(),
        Value::Null,
        reactor.config.connections_of_database(name).into(),
        tally.servers().into(),
        reactor.config.clients_of_database(name).into(),
        tally.clients.into(),
        reactor.threads.gates.is_paused(name).into(),
        reactor.threads.gates.is_disabled(name).into(),
    ]
}

fn user_names(reactor: &Reactor, tallies: &Tallies) -> BTreeSet<String> {
    let configured = reactor.config.users.iter().map(|u| u.name.clone()).filter(|n| n != ANY);
    configured.chain(tallies.keys().map(|key| key.user.clone())).collect()
}

fn users(reactor: &Rc<Reactor>, tallies: &Tallies) -> Vec<Row> {
    let all = tally::by(tallies, |key| key.user.clone());
    let row = |name: String| {
        let limits = reactor.config.user(&name);
        let most = (reactor.config.connections_of_user(&name), reactor.config.clients_of_user(&name));
        let tally = all.get(&name).copied().unwrap_or_default();
        vec![
            name.into(),
            limits.and_then(|u| u.pool_size).map_or(String::new(), |n| n.to_string()).into(),
            limits.and_then(|u| u.reserve_pool_size).map_or(String::new(), |n| n.to_string()).into(),
            limits.and_then(|u| u.mode).map_or(Value::Null, |m| config::mode_word(m).into()),
            most.0.into(),
            tally.servers().into(),
            most.1.into(),
            tally.clients.into(),
        ]
    };
    user_names(reactor, tallies).into_iter().map(row).collect()
}

/// What there is of each thing on all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    clients: usize,
    servers: usize,
    pools: usize,
    /// Administrators at the console.
    pub consoles: usize,
    /// Texts that are kept to be prepared where needed.
    pub prepared: usize,
    buffers: usize,
}

/// Counts them.
pub async fn held(threads: &Threads) -> Held {
    let here = |reactor: &Rc<Reactor>| Held {
        clients: reactor.clients.borrow().len(),
        servers: reactor.servers().len(),
        pools: reactor.pools().len(),
        consoles: reactor.consoles.borrow().len(),
        prepared: reactor.shelf.borrow().len(),
        buffers: crate::line::buffers_spare(),
    };
    let all = threads.ask(here).await.into_iter();
    all.fold(Held::default(), |sum, one| Held {
        clients: sum.clients + one.clients,
        servers: sum.servers + one.servers,
        pools: sum.pools + one.pools,
        consoles: sum.consoles + one.consoles,
        prepared: sum.prepared + one.prepared,
        buffers: sum.buffers + one.buffers,
    })
}

fn lists(reactor: &Reactor, tallies: &Tallies, held: Held) -> Vec<Row> {
    let rows = [
        ("databases", database_names(reactor, tallies).len()),
        ("users", user_names(reactor, tallies).len()),
        ("peers", 0),
        ("pools", tallies.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", held.clients),
        ("login_clients", 0),
        ("free_servers", 0),
        ("used_servers", held.servers),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
        ("consoles", held.consoles),
        ("prepared", held.prepared),
    ];
    rows.into_iter().map(|(name, n)| vec![name.into(), n.into()]).collect()
}

/// What each of many things takes at least, by its own size; buffers come on top while they are in use.
fn memory(held: Held) -> Vec<Row> {
    let rows = [
        ("client_cache", size_of::<crate::client::Client>(), held.clients),
        ("server_cache", size_of::<crate::server::Server>(), held.servers),
        ("pool_cache", size_of::<crate::pool::Pool>(), held.pools),
        ("iobuf_cache", crate::line::BUFFER_BYTES, held.buffers),
    ];
    let row = |(name, size, count): (&str, usize, usize)| {
        let spare = if name == "iobuf_cache" { count } else { 0 };
        vec![name.into(), size.into(), (count - spare).into(), spare.into(), (size * count).into()]
    };
    rows.into_iter().map(row).collect()
}

fn state(reactor: &Reactor) -> Vec<Row> {
    let paused = reactor.threads.gates.all_paused();
    let word = |is| if is { "yes" } else { "no" };
    let rows = [("active", word(!paused)), ("paused", word(paused)), ("suspended", "no")];
    rows.map(|(key, value)| vec![key.into(), value.into()]).to_vec()
}

fn routes(reactor: &Reactor) -> Row {
    let routing = reactor.routing.borrow();
    let opening = |o: &api::routes::Opening| {
        let from = o.next_xid.map_or("unknown".to_string(), |xid| xid.to_string());
        format!("{}: from {from}{}", o.term, if o.survives { "" } else { ", lost" })
    };
    let openings: Vec<String> = routing.openings.iter().map(opening).collect();
    vec![
        routing.term.into(),
        routing.primary.as_ref().map(|p| p.to_string()).into(),
        routing.replicas().join(",").into(),
        routing.holding.into(),
        openings.join("; ").into(),
    ]
}

fn pins(reactor: &Reactor) -> Vec<Row> {
    let servers = reactor.servers();
    let clients = reactor.clients.borrow();
    let pinned = clients.iter().filter(|(_, c)| c.facts.server.get() != 0 && !c.facts.pins.get().is_empty());
    let row = |(id, c): (&u32, &crate::reactor::Listed)| {
        let server = servers.iter().find(|s| s.id == c.facts.server.get());
        vec![
            (*id).into(),
            c.key.user.clone().into(),
            c.key.database.clone().into(),
            c.facts.application_name.clone().into(),
            sockets::host(c.facts.addresses.0).into(),
            server.map(|s| s.address.to_string()).into(),
            pin_words(c.facts.pins.get()).into(),
        ]
    };
    pinned.map(row).collect()
}

/// Why a client keeps its server, in words.
#[must_use]
pub fn pin_words(pins: route::Pins) -> String {
    pins.iter().map(|pin| pin.to_string()).collect::<Vec<_>>().join(", ")
}

fn prepared(reactor: &Reactor) -> Vec<Row> {
    let shelf = reactor.shelf.borrow();
    let row = |s: &std::sync::Arc<route::prepared::Statement>| {
        vec![
            s.id.into(),
            String::from_utf8_lossy(&s.name()).into_owned().into(),
            std::sync::Arc::strong_count(s).saturating_sub(1).into(),
            s.tail.len().into(),
            String::from_utf8_lossy(s.text()).into_owned().into(),
        ]
    };
    shelf.iter().map(row).collect()
}
