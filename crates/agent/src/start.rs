//! Puts an agent together from its configuration, and runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::HostConfig;
use bytes::Bytes;
use cluster::command::Kind;
use cluster::report::Report;
use cluster::{ClusterState, NodeId};
use failover::facts::Facts;
use failover::{Controller, Event};
use peers::{Bearer, Identity, Kind as Word, Peers, Subscribers};
use postgres::config::{Floor, ServerConfig, Tls, Transport};
use postgres::guard::client::Client as Guard;
use postgres::guard::second_hand;
use postgres::perform::{Hands, Site};
use postgres::salvage::Shelf;
use postgres::{NodeDir, Programs, RunAs, Secrets, durable};
use store::Store;
use store::embedded::{self, Outgoing, Start, Wire};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::disk_watch;
use crate::executor::Tools;
use crate::gone;
use crate::http;
use crate::keeper::Keeper;
use crate::overrides;
use crate::routing::Routing;
use crate::run::{Agent, Wires};
use crate::seat;
use crate::shared::Shared;
use crate::source::Source;
use crate::wal_witness::WalHands;
use crate::{wal_house, wal_over_peers, watchers};

/// Reports that may wait to be sent; an older one is dropped for a newer.
const OUTBOX: usize = 4;

/// Why an agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificates, addresses.
    #[error(transparent)]
    Peers(#[from] peers::PeersError),
    /// The server's side.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The promises.
    #[error(transparent)]
    Vows(#[from] crate::vows::VowsError),
    /// The HTTP API.
    #[error(transparent)]
    Http(#[from] http::HttpError),
    /// The store.
    #[error("{0}")]
    Store(String),
    /// The certificate is another node's.
    #[error(
        "TAN0605: the certificate in '{path}' is of {found}, and this host is configured as '{name}'. Nothing was started"
    )]
    OtherNode {
        /// The certificate.
        path: String,
        /// Whose it is.
        found: Bearer,
        /// Ours.
        name: NodeId,
    },
    /// The passwords are missing.
    #[error(
        "TAN0606: the cluster's passwords are not in '{0}'. Copy that folder from another member, mode 0600"
    )]
    NoSecrets(PathBuf),
    /// Nobody to ask for a seat.
    #[error(
        "TAN0607: this node has no seat yet, no bootstrap file and nobody to ask: set 'join' to another agent's address"
    )]
    NobodyToAsk,
}

/// Where the guard of this host listens.
#[must_use]
pub fn guard_socket(config: &HostConfig) -> PathBuf {
    let short = config.postgres.as_ref().and_then(|p| p.socket_dir.clone());
    short.unwrap_or_else(|| config.data_dir.join("run")).join("guard.sock")
}

/// The data directory of this host's server.
#[must_use]
pub fn pgdata(config: &HostConfig) -> PathBuf {
    config.data_dir.join("pgdata")
}

/// A thread of its own, which no runtime that stands still holds up.
fn keep_deadline(hands: Arc<Hands>) -> Result<(), StartError> {
    let keep = move || second_hand::keep(&hands.site().guard, &hands.site().dir.pgdata());
    let thread = std::thread::Builder::new().name("deadline".into()).spawn(keep);
    let failed = |e: std::io::Error| postgres::Error::Guard {
        deed: "have its deadline kept by the agent as well",
        why: e.to_string(),
    };
    thread.map(drop).map_err(|e| failed(e).into())
}

