//! The one file that may be unsafe: what must happen between fork and exec.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::time::{ClockId, clock_gettime};

use super::protocol::Start;

/// Milliseconds of CLOCK_BOOTTIME, which goes on while the host sleeps.
#[must_use]
pub fn boottime_ms() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or_default();
    secs * 1000 + u64::try_from(t.tv_nsec).unwrap_or_default() / 1_000_000
}

/// Makes the guard hard to stop and easy to forget: locked in memory where the
/// system lets it, the last to be killed for memory, adopting orphans.
pub fn harden() {
    let _ = prctl::set_child_subreaper(true);
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = mlockall(MlockAllFlags::MCL_CURRENT);
    let _ = rustix_nice(-10);
}

/// Priority above PostgreSQL's, where allowed; children are set back.
fn rustix_nice(level: i32) -> Result<(), ()> {
    rustix::process::setpriority_process(None, level).map_err(|_| ())
}

/// SIGCHLD, SIGTERM and SIGINT arrive as bytes to be read from now on.
///
/// # Errors
/// When the system has no descriptor left.
pub fn take_signals() -> std::io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The child ends when the guard does, with its signals as by default.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: between fork and exec only async-signal-safe calls are made:
    // prctl and sigprocmask are plain system calls on stack values.
    unsafe {
        command.pre_exec(move || {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            prctl::set_pdeathsig(signal)?;
            Ok(())
        });
    }
}

/// Starts a postmaster in a session of its own, as its user, with nothing of
/// our environment. PDEATHSIG is set after the change of user, which clears it.
///
/// # Errors
/// What the system says.
pub fn spawn_postmaster(start: &Start) -> std::io::Result<i32> {
    let Some((program, arguments)) = start.argv.split_first() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "no program to start"));
    };
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&start.log)?;
    std::os::unix::fs::fchown(&log, Some(start.run_as.uid), Some(start.run_as.gid)).ok();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(start.env.iter().cloned());
    command.stdin(Stdio::from(File::open("/dev/null")?)).stdout(log.try_clone()?).stderr(log);
    start.run_as.apply(&mut command);
    // SAFETY: as above; setsid, umask and setpriority are plain system calls,
    // and the file written is opened and closed by system calls alone.
    unsafe {
        command.pre_exec(|| {
            let _ = rustix::process::setsid();
            let _ = rustix::process::setpriority_process(None, 0);
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            Ok(())
        });
    }
    die_with_parent(&mut command, Signal::SIGQUIT);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
    Ok(pid)
}
