//! The agent, as the guard holds it: a child that is started again when it dies,
//! and killed when it falls silent.
//!
//! Knows nothing of what the agent does.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log::say;
use super::{sys, tree};

/// An agent that says nothing for so long is killed (A of C-28).
pub const SILENCE: Duration = Duration::from_millis(1000);
/// Longest that an agent may take to its first word: reading certificates, and
/// asking PostgreSQL's programs for their version, on a host that is very busy.
pub const FIRST_WORD: Duration = Duration::from_secs(20);
/// Waits before an agent that keeps dying is started again: the first, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// An agent that lived so long is not in a crash loop and is started again at once.
const STEADY: Duration = Duration::from_secs(10);
/// Longest that programs which a dead agent was running are waited for.
const SWEEP_LIMIT: Duration = Duration::from_secs(1);

pub(super) struct Agent {
    command: Vec<String>,
    child: Option<Child>,
    /// Not before then, and how long the next wait will be.
    again: (Instant, Duration),
}

struct Child {
    pid: i32,
    born: Instant,
    heard: Option<Instant>,
    killed: bool,
}

impl Agent {
    pub fn new(command: Vec<String>) -> Agent {
        Agent { command, child: None, again: (Instant::now(), AGAIN.0) }
    }

    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|c| c.pid)
    }

    /// It has said something.
    pub fn heard(&mut self) {
        if let Some(child) = &mut self.child {
            child.heard = Some(Instant::now());
        }
    }

    /// The guard itself was held up, so what it has not heard means nothing.
    pub fn forgive(&mut self) {
        if self.child.as_ref().is_some_and(|c| c.heard.is_some()) {
            self.heard();
        }
    }

    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // It is reaped, and started again, on the next turn.
            let _ = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
            child.killed = true;
        }
    }

    /// It is not started again for so long.
    pub fn stay_away(&mut self, time: Duration) {
        self.again.0 = self.again.0.max(Instant::now() + time);
    }

    /// Whether `pid` was the agent, which has ended.
    pub fn is_over(&mut self, pid: i32) -> bool {
        let Some(child) = self.child.take_if(|c| c.pid == pid) else { return false };
        let steady = child.born.elapsed() > STEADY;
        let wait = if steady { Duration::ZERO } else { self.again.1 };
        let next = if steady { AGAIN.0 } else { (wait * 2).min(AGAIN.1) };
        self.again = (self.again.0.max(Instant::now() + wait), next);
        true
    }

    /// Kills one that is silent, starts one where there is none.
    pub fn keep(&mut self) {
        match &self.child {
            Some(child) => self.judge(child.heard.is_some(), child.heard.unwrap_or(child.born)),
            None if Instant::now() >= self.again.0 => self.start(),
            None => {}
        }
    }

    fn judge(&mut self, spoke: bool, since: Instant) {
        let limit = if spoke { SILENCE } else { FIRST_WORD };
        if since.elapsed() > limit && self.child.as_ref().is_some_and(|c| !c.killed) {
            say!("the agent has been silent for {limit:?}: killing it");
            self.kill();
        }
    }

    fn start(&mut self) {
        match sys::spawn_agent(&self.command) {
            Ok(pid) => self.child = Some(Child { pid, born: Instant::now(), heard: None, killed: false }),
            Err(why) => {
                say!("TAN0501: the agent can't be started: {why}");
                self.again = (Instant::now() + AGAIN.1, AGAIN.1);
            }
        }
    }
}

/// Kills what a dead agent left running (a clone, a rewind): the next one would
/// begin the same in the same directory. They are ours now, as orphans go to
/// the guard; `spared` are the server's.
pub(super) fn sweep(spared: &[i32], mut reap: impl FnMut()) {
    let began = Instant::now();
    let mut said = false;
    loop {
        let left: Vec<i32> = tree::children().into_iter().filter(|p| !spared.contains(p)).collect();
        if left.is_empty() {
            return;
        }
        if began.elapsed() > SWEEP_LIMIT {
            say!("processes {left:?} of the last agent live on {SWEEP_LIMIT:?} after SIGKILL");
            return;
        }
        if !std::mem::replace(&mut said, true) {
            say!("the agent left processes {left:?} behind: killing them");
        }
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
        reap();
    }
}
