//! The guard: the small process that may kill, and is nobody's client.
//!
//! `tanist run` is this loop. It is the parent of the postmaster and of the
//! agent, so either may be restarted without the other. It restarts an agent
//! that died or fell silent, and kills the server's whole tree when the
//! deadline that the agent armed passes unarmed (protocol decision 6, C-25).
//!
//! ```text
//!   guard ──┬── postmaster (PDEATHSIG: dies with the guard)
//!           └── agent      (says when to start, signal, kill; arms the deadline)
//! ```
//! No async runtime, no thread, no TLS, no disk but /proc. Never decides
//! whether the server should run.

pub mod client;
pub mod protocol;
pub mod sys;
pub mod tree;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use protocol::{Answer, Ask, Event, REQUEST_BYTES_MAX, Start, Status};

/// The loop looks at deadlines at least this often.
const TURN: Duration = Duration::from_millis(50);
/// An agent that says nothing for so long is killed (A of C-28).
pub const AGENT_SILENCE: Duration = Duration::from_millis(1000);
/// Waits before an agent is started again: the first, and the longest.
const AGENT_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// An agent that lived so long is not in a crash loop.
const AGENT_STEADY: Duration = Duration::from_secs(10);
/// Longest that an orderly stop of the server may take when the guard is told to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a guard guards.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// Where the agent reaches it.
    pub socket: PathBuf,
    /// The data directory, by which the server's processes are known.
    pub pgdata: PathBuf,
    /// Program and arguments of the agent.
    pub agent: Vec<String>,
}

struct Guard {
    config: GuardConfig,
    listener: UnixListener,
    signals: SignalFd,
    line: Option<Line>,
    agent: Option<(Child, Instant)>,
    agent_again: (Instant, Duration),
    heard: Option<Instant>,
    postmaster: Option<Pid>,
    deadline_ms: Option<u64>,
    fired: bool,
    ending: Option<Instant>,
}

/// The agent's connection, and what of a request has come in.
struct Line {
    stream: UnixStream,
    pending: Vec<u8>,
}

