//! The wall clock of one node's agent and guard, which jumps.
//!
//! By libfaketime, which a program must be started with: `environment` is for the
//! start, `Clock` makes the jumps. Only CLOCK_REALTIME: a monotonic clock never
//! jumps, whatever an operator or a time server does to the wall clock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stage::{StageError, folder};

/// The wall clock of one node.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
}

/// The library, where the distribution puts it; `None` if it is not installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib").ok()?.flatten();
    found.map(|e| e.path().join("faketime/libfaketime.so.1")).find(|p| p.exists())
}

impl Clock {
    /// A clock that is right, told by `file`, which need not exist yet.
    ///
    /// # Errors
    /// `Folder`.
    pub fn new(file: &Path) -> Result<Clock, StageError> {
        let clock = Clock { file: file.to_path_buf() };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds off, from now on.
    ///
    /// # Errors
    /// `Folder`.
    pub fn set(&self, seconds: i64) -> Result<(), StageError> {
        fs::write(&self.file, format!("{seconds:+}s\n")).map_err(folder(&self.file))
    }

    /// What a program must be started with to go by it; nothing without the library.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let Some(library) = library() else { return Vec::new() };
        let all = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_string()),
            ("FAKETIME_NO_CACHE", "1".to_string()),
        ];
        all.map(|(name, value)| (name.to_string(), value)).to_vec()
    }
}
