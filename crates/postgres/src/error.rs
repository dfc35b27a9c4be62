//! What can go wrong with a server we run ourselves, each with its code and page.
//!
//! One enum for the whole of running a server, because a caller treats them
//! alike: it reports the sentence, changes nothing, and judges again next round.
//!
//! Never carries a password: commands and conninfo strings are not quoted here.

use std::path::PathBuf;
use std::time::Duration;

use cluster::{Lsn, Timeline};

use crate::control_file::ControlError;
use crate::history::HistoryError;
use crate::wal::WalError;

/// The result of everything that touches the server.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done to the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or made durable.
    #[error("TAN0401: can't {deed} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        deed: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `bin_dir` holds no PostgreSQL.
    #[error("TAN0402: no PostgreSQL programs in {}: {why}. Set [postgres] bin_dir", bin_dir.display())]
    NoPrograms {
        /// Where they were looked for.
        bin_dir: PathBuf,
        /// What was missing or not understood.
        why: String,
    },
    /// A major version this build does not know.
    #[error("TAN0403: PostgreSQL {0} is not supported: Tanist runs 11 to 18")]
    UnsupportedVersion(u32),
    /// The directory was made by another major version than the programs are.
    #[error("TAN0404: the data directory {} belongs to PostgreSQL {found}, the programs are PostgreSQL {programs}. Nothing was touched; set [postgres] bin_dir to the programs of {found}", pgdata.display())]
    WrongMajor {
        /// Which directory.
        pgdata: PathBuf,
        /// Its `PG_VERSION`.
        found: String,
        /// Ours.
        programs: u32,
    },
    /// Another cluster's data.
    #[error("TAN0405: the data directory {} has the system identifier {found}, this cluster's is {expected}", pgdata.display())]
    WrongSystem {
        /// Which directory.
        pgdata: PathBuf,
        /// Its identifier.
        found: u64,
        /// The cluster's.
        expected: u64,
    },
    /// `initdb` on a directory that is there already.
    #[error("TAN0406: {} exists already: nothing was initialised", .0.display())]
    DirectoryExists(PathBuf),
    /// A program ended badly.
    #[error("TAN0407: {program} failed: {why}")]
    ProgramFailed {
        /// Which.
        program: &'static str,
        /// Its last words.
        why: String,
    },
    /// The directory for unix sockets is too deep for the kernel's 107 bytes.
    #[error("TAN0408: the socket directory {} is too long: PostgreSQL's socket path may have {max} bytes", path.display())]
    SocketPathTooLong {
        /// Which directory.
        path: PathBuf,
        /// The kernel's limit.
        max: usize,
    },
    /// A cluster-wide parameter that may not be set.
    #[error("TAN0409: the parameter '{name}' can't be set: {why}")]
    BadParameter {
        /// Which.
        name: String,
        /// Why not.
        why: String,
    },
    /// Another process listens there.
    #[error(
        "TAN0410: PostgreSQL can't listen on port {port}: something else does already ({said}). Stop that, or give this node another [postgres] port"
    )]
    PortTaken {
        /// Which port.
        port: u16,
        /// What PostgreSQL logged.
        said: String,
    },
    /// The postmaster ended before it took connections.
    #[error("TAN0411: PostgreSQL did not start: {0}")]
    StartFailed(String),
    /// Processes of an earlier run are still there.
    #[error("TAN0412: {count} process(es) of an earlier run still use {}: they must be killed before PostgreSQL may start", pgdata.display())]
    Orphans {
        /// Whose.
        pgdata: PathBuf,
        /// How many.
        count: usize,
    },
    /// It would not stop.
    #[error("TAN0413: PostgreSQL is still running {0:?} after it was killed")]
    WontStop(Duration),
    /// The guard did not do what it was asked.
    #[error("TAN0414: the guard could not {deed}: {why}")]
    Guard {
        /// What was asked.
        deed: &'static str,
        /// Its answer.
        why: String,
    },
    /// Nobody takes connections.
    #[error("TAN0415: PostgreSQL can't be reached: {0}")]
    Unreachable(String),
    /// 57P03: it is starting, shutting down, or not yet consistent.
    #[error("TAN0416: PostgreSQL is not taking connections yet: {0}")]
    NotReady(String),
    /// No answer in time, though a connection may exist.
    #[error("TAN0417: PostgreSQL did not answer within {limit:?} ({what})")]
    Hung {
        /// What was asked.
        what: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// It refused a statement.
    #[error("TAN0418: PostgreSQL refused to {what}: {message} ({sqlstate})")]
    Sql {
        /// What was asked, in words.
        what: &'static str,
        /// Its message.
        message: String,
        /// Its five-letter code.
        sqlstate: String,
    },
    /// It answered something that we can't read.
    #[error("TAN0419: PostgreSQL's answer can't be read: {0}")]
    BadAnswer(String),
    /// A setting we wrote is not the one in force.
    #[error("TAN0420: '{name}' is set to something else than Tanist wrote ('{found}')")]
    Overridden {
        /// Which setting.
        name: &'static str,
        /// What is in force.
        found: String,
    },
    /// C-5: a walreceiver that does not go away.
    #[error("TAN0421: a walreceiver (pid {pid}) still runs {limit:?} after its ack path was cut")]
    AckPathStays {
        /// Which.
        pid: u32,
        /// How long we tried.
        limit: Duration,
    },
    /// C5: replay does not get there.
    #[error("TAN0422: replay stands at {replayed} and has not reached {needed} within {limit:?}")]
    ReplayBehind {
        /// Where it is.
        replayed: Lsn,
        /// Where it must be.
        needed: Lsn,
        /// How long we waited.
        limit: Duration,
    },
    /// It is not a standby, so it can't be promoted.
    #[error("TAN0423: PostgreSQL is not in recovery, so it can't be promoted")]
    NotInRecovery,
    /// The agent withdrew its permission in the last moment.
    #[error("TAN0424: the promotion was called off: {0}")]
    CalledOff(String),
    /// It stays in recovery.
    #[error("TAN0425: PostgreSQL has not left recovery within {0:?} of being asked to promote")]
    PromotionLate(Duration),
    /// C6: it opened another timeline than the one reserved.
    #[error("TAN0426: PostgreSQL opened timeline {found}, the term's is {expected}")]
    WrongTimeline {
        /// What it opened.
        found: Timeline,
        /// What was reserved.
        expected: Timeline,
    },
    /// C6: its history file has no legal form.
    #[error("TAN0427: the history file of timeline {0} does not say what it must")]
    WrongHistory(Timeline),
    /// A walsender that neither flushed L nor could be ended.
    #[error(
        "TAN0428: the rule is not proven: {name} (pid {pid}) has not passed {lsn} and can't be ended within {limit:?}"
    )]
    BarrierStuck {
        /// Its `application_name`.
        name: String,
        /// Which process.
        pid: u32,
        /// L.
        lsn: Lsn,
        /// How long we waited.
        limit: Duration,
    },
    /// Too few standbys have flushed L.
    #[error(
        "TAN0429: {have} of the {need} standbys that must have flushed {lsn} have done so within {limit:?}"
    )]
    BarrierShort {
        /// How many did.
        have: usize,
        /// How many must.
        need: usize,
        /// L.
        lsn: Lsn,
        /// How long we waited.
        limit: Duration,
    },
}