/// Runs the agent of this host until it is killed. `deeds` runs what may wait
/// for a disk or for a server, so that it delays no heartbeat.
///
/// # Errors
/// Why it could not start.
pub async fn run(config: HostConfig, deeds: Handle) -> Result<(), StartError> {
    let identity = Identity::load(&config.tls.ca, &config.tls.cert, &config.tls.key)?;
    if *identity.bearer() != Bearer::Node(config.name.clone()) {
        let path = config.tls.cert.display().to_string();
        let (found, name) = (identity.bearer().clone(), config.name.clone());
        return Err(StartError::OtherNode { path, found, name });
    }
    let wal = wal_hands(&config, &identity)?;
    let (guard, news) = Guard::connect(&guard_socket(&config)).await?;
    let hands = Arc::new(hands(&config, guard)?);
    let (guard_tx, guard_rx) = watch::channel(None);
    tokio::spawn(watchers::arm(hands.clone(), guard_rx));
    keep_deadline(hands.clone())?;
    let listen = config.listen.peers.clone();
    let (subscribers, asks) = Subscribers::open();
    let wiring = peers::Config { identity, listen, subscribers: subscribers.clone() };
    let (peers, incoming) = Peers::start(wiring).await?;
    let store_dir = seat::store_dir(&config);
    std::fs::create_dir_all(&store_dir).map_err(|e| StartError::Store(e.to_string()))?;
    let (events_tx, events) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let (store, wire, keeper, incoming) = take_seat(&config, &peers, &hands.site().guard, incoming).await?;
    let source = Source::new(config.name.clone());
    let seats = Seats { store: store.clone(), cluster: config.cluster.clone(), shared: shared.clone() };
    tokio::spawn(listen_to_peers(incoming, wire, seats, config.clone(), events_tx.clone()));
    tokio::spawn(gone::mind_seat(config.clone(), peers.clone(), store.clone()));
    tokio::spawn(follow_members(store.clone(), peers.clone(), hands.clone(), config.clone()));
    let (outbox, outbox_rx) = mpsc::channel(OUTBOX);
    tokio::spawn(speak(outbox_rx, peers.clone()));
    let again = Arc::new(Notify::new());
    tokio::spawn(watchers::hear_guard(news, again.clone()));
    let read = Arc::new(Notify::new());
    tokio::spawn(watchers::read_store(store.clone(), read.clone(), events_tx.clone()));
    let look = Arc::new(Notify::new());
    tokio::spawn(watchers::look_at_leader(source.clone(), look.clone(), events_tx.clone()));
    if config.kind == Kind::Data {
        deeds.spawn(watchers::probe(hands.clone(), shared.clone(), events_tx.clone(), again.clone()));
        overrides::watch(hands.clone(), deeds.clone());
        tokio::spawn(disk_watch::watch(config.data_dir.clone(), source.clone(), events_tx.clone()));
        deeds.spawn(watchers::keep_house(hands.clone(), source.clone(), shared.clone()));
    }
    if let Some(wal) = &wal {
        let (wal, source, shared) = (wal.clone(), source.clone(), shared.clone());
        deeds.spawn(wal_house::probe(wal, source, shared, events_tx.clone(), again.clone()));
    }
    http::serve(&config, shared.clone(), store.clone(), hands.site().guard.clone()).await?;
    let facts = Facts::new(config.name.clone(), boot_number(), config.kind, keeper.vows());
    let (store_of_tools, events_of_tools) = (store.clone(), events_tx.clone());
    let tools = Tools {
        hands,
        wal,
        peers,
        shared: shared.clone(),
        routing: Arc::new(Routing::new(source.clone(), shared.clone(), subscribers)),
        keeper,
        store: store_of_tools,
        source,
        events: events_of_tools,
        runtime: deeds,
    };
    let agent = Agent::new(Controller::new(facts), tools, shared);
    let (state, guard) = (store.watch(), guard_tx);
    agent.run(Wires { events, events_tx, state, outbox, look, again, read, asks, guard }).await;
    Ok(())
}

/// Where a witness keeps WAL.
#[must_use]
pub fn wal_dir(config: &HostConfig) -> PathBuf {
    config.data_dir.join("wal")
}

fn wal_hands(config: &HostConfig, identity: &Identity) -> Result<Option<Arc<WalHands>>, StartError> {
    if config.kind != Kind::WalWitness {
        return Ok(None);
    }
    let secrets = NodeDir::new(&config.data_dir)?.secrets();
    let secrets = Secrets::load(&secrets)?.ok_or(StartError::NoSecrets(secrets))?;
    let bytes_max = config.wal_max_mb.saturating_mul(1 << 20);
    let hands = WalHands::new(wal_dir(config), identity.clone(), secrets.replication, bytes_max);
    Ok(Some(Arc::new(hands)))
}

