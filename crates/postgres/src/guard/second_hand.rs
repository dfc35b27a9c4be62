//! The agent keeps the guard's deadline, too.
//!
//! A guard that is stopped (SIGSTOP, a debugger, a page that a hung disk does not
//! give back) kills nobody at the deadline, and in async nothing but that deadline
//! fences a leader that is cut off. Its agent, which may run on, kills then.

use std::path::Path;
use std::time::Duration;

use super::client::Client;
use super::{sys, tree};

/// The deadline is looked at again after so long, as it may have been moved.
const LOOK: Duration = Duration::from_millis(250);

/// Kills the server in `pgdata` whenever the deadline passes while `guard` owes an
/// answer. For the agent, as a thread of its own: it never returns as long as the
/// process lives.
pub fn keep(guard: &Client, pgdata: &Path) {
    loop {
        let left = guard.deadline_ms().map(|at| Duration::from_millis(at.saturating_sub(sys::boottime_ms())));
        match left {
            Some(Duration::ZERO) if guard.is_waited_for() => {
                tracing::error!(
                    "the guard stands still and its deadline has passed: the agent kills the server"
                );
                let gone = tree::kill_all(pgdata);
                tracing::info!(gone, "the server was killed");
                std::thread::sleep(LOOK);
            }
            Some(left) if left > Duration::ZERO => std::thread::sleep(left.min(LOOK)),
            Some(_) | None => std::thread::sleep(LOOK),
        }
    }
}