impl Error {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::File { .. } => "TAN0401",
            Error::NoPrograms { .. } => "TAN0402",
            Error::UnsupportedVersion(_) => "TAN0403",
            Error::WrongMajor { .. } => "TAN0404",
            Error::WrongSystem { .. } => "TAN0405",
            Error::DirectoryExists(_) => "TAN0406",
            Error::ProgramFailed { .. } => "TAN0407",
            Error::SocketPathTooLong { .. } => "TAN0408",
            Error::BadParameter { .. } => "TAN0409",
            Error::PortTaken { .. } => "TAN0410",
            Error::StartFailed(_) => "TAN0411",
            Error::Orphans { .. } => "TAN0412",
            Error::WontStop(_) => "TAN0413",
            Error::Guard { .. } => "TAN0414",
            Error::Unreachable(_) => "TAN0415",
            Error::NotReady(_) => "TAN0416",
            Error::Hung { .. } => "TAN0417",
            Error::Sql { .. } => "TAN0418",
            Error::BadAnswer(_) => "TAN0419",
            Error::Overridden { .. } => "TAN0420",
            Error::AckPathStays { .. } => "TAN0421",
            Error::ReplayBehind { .. } => "TAN0422",
            Error::NotInRecovery => "TAN0423",
            Error::CalledOff(_) => "TAN0424",
            Error::PromotionLate(_) => "TAN0425",
            Error::WrongTimeline { .. } => "TAN0426",
            Error::WrongHistory(_) => "TAN0427",
            Error::BarrierStuck { .. } => "TAN0428",
            Error::BarrierShort { .. } => "TAN0429",
        }
    }

    /// Whether the data directory itself may be to blame, so that a new copy of it
    /// may be the cure. What a server or `pg_rewind` says is only known as text
    /// (always English, as we start them); in doubt the data is to blame.
    #[must_use]
    pub fn is_of_the_data(&self) -> bool {
        match self {
            Error::StartFailed(said) => !SURROUNDINGS.iter().any(|word| said.contains(word)),
            // It connects before it changes anything, and leaves a mess whatever ends it later.
            Error::ProgramFailed { program: "pg_rewind", why } => {
                !NOT_CONNECTED.iter().any(|w| why.contains(w))
            }
            Error::BadAnswer(_) | Error::ReplayBehind { .. } => true,
            Error::File { .. }
            | Error::NoPrograms { .. }
            | Error::UnsupportedVersion(_)
            | Error::WrongMajor { .. }
            | Error::WrongSystem { .. }
            | Error::DirectoryExists(_)
            | Error::ProgramFailed { .. }
            | Error::SocketPathTooLong { .. }
            | Error::BadParameter { .. }
            | Error::PortTaken { .. }
            | Error::Orphans { .. }
            | Error::WontStop(_)
            | Error::Guard { .. }
            | Error::Unreachable(_)
            | Error::NotReady(_)
            | Error::Hung { .. }
            | Error::Sql { .. }
            | Error::Overridden { .. }
            | Error::AckPathStays { .. }
            | Error::NotInRecovery
            | Error::CalledOff(_)
            | Error::PromotionLate(_)
            | Error::WrongTimeline { .. }
            | Error::WrongHistory(_)
            | Error::BarrierStuck { .. }
            | Error::BarrierShort { .. } => false,
        }
    }

    /// Wraps an I/O error with what was tried on which path.
    pub fn file(deed: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { deed, path, source }
    }
}

