//! The proxy, as the guard holds it: a child that is started again when it dies,
//! and otherwise left alone. Its clients outlive agents and servers.
//!
//! Knows nothing of what it does, and never waits for it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log::say;
use super::sys;

/// Waits before one that keeps dying is started again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// One that lived so long is not in a crash loop.
const STEADY: Duration = Duration::from_secs(10);

pub(super) struct Proxy {
    /// Program and arguments; empty where there is to be none.
    command: Vec<String>,
    child: Option<(i32, Instant)>,
    /// Not before then, and how long the next wait will be.
    again: (Instant, Duration),
}

impl Proxy {
    pub fn new(command: Vec<String>) -> Proxy {
        Proxy { command, child: None, again: (Instant::now(), AGAIN.0) }
    }

    pub fn pid(&self) -> Option<i32> {
        self.child.map(|(pid, _)| pid)
    }

    /// Whether `pid` was the proxy, which has ended.
    pub fn is_over(&mut self, pid: i32) -> bool {
        let Some((_, born)) = self.child.take_if(|(own, _)| *own == pid) else { return false };
        let wait = if born.elapsed() > STEADY { AGAIN.0 } else { self.again.1 };
        self.again = (Instant::now() + wait, (wait * 2).min(AGAIN.1));
        true
    }

    /// Starts one where there is to be one and is none.
    pub fn keep(&mut self) {
        if self.command.is_empty() || self.child.is_some() || Instant::now() < self.again.0 {
            return;
        }
        match sys::spawn_proxy(&self.command) {
            Ok(pid) => self.child = Some((pid, Instant::now())),
            Err(why) => {
                say!("TAN0505: the proxy can't be started: {why}");
                self.again = (Instant::now() + AGAIN.1, AGAIN.1);
            }
        }
    }

    /// Tells it to end; nobody waits for it.
    pub fn end(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}
