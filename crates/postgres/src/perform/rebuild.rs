//! Making a directory agree with a leader's: by `pg_rewind` in place, or by a
//! new base backup beside it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cluster::Lsn;
use cluster::report::Progress;

use crate::command::{command, run};
use crate::config::quote::conninfo;
use crate::config::{Transport, upstream};
use crate::control_file::ControlFile;
use crate::durable;
use crate::error::{Error, Result};
use crate::perform::life::remove_tree;
use crate::perform::{Hands, split_address};
use crate::roles::{REPLICATION, REWIND};
use crate::version::Differences;
use crate::wal::segment;

/// Most bytes of diverged WAL that are kept aside for an audit.
pub const KEPT_BYTES_MAX: u64 = 256 << 20;
/// Most timelines of which diverged WAL is kept; the oldest goes first.
pub const KEPT_TIMELINES_MAX: usize = 4;
/// Longest that `pg_rewind` may take.
pub const REWIND_LIMIT: Duration = Duration::from_secs(1800);
/// A leader whose host vanished is given up after this.
const TCP_USER_TIMEOUT_MS: u32 = 10_000;
/// Between two words about a clone's progress.
const TELL: Duration = Duration::from_millis(500);

impl Hands {
    /// Rewinds our directory to the history of the leader at `address`, which
    /// has checkpointed since it was promoted. Gives the system identifier.
    ///
    /// With `standby.signal` there, `pg_rewind` can't run its own recovery
    /// (C-11): the server is started as a standby with no upstream and stopped
    /// in order first.
    ///
    /// # Errors
    /// `ProgramFailed`, `StartFailed`, `WrongSystem`; the directory must then be cloned.
    pub async fn rewind(&self, address: &str, keep_from: Lsn, tell: impl Fn(Progress)) -> Result<u64> {
        tell(progress("rewind", None, "stopping the server in order"));
        self.start_cut().await?;
        self.stop().await?;
        if let Err(why) = self.keep_aside(keep_from) {
            // It is for an audit only, and a full disk is no reason to stay away.
            tracing::warn!(%why, "WAL that nobody else has could not be kept aside whole");
        }
        tell(progress("rewind", None, "pg_rewind runs"));
        let pgdata = self.site.dir.pgdata();
        let source = self.source(address, REWIND, &self.site.secrets.rewind.passfile_line(REWIND))?;
        let mut args =
            vec![format!("--target-pgdata={}", pgdata.display()), format!("--source-server={source}")];
        if self.site.programs.differences.rewind_recovers {
            args.push("--no-ensure-shutdown".to_string());
        }
        let program = self.site.programs.path("pg_rewind");
        let running = run("pg_rewind", command(&program, &args, self.site.run_as, self.site.dir.dir()));
        let ended = tokio::time::timeout(REWIND_LIMIT, running).await;
        ended.map_err(|_| Error::Hung { what: "be rewound", limit: REWIND_LIMIT })??;
        self.after_rebuild(&pgdata)
    }

    /// Makes our directory anew from the leader at `address`. The old one stays
    /// until the new one is whole.
    ///
    /// # Errors
    /// `ProgramFailed`, `WrongSystem`, `File`.
    pub async fn copy_from(&self, address: &str, sysid: u64, tell: impl Fn(Progress)) -> Result<u64> {
        let fresh = self.site.dir.pgdata_new();
        self.stop().await?;
        drop(self.cutting.lock().await);
        remove_tree(&fresh)?;
        tell(progress("clone", Some(0), "base backup begins"));
        self.base_backup(address, &fresh, &tell).await?;
        let found = ControlFile::read(&fresh)?.sysid;
        if sysid != 0 && found != sysid {
            remove_tree(&fresh)?;
            return Err(Error::WrongSystem { pgdata: fresh, found, expected: sysid });
        }
        durable::replace_if_other(&fresh.join("standby.signal"), b"", self.site.run_as)?;
        let pgdata = self.site.dir.pgdata();
        let old = self.site.dir.dir().join("pgdata.old");
        remove_tree(&old)?;
        if pgdata.exists() {
            fs::rename(&pgdata, &old).map_err(Error::file("rename", &pgdata))?;
        }
        fs::rename(&fresh, &pgdata).map_err(Error::file("rename", &fresh))?;
        durable::sync_dir(self.site.dir.dir())?;
        remove_tree(&old)?;
        self.after_rebuild(&pgdata)
    }

