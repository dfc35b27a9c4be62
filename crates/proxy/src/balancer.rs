//! Balancers in front of us: who their client is, they say before its own first byte (the PROXY protocol).
//!
//! Only those are believed that the configuration names; who connects from
//! elsewhere is a client itself, and a header of its own is no startup packet.
//! From a balancer a header must come: without one, or with one that is not
//! understood, nothing that follows can be told from it, and the socket is closed.
//!
//! Never reads a byte behind the header: that is the client's own, and may be the
//! first of TLS.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use wire::proxy_header::{self, Look, V1_BYTES_MAX, V2_BYTES_MAX};

use crate::network::Network;
use crate::stream::Stream;

/// Longest header of either version.
const HEADER_BYTES_MAX: usize = if V1_BYTES_MAX > V2_BYTES_MAX { V1_BYTES_MAX } else { V2_BYTES_MAX };

/// The client's address as a balancer tells it; `None` for a client that came by itself, or a balancer that asks
/// for itself whether we are there.
///
/// # Errors
/// A header that is missing or is not understood, or what the socket says.
pub async fn told(socket: &mut Stream, balancers: &[Network]) -> io::Result<Option<SocketAddr>> {
    let Stream::Tcp(socket) = socket else { return Ok(None) };
    if balancers.is_empty() {
        return Ok(None);
    }
    let peer = socket.peer_addr()?;
    if !balancers.iter().any(|network| network.has(peer.ip())) {
        return Ok(None);
    }
    let mut header = Vec::new();
    loop {
        match proxy_header::look(&header).map_err(io::Error::other) {
            // As many bytes as there must be at least, and not one more.
            Ok(Look::NeedMore { at_least }) if (header.len() + 1..=HEADER_BYTES_MAX).contains(&at_least) => {
                let there = header.len();
                header.resize(at_least, 0);
                socket.read_exact(&mut header[there..]).await?;
            }
            Ok(Look::Found { source, .. }) => return Ok(source.map(SocketAddr::from)),
            Ok(Look::NeedMore { .. } | Look::NotOne) => {
                tracing::warn!(%peer, "a balancer sent no PROXY header: its connection was closed");
                return Err(io::ErrorKind::InvalidData.into());
            }
            Err(why) => {
                tracing::warn!(%peer, %why, "a balancer's connection was closed");
                return Err(why);
            }
        }
    }
}