/// Where the WAL is that we may be asked for.
fn shelf(config: &HostConfig) -> postgres::Result<Shelf> {
    if config.kind == Kind::Data {
        Shelf::of_server(&pgdata(config))
    } else {
        Shelf::of_witness(&wal_dir(config))
    }
}

/// The folder of our server, and where its socket is.
pub(crate) fn server_dir(config: &HostConfig) -> Result<NodeDir, postgres::Error> {
    match config.postgres.as_ref().and_then(|p| p.socket_dir.as_ref()) {
        Some(sockets) => NodeDir::with_sockets(&config.data_dir, sockets),
        None => NodeDir::new(&config.data_dir),
    }
}

fn boot_number() -> u64 {
    let mut bytes = [0u8; 8];
    // Without randomness the time will tell two boots apart.
    let random = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
    random.unwrap_or_else(|_| crate::clock::unix_ms())
}

fn hands(config: &HostConfig, guard: Guard) -> Result<Hands, StartError> {
    let (bin_dir, port, listen) = match &config.postgres {
        Some(p) => (p.bin_dir.clone(), p.port, p.listen.clone()),
        None => (PathBuf::new(), 0, Vec::new()),
    };
    let dir = server_dir(config)?;
    let run_as = RunAs::for_server()?;
    let programs = if config.kind == Kind::Data { Programs::find(&bin_dir)? } else { Programs::none() };
    let secrets = Secrets::load(&dir.secrets())?.ok_or_else(|| StartError::NoSecrets(dir.secrets()))?;
    dir.create(run_as)?;
    let server = ServerConfig {
        node: config.name.to_string(),
        listen,
        port,
        tls: None,
        members: 3,
        parameters: BTreeMap::new(),
        floor: Floor::default(),
    };
    let tls = if server.listens_beyond_loopback() { Some(server_tls(config, &dir, run_as)?) } else { None };
    let transport = tls.as_ref().map_or(Transport::Plain, |t| Transport::Tls { ca: t.ca.clone() });
    let server = ServerConfig { tls, ..server };
    let log = dir.log_file();
    Ok(Hands::new(Site { dir, programs, run_as, secrets, transport, guard, log }, server))
}

/// Certificate, key and CA where the server's user can read them, and nobody
/// else: the host's own may belong to root, and PostgreSQL takes no key that is
/// not its user's.
fn server_tls(config: &HostConfig, dir: &NodeDir, run_as: RunAs) -> Result<Tls, postgres::Error> {
    let copy = |from: &Path, name: &str| {
        let text = std::fs::read(from).map_err(postgres::Error::file("read", from))?;
        let to = dir.secrets().join(name);
        durable::replace_if_other(&to, &text, run_as).map(|_| to)
    };
    let tls = &config.tls;
    Ok(Tls {
        cert: copy(&tls.cert, "server.crt")?,
        key: copy(&tls.key, "server.key")?,
        ca: copy(&tls.ca, "server-ca.crt")?,
    })
}

type Seat = (Store, Wire, Arc<Keeper>, mpsc::Receiver<peers::Incoming>);

/// Opens the store, or makes it, or asks for a seat first.
async fn take_seat(
    config: &HostConfig,
    peers: &Peers,
    guard: &Guard,
    incoming: mpsc::Receiver<peers::Incoming>,
) -> Result<Seat, StartError> {
    let dir = seat::store_dir(config);
    let vows = dir.join("vows");
    let start = match seat::known_start(config) {
        Some(start) => start,
        None if config.join.is_empty() => return Err(StartError::NobodyToAsk),
        None => {
            // Promises of a life that is over must not be mistaken for ours, and
            // what has no seat has no server.
            let _ = std::fs::remove_file(&vows);
            guard.kill_tree().await?;
            let (seat, state) = seat::ask_for_seat(config, peers, boot_number()).await;
            peers.set_peers(&others(&state, &config.name, &[]));
            Start::Join(seat.raft_id)
        }
    };
    if start == Start::Again && !vows.exists() {
        return Err(crate::vows::VowsError::Damaged(vows).into());
    }
    let keeper = Arc::new(Keeper::open(&vows)?);
    let (out, out_rx) = mpsc::unbounded_channel();
    let opened = embedded::open(&dir, &config.cluster, &start, out);
    let (store, wire) = opened.map_err(|e| StartError::Store(e.to_string()))?;
    tokio::spawn(carry(out_rx, peers.clone()));
    if seat::makes_cluster(config) {
        let (config, store) = (config.clone(), store.clone());
        tokio::spawn(async move { seat::claim(&config, &store).await });
    }
    Ok((store, wire, keeper, incoming))
}