    async fn base_backup(&self, address: &str, into: &Path, tell: &impl Fn(Progress)) -> Result<()> {
        let source =
            self.source(address, REPLICATION, &self.site.secrets.replication.passfile_line(REPLICATION))?;
        let args = vec![
            format!("--dbname={source}"),
            format!("--pgdata={}", into.display()),
            "--wal-method=stream".to_string(),
            format!("--slot={}", self.me()?.slot_name()),
            "--checkpoint=fast".to_string(),
            "--no-password".to_string(),
        ];
        let program = self.site.programs.path("pg_basebackup");
        let running = run("pg_basebackup", command(&program, &args, self.site.run_as, self.site.dir.dir()));
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => return ended.map(|_| ()),
                () = tokio::time::sleep(TELL) => {
                    let mb = tree_bytes(into) >> 20;
                    tell(progress("clone", None, &format!("{mb} MB copied")));
                }
            }
        }
    }

    /// How a program of PostgreSQL's reaches a leader: no secret in it.
    fn source(&self, address: &str, role: &str, credential: &str) -> Result<String> {
        let (host, port) = split_address(address)?;
        let passfile = self.site.dir.secrets().join(format!("{role}.passfile"));
        durable::replace_if_other(&passfile, credential.as_bytes(), self.site.run_as)?;
        Ok(source(&host, port, role, &passfile, self.site.programs.differences, &self.site.transport))
    }

    /// A rebuilt directory has the leader's files: ours again, its slots gone.
    fn after_rebuild(&self, pgdata: &Path) -> Result<u64> {
        self.forget_still();
        if let Ok(slots) = fs::read_dir(pgdata.join("pg_replslot")) {
            for slot in slots.flatten() {
                remove_tree(&slot.path())?;
            }
        }
        upstream::write(&self.site.dir, None, self.site.programs.differences, self.site.run_as)?;
        self.prepare_directory()?;
        Ok(ControlFile::read(pgdata)?.sysid)
    }

    /// Keeps WAL that nobody will have any more, for an audit.
    fn keep_aside(&self, from: Lsn) -> Result<()> {
        let pgdata = self.site.dir.pgdata();
        let control = ControlFile::read(&pgdata)?;
        let pg_wal = pgdata.join("pg_wal");
        let size = u64::from(control.segment_bytes);
        let all = segment::list(&pg_wal, control.segment_bytes)?;
        let lost = self.site.dir.dir().join("lost").join(format!("timeline-{}", control.timeline));
        let newest = all.iter().filter(|s| s.timeline == control.timeline && (s.number + 1) * size > from.0);
        let mut room = KEPT_BYTES_MAX / size;
        for s in newest {
            if room == 0 {
                tracing::warn!("more WAL diverged than is kept aside");
                break;
            }
            room -= 1;
            fs::create_dir_all(&lost).map_err(Error::file("create", &lost))?;
            let name = s.file_name(control.segment_bytes);
            fs::copy(pg_wal.join(&name), lost.join(&name))
                .map_err(Error::file("copy", pg_wal.join(&name)))?;
        }
        forget_oldest(&self.site.dir.dir().join("lost"))
    }
}

/// Lets go of what was kept longest.
fn forget_oldest(lost: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(lost) else { return Ok(()) };
    let timeline = |p: &Path| p.file_name()?.to_str()?.strip_prefix("timeline-")?.parse::<u32>().ok();
    let mut kept: Vec<(u32, std::path::PathBuf)> =
        entries.flatten().filter_map(|e| Some((timeline(&e.path())?, e.path()))).collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT_TIMELINES_MAX);
    kept.iter().take(surplus).try_for_each(|(_, path)| remove_tree(path))
}

fn source(
    host: &str,
    port: u16,
    role: &str,
    passfile: &Path,
    differences: &Differences,
    transport: &Transport,
) -> String {
    let mut pairs = vec![
        ("host", host.to_string()),
        ("port", port.to_string()),
        ("user", role.to_string()),
        ("passfile", passfile.display().to_string()),
        ("connect_timeout", "5".to_string()),
    ];
    // A program that only reads notices by nothing else that the host has vanished.
    pairs.extend(upstream::keepalives());
    // The program's own libpq reads this, and may be as old as the server.
    pairs.extend(upstream::of_libpq_12(differences, TCP_USER_TIMEOUT_MS));
    if role == REWIND {
        pairs.push(("dbname", "postgres".to_string()));
    }
    pairs.extend(transport.pairs());
    conninfo(&pairs)
}

fn progress(what: &str, percent: Option<u8>, detail: &str) -> Progress {
    Progress { what: what.to_string(), percent, detail: detail.to_string() }
}

/// Bytes of all files below, as far as they can be seen.
fn tree_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => tree_bytes(&e.path()),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::TABLE;

    #[test]
    fn a_source_that_vanishes_is_noticed_by_a_program_that_only_reads() {
        for row in &TABLE {
            for role in [REPLICATION, REWIND] {
                let text = source("n1", 5432, role, Path::new("/n2/secrets/p"), row, &Transport::Plain);
                let keepalives = "keepalives_idle='2' keepalives_interval='1' keepalives_count='3'";
                assert!(
                    text.starts_with("host='n1' port='5432' user='") && text.contains(keepalives),
                    "{text}"
                );
                assert_eq!(text.contains("tcp_user_timeout='10000'"), row.major >= 12, "{text}");
                assert_eq!(text.contains("dbname='postgres'"), role == REWIND, "{text}");
                assert!(!text.contains("password") && text.contains("sslmode='disable'"), "{text}");
            }
        }
    }
}
