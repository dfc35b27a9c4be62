//! The one holder of the promises' file, shared by deeds and the loop.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster::Vows;

use crate::vows::{VowsError, VowsFile};

/// Promises, and the file they are in.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    file: Mutex<VowsFile>,
}

impl Keeper {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// As `VowsFile::open`.
    pub fn open(path: &Path) -> Result<Keeper, VowsError> {
        Ok(Keeper { path: path.to_owned(), file: Mutex::new(VowsFile::open(path)?) })
    }

    /// What is promised, on disk.
    #[must_use]
    pub fn vows(&self) -> Vows {
        self.lock().vows().clone()
    }

    /// Changes the promises; returns once that is on disk.
    ///
    /// # Errors
    /// As `VowsFile::write`; nothing is then promised anew.
    pub fn vow(&self, change: impl FnOnce(&mut Vows)) -> Result<(), VowsError> {
        let mut file = self.lock();
        let mut vows = file.vows().clone();
        change(&mut vows);
        if vows == *file.vows() {
            return Ok(());
        }
        file.write(&self.path, vows)
    }

    /// A thread that panicked while writing left the file as it was or as it meant.
    fn lock(&self) -> MutexGuard<'_, VowsFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
