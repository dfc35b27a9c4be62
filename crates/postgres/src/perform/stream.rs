//! Who we stream from, and ending that.

use std::path::Path;
use std::time::{Duration, Instant};

use cluster::{Lineage, Lsn, Term};

use crate::config::{NOBODY, Upstream, upstream, write_sync_names};
use crate::control_file::ControlFile;
use crate::durable;
use crate::error::{Error, Result};
use crate::guard::tree;
use crate::history;
use crate::layout::term_of_passfile;
use crate::perform::life::LOOK;
use crate::perform::{Hands, WalEnd, split_address};
use crate::roles::REPLICATION;
use crate::salvage::Stage;
use crate::sql::read;
use crate::wal::{self, ScanStart};

/// Longest that a cut ack path may take to be gone.
pub const CUT_LIMIT: Duration = Duration::from_secs(5);

const SIGHUP: i32 = 1;

impl Hands {
    /// C-5: cuts the ack path for good. The credential goes first, so that a
    /// walreceiver which starts from an older reading of the configuration can't
    /// authenticate; then the settings; then every walreceiver process.
    ///
    /// # Errors
    /// `AckPathStays`, `File`, `Guard`.
    pub async fn cut(&self) -> Result<()> {
        if !self.has_data() {
            return self.remove_credentials(None);
        }
        self.remove_credentials(None)?;
        upstream::write(&self.site.dir, None, self.site.programs.differences, self.site.run_as)?;
        // A promotion that was broken off left its rule there, which may wait for nobody (I10).
        write_sync_names(&self.site.dir, NOBODY, self.site.run_as)?;
        if self.site.guard.status().await?.postmaster.is_none() {
            return Ok(());
        }
        // A server that ended meanwhile acknowledges nothing.
        let _ = self.site.guard.signal(SIGHUP).await;
        let began = Instant::now();
        let mut quiet = 0;
        loop {
            let receivers = self.walreceivers();
            quiet = if receivers.is_empty() { quiet + 1 } else { 0 };
            // Twice in a row: a new one may have been forked between two looks.
            if quiet >= 2 {
                return Ok(());
            }
            for pid in &receivers {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(*pid),
                    nix::sys::signal::Signal::SIGTERM,
                );
            }
            if let Some(pid) = receivers.first().filter(|_| began.elapsed() > CUT_LIMIT) {
                return Err(Error::AckPathStays { pid: pid.unsigned_abs(), limit: CUT_LIMIT });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Walreceiver processes of our server, by process title: the view is empty
    /// while one is still connecting.
    pub(super) fn walreceivers(&self) -> Vec<i32> {
        self.titled("walreceiver")
    }

    /// Processes of our server with that word in their title.
    pub(super) fn titled(&self, word: &str) -> Vec<i32> {
        let title = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word)
        };
        tree::pids(&self.site.dir.pgdata()).into_iter().filter(title).collect()
    }

    /// Removes the credentials of every term but `keep`.
    pub(super) fn remove_credentials(&self, keep: Option<Term>) -> Result<()> {
        let secrets = self.site.dir.secrets();
        let Ok(entries) = std::fs::read_dir(&secrets) else { return Ok(()) };
        let mut removed = false;
        for entry in entries.flatten() {
            let term = term_of_passfile(&entry.path().display().to_string());
            if term.is_some() && term != keep {
                removed |= durable::remove(&entry.path())?;
            }
        }
        if removed { durable::sync_dir(&secrets) } else { Ok(()) }
    }

    /// Streams from the leader of `term` at `address`; starts the server if it is down.
    ///
    /// # Errors
    /// `StartFailed`, `File`, `Guard`.
    pub async fn follow(&self, term: Term, address: &str) -> Result<()> {
        let (dir, owner) = (&self.site.dir, self.site.run_as);
        if !self.has_data() {
            return Err(Error::StartFailed("there is no data directory".to_string()));
        }
        self.come_with_no_hole(term).await?;
        let (host, port) = split_address(address)?;
        let credential = self.site.secrets.replication.passfile_line(REPLICATION);
        durable::replace_if_other(&dir.passfile(term), credential.as_bytes(), owner)?;
        self.remove_credentials(Some(term))?;
        let up = Upstream { term, host, port, me: self.me()?, transport: self.site.transport.clone() };
        upstream::write(dir, Some(&up), self.site.programs.differences, owner)?;
        if self.site.guard.status().await?.postmaster.is_none() {
            return self.start().await;
        }
        // Also when the file says so already: whoever wrote it may have died before it signalled.
        self.site.guard.signal(SIGHUP).await?;
        self.resume_replay().await
    }

    /// Before the first connection to the leader of a term: where our log ends within a
    /// record that goes on in a later segment, that is cut off. PostgreSQL would stream
    /// from there on, and acknowledge what it has not got all of.
    async fn come_with_no_hole(&self, term: Term) -> Result<()> {
        let known = upstream::term_on_disk(&self.site.dir, self.site.programs.differences)?;
        if known == Some(term) {
            return Ok(());
        }
        if known.is_some() {
            // Of a term from which nobody recruited us: it must not go on while we look.
            self.cut().await?;
        }
        if !self.leads_behind_a_hole().await {
            return Ok(());
        }
        self.stop_and_cut_off().await?;
        if self.leads_behind_a_hole().await {
            return Err(Error::StartFailed("its log ends within a record that can't be cut off".to_string()));
        }
        Ok(())
    }

