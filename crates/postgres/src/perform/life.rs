//! Starting, stopping, killing.

use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::command::{ENVIRONMENT, command, run};
use crate::config::include;
use crate::config::parameters::ON_COMMAND_LINE;
use crate::config::{NOBODY, upstream, write_sync_names};
use crate::durable;
use crate::error::{Error, Result};
use crate::guard::protocol::Start;
use crate::guard::tree;
use crate::layout::NodeDir;
use crate::perform::stream::forget_strays;
use crate::perform::{Hands, WalEnd};
use crate::secrets::SUPERUSER_FILE;
use crate::wal;

/// Longest that a start may take until connections are taken: crash recovery.
pub const START_LIMIT: Duration = Duration::from_secs(600);
/// Longest that an orderly stop may take before the tree is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longest that a shutdown for a switchover waits until all standbys have it: one
/// that is slow or gone is no reason to stay away.
pub const SENT_LIMIT: Duration = Duration::from_millis(500);
/// A guard that has not killed the server after so long is not waited for: one that
/// runs takes some milliseconds.
pub const GUARD_KILLS: Duration = Duration::from_secs(1);
/// Between two looks at something that is about to change.
pub const LOOK: Duration = Duration::from_millis(4);

const SIGINT: i32 = 2;
const SIGHUP: i32 = 1;

