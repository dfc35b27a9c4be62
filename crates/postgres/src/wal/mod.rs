//! The write-ahead log on disk: where it ends, and whose end that is.
//!
//! `pg_last_wal_receive_lsn()` is no vote: it is NULL after a restart and goes
//! backwards on a re-attach (protocol 0, finding 2). So the log itself is read,
//! with the server running or down: `page` and `record` judge bytes, `segment`
//! brings them from files, `scan` finds the end over all timelines (C-1).
//!
//! Never changes a byte of the log, except for `half_streamed` and `unfinished`,
//! with the server down.

pub mod between;
pub mod half_streamed;
pub mod page;
pub mod record;
pub mod scan;
pub mod segment;
#[cfg(test)]
mod tests;
pub mod unfinished;

use std::io;
use std::path::PathBuf;

use cluster::Lsn;

use crate::control_file::ControlError;
use crate::history::HistoryError;

pub use record::Record;
pub use scan::{CleanShutdown, ScanStart, WalEnd, clean_shutdown, scan_end};

/// Why the end of the log can't be told. Whoever meets one has no position: it
/// may promise, and it discovers nothing.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file or directory could not be read. It may hold acknowledged commits.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was found could not be made durable.
    #[error("can't fsync {}: {source}", path.display())]
    Sync {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written or moved.
    #[error("can't {deed} {}: {source}", path.display())]
    Write {
        /// What was tried, as a verb.
        deed: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No control file to go by.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No history to go by.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is no whole record where there must be one.
    #[error("there is no whole WAL record at {0}, where recovery would begin")]
    NoRecord(Lsn),
    /// The log ends before a place that this server is known to have reached.
    #[error("the WAL ends at {end}, though this server has been at {known}")]
    EndsEarly {
        /// End of the last whole record.
        end: Lsn,
        /// What the control file or the server says.
        known: Lsn,
    },
    /// Asked for bytes that are not here.
    #[error("the WAL of {from} is not here any more (or not yet)")]
    Gone {
        /// First byte that is missing.
        from: Lsn,
    },
    /// Handed bytes that fit nowhere.
    #[error("WAL bytes at {at} can't be taken: {why}")]
    Misplaced {
        /// Where they should go.
        at: Lsn,
        /// Why they can't.
        why: &'static str,
    },
}

impl WalError {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            WalError::Read { .. } => "TAN0450",
            WalError::Sync { .. } => "TAN0451",
            WalError::Write { .. } => "TAN0458",
            WalError::Control(e) => e.code(),
            WalError::History(e) => e.code(),
            WalError::NoRecord(_) => "TAN0454",
            WalError::EndsEarly { .. } => "TAN0455",
            WalError::Gone { .. } => "TAN0459",
            WalError::Misplaced { .. } => "TAN0460",
        }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WalError {
        let path = path.into();
        move |source| WalError::Read { path, source }
    }

    pub(crate) fn sync(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WalError {
        let path = path.into();
        move |source| WalError::Sync { path, source }
    }

    pub(crate) fn write(deed: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WalError {
        let path = path.into();
        move |source| WalError::Write { deed, path, source }
    }
}
