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
        if is_due(guard, pgdata) {
            tracing::error!("the guard stands still and its deadline has passed: the agent kills the server");
            let gone = tree::kill_all(pgdata);
            tracing::info!(gone, "the server was killed");
        }
        let left = left(guard).filter(|left| *left > Duration::ZERO);
        std::thread::sleep(left.map_or(LOOK, |left| left.min(LOOK)));
    }
}

/// Whether the agent has to kill what runs in `pgdata`. Where nothing runs any more there
/// is nothing to end: a guard that has just killed the server, say, may owe the answer yet.
#[must_use]
pub fn is_due(guard: &Client, pgdata: &Path) -> bool {
    left(guard) == Some(Duration::ZERO) && guard.is_waited_for() && tree::is_alive(pgdata)
}

/// How long the server may run yet; `None` before the first deadline.
fn left(guard: &Client) -> Option<Duration> {
    guard.deadline_ms().map(|at| Duration::from_millis(at.saturating_sub(sys::boottime_ms())))
}