/// Guards until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// When its socket can't be made or signals can't be taken.
pub fn run(config: GuardConfig) -> std::io::Result<()> {
    sys::harden();
    let signals = sys::take_signals()?;
    // A server of a guard that was killed may have outlived it.
    tree::kill_all(&config.pgdata);
    let _ = std::fs::remove_file(&config.socket);
    let listener = UnixListener::bind(&config.socket)?;
    std::fs::set_permissions(&config.socket, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let mut guard = Guard {
        config,
        listener,
        signals,
        line: None,
        agent: None,
        agent_again: (Instant::now(), AGENT_AGAIN.0),
        heard: None,
        postmaster: None,
        deadline_ms: None,
        fired: false,
        ending: None,
    };
    while !guard.turn() {}
    let _ = std::fs::remove_file(&guard.config.socket);
    Ok(())
}

impl Guard {
    /// One turn; true when everything has ended. The deadline comes first:
    /// after a pause of the whole host nothing is more urgent.
    fn turn(&mut self) -> bool {
        self.enforce_deadline();
        self.reap();
        self.keep_agent();
        if self.is_over() {
            return true;
        }
        self.sleep();
        self.take_signal();
        self.accept();
        self.listen();
        false
    }

    fn sleep(&self) {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(line) = &self.line {
            fds.push(PollFd::new(line.stream.as_fd(), PollFlags::POLLIN));
        }
        let turn = u16::try_from(TURN.as_millis()).unwrap_or(u16::MAX);
        // An interrupted sleep is a short one.
        let _ = poll(&mut fds, PollTimeout::from(turn));
    }

    fn enforce_deadline(&mut self) {
        if self.deadline_ms.is_none_or(|at| sys::boottime_ms() < at) {
            return;
        }
        self.deadline_ms = None;
        if self.postmaster.is_some() || tree::is_alive(&self.config.pgdata) {
            eprintln!("guard: the agent's deadline has passed: killing the server");
            tree::kill_all(&self.config.pgdata);
            self.fired = true;
            self.tell(&Event::DeadlineFired);
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
        if self.postmaster == Some(pid) {
            self.postmaster = None;
            eprintln!("guard: the postmaster ({pid}) {how}");
            self.tell(&Event::PostmasterEnded { pid: pid.as_raw(), how });
        } else if let Some((_, since)) =
            self.agent.take_if(|(child, _)| child.id() == pid.as_raw().unsigned_abs())
        {
            eprintln!("guard: the agent ({pid}) {how}");
            self.line = None;
            self.heard = None;
            let wait = if since.elapsed() > AGENT_STEADY { AGENT_AGAIN.0 } else { self.agent_again.1 };
            self.agent_again = (Instant::now() + wait, (wait * 2).min(AGENT_AGAIN.1));
        }
    }

    fn keep_agent(&mut self) {
        if self.ending.is_some() {
            return;
        }
        if self.heard.is_some_and(|at| at.elapsed() > AGENT_SILENCE)
            && let Some((child, _)) = &mut self.agent
        {
            eprintln!("guard: the agent has been silent for {AGENT_SILENCE:?}: killing it");
            // It is reaped, and started again, on the next turn.
            let _ = child.kill();
            self.heard = None;
        }
        if self.agent.is_none() && Instant::now() >= self.agent_again.0 {
            let Some((program, arguments)) = self.config.agent.split_first() else { return };
            let mut command = Command::new(program);
            command.args(arguments);
            sys::die_with_parent(&mut command, Signal::SIGKILL);
            match command.spawn() {
                Ok(child) => self.agent = Some((child, Instant::now())),
                Err(why) => {
                    eprintln!("guard: TAN0501: the agent can't be started: {why}");
                    self.agent_again = (Instant::now() + AGENT_AGAIN.1, AGENT_AGAIN.1);
                }
            }
        }
    }

    fn take_signal(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            if matches!(signal, Some(Signal::SIGTERM | Signal::SIGINT)) {
                let again = self.ending.is_some();
                self.end(again);
            }
        }
    }

    /// An orderly end: the agent first, then the server; in a hurry, both at once.
    fn end(&mut self, hurry: bool) {
        if let Some((child, _)) = &mut self.agent {
            let _ = child.kill();
        }
        self.line = None;
        self.deadline_ms = None;
        if let Some(pid) = self.postmaster {
            let _ = kill(pid, if hurry { Signal::SIGQUIT } else { Signal::SIGINT });
        }
        self.ending.get_or_insert_with(Instant::now);
    }

    fn is_over(&mut self) -> bool {
        let Some(since) = self.ending else { return false };
        if self.postmaster.is_some() && since.elapsed() > STOP_LIMIT {
            tree::kill_all(&self.config.pgdata);
        }
        self.postmaster.is_none() && self.agent.is_none()
    }

    /// One agent at a time: the newest connection counts.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.line = Some(Line { stream, pending: Vec::new() });
            }
        }
    }

    fn listen(&mut self) {
        for ask in self.requests() {
            self.heard = Some(Instant::now());
            let answer = self.obey(ask);
            self.tell(&Event::Answer(answer));
        }
    }

    /// Whole lines that have come in.
    fn requests(&mut self) -> Vec<Ask> {
        let Some(line) = &mut self.line else { return Vec::new() };
        let mut chunk = [0u8; 4096];
        let mut open = true;
        loop {
            match line.stream.read(&mut chunk) {
                Ok(0) => open = false,
                Ok(n) if line.pending.len() + n <= REQUEST_BYTES_MAX => {
                    line.pending.extend_from_slice(&chunk[..n]);
                    continue;
                }
                Ok(_) => open = false,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => open = false,
            }
            break;
        }
        let mut asks = Vec::new();
        while let Some(at) = line.pending.iter().position(|b| *b == b'\n') {
            let whole: Vec<u8> = line.pending.drain(..=at).collect();
            asks.extend(serde_json::from_slice::<Ask>(&whole).ok());
        }
        if !open {
            self.line = None;
        }
        asks
    }

    fn obey(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::Arm { deadline_ms } => {
                self.deadline_ms = deadline_ms;
                Answer::Done
            }
            Ask::Status => Answer::Status(Status {
                postmaster: self.postmaster.map(Pid::as_raw),
                deadline_ms: self.deadline_ms,
                fired: std::mem::take(&mut self.fired),
            }),
            Ask::Signal { signal } => self.signal(signal),
            Ask::Kill => {
                tree::kill_all(&self.config.pgdata);
                self.reap();
                if tree::is_alive(&self.config.pgdata) {
                    return Answer::Failed("processes of the server are still there".into());
                }
                Answer::Done
            }
            Ask::Start(start) => self.start(&start),
        }
    }

    fn signal(&self, signal: i32) -> Answer {
        let sent = match (self.postmaster, Signal::try_from(signal)) {
            (Some(pid), Ok(signal)) => kill(pid, signal).map_err(|e| e.to_string()),
            (None, _) => Err("no postmaster is running".into()),
            (_, Err(e)) => Err(e.to_string()),
        };
        sent.map_or_else(Answer::Failed, |()| Answer::Done)
    }

    /// Belt and braces: never in a way that opens the server read-write, and
    /// never beside processes of an earlier life.
    fn start(&mut self, start: &Start) -> Answer {
        if self.postmaster.is_some() {
            return Answer::Failed("a postmaster is running".into());
        }
        let recovers =
            ["standby.signal", "recovery.conf"].iter().any(|f| self.config.pgdata.join(f).exists());
        if !recovers {
            return Answer::Failed(
                "without standby.signal the server would open read-write by itself".into(),
            );
        }
        if tree::is_alive(&self.config.pgdata) {
            tree::kill_all(&self.config.pgdata);
        }
        tree::remove_stale_pid_file(&self.config.pgdata);
        match sys::spawn_postmaster(start) {
            Ok(pid) => {
                self.postmaster = Some(Pid::from_raw(pid));
                Answer::Started(pid)
            }
            Err(why) => Answer::Failed(why.to_string()),
        }
    }

    fn tell(&mut self, event: &Event) {
        let Some(line) = &mut self.line else { return };
        let Ok(mut bytes) = serde_json::to_vec(event) else { return };
        bytes.push(b'\n');
        // An agent that does not read is not waited for: it will be silent soon.
        if line.stream.write_all(&bytes).is_err() {
            self.line = None;
        }
    }
}
