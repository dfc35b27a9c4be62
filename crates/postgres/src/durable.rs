//! Small files that are either the old one or the new one, and on disk when we
//! say so.
//!
//! A promise, a cut or a sync rule that a power loss can undo is none, so every
//! change here is: write beside, fsync, rename, fsync the directory.
//!
//! Never changes a file in place.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Error, Result};
use crate::os_user::RunAs;

/// Owner alone may read and write.
pub const PRIVATE: u32 = 0o600;

/// Largest file that is read whole. Ours have a few kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Puts `bytes` at `path`, mode 0600, owned by `owner`, and returns once that
/// survives a power loss.
///
/// # Errors
/// `File`; the old file is then still whole.
pub fn replace(path: &Path, bytes: &[u8], owner: RunAs) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tanist-new");
    let beside = Path::new(&beside);
    remove_if_there(beside)?;
    let written = write_new(beside, bytes, owner);
    if written.is_err() {
        // A leftover would only take room on a disk that may be full.
        let _ = fs::remove_file(beside);
    }
    written?;
    fs::rename(beside, path).map_err(Error::file("rename to", path))?;
    sync_parent(path)
}

fn write_new(path: &Path, bytes: &[u8], owner: RunAs) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)
        .map_err(Error::file("create", path))?;
    // The umask may have taken bits away, never added any.
    file.set_permissions(fs::Permissions::from_mode(PRIVATE))
        .map_err(Error::file("set the mode of", path))?;
    owner.own(path)?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    file.sync_all().map_err(Error::file("fsync", path))
}

/// Like `replace`, but leaves the file alone when it says that already.
/// Returns whether it was changed.
///
/// # Errors
/// As `replace`.
pub fn replace_if_other(path: &Path, bytes: &[u8], owner: RunAs) -> Result<bool> {
    if read_if_there(path)?.as_deref() == Some(bytes) {
        return Ok(false);
    }
    replace(path, bytes, owner).map(|()| true)
}

/// The whole file; `None` when there is none.
///
/// # Errors
/// `File`.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        // Half a file, written back, would be worse than none.
        return Err(Error::file("read", path)(ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// The whole file as text; "" when there is none.
///
/// # Errors
/// `File`; bytes that are no UTF-8 are replaced, as comments may hold any.
pub fn text_if_there(path: &Path) -> Result<String> {
    Ok(read_if_there(path)?.map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default())
}

/// Removes a file durably. Returns whether it was there.
///
/// # Errors
/// `File`.
pub fn remove(path: &Path) -> Result<bool> {
    let was_there = remove_if_there(path)?;
    if was_there {
        sync_parent(path)?;
    }
    Ok(was_there)
}

fn remove_if_there(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::file("remove", path)(e)),
    }
}

/// Makes a directory (and its parents) if it is missing, and sets mode and owner of the last.
///
/// # Errors
/// `File`.
pub fn make_dir(path: &Path, mode: u32, owner: RunAs) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::file("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::file("set the mode of", path))?;
    owner.own(path)
}

/// Makes a rename, creation or removal inside `dir` durable.
///
/// # Errors
/// `File`.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::file("fsync", dir))
}

fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Runs blocking file work where it can't hold up the agent's heartbeats.
///
/// # Errors
/// Whatever `work` returns.
pub async fn off_loop<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Unreachable("the agent is shutting down".to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_private_and_only_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(replace_if_other(&path, b"one", RunAs::current()).unwrap());
        assert!(!replace_if_other(&path, b"one", RunAs::current()).unwrap());
        assert!(replace_if_other(&path, b"two", RunAs::current()).unwrap());
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
