//! What of the host below decides a default: its kernel, and the file systems on
//! which the data lies.
//!
//! In doubt it has nothing, and PostgreSQL's own default stands.

use std::path::Path;

const BTRFS: i64 = 0x9123_683E;
const EXT: i64 = 0xEF53;
const F2FS: i64 = 0xF2F5_2010;
const XFS: i64 = 0x5846_5342;
const ZFS: i64 = 0x2FC1_2FC1;

/// File systems that write everything out at `syncfs`. FUSE does nothing at all then.
const SYNCED: [i64; 4] = [BTRFS, EXT, F2FS, XFS];
/// The first kernel whose `syncfs` says that something could not be written.
const SYNCFS_TELLS: (u32, u32) = (5, 8);

/// What it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// A changed block goes to another place on the file system of the data directory.
    pub copy_on_write: bool,
    /// `syncfs` writes everything out, and says when it could not.
    pub syncfs_tells: bool,
}

impl Host {
    /// Of the data directory `pgdata`, as it is now.
    #[must_use]
    pub fn of(pgdata: &Path) -> Host {
        let kind = file_system(pgdata);
        let copy_on_write = kind.is_some_and(|k| [BTRFS, ZFS].contains(&k));
        let kernel = nix::sys::utsname::uname().ok();
        let told = kernel.and_then(|u| tells(u.release().to_str()?)).unwrap_or(false);
        Host { copy_on_write, syncfs_tells: told && is_all_synced(pgdata) }
    }
}

/// Also where the log and tablespaces lie, which may be elsewhere.
fn is_all_synced(pgdata: &Path) -> bool {
    let synced = |path: &Path| file_system(path).is_some_and(|k| SYNCED.contains(&k));
    let (wal, spaces) = (pgdata.join("pg_wal"), pgdata.join("pg_tblspc"));
    let Ok(spaces) = std::fs::read_dir(spaces) else { return false };
    synced(pgdata) && synced(&wal) && spaces.into_iter().all(|s| s.is_ok_and(|s| synced(&s.path())))
}

fn file_system(path: &Path) -> Option<i64> {
    rustix::fs::statfs(path).ok().map(|s| s.f_type)
}

/// Whether a kernel of this release tells; `None` for a release that has no numbers.
fn tells(release: &str) -> Option<bool> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((major, minor) >= SYNCFS_TELLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_tells_since_5_8() {
        for (release, expected) in [
            ("5.7.19-generic", Some(false)),
            ("4.18.0-553.el8_10.x86_64", Some(false)),
            ("5.8.0", Some(true)),
            ("5.15.0-1034-aws", Some(true)),
            ("6.1-rc3", Some(true)),
            ("10.0", Some(true)),
            ("next", None),
            ("6", None),
        ] {
            assert_eq!(tells(release), expected, "{release}");
        }
    }

    /// /proc stands for any file system that is not one of ours, and a link that leads
    /// nowhere for one that can't be told.
    #[test]
    fn every_place_of_the_data_must_be_one_that_is_synced() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(!is_all_synced(dir.path()), "there is nothing yet");
        std::fs::create_dir(at("pg_wal")).unwrap();
        std::fs::create_dir(at("pg_tblspc")).unwrap();
        let own = file_system(dir.path()).is_some_and(|k| SYNCED.contains(&k));
        assert_eq!(is_all_synced(dir.path()), own);
        std::os::unix::fs::symlink("/nowhere", at("pg_tblspc/16385")).unwrap();
        assert!(!is_all_synced(dir.path()));
        std::fs::remove_file(at("pg_tblspc/16385")).unwrap();
        std::os::unix::fs::symlink("/proc", at("pg_tblspc/16386")).unwrap();
        assert!(!is_all_synced(dir.path()));
    }
}
