//! Faults on request, for drills: what the world does to a host, done by the
//! one process that always knows which pids are whose.
//!
//! Off unless the host's configuration allows drills. Each fault is bounded in
//! time, and begins a moment after it was asked for, so that the one who asked
//! hears that it will.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::Agent;
use super::log::say;
use super::protocol::Fault;
use super::server::Server;

/// Longest that a fault may last.
pub const TIME_MS_MAX: u64 = 60_000;
/// Between the answer and the fault.
const NOTICE: Duration = Duration::from_millis(100);

pub(super) struct Faults {
    allowed: bool,
    due: Option<(Instant, Fault, Duration)>,
    /// Who stands still, and until when: at most agent and postmaster.
    frozen: Vec<(Instant, i32)>,
}

impl Faults {
    pub fn new(allowed: bool) -> Faults {
        Faults { allowed, due: None, frozen: Vec::new() }
    }

    /// Takes note of one, or says why not.
    pub fn order(&mut self, fault: Fault, ms: u64) -> Result<(), String> {
        if !self.allowed {
            return Err("TAN0503: this host's configuration does not allow drills; \
                set allow_drills = true and restart 'tanist run'"
                .to_string());
        }
        if ms > TIME_MS_MAX {
            return Err(format!("a fault lasts {TIME_MS_MAX} ms at most, not {ms}"));
        }
        if self.due.is_some() {
            return Err("another fault is about to begin".to_string());
        }
        self.due = Some((Instant::now() + NOTICE, fault, Duration::from_millis(ms)));
        Ok(())
    }

    /// Begins what is due, ends what has lasted.
    pub fn turn(&mut self, agent: &mut Agent, server: &Server) {
        let now = Instant::now();
        self.frozen.retain(|(until, pid)| {
            // A pid that is nobody's any more is not ours to wake.
            let known = agent.pid() == Some(*pid) || server.postmaster() == Some(*pid);
            if known && now >= *until {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
            }
            known && now < *until
        });
        if let Some((_, fault, time)) = self.due.take_if(|(at, ..)| now >= *at) {
            say!("a drill asks for {fault:?} ({time:?})");
            self.begin(fault, time, agent, server);
        }
    }

    fn begin(&mut self, fault: Fault, time: Duration, agent: &mut Agent, server: &Server) {
        match fault {
            Fault::FreezeAgent => self.freeze(agent.pid(), time),
            Fault::FreezePostmaster => self.freeze(server.postmaster(), time),
            Fault::KillAgent => {
                agent.kill();
                agent.stay_away(time);
            }
            Fault::KillPostmaster => {
                let _ = server.signal(Signal::SIGKILL);
            }
            Fault::KillNode => {
                agent.kill();
                server.strike();
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
        }
    }

    fn freeze(&mut self, pid: Option<i32>, time: Duration) {
        let Some(pid) = pid else { return };
        self.frozen.retain(|(_, other)| *other != pid);
        if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() {
            self.frozen.push((Instant::now() + time, pid));
        }
    }
}