/// What reading the log, the control file and histories can say: that the system would
/// not let us (a full or failing disk, rights, descriptors) says nothing about the data.
/// That a file is missing, or what is in it, does.
fn said(code: &'static str, deed: &'static str, path: PathBuf, source: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    if [InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof].contains(&source.kind()) {
        return Error::BadAnswer(format!("{code}: can't {deed} {}: {source}", path.display()));
    }
    Error::File { deed, path, source }
}

impl From<WalError> for Error {
    fn from(e: WalError) -> Error {
        let code = e.code();
        match e {
            WalError::Read { path, source } => said(code, "read", path, source),
            WalError::Sync { path, source } => said(code, "fsync", path, source),
            WalError::Write { deed, path, source } => said(code, deed, path, source),
            WalError::Control(e) => e.into(),
            WalError::History(e) => e.into(),
            WalError::NoRecord(_)
            | WalError::EndsEarly { .. }
            | WalError::Gone { .. }
            | WalError::Misplaced { .. } => Error::BadAnswer(format!("{code}: {e}")),
        }
    }
}

impl From<ControlError> for Error {
    fn from(e: ControlError) -> Error {
        let code = e.code();
        match e {
            ControlError::Read { path, source } => said(code, "read", path, source),
            ControlError::Damaged(_) | ControlError::Version(_) => Error::BadAnswer(format!("{code}: {e}")),
        }
    }
}

