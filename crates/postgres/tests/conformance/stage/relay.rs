//! A socket between a standby and its upstream that passes everything on and remembers
//! the highest position that the standby acknowledged as flushed.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cluster::Lsn;

use crate::real::Server;

/// Its thread ends with the test's process.
pub struct Relay {
    dir: PathBuf,
    flushed: Arc<AtomicU64>,
}

impl Relay {
    /// Listens in `dir`, on behalf of `upstream`.
    pub fn new(dir: &Path, upstream: &Server) -> Relay {
        let listener = UnixListener::bind(dir.join(".s.PGSQL.5432")).unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.join(".s.PGSQL.5432"), all).unwrap();
        let to = upstream.dir.join(format!(".s.PGSQL.{}", upstream.port));
        let flushed = Arc::new(AtomicU64::new(0));
        let seen = flushed.clone();
        thread::spawn(move || {
            for standby in listener.incoming() {
                let (Ok(standby), Ok(server)) = (standby, UnixStream::connect(&to)) else { return };
                let (mut back, mut forth) = (server.try_clone().unwrap(), standby.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut back, &mut forth);
                    let _ = forth.shutdown(std::net::Shutdown::Both);
                });
                let seen = seen.clone();
                thread::spawn(move || {
                    let _ = forward(&standby, &server, &seen);
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Relay { dir: dir.to_path_buf(), flushed }
    }

    pub fn conninfo(&self, name: &str) -> String {
        format!("host={} port=5432 user=postgres application_name={name}", self.dir.display())
    }

    /// The highest flush position that any standby has sent through here.
    pub fn acknowledged(&self) -> Lsn {
        Lsn(self.flushed.load(Ordering::SeqCst))
    }
}

/// What a standby says: one message without a tag, then messages with one.
fn forward(mut from: &UnixStream, mut to: &UnixStream, seen: &AtomicU64) -> io::Result<()> {
    let mut first = true;
    loop {
        let mut head = vec![0; if first { 4 } else { 5 }];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        from.read_exact(&mut body)?;
        if !first && head[0] == b'd' && body[0] == b'r' {
            let flush = u64::from_be_bytes(body[9..17].try_into().unwrap());
            seen.fetch_max(flush, Ordering::SeqCst);
        }
        to.write_all(&[head, body].concat())?;
        first = false;
    }
}