impl Hands {
    /// Whether there is a data directory at all.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.site.dir.pgdata().join("PG_VERSION").exists()
    }

    /// Makes a fresh data directory that will only ever start as a standby. It
    /// gets its name when it is whole: one that was left half made is no start.
    ///
    /// # Errors
    /// `DirectoryExists`, `ProgramFailed`, `File`.
    pub async fn initdb(&self) -> Result<()> {
        let (making, pgdata) = (self.site.dir.being_made(), self.site.dir.pgdata());
        if pgdata.exists() {
            return Err(Error::DirectoryExists(pgdata));
        }
        remove_tree(&making.pgdata())?;
        let path = |p: &std::path::Path| p.display().to_string();
        let pwfile = self.site.dir.secrets().join(SUPERUSER_FILE);
        let mut args: Vec<String> =
            ["--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8"]
                .iter()
                .map(ToString::to_string)
                .collect();
        args.extend(["--username=postgres".into(), "--wal-segsize=4".into()]);
        args.extend(self.site.programs.differences.initdb_quiet.then(|| "--no-instructions".into()));
        args.extend([format!("--pwfile={}", path(&pwfile)), format!("--pgdata={}", path(&making.pgdata()))]);
        let program = self.site.programs.path("initdb");
        run("initdb", command(&program, &args, self.site.run_as, self.site.dir.dir())).await?;
        self.prepare_in(&making)?;
        std::fs::rename(making.pgdata(), &pgdata).map_err(Error::file("rename", making.pgdata()))?;
        durable::sync_dir(self.site.dir.dir())
    }

    /// Writes everything that a start relies on: a standby, cut off, whose
    /// commits nobody can acknowledge (C-9, I10).
    pub(super) fn prepare_directory(&self) -> Result<()> {
        self.prepare_in(&self.site.dir)
    }

    fn prepare_in(&self, dir: &NodeDir) -> Result<()> {
        let owner = self.site.run_as;
        durable::replace_if_other(&dir.conf("standby.signal"), b"", owner)?;
        write_sync_names(dir, NOBODY, owner)?;
        if !dir.conf(crate::layout::UPSTREAM_CONF).exists() {
            upstream::write(dir, None, self.site.programs.differences, owner)?;
        }
        self.config().install(dir, self.site.programs.differences, owner)?;
        Ok(())
    }

    /// Starts the server as a standby that streams from nobody.
    ///
    /// # Errors
    /// `StartFailed`, `PortTaken`, `Guard`, `File`.
    pub async fn start_cut(&self) -> Result<()> {
        self.remove_credentials(None)?;
        upstream::write(&self.site.dir, None, self.site.programs.differences, self.site.run_as)?;
        self.start().await
    }

    pub(super) async fn start(&self) -> Result<()> {
        let started = self.start_and_wait().await;
        let why = started.as_ref().err().map_or(String::new(), ToString::to_string);
        *self.why_down.lock().unwrap_or_else(PoisonError::into_inner) = why;
        started
    }

    async fn start_and_wait(&self) -> Result<()> {
        drop(self.cutting.lock().await);
        if self.site.guard.status().await?.postmaster.is_none() {
            self.check_version()?;
            self.prepare_directory()?;
            let pgdata = self.site.dir.pgdata();
            let cleared = durable::off_loop(move || {
                wal::half_streamed::set_aside(&pgdata)?;
                forget_strays(&pgdata)
            });
            if let Err(why) = cleared.await {
                // A rewound directory's log ends before the point at which it is consistent
                // until the rest has been streamed; the server itself judges what is there.
                tracing::info!(%why, "the end of the log can't be told before this start");
            }
            self.forget_still();
            let port = self.config().port;
            tree::remove_stale_socket(&self.site.dir.pgdata(), self.site.dir.sockets(), port);
            let pgdata = self.site.dir.pgdata().display().to_string();
            let mut argv =
                vec![self.site.programs.path("postgres").display().to_string(), "-D".into(), pgdata];
            argv.extend(ON_COMMAND_LINE.iter().flat_map(|(k, v)| ["-c".to_string(), format!("{k}={v}")]));
            let env = ENVIRONMENT.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
            let (log, run_as) = (self.site.log.clone(), self.site.run_as);
            self.site.guard.start(Start { argv, env, log, run_as }).await?;
        }
        self.wait_ready().await
    }

    pub(super) fn check_version(&self) -> Result<()> {
        let pgdata = self.site.dir.pgdata();
        let found = durable::text_if_there(&pgdata.join("PG_VERSION"))?.trim().to_string();
        let programs = self.site.programs.version.major();
        if found == programs.to_string() {
            Ok(())
        } else {
            Err(Error::WrongMajor { pgdata, found, programs })
        }
    }

    async fn wait_ready(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.sql().await {
                Ok(_) => return Ok(()),
                Err(Error::NotReady(_) | Error::Unreachable(_) | Error::Hung { .. }) => {}
                Err(other) => return Err(other),
            }
            if self.site.guard.status().await?.postmaster.is_none() {
                return Err(self.start_failure());
            }
            if began.elapsed() > START_LIMIT {
                return Err(Error::StartFailed(format!("it takes no connections after {START_LIMIT:?}")));
            }
            tokio::time::sleep(LOOK * 3).await;
        }
    }

    /// Why it ended, in its own words.
    fn start_failure(&self) -> Error {
        let log = std::fs::read(&self.site.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(8192)..]).into_owned();
        let telling = |l: &&str| {
            ["FATAL", "PANIC", "could not bind", "Address already in use"].iter().any(|w| l.contains(w))
        };
        let lines: Vec<&str> = tail.lines().filter(telling).collect();
        let said = lines[lines.len().saturating_sub(3)..].join("; ");
        if said.contains("Address already in use") {
            return Error::PortTaken { port: self.port(), said };
        }
        Error::StartFailed(if said.is_empty() {
            "it ended at once and said nothing".to_string()
        } else {
            said
        })
    }

    /// Kills everything of the server; returns when nothing is left. The
    /// directory is made to start as a standby at once: a crash may come next.
    ///
    /// A guard that stands still (it was stopped, or waits for a disk) is not waited for:
    /// what must not acknowledge any more is killed without it.
    ///
    /// # Errors
    /// `Guard`, `File`.
    pub async fn kill_tree(&self) -> Result<()> {
        self.forget_still();
        match timeout(GUARD_KILLS, self.site.guard.kill_tree()).await {
            Ok(killed) => killed?,
            Err(_) => self.kill_without_guard().await?,
        }
        if self.has_data() {
            durable::replace_if_other(&self.site.dir.conf("standby.signal"), b"", self.site.run_as)?;
        }
        Ok(())
    }

    async fn kill_without_guard(&self) -> Result<()> {
        let pgdata = self.site.dir.pgdata();
        let killing = tokio::task::spawn_blocking(move || tree::kill_all(&pgdata));
        let gone = killing.await.unwrap_or(false);
        tracing::warn!(gone, "the guard does not answer: the server was killed without it");
        if gone {
            return Ok(());
        }
        let why =
            format!("it does not answer, and after {:?} something of the server was left", tree::KILL_LIMIT);
        Err(Error::Guard { deed: "kill the server", why })
    }

    /// Stops the server in order, or kills it when that takes too long.
    ///
    /// # Errors
    /// `Guard`, `File`.
    pub async fn stop(&self) -> Result<()> {
        if self.site.guard.status().await?.postmaster.is_some() {
            // One that ended meanwhile needs no signal.
            let _ = self.site.guard.signal(SIGINT).await;
            let began = Instant::now();
            while began.elapsed() < STOP_LIMIT && self.site.guard.status().await?.postmaster.is_some() {
                tokio::time::sleep(LOOK).await;
            }
        }
        self.kill_tree().await
    }

    /// P1 of a switchover: a fast shutdown, watched by the control file and not
    /// by the postmaster's end, which waits for archiver and logger too. `None`
    /// when it took too long and the tree was killed.
    ///
    /// # Errors
    /// `Guard`, `File`.
    pub async fn shut_down_for_handover(&self, limit: Duration) -> Result<Option<WalEnd>> {
        self.site.guard.signal(SIGINT).await?;
        let began = Instant::now();
        let mut clean = None;
        while clean.is_none() && began.elapsed() < limit {
            tokio::time::sleep(LOOK).await;
            let pgdata = self.site.dir.pgdata();
            // A control file that is being rewritten is looked at again.
            clean = wal::clean_shutdown(&pgdata).ok().flatten();
        }
        // Walsenders send the shutdown checkpoint after the control file has it, and
        // leave when it was flushed (PostgreSQL's walsender.c, WalSndDone).
        let sent = Instant::now();
        while sent.elapsed() < SENT_LIMIT && !self.titled("walsender").is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        self.kill_tree().await?;
        Ok(clean.map(|c| WalEnd {
            replay: c.wal.end,
            end: c.wal.end,
            last_start: c.wal.record.start,
            lineage: c.wal.lineage,
        }))
    }

    /// Takes back what ALTER SYSTEM has set of ours since the last look, and has a
    /// running server read its settings again. Returns whether there was anything to
    /// do, also when only the reload was missing.
    ///
    /// # Errors
    /// `File`, `Guard`, `NotReady` while the server starts: the next look does what is left.
    pub async fn take_back_overrides(&self) -> Result<bool> {
        if include::strip_overrides(&self.site.dir, self.site.run_as)? {
            self.reload_owed.store(true, Ordering::Release);
        }
        let owed = self.reload_owed.load(Ordering::Acquire);
        // A server that is down reads the file when it starts.
        if owed && self.site.guard.status().await?.postmaster.is_some() {
            // One that has just begun has no handler yet, and would die of the signal.
            if !self.says_it_runs() {
                return Err(Error::NotReady("it is starting".to_string()));
            }
            self.site.guard.signal(SIGHUP).await?;
        }
        self.reload_owed.store(false, Ordering::Release);
        Ok(owed)
    }

    /// The last line of `postmaster.pid`, which the postmaster writes once its handlers
    /// are there (PM_STATUS_READY and PM_STATUS_STANDBY of miscadmin.h).
    fn says_it_runs(&self) -> bool {
        let text = std::fs::read_to_string(self.site.dir.pgdata().join("postmaster.pid"));
        let status = text.unwrap_or_default().lines().nth(7).unwrap_or_default().trim().to_string();
        matches!(status.as_str(), "ready" | "standby")
    }

    pub(super) fn forget_still(&self) {
        *self.still.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Removes a directory and everything below; one that is not there is gone already.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}
