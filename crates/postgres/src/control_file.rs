//! `global/pg_control`, PostgreSQL 11 to 18: what a server knows of itself
//! while it is down.
//!
//! Read by ourselves rather than through `pg_controldata`, because it is read
//! on the path of every election, and its text is meant for people and
//! translated. The layout is that of the C struct on 64-bit little-endian
//! machines; `maxAlign` and `floatFormat` betray any other. 11 differs from
//! the rest in one stretch, and 18 in where the checksum stands.
//!
//! Never writes it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cluster::{Lsn, Timeline};

use crate::wal::page::{Form, u32_at, u64_at};

/// Largest `pg_control` (`PG_CONTROL_FILE_SIZE`).
const FILE_BYTES: u64 = 8192;
/// `maxAlign` of every 64-bit build.
const MAX_ALIGN: u32 = 8;
/// `FLOATFORMAT_VALUE`: 1234567.0 as this machine's double.
const FLOAT_FORMAT: u64 = 0x4132_D687_0000_0000;
/// Times a torn read is tried again: the server rewrites the file in place.
const READ_ATTEMPTS_MAX: u32 = 20;

/// Why there is no control file to go by.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file system said no.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its checksum is wrong, or a number in it impossible.
    #[error("pg_control is damaged: {0}")]
    Damaged(&'static str),
    /// A version or machine that we can't read.
    #[error(
        "pg_control has the version number {0}, which is of no PostgreSQL from 11 to 18 on this kind of machine"
    )]
    Version(u32),
}

impl ControlError {
    /// The code under which `errors/` explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ControlError::Read { .. } => "TAN0450",
            ControlError::Damaged(_) => "TAN0452",
            ControlError::Version(_) => "TAN0453",
        }
    }
}

/// How a server was when it last wrote its control file (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbState {
    /// Fresh from `initdb`, for a moment.
    Startup,
    /// "shut down": cleanly, as a primary.
    ShutDown,
    /// "shut down in recovery": cleanly, as a standby.
    ShutDownInRecovery,
    /// It was shutting down.
    ShuttingDown,
    /// It was recovering from a crash.
    InCrashRecovery,
    /// It was a standby, or is one.
    InArchiveRecovery,
    /// It was a primary, or is one.
    InProduction,
}

/// What we read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// System identifier.
    pub sysid: u64,
    /// `pg_control_version`.
    pub version: u32,
    /// `catalog_version_no`.
    pub catalog: u32,
    /// How the server was.
    pub state: DbState,
    /// Start of the last checkpoint record (on a standby: the last that it restarted from).
    pub checkpoint: Lsn,
    /// Where crash recovery would begin.
    pub redo: Lsn,
    /// The timeline of that checkpoint.
    pub timeline: Timeline,
    /// The one before it, if that checkpoint ended a recovery; else the same.
    pub previous_timeline: Timeline,
    /// A standby is consistent once it has replayed so far; 0/0 on a primary.
    pub min_recovery: Lsn,
    /// The timeline of `min_recovery`; 0 on a primary.
    pub min_recovery_timeline: Timeline,
    /// The base backup that it is being made from still has to be ended.
    pub backup_end_required: bool,
    /// Start of that base backup; 0/0 when none.
    pub backup_start: Lsn,
    /// `wal_log_hints` was on.
    pub wal_log_hints: bool,
    /// Version of the data checksums; 0 when they are off.
    pub checksum_version: u32,
    /// Bytes of a WAL page.
    pub page_bytes: u32,
    /// Bytes of a WAL segment.
    pub segment_bytes: u32,
}

/// Where the fields behind the checkpoint's copy stand.
struct Layout {
    min_recovery: usize,
    wal_log_hints: usize,
    max_align: usize,
    checksum_version: usize,
    crc: usize,
}

const LAYOUT_11: Layout =
    Layout { min_recovery: 0x80, wal_log_hints: 0xA8, max_align: 0xC0, checksum_version: 0xF4, crc: 0x118 };
const LAYOUT_12: Layout =
    Layout { min_recovery: 0x88, wal_log_hints: 0xB0, max_align: 0xCC, checksum_version: 0xFC, crc: 0x120 };
/// One byte of `default_char_signedness` came before the nonce.
const LAYOUT_18: Layout = Layout { crc: 0x124, ..LAYOUT_12 };

