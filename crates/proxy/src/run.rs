//! Starts a proxy: identity, listeners, the threads that do it all.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use crate::accept::Door;
use crate::config::{AuthKind, ClientTls, Cluster, Config, FixedServer};
use crate::follow::Follower;
use crate::metrics;
use crate::reactor::Reactor;
use crate::routing::{Routing, Target};
use crate::secrets::{Secret, Secrets};
use crate::threads::{self, Job, Threads};
use crate::verifiers::Verifiers;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

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
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let listeners = listen_all(&config).await?;
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
    for (listener, target) in listeners {
        let required = config.tls.as_ref().is_some_and(|t| t.required);
        let door = Door { reactor: reactor.clone(), target, tls: tls.clone(), tls_required: required };
        let task = tokio::task::spawn_local(accept(listener, door));
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
    users: Option<Arc<BTreeMap<String, Secret>>>,
    server_tls: Option<tokio_rustls::TlsConnector>,
}

impl Parts {
    fn of(config: Arc<Config>) -> Result<Parts, RunError> {
        let identity = config.cluster.as_ref().map(identity).transpose()?;
        let users = (config.auth.kind == AuthKind::File).then(|| Secrets::list(&config.auth));
        let server_tls = match (&identity, &config.cluster) {
            (Some(identity), Some(cluster)) if cluster.server_tls => Some(identity.connector()),
            _ => None,
        };
        Ok(Parts { identity, users: users.transpose().map_err(RunError::File)?, server_tls, config })
    }

    fn reactor(&self, index: usize, threads: &Arc<Threads>) -> Result<Rc<Reactor>, RunError> {
        let verifiers = match (&self.identity, &self.config.cluster) {
            (Some(identity), Some(cluster)) => Some(Verifiers::new(identity.clone(), cluster.agents.clone())),
            _ => None,
        };
        let secrets = match &self.users {
            Some(users) => Secrets::List(users.clone()),
            None => Secrets::of(&self.config.auth, verifiers).map_err(RunError::File)?,
        };
        let place = (index, threads.clone());
        Reactor::new(place, self.config.clone(), secrets, self.server_tls.clone(), fixed(&self.config))
            .map_err(|e| RunError::File(e.to_string()))
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

async fn listen_all(config: &Config) -> Result<Vec<(TcpListener, Target)>, RunError> {
    let write = config.listen.iter().map(|a| (a, Target::Primary));
    let read = config.listen_read.iter().map(|a| (a, Target::Replica));
    let mut listeners = Vec::new();
    for (address, target) in write.chain(read) {
        let failed = |e: io::Error| RunError::Listen { address: address.clone(), why: e.to_string() };
        for found in tokio::net::lookup_host(address).await.map_err(failed)? {
            let socket = if found.is_ipv4() {
                tokio::net::TcpSocket::new_v4()
            } else {
                tokio::net::TcpSocket::new_v6()
            };
            let socket = socket.map_err(failed)?;
            socket.set_reuseaddr(true).map_err(failed)?;
            socket.bind(found).map_err(failed)?;
            listeners.push((socket.listen(BACKLOG).map_err(failed)?, target));
        }
    }
    Ok(listeners)
}

async fn accept(listener: TcpListener, door: Door) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => deal(&door, socket),
            // Out of file descriptors: those who are in must be able to go on.
            Err(why) => {
                tracing::warn!(%why, "can't accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Gives a fresh client to the thread with the fewest.
fn deal(door: &Door, socket: TcpStream) {
    let threads = &door.reactor.threads;
    let to = threads.idlest();
    if to == door.reactor.index {
        drop(tokio::task::spawn_local(door.clone().serve(socket)));
        return;
    }
    let Ok(socket) = socket.into_std() else { return };
    let (target, tls, tls_required) = (door.target, door.tls.clone(), door.tls_required);
    threads.post(to, move |reactor| {
        let door = Door { reactor: reactor.clone(), target, tls, tls_required };
        if let Ok(socket) = TcpStream::from_std(socket) {
            tokio::task::spawn_local(door.serve(socket));
        }
    });
}

fn identity(cluster: &Cluster) -> Result<peers::Identity, RunError> {
    peers::Identity::load(&cluster.ca, &cluster.cert, &cluster.key).map_err(|e| RunError::File(e.to_string()))
}

/// For TLS towards clients.
///
/// # Errors
/// What is wrong with the files.
pub fn acceptor(tls: &ClientTls) -> Result<TlsAcceptor, RunError> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let wrong = |path: &std::path::Path, e: &dyn std::fmt::Display| {
        RunError::File(format!("'{}': {e}", path.display()))
    };
    let certs = CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.map_err(|e| wrong(&tls.cert, &e))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| wrong(&tls.key, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| wrong(&tls.cert, &e))?.with_no_client_auth();
    let mut config = builder.with_single_cert(certs, key).map_err(|e| wrong(&tls.cert, &e))?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Where servers are that no cluster manages.
#[must_use]
pub fn fixed(config: &Config) -> Routing {
    fn of(server: &FixedServer) -> (&str, &str) {
        (&server.address, &server.zone)
    }
    let leader = config.servers.iter().find(|s| !s.replica).map(of);
    let replicas: Vec<_> = config.servers.iter().filter(|s| s.replica).map(of).collect();
    Routing::fixed(leader, &replicas, &config.choice())
}
