//! What differs between PostgreSQL 11 and 18, in one table.
//!
//! Nothing else in this crate compares version numbers: a difference that is
//! not a column here does not exist for us. Tested on 15; a column about
//! another version is what its release notes say until a test runs on it.
//!
//! Never guesses: a version outside the table is refused.

use crate::error::{Error, Result};

/// What a major version has, or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differences {
    /// `11` to `18`.
    pub major: u32,
    /// `standby.signal` and recovery settings in `postgresql.conf` (12); before, `recovery.conf`.
    pub standby_signal: bool,
    /// `pg_promote()` (12); before, a trigger file and SIGUSR1.
    pub pg_promote: bool,
    /// `pg_stat_replication.reply_time` (12).
    pub reply_time: bool,
    /// `wal_init_zero`, `wal_recycle`, `tcp_user_timeout`, `ssl_min_protocol_version` (12); in
    /// its libpq `tcp_user_timeout` and `gssencmode`: an older one refuses what it does not know.
    pub settings_of_12: bool,
    /// `primary_conninfo` obeys a reload (13); before, only a restart.
    pub upstream_reloads: bool,
    /// xid8 functions (13); before, `txid_*`.
    pub xid8: bool,
    /// `wal_keep_size`, `max_slot_wal_keep_size`, slots' `wal_status`, walreceiver's `flushed_lsn` (13).
    pub wal_limits: bool,
    /// `pg_rewind` runs crash recovery by itself unless told not to (13).
    pub rewind_recovers: bool,
    /// `restore_command` obeys a reload (14).
    pub restore_command_reloads: bool,
    /// Recovery pauses, rather than stops, when a shared-memory setting is below the primary's (14).
    pub pauses_on_small_settings: bool,
    /// `recovery_init_sync_method` (14).
    pub init_sync_method: bool,
    /// `initdb --no-instructions` (14).
    pub initdb_quiet: bool,
    /// `initdb --locale-provider=builtin` (17): collation that no C library can change.
    pub builtin_locale: bool,
    /// `allow_alter_system` (17).
    pub allow_alter_system: bool,
}

const V11: Differences = Differences {
    major: 11,
    standby_signal: false,
    pg_promote: false,
    reply_time: false,
    settings_of_12: false,
    upstream_reloads: false,
    xid8: false,
    wal_limits: false,
    rewind_recovers: false,
    restore_command_reloads: false,
    pauses_on_small_settings: false,
    init_sync_method: false,
    initdb_quiet: false,
    builtin_locale: false,
    allow_alter_system: false,
};
const V12: Differences = Differences {
    major: 12,
    standby_signal: true,
    pg_promote: true,
    reply_time: true,
    settings_of_12: true,
    ..V11
};
const V13: Differences = Differences {
    major: 13,
    upstream_reloads: true,
    xid8: true,
    wal_limits: true,
    rewind_recovers: true,
    ..V12
};
const V14: Differences = Differences {
    major: 14,
    restore_command_reloads: true,
    pauses_on_small_settings: true,
    init_sync_method: true,
    initdb_quiet: true,
    ..V13
};
const V15: Differences = Differences { major: 15, ..V14 };
const V16: Differences = Differences { major: 16, ..V15 };
const V17: Differences = Differences { major: 17, builtin_locale: true, allow_alter_system: true, ..V16 };
const V18: Differences = Differences { major: 18, ..V17 };

/// Every version we run, oldest first.
pub const TABLE: [Differences; 8] = [V11, V12, V13, V14, V15, V16, V17, V18];

/// A version as `server_version_num` has it: 150018 is 15.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// 15 of 15.18.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// Its row of the table.
    ///
    /// # Errors
    /// `UnsupportedVersion`.
    pub fn differences(self) -> Result<&'static Differences> {
        let major = self.major();
        TABLE.iter().find(|row| row.major == major).ok_or(Error::UnsupportedVersion(major))
    }

    /// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; also `16beta1`, as 16.0.
    #[must_use]
    pub fn parse(printed: &str) -> Option<Version> {
        let number = printed.split(") ").nth(1)?.split_whitespace().next()?;
        let digits = |s: &str| s.chars().take_while(char::is_ascii_digit).collect::<String>();
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        let major: u32 = digits(major).parse().ok()?;
        let minor: u32 = digits(minor).parse().unwrap_or(0);
        (minor < 10_000 && major < 1_000).then_some(Version(major * 10_000 + minor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_printed() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(150_018)),
            ("postgres (PostgreSQL) 11.22", Some(110_022)),
            ("postgres (PostgreSQL) 18beta1", Some(180_000)),
            ("postgres", None),
        ];
        for (printed, expected) in cases {
            assert_eq!(Version::parse(printed).map(|v| v.0), expected, "{printed}");
        }
        assert!(Version(100_023).differences().is_err());
        assert!(Version(190_000).differences().is_err());
    }

    #[test]
    fn the_table_has_every_version_once_and_only_gains() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.major as usize, 11 + i);
            assert_eq!(Version(row.major * 10_000).differences().unwrap(), row);
        }
    }
}
