//! Starts a proxy: identity, listeners, the thread that does it all.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use crate::accept::Door;
use crate::config::{ClientTls, Cluster, Config};
use crate::follow::Follower;
use crate::metrics;
use crate::reactor::Reactor;
use crate::routing::{Routing, Target};
use crate::secrets::Secrets;
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

/// Runs until it is told to stop. The calling thread is the reactor.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: Config) -> Result<(), RunError> {
    let local = LocalSet::new();
    local.run_until(serve(Arc::new(config))).await
}

async fn serve(config: Arc<Config>) -> Result<(), RunError> {
    let identity = config.cluster.as_ref().map(identity).transpose()?;
    let follower = match (&identity, &config.cluster) {
        (Some(identity), Some(cluster)) => Some(Follower::start(identity.clone(), &cluster.agents)),
        _ => None,
    };
    let verifiers = match (&identity, &config.cluster) {
        (Some(identity), Some(cluster)) => Some(Verifiers::new(identity.clone(), cluster.agents.clone())),
        _ => None,
    };
    let secrets = Secrets::of(&config.auth, verifiers).map_err(RunError::File)?;
    let server_tls = match (&identity, &config.cluster) {
        (Some(identity), Some(cluster)) if cluster.server_tls => Some(identity.connector()),
        _ => None,
    };
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let listeners = listen_all(&config).await?;
    let reactor = Reactor::new(config.clone(), secrets, server_tls, follower, fixed(&config))
        .map_err(|e| RunError::File(e.to_string()))?;
    tokio::task::spawn_local(reactor.clone().run());
    for (listener, target) in listeners {
        let required = config.tls.as_ref().is_some_and(|t| t.required);
        let door = Door { reactor: reactor.clone(), target, tls: tls.clone(), tls_required: required };
        let task = tokio::task::spawn_local(accept(listener, door));
        reactor.doors.borrow_mut().push(task.abort_handle());
    }
    metrics::serve(&config, &reactor).await?;
    tokio::task::spawn_local(crate::signals::obey(reactor.clone()));
    reactor.ended().await;
    Ok(())
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
            Ok((socket, _)) => drop(tokio::task::spawn_local(door.clone().serve(socket))),
            // Out of file descriptors: those who are in must be able to go on.
            Err(why) => {
                tracing::warn!(%why, "can't accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
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
fn fixed(config: &Config) -> Routing {
    let primary = config.servers.iter().find(|s| !s.replica).map(|s| Rc::from(s.address.as_str()));
    let replicas =
        config.servers.iter().filter(|s| s.replica).map(|s| Rc::from(s.address.as_str())).collect();
    Routing { term: 0, primary, holding: false, replicas, openings: Vec::new() }
}
