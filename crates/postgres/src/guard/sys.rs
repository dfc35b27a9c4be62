//! The one file that may be unsafe: what must happen between fork and exec.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;
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

/// Nice level of guard and agent, above PostgreSQL's, where that is allowed.
const NICE: i32 = -10;
/// How ready the kernel is to kill the agent for memory: late, but before the guard.
const AGENT_OOM: &str = "-900";

/// Makes the guard hard to stop and easy to forget: locked in memory, the last
/// to be killed for memory and the first to run, each where the system lets it;
/// and it adopts orphans.
pub fn harden() {
    let _ = prctl::set_child_subreaper(true);
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // What was touched stays; the rest of this large program is not brought in for it.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let _ = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault);
    if !run_in_real_time() {
        let _ = rustix::process::setpriority_process(None, NICE);
    }
}

/// The lowest real-time priority, which no child inherits.
fn run_in_real_time() -> bool {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: a plain system call that reads a value on our stack.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const lowest) == 0
    }
}

/// SIGCHLD, and what ends a guard, arrive as bytes to be read from now on. A
/// terminal that hangs up is no reason to leave a server without its guard.
///
/// # Errors
/// When the system has no descriptor left.
pub fn take_signals() -> std::io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The child ends when we do, with its signals as by default. The kernel means
/// the thread that forked: the guard has one, the agent's live as long as it does.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made:
    // prctl, sigprocmask and getppid are plain system calls on stack values.
    unsafe {
        command.pre_exec(move || {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            prctl::set_pdeathsig(signal)?;
            // A parent that was gone before will send no signal any more.
            if rustix::process::getppid() == Some(parent) {
                return Ok(());
            }
            Err(std::io::Error::from_raw_os_error(libc::ESRCH))
        });
    }
}

/// Starts the agent: `command` is program and arguments.
///
/// # Errors
/// What the system says.
pub fn spawn_agent(command: &[String]) -> std::io::Result<i32> {
    spawn_program(command, NICE, Signal::SIGKILL, AGENT_OOM)
}

/// Starts the proxy, which ends with us: the next guard starts its own.
///
/// # Errors
/// What the system says.
pub fn spawn_proxy(command: &[String]) -> std::io::Result<i32> {
    spawn_program(command, 0, Signal::SIGTERM, "0")
}

/// One of our own programs, with this priority, which gets `end` when we die.
fn spawn_program(command: &[String], nice: i32, end: Signal, oom: &str) -> std::io::Result<i32> {
    let mut command = program(command)?;
    // SAFETY: setpriority is a plain system call.
    unsafe {
        command.pre_exec(move || {
            let _ = rustix::process::setpriority_process(None, nice);
            Ok(())
        });
    }
    die_with_parent(&mut command, end);
    spawn(&mut command, oom)
}

/// Starts a postmaster in a session of its own, as its user, with nothing of
/// our environment, in the cgroup behind `door`. PDEATHSIG is set after the
/// change of user, which clears it.
///
/// # Errors
/// What the system says.
pub fn spawn_postmaster(start: &Start, door: Option<File>) -> std::io::Result<i32> {
    // The directory is the server's user's: a link in it must not lead us to a file of root's.
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let log = options.open(&start.log)?;
    std::os::unix::fs::fchown(&log, Some(start.run_as.uid), Some(start.run_as.gid)).ok();
    let mut command = program(&start.argv)?;
    command.env_clear().envs(start.env.iter().cloned());
    command.stdin(Stdio::from(File::open("/dev/null")?)).stdout(log.try_clone()?).stderr(log);
    start.run_as.apply(&mut command);
    // SAFETY: as above; setsid, umask, setpriority and write are plain system calls.
    unsafe {
        command.pre_exec(move || {
            // Whether it got in is looked at from outside.
            let _ = door.as_ref().map(|mut door| door.write(b"0"));
            let _ = rustix::process::setsid();
            let _ = rustix::process::setpriority_process(None, 0);
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            Ok(())
        });
    }
    die_with_parent(&mut command, Signal::SIGQUIT);
    spawn(&mut command, "0")
}

fn program(argv: &[String]) -> std::io::Result<Command> {
    let nothing = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "no program to start");
    let (program, arguments) = argv.split_first().ok_or_else(nothing)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// The pid is enough: the guard's loop reaps whatever ends.
fn spawn(command: &mut Command, oom_score_adj: &str) -> std::io::Result<i32> {
    let pid = i32::try_from(command.spawn()?.id()).unwrap_or_default();
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), oom_score_adj);
    Ok(pid)
}