impl From<HistoryError> for Error {
    fn from(e: HistoryError) -> Error {
        let code = e.code();
        match e {
            HistoryError::File { deed, path, source } => said(code, deed, path, source),
            HistoryError::NotDurable(e) => e,
            HistoryError::Damaged { .. } | HistoryError::Unexpected { .. } => {
                Error::BadAnswer(format!("{code}: {e}"))
            }
        }
    }
}

/// Words of PostgreSQL by which what surrounds the data is to blame, not the data:
/// the disk, rights, memory or the configuration.
const SURROUNDINGS: [&str; 9] = [
    "No space left on device",
    "Permission denied",
    "Input/output error",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
    "could not create shared memory segment",
    "could not load",
    "configuration file",
];

/// How libpq says that it got no connection: 14 and newer, and before.
const NOT_CONNECTED: [&str; 2] = ["connection to server at", "could not connect to server"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_no_cure_for_a_full_disk_or_a_leader_out_of_reach() {
        let start = |said: &str| Error::StartFailed(said.to_string());
        let rewind = |why: &str| Error::ProgramFailed { program: "pg_rewind", why: why.to_string() };
        assert!(start("PANIC:  could not locate a valid checkpoint record").is_of_the_data());
        assert!(!start("FATAL:  could not write lock file: No space left on device").is_of_the_data());
        assert!(rewind("could not find previous WAL record at 0/3000028").is_of_the_data());
        assert!(rewind("could not fetch file: No space left on device").is_of_the_data(), "it had begun");
        assert!(!rewind("could not connect to server: Connection refused").is_of_the_data());
        assert!(!rewind("connection to server at \"10.0.0.1\", port 1 failed").is_of_the_data());
        assert!(!Error::PortTaken { port: 1, said: String::new() }.is_of_the_data());
    }

    #[test]
    fn a_copy_is_no_cure_for_a_host_that_will_not_read_or_write() {
        let io = std::io::Error::from_raw_os_error;
        let path = || PathBuf::from("/n1/pgdata/pg_wal/000000010000000000000001");
        // EIO, EACCES, ENFILE, EMFILE, ENOSPC, EROFS, EDQUOT; then ENOENT, ENOTDIR.
        for (number, of_the_data) in [
            (5, false),
            (13, false),
            (23, false),
            (24, false),
            (28, false),
            (30, false),
            (122, false),
            (2, true),
            (20, true),
        ] {
            let all: [Error; 6] = [
                WalError::Read { path: path(), source: io(number) }.into(),
                WalError::Sync { path: path(), source: io(number) }.into(),
                WalError::Write { deed: "blank", path: path(), source: io(number) }.into(),
                WalError::Control(ControlError::Read { path: path(), source: io(number) }).into(),
                ControlError::Read { path: path(), source: io(number) }.into(),
                HistoryError::File { deed: "list", path: path(), source: io(number) }.into(),
            ];
            for error in all {
                assert_eq!(error.is_of_the_data(), of_the_data, "{error}");
            }
        }
        let not_durable = HistoryError::NotDurable(Error::file("fsync", path())(io(28)));
        assert!(!Error::from(WalError::from(not_durable)).is_of_the_data());
        assert!(Error::from(WalError::NoRecord(Lsn(8))).is_of_the_data());
        assert!(Error::from(ControlError::Damaged("its checksum is wrong")).is_of_the_data());
    }

    /// As it comes up from a real directory, and not only by its name.
    #[test]
    fn a_control_file_that_can_not_be_read_is_no_bad_data() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Error::from(crate::wal::scan_end(dir.path(), crate::wal::ScanStart::Redo).unwrap_err());
        assert!(read().is_of_the_data(), "there is none");
        // A link to itself: ELOOP, which root gets too.
        std::fs::create_dir(dir.path().join("global")).unwrap();
        std::os::unix::fs::symlink("pg_control", dir.path().join("global/pg_control")).unwrap();
        assert!(!read().is_of_the_data(), "{}", read());
        assert_eq!(read().code(), "TAN0401");
    }
}
