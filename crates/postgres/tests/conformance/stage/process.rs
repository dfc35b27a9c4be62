//! A server's processes: found by their data directory, signalled and stopped one by one.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::real::{Server, wait_until};

/// Every process that works in `pgdata`.
pub fn all(pgdata: &Path) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == pgdata)).collect()
}

/// The one that calls itself so: `walreceiver`, `checkpointer`, `startup`, `walwriter`.
pub fn find(server: &Server, title: &str) -> Option<i32> {
    let begins = format!("postgres: {title}");
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&begins))
    };
    all(&server.pgdata).into_iter().find(is_it)
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub fn wait_until_gone(pid: i32) {
    wait_until("a process to end", || !Path::new(&format!("/proc/{pid}")).exists());
}

/// A process that stands still until this is dropped.
pub struct Frozen {
    pid: i32,
}

impl Frozen {
    pub fn new(pid: i32) -> Frozen {
        send(pid, Signal::SIGSTOP);
        wait_until("a process to stop", || state(pid) == Some('T'));
        Frozen { pid }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
    }
}

/// Whether a signal was sent to it that it has not taken up: it stands still, or has had no turn.
pub fn has_pending(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let masks = status.lines().filter_map(|l| l.strip_prefix("SigPnd:").or(l.strip_prefix("ShdPnd:")));
    masks.map(|m| u64::from_str_radix(m.trim(), 16).unwrap()).any(|m| (m >> (signal as u64 - 1)) & 1 == 1)
}

fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
