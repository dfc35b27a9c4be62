//! A socket between a standby and its upstream that passes everything on. It remembers the
//! highest position that the standby acknowledged as flushed, and may hold WAL back.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use cluster::Lsn;

use crate::real::Server;

/// Its threads end with the test's process.
pub struct Relay {
    dir: PathBuf,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    flushed: AtomicU64,
    /// Standbys' ends that have not been read to their end.
    open: AtomicUsize,
    /// WAL has come and is held back.
    holding: AtomicBool,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Relay {
    /// Listens in `dir`, on behalf of `upstream`.
    pub fn new(dir: &Path, upstream: &Server) -> Relay {
        let path = dir.join(".s.PGSQL.5432");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let to = upstream.dir.join(format!(".s.PGSQL.{}", upstream.port));
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        thread::spawn(move || {
            for standby in listener.incoming() {
                let (Ok(standby), Ok(server)) = (standby, UnixStream::connect(&to)) else { return };
                let (back, forth) = (server.try_clone().unwrap(), standby.try_clone().unwrap());
                let (one, other) = (shared.clone(), shared.clone());
                thread::spawn(move || {
                    let _ = one.bring(&back, &forth);
                    let _ = forth.shutdown(Shutdown::Both);
                });
                shared.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = other.answer(&standby, &server);
                    other.open.fetch_sub(1, Ordering::SeqCst);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Relay { dir: dir.to_path_buf(), seen }
    }

    /// Whether all that standbys ever said has been read: what a process that is gone
    /// has said may still lie in its socket.
    pub fn has_read_all(&self) -> bool {
        self.seen.open.load(Ordering::SeqCst) == 0
    }

    pub fn conninfo(&self, name: &str) -> String {
        format!("host={} port=5432 user=postgres application_name={name}", self.dir.display())
    }

    /// The highest flush position that any standby has sent through here.
    pub fn acknowledged(&self) -> Lsn {
        Lsn(self.seen.flushed.load(Ordering::SeqCst))
    }

    /// Lets no WAL through from now on.
    pub fn close(&self) {
        *self.seen.closed.lock().unwrap() = true;
    }

    /// Whether there is some that waits.
    pub fn is_holding(&self) -> bool {
        self.seen.holding.load(Ordering::SeqCst)
    }

    pub fn open(&self) {
        *self.seen.closed.lock().unwrap() = false;
        self.seen.opened.notify_all();
    }
}

impl Seen {
    /// What a server says.
    fn bring(&self, mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
        loop {
            let message = message(&mut from, 5)?;
            if message[0] == b'd' && message[5] == b'w' {
                let mut closed = self.closed.lock().unwrap();
                while *closed {
                    self.holding.store(true, Ordering::SeqCst);
                    closed = self.opened.wait(closed).unwrap();
                }
            }
            to.write_all(&message)?;
        }
    }

    /// What a standby says: one message without a tag, then messages with one.
    fn answer(&self, mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
        to.write_all(&message(&mut from, 4)?)?;
        loop {
            let message = message(&mut from, 5)?;
            if message[0] == b'd' && message[5] == b'r' {
                let flush = u64::from_be_bytes(message[14..22].try_into().unwrap());
                self.flushed.fetch_max(flush, Ordering::SeqCst);
            }
            to.write_all(&message)?;
        }
    }
}

/// A whole message of which the first so many bytes end with its length.
fn message(from: &mut impl Read, head: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; head];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
    message.resize(head + length - 4, 0);
    from.read_exact(&mut message[head..])?;
    Ok(message)
}