impl ControlFile {
    /// Reads `global/pg_control` below `pgdata`.
    ///
    /// # Errors
    /// `Read`, and what `parse` says once it says so for good.
    pub fn read(pgdata: &Path) -> Result<ControlFile, ControlError> {
        let path = pgdata.join("global/pg_control");
        let mut last = ControlError::Damaged("it is empty");
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|f| f.take(FILE_BYTES).read_to_end(&mut bytes))
                .map_err(|source| ControlError::Read { path: path.clone(), source })?;
            match ControlFile::parse(&bytes) {
                Ok(control) => return Ok(control),
                Err(e @ ControlError::Damaged(_)) => last = e,
                Err(e @ (ControlError::Read { .. } | ControlError::Version(_))) => return Err(e),
            }
        }
        Err(last)
    }

    /// Reads the bytes of one.
    ///
    /// # Errors
    /// `Version`, `Damaged`.
    pub fn parse(bytes: &[u8]) -> Result<ControlFile, ControlError> {
        let version = u32_at(bytes, 8);
        let layout = match version {
            1100 => LAYOUT_11,
            1201 | 1300 | 1700 => LAYOUT_12,
            1800 => LAYOUT_18,
            other => return Err(ControlError::Version(other)),
        };
        let covered = bytes.get(..layout.crc).ok_or(ControlError::Damaged("it is too short"))?;
        if bytes.len() < layout.crc + 4 || crc32c::crc32c(covered) != u32_at(bytes, layout.crc) {
            return Err(ControlError::Damaged("its checksum is wrong"));
        }
        let float_format = u64_at(bytes, (layout.max_align + 4).next_multiple_of(8));
        if u32_at(bytes, layout.max_align) != MAX_ALIGN || float_format != FLOAT_FORMAT {
            return Err(ControlError::Version(version));
        }
        let control = read_fields(bytes, version, &layout)?;
        control.form().map(|_| control)
    }

    /// The form of this server's WAL.
    ///
    /// # Errors
    /// `Damaged` when the sizes are impossible.
    pub fn form(&self) -> Result<Form, ControlError> {
        Form::new(self.major(), self.sysid, self.page_bytes, self.segment_bytes)
            .ok_or(ControlError::Damaged("its WAL sizes are impossible"))
    }

    /// The major version of the server that it belongs to.
    #[must_use]
    pub fn major(&self) -> u32 {
        // 13 to 16 share one control version; a catalog version never changes
        // within a major one, and begins with the date it was made on.
        match (self.version, self.catalog) {
            (1100, _) => 11,
            (1201, _) => 12,
            (1700, _) => 17,
            (1800, _) => 18,
            (_, 0..202_100_000) => 13,
            (_, 202_100_000..202_200_000) => 14,
            (_, 202_200_000..202_300_000) => 15,
            (_, 202_300_000..) => 16,
        }
    }

    /// Whether the server was shut down cleanly, as primary or standby.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.state, DbState::ShutDown | DbState::ShutDownInRecovery)
    }

    /// Whether `pg_rewind` may be used on this server's pages.
    #[must_use]
    pub fn can_be_rewound(&self) -> bool {
        self.wal_log_hints || self.checksum_version != 0
    }
}

fn read_fields(bytes: &[u8], version: u32, layout: &Layout) -> Result<ControlFile, ControlError> {
    let state = match u32_at(bytes, 16) {
        0 => DbState::Startup,
        1 => DbState::ShutDown,
        2 => DbState::ShutDownInRecovery,
        3 => DbState::ShuttingDown,
        4 => DbState::InCrashRecovery,
        5 => DbState::InArchiveRecovery,
        6 => DbState::InProduction,
        _ => return Err(ControlError::Damaged("it is in no known state")),
    };
    let flag = |at: usize| bytes.get(at).is_some_and(|b| *b != 0);
    let sizes = layout.max_align + if version == 1100 { 24 } else { 20 };
    Ok(ControlFile {
        sysid: u64_at(bytes, 0),
        version,
        catalog: u32_at(bytes, 12),
        state,
        checkpoint: Lsn(u64_at(bytes, 32)),
        redo: Lsn(u64_at(bytes, 40)),
        timeline: Timeline(u32_at(bytes, 48)),
        previous_timeline: Timeline(u32_at(bytes, 52)),
        min_recovery: Lsn(u64_at(bytes, layout.min_recovery)),
        min_recovery_timeline: Timeline(u32_at(bytes, layout.min_recovery + 8)),
        backup_start: Lsn(u64_at(bytes, layout.min_recovery + 16)),
        backup_end_required: flag(layout.min_recovery + 32),
        wal_log_hints: flag(layout.wal_log_hints),
        checksum_version: u32_at(bytes, layout.checksum_version),
        page_bytes: u32_at(bytes, sizes),
        segment_bytes: u32_at(bytes, sizes + 4),
    })
}
