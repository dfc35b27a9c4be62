//! A socket to a client or a server: TCP or unix, in clear or in TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::{self, SocketAddr};
use std::os::unix;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use crate::line::Line;

/// The longest path of a unix socket (`sun_path` without its final zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

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

/// Connects to `host:port`, or to the unix socket of a port in a folder: `/run/postgresql:5432`.
///
/// # Errors
/// What the socket says.
pub async fn dial(address: &str) -> io::Result<Stream> {
    if let Some(path) = unix_path(address) {
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let socket = TcpStream::connect(address).await?;
    tune(&socket)?;
    Ok(Stream::Tcp(socket))
}

/// Small messages go at once. Within a host there is no congestion to control: what does least will do, where the
/// kernel lets us choose (with bbr, say, 1.5 % of a busy proxy's time went there).
///
/// # Errors
/// What the socket says.
pub fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if socket.peer_addr()?.ip().is_loopback() {
        let _ = SockRef::from(socket).set_tcp_congestion(b"reno");
    }
    Ok(())
}

/// Says to whoever listens there what to cancel, and waits until it has closed: PostgreSQL does once its signal is
/// sent.
///
/// # Errors
/// What the socket says.
///
/// # Panics
/// With a secret that is no cancel key.
pub async fn say_cancel(address: &str, pid: u32, secret: &[u8]) -> io::Result<()> {
    let mut line = Line::new(dial(address).await?);
    let mut bytes = Vec::new();
    wire::start::ask::cancel(pid, secret, &mut bytes);
    line.tell(&bytes).await?;
    poll_fn(|cx| line.poll_fill(cx)).await.map(drop)
}

/// The socket that `/folder:port` means, as PostgreSQL names it.
#[must_use]
pub fn unix_path(address: &str) -> Option<PathBuf> {
    let (folder, port) = address.rsplit_once(':').filter(|_| address.starts_with('/'))?;
    Some(Path::new(folder).join(format!(".s.PGSQL.{port}")))
}

/// Whether an address is `host:port` or `/folder:port`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_address(address: &str) -> Result<(), &'static str> {
    if !address.starts_with('/') {
        return api::host_config::check_address(address);
    }
    let path =
        unix_path(address).ok_or("a folder of sockets needs a port behind it: /run/postgresql:5432")?;
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err("the path of its socket is too long");
    }
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    port.parse::<u16>().map(drop).map_err(|_| "its port is no number from 0 to 65535")
}

/// A socket that belongs to no thread.
pub enum Bare {
    /// TCP in clear.
    Tcp(net::TcpStream),
    /// A unix socket.
    Unix(unix::net::UnixStream),
}

impl Bare {
    /// Takes a socket out of this thread's poll; `None` for one in TLS, and for one that is broken.
    #[must_use]
    pub fn of(stream: Stream) -> Option<Bare> {
        match stream {
            Stream::Tcp(s) => s.into_std().ok().map(Bare::Tcp),
            Stream::Unix(s) => s.into_std().ok().map(Bare::Unix),
            Stream::Accepted(_) | Stream::Connected(_) => None,
        }
    }

    /// Puts it into this thread's poll.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {
            Bare::Tcp(s) => TcpStream::from_std(s).map(Stream::Tcp),
            Bare::Unix(s) => UnixStream::from_std(s).map(Stream::Unix),
        }
    }
}

impl Stream {
    /// Whether nobody on the way can read along.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Accepted(_) | Stream::Connected(_))
    }

    /// Whether it is a socket of this host's file system.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self, Stream::Unix(_))
    }

    /// The common name in the certificate that a client showed, which TLS has checked.
    #[must_use]
    pub fn client_name(&self) -> Option<String> {
        let Stream::Accepted(tls) = self else { return None };
        tls.get_ref().1.peer_certificates()?.first().and_then(crate::certificate::common_name)
    }

    /// The user as which a client's process runs; unix sockets only.
    #[must_use]
    pub fn client_uid(&self) -> Option<u32> {
        match self {
            Stream::Unix(s) => s.peer_cred().ok().map(|who| who.uid()),
            Stream::Tcp(_) | Stream::Accepted(_) | Stream::Connected(_) => None,
        }
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

    /// Whether its poll has seen nothing that could be read. What TLS has read already is not known: never quiet.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let readable = |read: io::Result<()>| read.is_ok();
        match self {
            Stream::Tcp(s) => !readable(s.try_io(Interest::READABLE, || Ok(()))),
            Stream::Unix(s) => !readable(s.try_io(Interest::READABLE, || Ok(()))),
            Stream::Accepted(_) | Stream::Connected(_) => false,
        }
    }

    /// Whether a read may find something. TLS may have read it before: only a read tells.
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(s) => s.poll_read_ready(cx),
            Stream::Unix(s) => s.poll_read_ready(cx),
            Stream::Accepted(_) | Stream::Connected(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads what there is, after `poll_readable`; 0 bytes at the end.
    ///
    /// # Errors
    /// What the socket says; `WouldBlock` in clear: there was nothing after all, ask `poll_readable` again.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(s) => Poll::Ready(read_once(into, |read| {
                s.try_io(Interest::READABLE, || read(&mut &*SockRef::from(&*s)))
            })),
            Stream::Unix(s) => Poll::Ready(read_once(into, |read| {
                s.try_io(Interest::READABLE, || read(&mut &*SockRef::from(&*s)))
            })),
            Stream::Accepted(s) => poll_tls(s.as_mut(), cx, into),
            Stream::Connected(s) => poll_tls(s.as_mut(), cx, into),
        }
    }

    /// Writes as much as goes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let ([slice], Stream::Tcp(s)) = (slices, &mut *self) {
            // Mostly there is room: nobody need be woken then.
            return match s.try_write(slice) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => Pin::new(s).poll_write(cx, slice),
                wrote => Poll::Ready(wrote),
            };
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

/// One read. Where it found less than there was room for nothing more is there, and no second one need show that: the
/// poll is told so, as tokio's own `poll_read` does (epoll tells of everything that comes after).
fn read_once(
    into: &mut [u8],
    poll: impl FnOnce(&mut dyn FnMut(&mut dyn Read) -> io::Result<usize>) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut short = None;
    let polled = poll(&mut |socket| {
        let n = socket.read(into)?;
        if n == 0 || n == into.len() {
            return Ok(n);
        }
        short = Some(n);
        Err(io::ErrorKind::WouldBlock.into())
    });
    short.map_or(polled, Ok)
}

fn poll_tls(
    tls: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(into);
    ready!(Pin::new(tls).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_addresses_too() {
        assert_eq!(unix_path("/run/pg:5432"), Some(PathBuf::from("/run/pg/.s.PGSQL.5432")));
        assert_eq!(unix_path("db:5432"), None);
        let long = format!("/{}:5432", "a".repeat(SOCKET_PATH_BYTES_MAX));
        for (address, good) in [
            ("db:5432", true),
            ("/run/pg:5432", true),
            ("/run/pg", false),
            ("/run/pg:x", false),
            ("nowhere", false),
            (long.as_str(), false),
        ] {
            assert_eq!(check_address(address).is_ok(), good, "{address}");
        }
    }
}
