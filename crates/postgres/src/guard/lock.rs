//! One guard for one directory: a lock that lasts as long as the process does.
//!
//! A second guard would kill the first one's server before it said a word, so
//! the lock is taken before anything else is touched. The kernel lets go of it
//! when the guard is gone, however it went; children do not inherit it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::GuardError;

/// The file, in the node's directory.
pub const LOCK_FILE: &str = "guard.lock";
/// How long a guard that is just ending is waited for.
pub const LOCK_LIMIT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// Takes the lock of `dir`; it is held until the file is closed.
pub(super) fn take(dir: &Path) -> Result<File, GuardError> {
    let path = dir.join(LOCK_FILE);
    let unusable = |e: std::io::Error| GuardError::Unusable { path: path.clone(), why: e.to_string() };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path).map_err(unusable)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_LIMIT => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(GuardError::Taken { dir: dir.to_owned(), pid: pid.trim().to_string() });
            }
            Err(TryLockError::Error(why)) => return Err(unusable(why)),
        }
    }
    // Only for people, and for the sentence of a second guard: a full disk is no reason to stop.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}
