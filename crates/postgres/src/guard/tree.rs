//! The processes of one server: every one whose working directory is its data
//! directory. That finds orphaned backends too, which outlive their postmaster
//! and may still acknowledge (finding 3), and those that an earlier guard left.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest that dying may take; a process in uninterruptible sleep takes longer.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Pids of all living processes of the server in `pgdata`.
#[must_use]
pub fn pids(pgdata: &Path) -> Vec<i32> {
    let Ok(wanted) = fs::canonicalize(pgdata) else { return Vec::new() };
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |e: fs::DirEntry| e.file_name().to_str()?.parse::<i32>().ok();
    let ours = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == wanted);
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    all.flatten().filter_map(pid).filter(|p| *p != me).filter(ours).filter(|p| !is_zombie(*p)).collect()
}

/// A zombie has no working directory to read, but be sure.
fn is_zombie(pid: i32) -> bool {
    state_of(pid).is_none_or(|s| s == 'Z' || s == 'X')
}

/// The state letter of a process, as in proc(5).
#[must_use]
pub fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether any process of the server lives.
#[must_use]
pub fn is_alive(pgdata: &Path) -> bool {
    !pids(pgdata).is_empty()
}

/// Kills them all, again and again until none is left or the limit passes.
pub fn kill_all(pgdata: &Path) {
    let began = Instant::now();
    loop {
        let left = pids(pgdata);
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if left.is_empty() || began.elapsed() > KILL_LIMIT {
            return;
        }
        // Nobody is reaped here: the guard's loop must see its own children end.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes a `postmaster.pid` whose process is no server of this directory any
/// more. PostgreSQL is fooled by a zombie, or by a stranger that was given the
/// number since, and refuses to start. Only with nothing alive in the directory.
pub fn remove_stale_pid_file(pgdata: &Path) {
    let path = pgdata.join("postmaster.pid");
    if path.exists() && !is_alive(pgdata) {
        // If it can't be removed, PostgreSQL says why it does not start.
        let _ = fs::remove_file(path);
    }
}
