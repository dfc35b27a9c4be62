//! Where a client comes from, as rules, logs and the console see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::stream::Stream;

/// Where one comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The client's address and ours; `None` for unix sockets.
    pub addresses: (Option<SocketAddr>, Option<SocketAddr>),
    /// It comes by unix socket.
    pub is_unix: bool,
    /// The client's address is what a balancer said.
    pub is_told: bool,
    /// It is for physical replication, so for no database.
    pub is_physical: bool,
    /// It speaks TLS.
    pub is_tls: bool,
    /// Version and cipher; empty in clear.
    pub tls: String,
    /// The hash of the certificate that we showed it, for SCRAM-SHA-256-PLUS.
    pub end_point: Option<Arc<[u8]>>,
    /// The common name in the certificate that it showed and that was checked.
    pub certificate: Option<String>,
    /// The user that its process runs as; unix sockets only.
    pub uid: Option<u32>,
}

impl Origin {
    /// Of a client behind this socket, whose address a balancer may have `told`.
    #[must_use]
    pub fn of(stream: &Stream, told: Option<SocketAddr>, end_point: Option<Arc<[u8]>>) -> Origin {
        let (client, own) = stream.addresses();
        Origin {
            addresses: (told.or(client), own),
            is_unix: stream.is_unix(),
            is_told: told.is_some(),
            is_physical: false,
            is_tls: stream.is_tls(),
            tls: stream.tls_words(),
            end_point: end_point.filter(|_| stream.is_tls()),
            certificate: stream.client_name(),
            uid: stream.client_uid(),
        }
    }

    /// The client's address; `None` for unix sockets, and for one that went before it could be asked.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        self.addresses.0.map(|a| a.ip().to_canonical())
    }

    /// The client's address in PostgreSQL's words.
    #[must_use]
    pub fn host_words(&self) -> String {
        match self.host() {
            Some(host) => host.to_string(),
            None if self.is_unix => "[local]".to_string(),
            None => "unknown".to_string(),
        }
    }

    /// Whether it comes from this host. Whoever connects to an address of its own host does so from that address.
    /// What a balancer tells is never of this host.
    #[must_use]
    pub fn is_same_host(&self) -> bool {
        let own = self.addresses.1.map(|a| a.ip().to_canonical());
        !self.is_told && self.host().is_some_and(|host| host.is_loopback() || Some(host) == own)
    }
}
