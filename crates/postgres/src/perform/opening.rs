//! C5: from a standby with a past to a primary on the reserved timeline.

use std::time::{Duration, Instant};

use cluster::{Lineage, Lsn, Rule, Timeline};

use crate::config::{NOBODY, write_sync_names};
use crate::error::{Error, Result};
use crate::history::{self, Growth};
use crate::perform::Hands;
use crate::perform::life::LOOK;
use crate::roles;
use crate::sql::{Sql, read, text};
use crate::wal::between;

/// Longest that replaying what is there may take.
pub const REPLAY_LIMIT: Duration = Duration::from_secs(300);
/// Longest that PostgreSQL may take to leave recovery once asked.
pub const PROMOTE_LIMIT: Duration = Duration::from_secs(30);
/// Longest that a reload may take to be seen by new connections.
pub const RELOAD_LIMIT: Duration = Duration::from_secs(5);

const SIGHUP: i32 = 1;

/// What to open.
#[derive(Clone, Debug)]
pub struct PromoteOrder {
    /// The timeline reserved for this term.
    pub timeline: Timeline,
    /// The rule to open under.
    pub rule: Rule,
}

impl Hands {
    /// Promotes: replay everything, put the rule in force, ask `validate` with
    /// the next transaction id (it makes the vow and reads the store), promote,
    /// verify timeline and history. A server that opened wrongly is killed.
    ///
    /// # Errors
    /// `CalledOff`, `ReplayBehind`, `PromotionLate`, `WrongTimeline`, `WrongHistory`.
    pub async fn promote<F, W>(&self, order: PromoteOrder, validate: F) -> Result<()>
    where
        F: FnOnce(u64) -> W,
        W: Future<Output = Result<()>>,
    {
        let (base, switch) = self.replay_on_our_timeline().await?;
        let sql = self.sql().await?;
        let xid = sql
            .value("tell its next transaction id", "SELECT pg_snapshot_xmax(pg_current_snapshot())")
            .await?;
        let pg_wal = self.site.dir.pgdata().join("pg_wal");
        let parent = base.timeline;
        let parent_text = history::read(&pg_wal, parent)?;
        let placeholder =
            history::lay_placeholders(&pg_wal, parent, switch, order.timeline, self.site.run_as);
        let placeholder = placeholder?;
        self.put_in_force(&order.rule).await?;
        if let Err(why) = validate(xid.parse().unwrap_or(0)).await {
            history::remove_placeholders(&pg_wal)?;
            write_sync_names(&self.site.dir, NOBODY, self.site.run_as)?;
            return Err(why);
        }
        sql.rows("be promoted", "SELECT pg_promote(false)").await?;
        self.wait_promoted(&sql).await?;
        let growth = Growth { parent, parent_text: parent_text.as_deref(), switch, placeholder };
        let verified = self.verify(&sql, order.timeline, &growth).await;
        match &verified {
            Ok(()) => self.fill_between(order.timeline),
            Err(_) => self.kill_tree().await?,
        }
        verified
    }

    /// Beside what follows: only a standby that is behind needs it, and it asks again.
    fn fill_between(&self, timeline: Timeline) {
        let (pgdata, owner) = (self.site.dir.pgdata(), self.site.run_as);
        tokio::task::spawn_blocking(move || match between::fill(&pgdata, timeline, owner) {
            Ok(made) => tracing::debug!(made, "timelines between have the segment that they share"),
            Err(why) => tracing::warn!(%why, "a standby that is behind may have to be made anew"),
        });
    }

    /// Replays everything, on a server that has seen no timeline beyond the log's own: one
    /// that has fetched the history of a leader that it never got a record of may follow
    /// that already, and would be promoted from there. Such a one is started afresh.
    async fn replay_on_our_timeline(&self) -> Result<(Lineage, Lsn)> {
        let found = self.replay_everything().await?;
        if !history::has_strays(&self.site.dir.pgdata().join("pg_wal"), found.0.timeline)? {
            return Ok(found);
        }
        tracing::warn!(timeline = %found.0.timeline, "the server knows of newer timelines that came to nothing");
        self.kill_tree().await?;
        self.start_cut().await?;
        self.replay_everything().await
    }

