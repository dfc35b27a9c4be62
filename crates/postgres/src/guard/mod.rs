//! The guard: the small process that may kill, and is nobody's client.
//!
//! `tanist run` is this loop. It is the parent of the postmaster and of the
//! agent, so either may be restarted without the other. It restarts an agent
//! that died or fell silent, and kills the server's whole tree when the
//! deadline that the agent armed passes unarmed (protocol decision 6, C-25),
//! and when the postmaster ends, as what it leaves may still acknowledge.
//! What would not die is struck again until nothing is left.
//!
//! ```text
//!   guard ──┬── postmaster (PDEATHSIG: dies with the guard; a cgroup of its own)
//!           ├── agent      (says when to start, signal, kill; arms the deadline)
//!           └── proxy      (where the host has one; started again when it dies)
//! ```
//! No async runtime, no thread but the one that writes the log, no TLS; of files it touches its lock, its socket,
//! /proc, the server's cgroup and, at a start, what that needs: the log, a stale
//! `postmaster.pid`. Never decides whether the server should run.

mod agent;
pub mod cgroup;
pub mod client;
mod fault;
mod line;
mod lock;
pub mod log;
pub mod protocol;
mod proxy;
pub mod second_hand;
mod server;
pub mod sys;
pub mod tree;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use agent::Agent;
use fault::Faults;
use line::Line;
use log::say;
use protocol::{Answer, Ask, Event, Status};
use proxy::Proxy;
use server::Server;

pub use agent::{FIRST_WORD, SILENCE};

/// The loop looks at everything at least this often.
const TURN: Duration = Duration::from_millis(100);
/// A turn that took longer held up the guard itself: it heard nobody meanwhile.
const HELD_UP: Duration = Duration::from_millis(200);
/// Between two blows at a server that would not die.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest that an orderly stop of the server may take when the guard is told to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a guard guards.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// The node's directory, of which there is one guard.
    pub dir: PathBuf,
    /// Where the agent reaches it.
    pub socket: PathBuf,
    /// The data directory, by which the server's processes are known.
    pub pgdata: PathBuf,
    /// Program and arguments of the agent.
    pub agent: Vec<String>,
    /// Program and arguments of the proxy; empty for none.
    pub proxy: Vec<String>,
    /// Whether faults may be made here on request.
    pub allow_drills: bool,
}

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// There is one already.
    #[error(
        "TAN0502: another guard (pid {pid}) runs on {}. Nothing was started or stopped; one 'tanist run' is enough for a node", dir.display()
    )]
    Taken {
        /// Of which directory.
        dir: PathBuf,
        /// Who.
        pid: String,
    },
    /// A file of its own.
    #[error("TAN0504: the guard can't use {}: {why}. Nothing was started", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

struct Guard {
    line: Line,
    signals: SignalFd,
    agent: Agent,
    proxy: Proxy,
    server: Server,
    faults: Faults,
    turned: Instant,
    deadline_ms: Option<u64>,
    fired: bool,
    /// Something of the server would not die yet: when it is struck next.
    dying: Option<Instant>,
    /// A deadline has fired and something of the server may still live.
    untold: bool,
    ending: Option<Instant>,
}

/// Guards until it is told to end by a signal.
///
/// # Errors
/// When another does, or its lock or socket can't be made.
pub fn run(config: GuardConfig) -> Result<(), GuardError> {
    let unusable =
        |path: &PathBuf, e: std::io::Error| GuardError::Unusable { path: path.clone(), why: e.to_string() };
    let _lock = lock::take(&config.dir)?;
    sys::harden();
    let signals = sys::take_signals().map_err(|e| unusable(&config.dir, e))?;
    let line = Line::listen(&config.socket).map_err(|e| unusable(&config.socket, e))?;
    let server = Server::new(&config.pgdata, &config.dir);
    let mut guard = Guard {
        line,
        signals,
        agent: Agent::new(config.agent),
        proxy: Proxy::new(config.proxy),
        server,
        faults: Faults::new(config.allow_drills),
        turned: Instant::now(),
        deadline_ms: None,
        fired: false,
        dying: None,
        untold: false,
        ending: None,
    };
    // A server of a guard that was killed may have outlived it.
    let _ = guard.kill_server();
    while !guard.turn() {}
    guard.server.leave();
    let _ = std::fs::remove_file(&config.socket);
    log::wait_until_written();
    Ok(())
}

impl Guard {
    /// One turn; true when everything has ended. The deadline comes first:
    /// after a pause of the whole host nothing is more urgent.
    fn turn(&mut self) -> bool {
        self.enforce_deadline();
        self.strike_again();
        self.reap();
        self.faults.turn(&mut self.agent, &self.server);
        self.keep_agent();
        if self.is_over() {
            return true;
        }
        self.sleep();
        self.take_signal();
        self.line.accept(self.agent.pid());
        self.listen();
        false
    }

