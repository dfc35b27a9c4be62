//! A socket to a client or a server: TCP or unix, in clear or in TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// One socket.
pub enum Stream {
    /// TCP in clear.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS that we accepted.
    Accepted(Box<server::TlsStream<TcpStream>>),
    /// TLS that we asked for.
    Connected(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether nobody on the way can read along.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Accepted(_) | Stream::Connected(_))
    }

    /// Whether the other end is on this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|s| s.peer_addr().is_ok_and(|a| a.ip().is_loopback()))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(s) => Some(s),
            Stream::Unix(_) => None,
            Stream::Accepted(s) => Some(s.get_ref().0),
            Stream::Connected(s) => Some(s.get_ref().0),
        }
    }

    /// The other end's address and ours; `None` for unix sockets.
    #[must_use]
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let Some(tcp) = self.tcp() else { return (None, None) };
        (tcp.peer_addr().ok(), tcp.local_addr().ok())
    }

    /// Version and cipher of TLS, as `TLSv1_3/TLS13_AES_256_GCM_SHA384`; empty in clear.
    #[must_use]
    pub fn tls_words(&self) -> String {
        let tls: &rustls::CommonState = match self {
            Stream::Tcp(_) | Stream::Unix(_) => return String::new(),
            Stream::Accepted(s) => s.get_ref().1,
            Stream::Connected(s) => s.get_ref().1,
        };
        let version = tls.protocol_version().map(|v| format!("{v:?}")).unwrap_or_default();
        let cipher = tls.negotiated_cipher_suite().map(|c| format!("{:?}", c.suite())).unwrap_or_default();
        format!("{version}/{cipher}")
    }

    /// Reads what there is; 0 bytes at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(into);
        let polled = match self {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, &mut buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, &mut buf),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_read(cx, &mut buf),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_read(cx, &mut buf),
        };
        ready!(polled)?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes as much as goes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let ([slice], Stream::Tcp(s)) = (slices, &mut *self) {
            return Pin::new(s).poll_write(cx, slice);
        }
        match self {
            Stream::Tcp(s) => Pin::new(s).poll_write_vectored(cx, slices),
            Stream::Unix(s) => Pin::new(s).poll_write_vectored(cx, slices),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, slices),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    /// Sends what TLS still holds.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    /// Says that nothing more comes: in TLS an end that was not said looks like one that somebody forged.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}
