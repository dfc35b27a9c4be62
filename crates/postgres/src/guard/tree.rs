//! The processes of one server, as /proc shows them: every one whose working
//! directory is its data directory. That finds orphaned backends too, which
//! outlive their postmaster and may still acknowledge (finding 3), and those
//! that an earlier guard left.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest that a server is killed without its guard.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Between two blows at a server that is killed without its guard.
const AGAIN: Duration = Duration::from_millis(5);
/// What can die has died after so long.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Between two blows at what would not.
const LATER: Duration = Duration::from_millis(200);

/// Pids of all living processes of the server in `pgdata`.
#[must_use]
pub fn pids(pgdata: &Path) -> Vec<i32> {
    let wanted = names(pgdata);
    let inside = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| wanted.contains(&cwd));
    let ours = |pid: &i32| inside(pid) && !is_at_a_terminal(*pid);
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    everybody().filter(|p| *p != me).filter(ours).filter(|p| !is_zombie(*p)).collect()
}

/// Whether somebody sits at a terminal there: an operator's shell that stands in
/// the directory is left alone. A server has no terminal, and nothing it started.
fn is_at_a_terminal(pid: i32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    let name = program.ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let postgres = name.is_none_or(|n| n.starts_with("postgres"));
    !postgres && field(pid, 4).is_some_and(|terminal| terminal != "0")
}

/// Under what names the kernel shows the directory, also after it was removed
/// below a running server.
fn names(pgdata: &Path) -> [PathBuf; 2] {
    let parent = pgdata.parent().and_then(|p| fs::canonicalize(p).ok());
    let gone = || parent.zip(pgdata.file_name()).map(|(p, name)| p.join(name));
    let name = fs::canonicalize(pgdata).ok().or_else(gone).unwrap_or_else(|| pgdata.to_owned());
    let mut removed = OsString::from(&name);
    removed.push(" (deleted)");
    [name, removed.into()]
}

fn everybody() -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
}

/// Our own living children, those that we adopted among them.
#[must_use]
pub fn children() -> Vec<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    everybody().filter(|p| parent_of(*p) == Some(me) && !is_zombie(*p)).collect()
}

/// Whether /proc shows processes at all, without which nothing here means anything.
#[must_use]
pub fn can_see() -> bool {
    // A link takes no descriptor, and a listing does.
    fs::read_link("/proc/self/cwd").is_ok() && fs::read_dir("/proc").is_ok()
}

/// A zombie has no working directory to read, but be sure.
fn is_zombie(pid: i32) -> bool {
    state_of(pid).is_none_or(|s| s == 'Z' || s == 'X')
}

/// The state letter of a process, as in proc(5).
#[must_use]
pub fn state_of(pid: i32) -> Option<char> {
    field(pid, 0)?.chars().next()
}

fn parent_of(pid: i32) -> Option<i32> {
    field(pid, 1)?.parse().ok()
}

/// A field of /proc/PID/stat after the name, which may hold anything.
fn field(pid: i32, n: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(n).map(ToString::to_string)
}

/// Whether any process of the server lives.
#[must_use]
pub fn is_alive(pgdata: &Path) -> bool {
    !pids(pgdata).is_empty()
}

/// Kills all of it, without its guard: for an agent whose guard stands still, so
/// that nobody else would. Whether nothing is left within `KILL_LIMIT`.
pub fn kill_all(pgdata: &Path) -> bool {
    let began = Instant::now();
    loop {
        let left = pids(pgdata);
        if left.is_empty() || began.elapsed() > KILL_LIMIT {
            return left.is_empty();
        }
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // What waits for a disk dies when that answers; until then looking costs and is of no use.
        std::thread::sleep(if began.elapsed() < AT_ONCE { AGAIN } else { LATER });
    }
}

/// Removes the socket of a server that is dead, and its lock: PostgreSQL takes the
/// lock for another's as long as anybody has the pid that it names, and its folder
/// outlives a reboot. Only one that names this directory, with nothing alive there.
pub fn remove_stale_socket(pgdata: &Path, sockets: &Path, port: u16) {
    let socket = sockets.join(format!(".s.PGSQL.{port}"));
    let lock = sockets.join(format!(".s.PGSQL.{port}.lock"));
    let Ok(text) = fs::read_to_string(&lock) else { return };
    let ours = text.lines().nth(1).is_some_and(|dir| names(pgdata).contains(&PathBuf::from(dir)));
    if ours && !is_alive(pgdata) {
        // If it can't be removed, PostgreSQL says why it does not start.
        let _ = fs::remove_file(socket);
        let _ = fs::remove_file(lock);
    }
}

/// Removes a `postmaster.pid` whose process is no server of this directory any
/// more. PostgreSQL is fooled by a zombie, or by a stranger that was given the
/// number since, and refuses to start. Only with nothing alive in the directory,
/// and nobody attached to the memory that the file names: else PostgreSQL judges.
pub fn remove_stale_pid_file(pgdata: &Path) {
    let path = pgdata.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return };
    if !is_alive(pgdata) && !is_attached(&text, &fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default())
    {
        // If it can't be removed, PostgreSQL says why it does not start.
        let _ = fs::remove_file(path);
    }
}

/// Whether somebody is attached to the segment of the pid file's seventh line
/// (key and id), by the kernel's list (key, id, …, number attached as the seventh).
fn is_attached(pid_file: &str, segments: &str) -> bool {
    let named = pid_file.lines().nth(6).and_then(|l| l.split_whitespace().nth(1));
    let Some(id) = named.and_then(|id| id.parse::<i64>().ok()) else { return false };
    segments.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<i64>);
        fields.nth(1) == Some(Ok(id)) && fields.nth(4).is_some_and(|n| n.is_ok_and(|n| n > 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_lock_goes_that_names_this_directory_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (pgdata, sockets) = (dir.path().join("pgdata"), dir.path().join("run"));
        fs::create_dir(&pgdata).unwrap();
        fs::create_dir(&sockets).unwrap();
        let lock = sockets.join(".s.PGSQL.5501.lock");
        // Somebody else has that pid now: init.
        for (named, stays) in [("/elsewhere", true), (pgdata.to_str().unwrap(), false)] {
            fs::write(&lock, format!("1\n{named}\n1700000000\n5501\n")).unwrap();
            remove_stale_socket(&pgdata, &sockets, 5501);
            assert_eq!(lock.exists(), stays, "{named}");
        }
    }

    #[test]
    fn a_segment_that_somebody_uses_is_seen() {
        let pid_file = "4711\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n  2883587        40\nready\n";
        let list = |attached: u32| {
            format!(
                "       key      shmid perms                  size  cpid  lpid nattch   uid\n   2883587         40   600                    56  4711  4711 {attached:6}    33\n"
            )
        };
        assert!(is_attached(pid_file, &list(2)));
        assert!(!is_attached(pid_file, &list(0)));
        assert!(!is_attached(pid_file, ""));
        assert!(!is_attached("4711\n/data\n", &list(2)));
    }
}