    /// Until something happens, the deadline, or the end of the turn.
    fn sleep(&self) {
        let fds = std::iter::once(self.signals.as_fd()).chain(self.line.fds());
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = self.deadline_ms.map_or(u64::MAX, |at| at.saturating_sub(sys::boottime_ms()));
        let turn = Duration::from_millis(left).min(TURN);
        // An interrupted sleep is a short one.
        let _ = poll(&mut fds, PollTimeout::try_from(turn).unwrap_or(PollTimeout::ZERO));
    }

    /// A deadline has done its work when nothing is left of the server, and not before:
    /// only then is it told, and until then the server is struck again and again,
    /// whatever the agent arms meanwhile.
    fn enforce_deadline(&mut self) {
        if self.deadline_ms.is_none_or(|at| sys::boottime_ms() < at) {
            return;
        }
        self.deadline_ms = None;
        if !self.server.is_gone() {
            (self.fired, self.untold) = (true, true);
            let killed = self.kill_server();
            let how = if killed.is_ok() { "killed" } else { "being killed" };
            say!("the agent's deadline has passed: the server is {how}");
        }
    }

    /// Kills the server's tree. What would not die at once is struck again on later
    /// turns, with an ear for the agent between.
    fn kill_server(&mut self) -> Result<(), String> {
        let killed = self.server.kill();
        match &killed {
            Ok(()) => self.is_killed(),
            Err(why) => {
                say!("{why}; it is struck again until nothing is left");
                self.dying = Some(Instant::now() + AGAIN);
            }
        }
        killed
    }

    fn is_killed(&mut self) {
        self.dying = None;
        if std::mem::take(&mut self.untold) {
            self.line.tell(&Event::DeadlineFired);
        }
    }

    fn strike_again(&mut self) {
        if self.dying.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.server.strike();
        if self.server.is_gone() {
            say!("nothing is left of the server now");
            self.is_killed();
        } else {
            self.dying = Some(Instant::now() + AGAIN);
        }
    }

    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid, format!("exited with {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.ended(pid, format!("killed by {signal}")),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn ended(&mut self, pid: Pid, how: String) {
        let pid = pid.as_raw();
        if self.server.is_over(pid) {
            say!("the postmaster ({pid}) {how}");
            // What it left are orphans, which may still acknowledge (finding 3).
            let _ = self.kill_server();
            self.line.tell(&Event::PostmasterEnded { pid, how });
        } else if self.agent.is_over(pid) {
            say!("the agent ({pid}) {how}");
            self.line.hang_up();
            let spared: Vec<i32> = self.server.pids().into_iter().chain(self.proxy.pid()).collect();
            agent::sweep(&spared, || self.reap());
        } else if self.proxy.is_over(pid) {
            say!("the proxy ({pid}) {how}");
        }
    }

    fn keep_agent(&mut self) {
        if self.turned.elapsed() > HELD_UP {
            self.agent.forgive();
        }
        self.turned = Instant::now();
        if self.ending.is_none() {
            self.agent.keep();
            self.proxy.keep();
        }
    }

    fn take_signal(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            if signal.is_some_and(|s| s != Signal::SIGCHLD) {
                let again = self.ending.is_some();
                self.end(again);
            }
        }
    }

    /// An orderly end: the agent first, then the server; in a hurry, both at
    /// once. The deadline stays in force: others count on it.
    fn end(&mut self, hurry: bool) {
        self.agent.kill();
        self.proxy.end();
        self.line.hang_up();
        let _ = self.server.signal(if hurry { Signal::SIGQUIT } else { Signal::SIGINT });
        self.ending.get_or_insert_with(Instant::now);
    }

    fn is_over(&mut self) -> bool {
        let Some(since) = self.ending else { return false };
        let late = since.elapsed() > STOP_LIMIT;
        if !late && (self.agent.pid().is_some() || self.server.postmaster().is_some()) {
            return false;
        }
        // What is left when the postmaster is gone, or would not go.
        let _ = self.kill_server();
        self.reap();
        true
    }

    fn listen(&mut self) {
        for heard in self.line.requests() {
            self.agent.heard();
            let answer = heard.ask.and_then(|ask| self.obey(ask)).unwrap_or_else(Answer::Failed);
            self.line.answer(heard.number, answer);
        }
    }

    fn obey(&mut self, ask: Ask) -> Result<Answer, String> {
        match ask {
            Ask::Hello => {}
            Ask::Arm { deadline_ms } => self.deadline_ms = deadline_ms,
            Ask::Status => {
                return Ok(Answer::Status(Status {
                    postmaster: self.server.postmaster(),
                    deadline_ms: self.deadline_ms,
                    fired: std::mem::take(&mut self.fired),
                }));
            }
            Ask::Signal { signal } => {
                let signal = Signal::try_from(signal).map_err(|e| e.to_string())?;
                self.server.signal(signal)?;
            }
            Ask::Kill => {
                let killed = self.kill_server();
                self.reap();
                killed?;
            }
            Ask::Start(start) => {
                let pid = self.server.start(&start)?;
                // Nothing was left of the one before: this one is not to be struck.
                self.is_killed();
                return Ok(Answer::Started(pid));
            }
            Ask::Fault { fault, ms } => self.faults.order(fault, ms)?,
        }
        Ok(Answer::Done)
    }
}
