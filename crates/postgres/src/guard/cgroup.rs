//! A cgroup (v2) of the server's own, where the host lets us make one.
//!
//! Whatever the server forks is born in it and can't leave, so one write kills
//! all of it, with no race against a fork and however its processes have moved.
//!
//! ```text
//!   <the guard's cgroup> ──┬── guard, agent
//!                          └── tanist-n1-fe01-2a3b ── the server
//! ```
//! The name holds device and inode of the node's directory: the same for every
//! guard of that directory, and nobody else's on the host.
//!
//! Never turns a controller on, and never moves a process that is not the server's.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The server's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Makes it for the node in `dir`, or finds what an earlier guard made.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn make(dir: &Path) -> Result<Cgroup, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let own = locate(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
            .ok_or("no cgroup v2 hierarchy is mounted")?;
        let cgroup = Cgroup { dir: own.join(name(dir).map_err(|e| e.to_string())?) };
        let made = fs::create_dir(&cgroup.dir);
        if let Err(why) = made.or_else(|e| if cgroup.dir.is_dir() { Ok(()) } else { Err(e) }) {
            return Err(format!("{}: {why}", cgroup.dir.display()));
        }
        let domain = fs::read_to_string(cgroup.dir.join("cgroup.type")).is_ok_and(|t| t.trim() == "domain");
        match cgroup.door() {
            Ok(_) if domain => Ok(cgroup),
            Ok(_) => Err(format!("{} takes no processes", cgroup.give_up())),
            Err(why) => Err(format!("{}: {why}", cgroup.give_up())),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a process writes `0` to in order to enter.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn door(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    /// Lets a process in, from outside.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn admit(&self, pid: i32) -> std::io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }

    /// Who is in it; the dead are not listed.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let all = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        all.lines().filter_map(|l| l.trim().parse().ok()).collect()
    }

    /// Whether anything lives in it, or below it.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        // What can't be told is not empty, unless it is not there.
        match fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(events) => events.lines().any(|l| l.trim() == "populated 1"),
            Err(why) => why.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Kills everything in it at once. Before Linux 5.14 there is no such file,
    /// and whoever is listed is to be killed one by one.
    pub fn kill(&self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
    }

    /// Takes it away; one that still holds something stays, for the next guard.
    pub fn remove(&self) {
        let _ = fs::remove_dir(&self.dir);
    }

    fn give_up(&self) -> String {
        self.remove();
        self.dir.display().to_string()
    }
}

fn name(dir: &Path) -> std::io::Result<String> {
    let of = fs::metadata(dir)?;
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '_';
    let node =
        dir.file_name().map(|n| n.to_string_lossy().chars().filter(plain).take(32).collect::<String>());
    Ok(format!("tanist-{}-{:x}-{:x}", node.unwrap_or_default(), of.dev(), of.ino()))
}

/// The directory of our own cgroup: `0::/path` of /proc/self/cgroup below the
/// mount of the cgroup2 file system, of which a container may see a part only.
fn locate(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = Path::new(own.lines().find_map(|l| l.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = own.strip_prefix(root).ok().filter(|_| right.starts_with("cgroup2 "))?;
        let seen = !below.components().any(|c| c == std::path::Component::ParentDir);
        seen.then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
        40 29 0:36 / /sys/fs/cgroup/unified rw,relatime shared:19 - cgroup2 cgroup rw\n";

    #[test]
    fn our_own_cgroup_is_found_below_the_mount() {
        let check = |own: &str, mounts: &str, wanted: Option<&str>| {
            assert_eq!(locate(own, mounts), wanted.map(PathBuf::from), "{own:?} in {mounts:?}");
        };
        check("1:cpu:/\n0::/\n", HYBRID, Some("/sys/fs/cgroup/unified/"));
        check(
            "0::/system.slice/tanist.service\n",
            HYBRID,
            Some("/sys/fs/cgroup/unified/system.slice/tanist.service"),
        );
        let part = "40 29 0:36 /docker/7 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        check("0::/docker/7/x\n", part, Some("/sys/fs/cgroup/x"));
        // Another container's part, one outside of our namespace, and none at all.
        check("0::/docker/8\n", part, None);
        check("0::/../8\n", HYBRID, None);
        check("1:cpu:/\n", HYBRID, None);
        check("0::/\n", "30 29 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu\n", None);
    }
}
