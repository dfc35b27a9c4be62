//! The commit rule on a running leader: barriers, and changes proven by flush
//! positions of walsenders, never by the return of a statement (C-7, C-9, (i)).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::{Lsn, MemberId, Rule};

use crate::error::{Error, Result};
use crate::perform::Hands;
use crate::perform::life::LOOK;
use crate::sql::{Sql, read, text};

/// A walsender that lags behind a rule change for longer is ended.
pub const LAGGING_LIMIT: Duration = Duration::from_secs(2);
/// Longest that a rule change may take to be proven before it is judged again.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(15);
/// Longest that a checkpoint may take.
pub const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);

struct Sender {
    pid: u32,
    member: Option<MemberId>,
    flush: Lsn,
}

impl Hands {
    /// C6: a record that k members of the rule have flushed. Gives its end.
    ///
    /// # Errors
    /// `Hung` when the limit passes first.
    pub async fn barrier(&self, rule: &Rule, limit: Duration) -> Result<Lsn> {
        let sql = self.sql().await?;
        let lsn = emit(&sql).await?;
        let began = Instant::now();
        while !acked(&senders(&sql).await?, rule, lsn) {
            if began.elapsed() > limit {
                return Err(Error::Hung {
                    what: "be acknowledged by the standbys of the commit rule",
                    limit,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(lsn)
    }

    /// M2: puts `to` in force on every walsender and proves it. Gives the
    /// position before which everything is on an ack set of `to`.
    ///
    /// The data barrier is written after the config barrier is proven. Say k goes
    /// from 1 to 2, and n3's walsender stands still between reading the settings
    /// and its replies: it may yet release by k = 1 what only n2 has, and that may
    /// lie behind the config barrier's own record. (Found by `model`.)
    ///
    /// # Errors
    /// `BarrierStuck`, `Hung`, `Overridden`.
    pub async fn change_rule(&self, from: &Rule, to: &Rule) -> Result<Lsn> {
        self.put_in_force(to).await?;
        let sql = self.sql().await?;
        if from.is_leader_only() && !to.is_leader_only() {
            // C-9: backends look at a flag that the checkpointer keeps.
            self.checkpoint().await?;
        }
        let named: BTreeSet<&MemberId> = from.standbys().union(to.standbys()).collect();
        let began = Instant::now();
        every_walsender_reads(&sql, &named, began).await?;
        let lsn = emit(&sql).await?;
        while !acked(&senders(&sql).await?, to, lsn) {
            in_time(began)?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(lsn)
    }

    /// A checkpoint, completed.
    ///
    /// # Errors
    /// `Sql` and its kin.
    pub async fn checkpoint(&self) -> Result<()> {
        let sql = self.sql().await?;
        sql.rows_within("checkpoint", "CHECKPOINT", CHECKPOINT_LIMIT).await.map(|_| ())
    }

    /// Makes a shutdown quick: what a first checkpoint leaves dirty, a second takes.
    ///
    /// # Errors
    /// `Sql` and its kin.
    pub async fn prepare(&self) -> Result<()> {
        self.checkpoint().await?;
        self.checkpoint().await
    }
}

/// The config barrier: a walsender that replies to a record written after the reload has
/// read the new settings. One that lags is ended, and a new one begins with them.
async fn every_walsender_reads(sql: &Sql, named: &BTreeSet<&MemberId>, began: Instant) -> Result<()> {
    let lsn = emit(sql).await?;
    loop {
        let all = senders(sql).await?;
        let behind =
            all.iter().find(|s| s.member.as_ref().is_some_and(|m| named.contains(m)) && s.flush < lsn);
        match behind {
            None => return Ok(()),
            Some(s) if began.elapsed() > LAGGING_LIMIT => {
                sql.rows("end a walsender", &format!("SELECT pg_terminate_backend({})", s.pid)).await?;
            }
            Some(_) => {}
        }
        in_time(began)?;
        tokio::time::sleep(LOOK).await;
    }
}

fn in_time(began: Instant) -> Result<()> {
    if began.elapsed() > CHANGE_LIMIT {
        return Err(Error::Hung { what: "put the new commit rule in force", limit: CHANGE_LIMIT });
    }
    Ok(())
}

fn acked(senders: &[Sender], rule: &Rule, lsn: Lsn) -> bool {
    rule.is_acked_by(senders.iter().filter(|s| s.flush >= lsn).filter_map(|s| s.member.as_ref()))
}

/// Writes a record and gives a position behind its commit. It also makes
/// standbys reply, which frees waiters after a change (finding 5).
async fn emit(sql: &Sql) -> Result<Lsn> {
    let what = "write a barrier";
    sql.rows(what, "SELECT pg_logical_emit_message(true, 'tanist', 'barrier')").await?;
    let rows = sql.rows(what, "SELECT pg_current_wal_insert_lsn() AS lsn").await?;
    rows.first().and_then(|r| read(r, "lsn")).ok_or_else(|| Error::BadAnswer("no position".to_string()))
}

/// Walsenders that stream, each through its own slot (C-8).
async fn senders(sql: &Sql) -> Result<Vec<Sender>> {
    let query = "SELECT r.pid, r.application_name, r.flush_lsn, s.slot_name FROM pg_stat_replication r \
                 LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid";
    let rows = sql.rows("list its walsenders", query).await?;
    let sender = |row| {
        let member: Option<MemberId> = read(row, "application_name");
        let own_slot = |m: &MemberId| text(row, "slot_name") == Some(m.slot_name().as_str());
        Some(Sender {
            pid: read(row, "pid")?,
            member: member.filter(own_slot),
            flush: read(row, "flush_lsn").unwrap_or(Lsn::ZERO),
        })
    };
    Ok(rows.iter().filter_map(sender).collect())
}
