//! Connections: one out to every other agent, any number in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster::NodeId;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::COMMON_NAME;
use crate::error::PeersError;
use crate::frame::{self, Frame, Kind};
use crate::identity::{Bearer, Identity, bearer_of, node_of};
use crate::subscribers::Subscribers;

/// Messages that may wait for one peer; more are dropped (Raft sends again).
pub const QUEUE_MAX: usize = 512;
/// Connections that may be coming in at a time.
pub const INCOMING_MAX: usize = 256;
/// Messages that wait are written together, up to about so much (one TLS record).
pub const WRITE_BYTES: usize = 16 << 10;
/// Whoever has a connection open says something many times a second; one that is silent
/// for so long lost its other end in a cut, which nothing else tells this one.
pub const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Longest that connecting and the handshake may take.
pub const CONNECT_LIMIT: Duration = Duration::from_millis(1000);
/// Unacknowledged bytes break a connection after so long, so a silent cut is noticed.
pub const USER_TIMEOUT: Duration = Duration::from_millis(2000);
/// First and longest wait between two tries to connect.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(150));
/// Longest that a question may wait for its answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How an agent listens.
pub struct Config {
    /// Our certificate and whom we believe.
    pub identity: Identity,
    /// `host:port` to listen on.
    pub listen: String,
    /// Who watches, and what they are told.
    pub subscribers: Subscribers,
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    /// Who sent it, by certificate.
    pub from: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Its body.
    pub body: Bytes,
    /// For a request: where the answer goes.
    pub answer: Option<oneshot::Sender<Bytes>>,
}

struct Line {
    address: String,
    queue: mpsc::Sender<Frame>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The connections of one agent.
#[derive(Clone)]
pub struct Peers {
    identity: Identity,
    lines: Arc<Mutex<BTreeMap<NodeId, Line>>>,
    listens_on: SocketAddr,
}

impl Peers {
    /// Listens, and gives what comes in.
    ///
    /// # Errors
    /// `Listen`.
    pub async fn start(config: Config) -> Result<(Peers, mpsc::Receiver<Incoming>), PeersError> {
        let failed =
            |e: std::io::Error| PeersError::Listen { address: config.listen.clone(), why: e.to_string() };
        let listener = TcpListener::bind(&config.listen).await.map_err(failed)?;
        let listens_on = listener.local_addr().map_err(failed)?;
        let (tx, rx) = mpsc::channel(QUEUE_MAX);
        let tls = TlsAcceptor::from(config.identity.server.clone());
        let inward = Inward { tx, subscribers: config.subscribers };
        tokio::spawn(accept(listener, tls, inward));
        Ok((Peers { identity: config.identity, lines: Arc::default(), listens_on }, rx))
    }

    /// Where we listen; tells the port where any was asked for.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        self.listens_on
    }

    /// Keeps one connection to each of these, and to nobody else.
    pub fn set_peers(&self, peers: &BTreeMap<NodeId, String>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|node, line| peers.get(node) == Some(&line.address));
        for (node, address) in peers.iter().filter(|(_, a)| !a.is_empty()) {
            lines.entry(node.clone()).or_insert_with(|| self.open(node, address));
        }
    }

    fn open(&self, node: &NodeId, address: &str) -> Line {
        let (queue, rx) = mpsc::channel(QUEUE_MAX);
        let task = tokio::spawn(keep_connected(self.identity.clone(), node.clone(), address.to_string(), rx));
        Line { address: address.to_string(), queue, task }
    }

    /// Sends, or drops the message when too many wait.
    pub fn send(&self, to: &NodeId, kind: Kind, body: Bytes) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(to) {
            let _ = line.queue.try_send(Frame { kind, body });
        }
    }

    /// Sends to everybody.
    pub fn broadcast(&self, kind: Kind, body: &Bytes) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.values() {
            let _ = line.queue.try_send(Frame { kind, body: body.clone() });
        }
    }

    /// Asks whoever is at `address` and waits for the answer.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`, `BadFrame`.
    pub async fn ask(&self, address: &str, body: Bytes) -> Result<(NodeId, Bytes), PeersError> {
        self.ask_as(Kind::Request, address, body).await
    }

    /// Asks for WAL, over a connection of its own, so that it delays no heartbeat.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout`, `BadFrame`.
    pub async fn ask_for_wal(&self, address: &str, body: Bytes) -> Result<(NodeId, Bytes), PeersError> {
        self.ask_as(Kind::Wal, address, body).await
    }

    async fn ask_as(&self, kind: Kind, address: &str, body: Bytes) -> Result<(NodeId, Bytes), PeersError> {
        ask(&self.identity, kind, address, body).await
    }
}

