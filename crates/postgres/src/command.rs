//! Runs one of PostgreSQL's programs to its end, as the server's user, with an
//! environment that holds nothing of ours.
//!
//! Never passes a secret: programs read theirs from files.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::guard::sys;
use crate::os_user::RunAs;

/// The whole environment of every program and of the postmaster. A stable
/// language, so that messages read alike on every host; no `PG*`, `HOME` or
/// `LD_*` that would let something else decide how it connects.
pub const ENVIRONMENT: [(&str, &str); 4] =
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LC_ALL", "C"), ("LANG", "C"), ("TZ", "UTC")];

/// A command of that user with that environment and no input.
#[must_use]
pub fn command(program: &Path, args: &[String], run_as: RunAs, cwd: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(ENVIRONMENT).current_dir(cwd).stdin(Stdio::null());
    run_as.apply(&mut command);
    command
}

/// Runs it and waits for its end. Whoever stops waiting ends it, and all that it
/// started: a clone that was broken off must not go on writing beside the next.
/// It does not outlive this process either.
///
/// # Errors
/// `ProgramFailed` with its last lines.
pub async fn run(name: &'static str, mut command: Command) -> Result<Output> {
    let failed = |e: std::io::Error| Error::ProgramFailed { program: name, why: e.to_string() };
    sys::die_with_parent(&mut command, Signal::SIGKILL);
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut unfinished = Unfinished(group);
    let output = child.wait_with_output().await.map_err(failed)?;
    unfinished.0 = None;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::ProgramFailed { program: name, why: last_words(&output) })
}

/// The process group of a program that nobody has seen end.
struct Unfinished(Option<Pid>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that has just ended is not there to be killed.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// What a program said before it failed: its last lines, on one.
#[must_use]
pub fn last_words(output: &Output) -> String {
    const LINES: usize = 4;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("; ");
    if tail.is_empty() { format!("it ended with {}", output.status) } else { tail }
}
