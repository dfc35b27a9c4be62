//! A disk of its own for a node: an ext4 in a file, so that it can be full, hang,
//! or lose what was not synced, as a real one does, and nobody else's does.
//!
//! A frozen file system (FIFREEZE) keeps every writer in uninterruptible sleep:
//! not even SIGKILL ends one before it thaws, as with a disk that does not answer.
//! A shut down one (FS_IOC_SHUTDOWN without flushing the log) has forgotten all
//! that was not synced when it is mounted again, as after a power cut.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::stage::{StageError, folder};

/// Room on one, in bytes; the file takes only what is used.
const ROOM_BYTES: u64 = 2 << 30;
/// What fills it up.
const FILLER: &str = "filler";
/// Longest that unmounting may be refused because somebody is still dying there.
const BUSY_LIMIT: Duration = Duration::from_secs(20);
/// Shuts a file system down; `perl` because it is on every Debian and has ioctl:
/// _IOR('X', 125, __u32), with FSOP_GOING_FLAGS_NOLOGFLUSH.
const SHUT_DOWN: &str = "open(my $f, '<', $ARGV[0]) or die $!; my $how = pack('L', 2); \
    ioctl($f, 0x8004587D, $how) or die $!;";

/// One node's disk; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), StageError> {
    let disk = |why: String| StageError::Disk(format!("'{program} {}': {why}", arguments.join(" ")));
    let out = Command::new(program).args(arguments).output().map_err(|e| disk(e.to_string()))?;
    let why = String::from_utf8_lossy(&out.stderr).trim().to_string();
    if out.status.success() { Ok(()) } else { Err(disk(why)) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Disk {
    /// An empty one in the file `image`, mounted at `at`.
    ///
    /// # Errors
    /// `Disk`, `Folder`.
    pub fn make(image: &Path, at: &Path) -> Result<Disk, StageError> {
        fs::create_dir_all(at).map_err(folder(at))?;
        let file = File::create(image).map_err(folder(image))?;
        file.set_len(ROOM_BYTES).map_err(folder(image))?;
        // No blocks kept back for root, who is the one that fills it.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", &text(image)])?;
        let disk = Disk { image: image.to_path_buf(), at: at.to_path_buf() };
        disk.mount()?;
        let _ = fs::remove_dir(at.join("lost+found"));
        Ok(disk)
    }

    fn mount(&self) -> Result<(), StageError> {
        run("mount", &["-o", "loop,noatime", &text(&self.image), &text(&self.at)])
    }

    /// Where it is mounted.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Leaves no room on it, until what is given back is dropped.
    ///
    /// # Errors
    /// `Folder`.
    pub fn fill(&self) -> Result<Full, StageError> {
        let path = self.at.join(FILLER);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(folder(&path))?;
        let full = Full(path);
        let mut end = 0;
        for step in [64 << 20, 1 << 20, 4096] {
            while fallocate(&file, FallocateFlags::empty(), end, step).is_ok() {
                end += step;
            }
        }
        Ok(full)
    }

    /// Makes it hang, until what is given back is dropped.
    ///
    /// # Errors
    /// `Disk`.
    pub fn hang(&self) -> Result<Hung, StageError> {
        run("fsfreeze", &["--freeze", &text(&self.at)])?;
        Ok(Hung(self.at.clone()))
    }

    /// Forgets what was not synced. Everything that used it must be dead.
    ///
    /// # Errors
    /// `Disk`.
    pub fn lose_unsynced(&self) -> Result<(), StageError> {
        run("perl", &["-e", SHUT_DOWN, &text(&self.at)])?;
        self.unmount()?;
        self.mount()
    }

    fn unmount(&self) -> Result<(), StageError> {
        let began = Instant::now();
        loop {
            match run("umount", &[&text(&self.at)]) {
                Err(_) if began.elapsed() < BUSY_LIMIT => std::thread::sleep(Duration::from_millis(50)),
                done => return done,
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
        let _ = fs::remove_file(&self.image);
    }
}

/// A disk without room.
#[derive(Debug)]
pub struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A disk that hangs.
#[derive(Debug)]
pub struct Hung(PathBuf);

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &["--unfreeze", &text(&self.0)]);
    }
}

/// Thaws the disks that a run which was broken off left hanging below `dir`.
pub fn thaw(dir: &Path) {
    for at in mounted_below(dir) {
        let _ = run("fsfreeze", &["--unfreeze", &text(&at)]);
    }
}

/// Has what is mounted and unmounted below `dir` be so in every mount namespace
/// that is made from now on. `ip netns exec` makes one, which would else keep a
/// disk alive that was unmounted here.
///
/// # Errors
/// `Disk`.
pub fn share(dir: &Path) -> Result<(), StageError> {
    run("mount", &["--bind", &text(dir), &text(dir)])?;
    run("mount", &["--make-shared", &text(dir)])
}

/// Takes away the disks that it left mounted there, and undoes `share`.
pub fn clear_away(dir: &Path) {
    for at in mounted_below(dir).iter().rev() {
        let _ = run("umount", &["-l", &text(at)]);
    }
}

/// In the order in which they were mounted.
fn mounted_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|l| l.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|p| p.starts_with(dir)).collect()
}