/// Asks whoever is at `address` for a user's verifier; `body` is its name.
///
/// # Errors
/// `Unreachable`, `Timeout`, `BadFrame`.
pub async fn ask_verifier(identity: &Identity, address: &str, body: Bytes) -> Result<Bytes, PeersError> {
    ask(identity, Kind::Verifier, address, body).await.map(|(_, answer)| answer)
}

async fn ask(
    identity: &Identity,
    kind: Kind,
    address: &str,
    body: Bytes,
) -> Result<(NodeId, Bytes), PeersError> {
    let asking = async {
        let (mut stream, who) = connect(identity, address).await?;
        let gone = |e: std::io::Error| unreachable_at(address, e);
        frame::write(&mut stream, &Frame { kind, body }).await.map_err(gone)?;
        let answer = frame::read(&mut stream).await?;
        answer.map(|f| (who, f.body)).ok_or_else(|| unreachable_at(address, "it hung up"))
    };
    timeout(ANSWER_LIMIT, asking).await.map_err(|_| PeersError::Timeout(address.to_string()))?
}

pub(crate) fn unreachable_at(address: &str, why: impl ToString) -> PeersError {
    PeersError::Unreachable { address: address.to_string(), why: why.to_string() }
}

/// Where what comes in goes.
#[derive(Clone)]
struct Inward {
    tx: mpsc::Sender<Incoming>,
    subscribers: Subscribers,
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, inward: Inward) {
    let places = Arc::new(Semaphore::new(INCOMING_MAX));
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            tokio::time::sleep(RECONNECT.0).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (tls, inward) = (tls.clone(), inward.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(why) = serve(socket, tls, inward).await {
                tracing::debug!(%from, %why, "a connection that came in ended");
            }
        });
    }
}

