//! A standby of which we say ourselves when it acknowledges what: it receives WAL by
//! PostgreSQL's replication protocol, keeps nothing, and replies only when it is told to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use bytes::BytesMut;
use cluster::Lsn;
use postgres_protocol::message::frontend;

use crate::real::{LIMIT, Server};

/// One replication connection.
pub struct Receiver {
    stream: UnixStream,
    /// All before it has come.
    pub received: Lsn,
}

impl Receiver {
    /// Streams timeline 1 from `from` on, as `name`.
    pub fn attach(server: &Server, name: &str, from: Lsn) -> Receiver {
        Receiver::try_attach(server, name, None, from).unwrap()
    }

    /// As `attach`, through a slot. The server's words if it refuses.
    pub fn try_attach(
        server: &Server,
        name: &str,
        slot: Option<&str>,
        from: Lsn,
    ) -> Result<Receiver, String> {
        let path = server.dir.join(format!(".s.PGSQL.{}", server.port));
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut receiver = Receiver { stream, received: from };
        let mut bytes = BytesMut::new();
        let about = [("user", "postgres"), ("replication", "true"), ("application_name", name)];
        frontend::startup_message(about, &mut bytes).unwrap();
        receiver.write(&bytes);
        receiver.read_until(b'Z')?;
        let slot = slot.map(|s| format!("SLOT {s} ")).unwrap_or_default();
        let mut bytes = BytesMut::new();
        frontend::query(&format!("START_REPLICATION {slot}PHYSICAL {from} TIMELINE 1"), &mut bytes).unwrap();
        receiver.write(&bytes);
        receiver.read_until(b'W')?;
        Ok(receiver)
    }

    /// Reads until all before `lsn` has come.
    pub fn receive_to(&mut self, lsn: Lsn) {
        while self.received < lsn {
            let (tag, body) = self.message().expect("the server went on sending");
            self.take(tag, &body);
        }
    }

    /// Reads until the server ends the connection.
    pub fn receive_to_end(&mut self) {
        while let Some((tag, body)) = self.message() {
            self.take(tag, &body);
        }
    }

    fn take(&mut self, tag: u8, body: &[u8]) {
        if tag == b'd' && body[0] == b'w' {
            let start = u64::from_be_bytes(body[1..9].try_into().unwrap());
            self.received = Lsn(start + body.len() as u64 - 25);
        }
    }

    /// Says that all before `flushed` is on disk, and nothing of what was replayed.
    pub fn acknowledge(&mut self, flushed: Lsn) {
        let mut body = vec![b'r'];
        // Written, flushed, applied, the clock, and that no answer is wanted.
        for position in [flushed, flushed, Lsn(0), Lsn(0)] {
            body.extend(position.0.to_be_bytes());
        }
        body.push(0);
        let mut bytes = vec![b'd'];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        self.write(&bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn read_until(&mut self, wanted: u8) -> Result<(), String> {
        loop {
            let (tag, body) = self.message().ok_or("the server hung up")?;
            match tag {
                b'E' => return Err(String::from_utf8_lossy(&body).into_owned()),
                t if t == wanted => return Ok(()),
                _ => {}
            }
        }
    }

    /// `None` when the server has ended it.
    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }
}