async fn carry(mut out: mpsc::UnboundedReceiver<Outgoing>, peers: Peers) {
    while let Some(m) = out.recv().await {
        peers.send(&m.to, Word::Raft, m.body);
    }
}

async fn speak(mut outbox: mpsc::Receiver<Report>, peers: Peers) {
    while let Some(report) = outbox.recv().await {
        if let Ok(bytes) = postcard::to_allocvec(&report) {
            peers.broadcast(Word::Report, &Bytes::from(bytes));
        }
    }
}

/// What it takes to give somebody a seat.
#[derive(Clone)]
struct Seats {
    store: Store,
    cluster: String,
    shared: Arc<Shared>,
}

async fn listen_to_peers(
    mut incoming: mpsc::Receiver<peers::Incoming>,
    wire: Wire,
    seats: Seats,
    config: HostConfig,
    events: mpsc::UnboundedSender<Event>,
) {
    while let Some(message) = incoming.recv().await {
        match message.kind {
            Word::Raft => wire.deliver(message.from, message.body),
            Word::Report => match postcard::from_bytes::<Report>(&message.body) {
                Ok(report) if report.member.node == message.from => {
                    let _ = events.send(Event::Heard(Box::new(report)));
                }
                Ok(_) | Err(_) => tracing::warn!(from = %message.from, "a report that can't be believed"),
            },
            Word::Request => {
                let Seats { store, cluster, shared } = seats.clone();
                tokio::spawn(async move {
                    let picture = shared.picture();
                    let answer = seat::give_seat(&store, &cluster, &picture, message.from, &message.body);
                    let answer = answer.await;
                    if let Some(reply) = message.answer {
                        let _ = reply.send(answer);
                    }
                });
            }
            Word::Wal => {
                let (shared, config) = (seats.shared.clone(), config.clone());
                tokio::spawn(async move {
                    let state = shared.picture().state.clone();
                    let give = move || shelf(&config);
                    let answer = wal_over_peers::answer(&state, &message.from, &message.body, give).await;
                    if let Some(reply) = message.answer {
                        let _ = reply.send(answer);
                    }
                });
            }
            Word::Verifier => {
                let config = config.clone();
                tokio::spawn(async move {
                    let answer = crate::verifier::answer(&config, &message.body).await;
                    if let Some(reply) = message.answer {
                        let _ = reply.send(answer);
                    }
                });
            }
            // Answers come where the question was asked; subscribers are served below us.
            Word::Answer | Word::Watch | Word::Routes | Word::Drained | Word::LeaseAsk | Word::Lease => {}
        }
    }
}

/// Everybody with a seat, and whoever was taken out and still votes in the store:
/// it may be needed to agree that it goes.
fn others(state: &ClusterState, me: &NodeId, voters: &[u64]) -> BTreeMap<NodeId, String> {
    let present =
        state.members.iter().filter(|(n, m)| *n != me && (m.has_seat() || voters.contains(&m.raft_id)));
    present.map(|(n, m)| (n.clone(), m.addresses.peers.clone())).collect()
}

/// Connections and configuration follow what is agreed.
async fn follow_members(store: Store, peers: Peers, hands: Arc<Hands>, config: HostConfig) {
    let (mut state, mut health) = (store.watch(), store.watch_health());
    loop {
        let now = state.borrow_and_update().clone();
        let voters = health.borrow_and_update().voters.clone();
        if now.exists() {
            peers.set_peers(&others(&now, &config.name, &voters));
            hands.set_member(now.member_id(&config.name).filter(|id| id.incarnation > 0));
            let mut server = hands.config();
            server.members = now.members.len().max(3);
            server.parameters = now.settings.parameters.clone();
            hands.set_config(server);
        }
        let changed = tokio::select! {
            changed = state.changed() => changed,
            changed = health.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