    /// Waits until everything received is replayed; returns the past that was
    /// replayed and where it ends.
    async fn replay_everything(&self) -> Result<(Lineage, Lsn)> {
        let scanned = self.wal_end().await?;
        let needed = scanned.end;
        let began = Instant::now();
        let sql = self.sql().await?;
        loop {
            let query = "SELECT pg_last_wal_replay_lsn() AS lsn, pg_is_in_recovery() AS standby, pg_is_wal_replay_paused() AS paused";
            let rows = sql.rows("tell how far it has replayed", query).await?;
            let row = rows.first().ok_or_else(|| Error::BadAnswer("no row".to_string()))?;
            if text(row, "standby") != Some("t") {
                return Err(Error::NotInRecovery);
            }
            if text(row, "paused") == Some("t") {
                sql.rows("resume replay", "SELECT pg_wal_replay_resume()").await?;
            }
            // A directory fresh from initdb has replayed nothing, and has nothing to.
            let replayed: Lsn = read(row, "lsn").unwrap_or(needed);
            if replayed >= needed {
                return Ok((scanned.lineage, replayed));
            }
            if began.elapsed() > REPLAY_LIMIT {
                return Err(Error::ReplayBehind { replayed, needed, limit: REPLAY_LIMIT });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes the rule, reloads, and returns once every later walsender has it (C-7).
    pub(super) async fn put_in_force(&self, rule: &Rule) -> Result<()> {
        let names = rule.to_setting();
        write_sync_names(&self.site.dir, &names, self.site.run_as)?;
        // Also when the file says so already: whoever wrote it may have died before it signalled.
        self.site.guard.signal(SIGHUP).await?;
        let began = Instant::now();
        loop {
            let found = self.sql().await?.value("show its rule", "SHOW synchronous_standby_names").await?;
            if found == names {
                break;
            }
            if began.elapsed() > RELOAD_LIMIT {
                return Err(Error::Overridden { name: "synchronous_standby_names", found });
            }
            tokio::time::sleep(LOOK).await;
        }
        // Forked after every child was signalled: the first may have been before (C-7).
        self.sql().await.map(|_| ())
    }

    async fn wait_promoted(&self, sql: &Sql) -> Result<()> {
        let began = Instant::now();
        while sql.value("tell whether it recovers", "SELECT pg_is_in_recovery()").await? != "f" {
            if began.elapsed() > PROMOTE_LIMIT {
                return Err(Error::PromotionLate(PROMOTE_LIMIT));
            }
            tokio::time::sleep(LOOK / 2).await;
        }
        Ok(())
    }

    /// C6: the timeline is the reserved one and its history says what it must.
    async fn verify(&self, sql: &Sql, expected: Timeline, growth: &Growth<'_>) -> Result<()> {
        let file = sql.value("name its WAL file", "SELECT pg_walfile_name(pg_current_wal_lsn())").await?;
        let found = file.get(..8).and_then(|t| u32::from_str_radix(t, 16).ok()).map_or(Timeline(0), Timeline);
        if found != expected {
            return Err(Error::WrongTimeline { found, expected });
        }
        let pg_wal = self.site.dir.pgdata().join("pg_wal");
        let text = history::read(&pg_wal, expected)?;
        let text = text.ok_or(Error::WrongHistory(expected))?;
        growth.verify(expected, &text).map(|_| ()).map_err(|why| {
            tracing::error!(%why, "the history file is not what the election reserved");
            Error::WrongHistory(expected)
        })
    }

    /// Makes or refreshes the roles; only on an open leader.
    ///
    /// # Errors
    /// `Sql` and its kin.
    pub async fn ensure_roles(&self) -> Result<()> {
        let sql = self.sql().await?;
        for statement in roles::statements(&self.site.secrets) {
            sql.rows("make Tanist's roles", &statement).await?;
        }
        Ok(())
    }
}
