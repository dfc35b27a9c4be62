//! The line to the agent: a unix socket at which one process may speak.
//!
//! Whoever holds it steers the server, so it is given to the guard's own child
//! and to nobody else of the same user: a stray agent of an earlier life least
//! of all. The kernel says who is calling (SO_PEERCRED).

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::log::say;
use super::protocol::{Answer, Ask, Event, REQUEST_BYTES_MAX, Request};

/// Callers that are looked at in one turn.
const CALLS_MAX: usize = 16;
/// Pause when the host has no descriptor left for a call.
const DEAF: Duration = Duration::from_millis(5);

/// The socket, and the agent's connection with what of a request has come in.
pub(super) struct Line {
    listener: UnixListener,
    stream: Option<UnixStream>,
    pending: Vec<u8>,
}

/// A request as it came in.
pub(super) struct Heard {
    pub number: Option<u64>,
    /// Or why it is none that this guard knows.
    pub ask: Result<Ask, String>,
}

impl Heard {
    /// The number is read by itself: it is needed for the refusal too.
    fn read(line: &[u8]) -> Heard {
        let unknown = |e: serde_json::Error| format!("this guard does not know that request ({e})");
        match serde_json::from_slice::<Request<serde_json::Value>>(line) {
            Ok(Request { number, ask }) => {
                Heard { number: Some(number), ask: serde_json::from_value(ask).map_err(unknown) }
            }
            Err(_) => Heard { number: None, ask: serde_json::from_slice(line).map_err(unknown) },
        }
    }
}

impl Line {
    pub fn listen(socket: &Path) -> std::io::Result<Line> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Line { listener, stream: None, pending: Vec::new() })
    }

    /// What to wait on.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(self.listener.as_fd()), self.stream.as_ref().map(AsFd::as_fd)].into_iter().flatten()
    }

    /// Only `agent` is let in; its newest connection counts.
    pub fn accept(&mut self, agent: Option<i32>) {
        for _ in 0..CALLS_MAX {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // The caller still waits, so without a pause we would turn as fast as we can.
                Err(_) => return std::thread::sleep(DEAF),
            };
            let caller = getsockopt(&stream, PeerCredentials).map(|c| c.pid()).ok();
            if caller.is_none() || caller != agent {
                let who = caller.unwrap_or_default();
                say!("process {who} is not the agent and was turned away");
            } else if stream.set_nonblocking(true).is_ok() {
                (self.stream, self.pending) = (Some(stream), Vec::new());
            }
        }
    }

    pub fn hang_up(&mut self) {
        self.stream = None;
        self.pending.clear();
    }

    /// Whole requests that have come in. Each needs an answer, also one that this
    /// guard does not know: the agent may be newer.
    pub fn requests(&mut self) -> Vec<Heard> {
        let open = self.read();
        let mut heard = Vec::new();
        while let Some(at) = self.pending.iter().position(|b| *b == b'\n') {
            let whole: Vec<u8> = self.pending.drain(..=at).collect();
            heard.push(Heard::read(&whole));
        }
        if !open {
            self.hang_up();
        }
        heard
    }

    /// With the request's own number, or in its turn.
    pub fn answer(&mut self, number: Option<u64>, answer: Answer) {
        self.tell(&match number {
            Some(number) => Event::Numbered { number, answer },
            None => Event::Answer(answer),
        });
    }

    /// Reads what is there; false when the connection is of no more use.
    fn read(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let mut chunk = [0u8; 4096];
        loop {
            match stream.read(&mut chunk) {
                Ok(n) if n > 0 && self.pending.len() + n <= REQUEST_BYTES_MAX => {
                    self.pending.extend_from_slice(&chunk[..n]);
                }
                Ok(_) => return false,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    pub fn tell(&mut self, event: &Event) {
        let Some(stream) = &mut self.stream else { return };
        let Ok(mut bytes) = serde_json::to_vec(event) else { return };
        bytes.push(b'\n');
        // An agent that does not read is not waited for: it will be silent soon.
        if stream.write_all(&bytes).is_err() {
            self.hang_up();
        }
    }
}