    async fn leads_behind_a_hole(&self) -> bool {
        let replayed = self.replayed().await.ok();
        let pgdata = self.site.dir.pgdata();
        let looked = durable::off_loop(move || {
            let from = replayed.map_or(ScanStart::Redo, ScanStart::Replayed);
            Ok(wal::unfinished::leads_behind_a_hole(&pgdata, from)?)
        });
        looked.await.unwrap_or_else(|why| {
            // A rewound directory, say, ends before the point at which it is consistent.
            tracing::info!(%why, "whether the log ends within a record can't be told");
            false
        })
    }

    /// A server whose replay is paused looks at its settings no more (finding 1),
    /// so it would never come to the new leader: a pause ends with its term.
    async fn resume_replay(&self) -> Result<()> {
        // One that takes no connections yet has just started, and pauses do not survive that.
        let Ok(sql) = self.sql().await else { return Ok(()) };
        if sql.value("tell whether replay is paused", "SELECT pg_is_wal_replay_paused()").await? == "t" {
            tracing::warn!("replay was paused by hand and is resumed, to follow the new leader");
            sql.rows("resume replay", "SELECT pg_wal_replay_resume()").await?;
        }
        Ok(())
    }

    /// Stops the server for a new leader that it can't come to, and cuts off what it
    /// would wait for: the record that its old leader never finished, and timelines
    /// of which it has no record.
    ///
    /// # Errors
    /// `Guard`, `File`.
    pub async fn stop_and_cut_off(&self) -> Result<()> {
        self.stop().await?;
        let pgdata = self.site.dir.pgdata();
        let keep = self.site.dir.dir().join("lost").join("unfinished");
        let held = self.cutting.clone().lock_owned().await;
        let cut = durable::off_loop(move || {
            let _held = held;
            if tree::is_alive(&pgdata) {
                return Err(Error::Orphans { count: tree::pids(&pgdata).len(), pgdata });
            }
            let cut = wal::unfinished::cut_off(&pgdata, &keep)?;
            forget_strays(&pgdata)?;
            Ok(cut)
        });
        match cut.await {
            Ok(true) => tracing::warn!("what followed the last whole record was cut off"),
            Ok(false) => {}
            // The server itself judges what is there.
            Err(why) => tracing::warn!(%why, "what follows the last whole record could not be cut off"),
        }
        Ok(())
    }

    /// Puts WAL that was fetched into its place, up to `to` on `lineage`. Also where nobody
    /// waits for it any more, nothing starts or replaces the directory meanwhile.
    ///
    /// # Errors
    /// As `Stage::finish`.
    pub async fn put_in_place(&self, stage: Stage, lineage: Lineage, to: Lsn) -> Result<()> {
        let held = self.cutting.clone().lock_owned().await;
        let put = durable::off_loop(move || {
            let _held = held;
            stage.finish(&lineage, to)
        });
        let put = put.await;
        // Also after a failure: part of it may be there.
        self.forget_still();
        put
    }

    /// Where our log ends, on disk when this returns. Works with the server
    /// down, and with it running while nothing is received.
    ///
    /// # Errors
    /// What the scan says: the server then has no position.
    pub async fn wal_end(&self) -> Result<WalEnd> {
        let running = self.site.guard.status().await?.postmaster.is_some();
        let replayed = if running { self.replayed().await.ok() } else { None };
        self.wal_end_from(replayed).await
    }

    /// As `wal_end`, of a server that has replayed so far.
    pub(super) async fn wal_end_from(&self, replayed: Option<Lsn>) -> Result<WalEnd> {
        let pgdata = self.site.dir.pgdata();
        let found = durable::off_loop(move || {
            let from = replayed.map_or(ScanStart::Redo, ScanStart::Replayed);
            let found = wal::scan_end(&pgdata, from).or_else(|_| wal::scan_end(&pgdata, ScanStart::Redo));
            let found = found?;
            found.sync(&pgdata)?;
            Ok(found)
        });
        let found = found.await?;
        let replay = replayed.unwrap_or(found.end);
        Ok(WalEnd { lineage: found.lineage, last_start: found.record.start, end: found.end, replay })
    }

    pub(super) async fn replayed(&self) -> Result<Lsn> {
        let sql = self.sql().await?;
        let rows = sql.rows("tell how far it has replayed", "SELECT pg_last_wal_replay_lsn() AS lsn").await?;
        let lsn = rows.first().and_then(|r| read(r, "lsn"));
        lsn.ok_or_else(|| Error::BadAnswer("it has replayed nothing".to_string()))
    }
}

/// Removes the histories of timelines of which the log has no record. The server must be
/// down.
pub(super) fn forget_strays(pgdata: &Path) -> Result<()> {
    let (control, pg_wal) = (ControlFile::read(pgdata)?, pgdata.join("pg_wal"));
    let known = control.timeline.max(control.min_recovery_timeline);
    // Nearly always: then the log need not be read, which may take long.
    if !history::has_strays(&pg_wal, known)? {
        return Ok(());
    }
    let owner = wal::scan_end(pgdata, ScanStart::Redo)?.lineage.timeline;
    let strays = history::forget_newer(&pg_wal, owner.max(known))?;
    if strays > 0 {
        tracing::warn!(strays, "histories of timelines that came to nothing were removed");
    }
    Ok(())
}