async fn serve(socket: TcpStream, tls: TlsAcceptor, inward: Inward) -> Result<(), PeersError> {
    tune(&socket);
    let peer = socket.peer_addr().map(|a| a.to_string()).unwrap_or_default();
    let accepted = timeout(CONNECT_LIMIT, tls.accept(socket)).await;
    let mut stream =
        accepted.map_err(|_| PeersError::Timeout(peer.clone()))?.map_err(|e| unreachable_at(&peer, e))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let who = certificate
        .and_then(bearer_of)
        .ok_or_else(|| unreachable_at(&peer, "its certificate names no node and no proxy"))?;
    let silent = |_| PeersError::Timeout(peer.clone());
    while let Some(frame) = timeout(IDLE_LIMIT, frame::read(&mut stream)).await.map_err(silent)?? {
        let from = match (&who, frame.kind) {
            (_, Kind::Watch) => return inward.subscribers.serve(stream, who).await,
            (_, Kind::Routes | Kind::Drained | Kind::LeaseAsk | Kind::Lease | Kind::Answer) => {
                return Err(PeersError::BadFrame("nobody has asked for that"));
            }
            (Bearer::Proxy(_), Kind::Raft | Kind::Report | Kind::Request | Kind::Wal) => {
                return Err(PeersError::BadFrame("a proxy may subscribe and ask for verifiers, and no more"));
            }
            (Bearer::Proxy(name) | Bearer::Node(name), Kind::Verifier) => name.clone(),
            (Bearer::Node(node), Kind::Raft | Kind::Report | Kind::Request | Kind::Wal) => node.clone(),
        };
        if frame.kind.is_question() {
            answer(&mut stream, &from, frame, &inward.tx).await?;
            continue;
        }
        let incoming = Incoming { from, kind: frame.kind, body: frame.body, answer: None };
        if inward.tx.send(incoming).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    from: &NodeId,
    frame: Frame,
    tx: &mpsc::Sender<Incoming>,
) -> Result<(), PeersError> {
    let (reply, wait) = oneshot::channel();
    let incoming = Incoming { from: from.clone(), kind: frame.kind, body: frame.body, answer: Some(reply) };
    let hung_up = || unreachable_at(from.as_str(), "nobody answers requests here");
    tx.send(incoming).await.map_err(|_| hung_up())?;
    let body = timeout(ANSWER_LIMIT, wait).await.map_err(|_| hung_up())?.map_err(|_| hung_up())?;
    frame::write(stream, &Frame { kind: Kind::Answer, body })
        .await
        .map_err(|e| unreachable_at(from.as_str(), e))
}

/// Says everything in `queue` to one peer, connecting again as often as needed.
async fn keep_connected(identity: Identity, node: NodeId, address: String, mut queue: mpsc::Receiver<Frame>) {
    let mut pause = RECONNECT.0;
    loop {
        let connected = timeout(CONNECT_LIMIT, connect(&identity, &address)).await;
        match connected {
            Ok(Ok((mut stream, who))) if who == node => {
                pause = RECONNECT.0;
                // What was queued while we were cut off is old news.
                while queue.try_recv().is_ok() {}
                talk(&mut stream, &mut queue).await;
            }
            Ok(Ok((_, who))) => {
                tracing::warn!(%address, expected = %node, found = %who, "another node answers there")
            }
            Ok(Err(why)) => tracing::debug!(%node, %why, "can't connect"),
            Err(_) => tracing::debug!(%node, %address, "connecting took too long"),
        }
        if queue.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), queue: &mut mpsc::Receiver<Frame>) {
    let mut out = Vec::new();
    while let Some(first) = queue.recv().await {
        // What waits goes with it: each write costs a TLS record and a system call.
        let mut next = Some(first);
        while let Some(frame) = next {
            if frame::append(&mut out, &frame).is_err() {
                return;
            }
            next = if out.len() < WRITE_BYTES { queue.try_recv().ok() } else { None };
        }
        let sent = timeout(USER_TIMEOUT, say(stream, &out)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        out.clear();
        out.shrink_to(WRITE_BYTES);
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A connection to another node that has proven its name.
pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

pub(crate) async fn connect(identity: &Identity, address: &str) -> Result<(TlsStream, NodeId), PeersError> {
    let gone = |e: std::io::Error| unreachable_at(address, e);
    let socket = TcpStream::connect(address).await.map_err(gone)?;
    tune(&socket);
    identity.secure(socket, address).await
}

impl Identity {
    /// TLS over a connection that somebody else has opened and that may have said
    /// something already, as PostgreSQL's clients do; and whose it is, by certificate.
    ///
    /// # Errors
    /// `Unreachable`: it is no node of this cluster's.
    pub async fn secure(&self, socket: TcpStream, address: &str) -> Result<(TlsStream, NodeId), PeersError> {
        let gone = |e: std::io::Error| unreachable_at(address, e);
        let name = ServerName::try_from(COMMON_NAME).map_err(|e| unreachable_at(address, e))?;
        let stream = TlsConnector::from(self.client.clone()).connect(name, socket).await.map_err(gone)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        let who = certificate.and_then(node_of);
        who.map(|who| (stream, who)).ok_or_else(|| unreachable_at(address, "its certificate names no node"))
    }
}

/// Small messages go at once, and a silent cut breaks the connection.
fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(USER_TIMEOUT));
}
