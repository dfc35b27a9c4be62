//! Starts a proxy: identity, listeners, the threads that do it all.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::accept::{Door, Way};
use crate::client_tls::FrontTls;
use crate::config::{Cluster, Config, FixedServer};
use crate::follow::Follower;
use crate::metrics;
use crate::network::Network;
use crate::reactor::Reactor;
use crate::routing::{Choice, Routing, Target};
use crate::secrets::{Asks, Common, Secrets};
use crate::stream::{Bare, Stream};
use crate::threads::{self, Job, Threads};
use crate::unix_door;
use crate::verifiers::Verifiers;

/// Connections that may wait to be accepted.
pub const BACKLOG: u32 = 4096;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address can't be listened on.
    #[error("TAN0801: can't listen on {address}: {why}. Free the port or choose another")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// A file that it needs is not as it must be.
    #[error("TAN0802: {0}. Nothing was started or changed")]
    File(String),
}

/// Runs until it is told to stop. The calling thread is the first reactor; the others are made here.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: Config) -> Result<(), RunError> {
    let local = LocalSet::new();
    local.run_until(serve(Arc::new(config))).await
}

async fn serve(config: Arc<Config>) -> Result<(), RunError> {
    let parts = Parts::of(config.clone())?;
    let listeners = listen_all(&config).await?;
    let unix = unix_door::open_all(&config)?;
    let follower = match (&parts.identity, &config.cluster) {
        (Some(identity), Some(cluster)) => Some(Follower::start(identity.clone(), &cluster.agents)),
        _ => None,
    };
    let count = if config.threads == 0 { threads::fitting() } else { config.threads };
    let (threads, inboxes) = Threads::new(count, follower);
    let mut inboxes = inboxes.into_iter().enumerate();
    let (_, inbox) = inboxes.next().ok_or_else(|| RunError::File("there is no thread".to_string()))?;
    let reactor = parts.reactor(0, &threads)?;
    let others: Vec<JoinHandle<()>> = inboxes
        .map(|(index, inbox)| parts.clone().begin(index, threads.clone(), inbox))
        .collect::<Result<_, _>>()?;
    tokio::task::spawn_local(reactor.clone().run(inbox));
    for (listener, target, balancers) in listeners {
        let door = Door::new(reactor.clone(), Way { target, balancers });
        let task = tokio::task::spawn_local(accept(listener, door));
        reactor.doors.borrow_mut().push(task.abort_handle());
    }
    for (socket, target) in unix {
        let door = Door::new(reactor.clone(), Way { target, balancers: Arc::default() });
        let task = tokio::task::spawn_local(socket.accept(door));
        reactor.doors.borrow_mut().push(task.abort_handle());
    }
    metrics::serve(&config, &reactor).await?;
    tokio::task::spawn_local(crate::signals::obey(reactor.clone()));
    reactor.ended().await;
    threads.post_others(0, |reactor| reactor.over.set(true));
    for thread in others {
        // Its own panic was told already.
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
    Ok(())
}

/// What every thread begins with.
#[derive(Clone)]
struct Parts {
    config: Arc<Config>,
    identity: Option<peers::Identity>,
    common: Common,
    /// The same for all threads: who asked twice could tell by it that there is no such user.
    mock: [u8; 32],
    tls: Option<FrontTls>,
    server_tls: Option<tokio_rustls::TlsConnector>,
}

impl Parts {
    fn of(config: Arc<Config>) -> Result<Parts, RunError> {
        let identity = config.cluster.as_ref().map(identity).transpose()?;
        let common = Common::load(&config).map_err(RunError::File)?;
        let server_tls = match (&identity, &config.cluster) {
            (Some(identity), Some(cluster)) if cluster.server_tls => Some(identity.connector()),
            _ => None,
        };
        let mut mock = [0; 32];
        getrandom::fill(&mut mock).map_err(|e| RunError::File(format!("no random bytes: {e}")))?;
        let tls = config.tls.as_ref().map(FrontTls::load).transpose()?;
        Ok(Parts { identity, common, mock, tls, server_tls, config })
    }

    fn reactor(&self, index: usize, threads: &Arc<Threads>) -> Result<Rc<Reactor>, RunError> {
        let verifiers = match (&self.identity, &self.config.cluster) {
            (Some(identity), Some(cluster)) => Some(Verifiers::new(identity.clone(), cluster.agents.clone())),
            _ => None,
        };
        let asks = Asks::of(self.config.auth.kind, verifiers).map_err(RunError::File)?;
        let secrets = Secrets { common: self.common.clone(), asks, mock: self.mock };
        let place = (index, threads.clone());
        let (config, server_tls) = (self.config.clone(), self.server_tls.clone());
        let reactor = Reactor::new(place, config, secrets, server_tls, fixed(&self.config, BTreeSet::new()));
        reactor.client_tls.borrow_mut().clone_from(&self.tls);
        Ok(reactor)
    }

    /// Begins a thread, which serves what it is sent until it is told that it is over.
    fn begin(
        self,
        index: usize,
        threads: Arc<Threads>,
        inbox: mpsc::Receiver<Job>,
    ) -> Result<JoinHandle<()>, RunError> {
        let failed = |e: io::Error| RunError::File(format!("no thread could be made: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || {
            let served = LocalSet::new().block_on(&runtime, async {
                let reactor = self.reactor(index, &threads)?;
                reactor.run(inbox).await;
                Ok::<(), RunError>(())
            });
            if let Err(why) = served {
                tracing::error!(%why, "a thread can't begin: the proxy ends");
                threads.stops.notify_one();
            }
        };
        std::thread::Builder::new().name(format!("proxy-{index}")).spawn(work).map_err(failed)
    }
}

/// A socket, what its clients want, and whom it believes in what they say of theirs.
type Listening = (TcpListener, Target, Arc<[Network]>);

async fn listen_all(config: &Config) -> Result<Vec<Listening>, RunError> {
    let write = config.listen.iter().map(|a| (a, Target::Primary, [].as_slice()));
    let read = config.listen_read.iter().map(|a| (a, Target::Replica, [].as_slice()));
    let others = config.listeners.iter().map(|l| {
        let target = if l.read { Target::Replica } else { Target::Primary };
        (&l.address, target, l.balancers.as_slice())
    });
    let mut listeners = Vec::new();
    for (address, target, balancers) in write.chain(read).chain(others) {
        let failed = |e: io::Error| RunError::Listen { address: address.clone(), why: e.to_string() };
        for found in tokio::net::lookup_host(address).await.map_err(failed)? {
            let socket = if found.is_ipv4() {
                tokio::net::TcpSocket::new_v4()
            } else {
                tokio::net::TcpSocket::new_v6()
            };
            let socket = socket.map_err(failed)?;
            socket.set_reuseaddr(true).map_err(failed)?;
            socket.set_reuseport(config.reuse_port).map_err(failed)?;
            socket.bind(found).map_err(failed)?;
            listeners.push((socket.listen(BACKLOG).map_err(failed)?, target, balancers.into()));
        }
    }
    Ok(listeners)
}

async fn accept(listener: TcpListener, door: Door) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => deal(&door, Stream::Tcp(socket)),
            // Out of file descriptors: those who are in must be able to go on.
            Err(why) => {
                tracing::warn!(%why, "can't accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Gives a fresh client to the thread with the fewest.
pub(crate) fn deal(door: &Door, socket: Stream) {
    let threads = &door.reactor.threads;
    let to = threads.idlest();
    if to == door.reactor.index {
        drop(tokio::task::spawn_local(door.clone().serve(socket)));
        return;
    }
    let Some(socket) = Bare::of(socket) else { return };
    let way = door.way.clone();
    threads.post(to, move |reactor| {
        let door = Door::new(reactor.clone(), way);
        if let Ok(socket) = socket.into_stream() {
            tokio::task::spawn_local(door.serve(socket));
        }
    });
}

fn identity(cluster: &Cluster) -> Result<peers::Identity, RunError> {
    peers::Identity::load(&cluster.ca, &cluster.cert, &cluster.key).map_err(|e| RunError::File(e.to_string()))
}

/// Where servers are that no cluster manages, without those standbys that can't be reached.
#[must_use]
pub fn fixed(config: &Config, cut_off: BTreeSet<Rc<str>>) -> Routing {
    fn of(server: &FixedServer) -> (&str, &str) {
        (&server.address, &server.zone)
    }
    let leader = config.servers.iter().find(|s| !s.replica).map(of);
    let replicas: Vec<_> = config.servers.iter().filter(|s| s.replica).map(of).collect();
    Routing::fixed(leader, &replicas, &Choice { cut_off, ..config.choice() })
}
