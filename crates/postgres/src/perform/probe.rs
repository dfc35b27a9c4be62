//! What our server is like right now.

use std::sync::PoisonError;

use cluster::report::{Leading, ServerReport, ServerState, StandbyProgress};
use cluster::{Lineage, Lsn, MemberId, Term, Timeline};
use tokio_postgres::SimpleQueryRow;

use crate::control_file::ControlFile;
use crate::durable;
use crate::error::{Error, Result};
use crate::guard::tree;
use crate::history;
use crate::layout::term_of_passfile;
use crate::perform::{Hands, WalEnd};
use crate::sql::{Sql, read, text};

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// For everybody.
    pub server: ServerReport,
    /// While it is primary.
    pub leading: Option<Leading>,
    /// The postmaster lives and answers nobody.
    pub hung: bool,
    /// Milliseconds since the walreceiver last heard its leader.
    pub wal_silent_ms: Option<u64>,
}

const ONE: &str = "SELECT pg_is_in_recovery() AS standby, \
    (SELECT system_identifier FROM pg_control_system()) AS sysid, \
    current_setting('server_version_num') AS version, \
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END AS flushed, \
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END AS file, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END AS received, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END AS replayed, \
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS paused, \
    CASE WHEN pg_is_in_recovery() THEN (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::int8 END AS replay_age, \
    w.status, w.received_tli, w.conninfo, \
    a.wait_event AS waits, \
    (w.last_msg_send_time <> w.last_msg_receipt_time OR w.last_msg_receipt_time > a.backend_start + interval '1 s') AS heard, \
    (extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time) * 1000)::int8 AS silent \
    FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver w ON true \
    LEFT JOIN LATERAL pg_stat_get_activity(coalesce(w.pid, 0)) AS a ON true";

/// What a walreceiver waits for that gets no WAL yet: an answer about the stream, or (15.20
/// and its like) that its upstream's log comes to the place it asks for, which may be never.
/// In the spelling of 16 and older; newer ones differ in case.
const BEFORE_THE_STREAM: [&str; 3] =
    ["WalReceiverUpstreamCatchup", "LibPQWalReceiverReceive", "LibPQWalReceiverConnect"];

const STANDBYS: &str = "SELECT r.application_name, r.state, r.sent_lsn, r.write_lsn, r.flush_lsn, r.replay_lsn, s.slot_name, \
    (extract(epoch FROM clock_timestamp() - r.reply_time) * 1000)::int8 AS reply_age, \
    (extract(epoch FROM r.replay_lag) * 1000)::int8 AS replay_lag, \
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep') AS waiters \
    FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid";

impl Hands {
    /// Looks at the server; never fails, for not to be reached is a finding too.
    pub async fn probe(&self) -> Probe {
        let postmaster = match self.site.guard.status().await {
            Ok(status) => status.postmaster,
            Err(why) => return trouble(ServerState::Starting, 0, why.to_string()),
        };
        let Some(pid) = postmaster else { return self.probe_still().await };
        let mut kept = self.probing.lock().await;
        let asked = self.ask(&mut kept).await;
        if asked.is_err() {
            *kept = None;
        }
        drop(kept);
        let pid_number = pid.unsigned_abs();
        match asked {
            Ok(mut probe) => {
                probe.server.postmaster_pid = pid_number;
                probe.hung = tree::state_of(pid) == Some('T');
                probe
            }
            Err(Error::NotReady(why)) => trouble(ServerState::Starting, pid_number, why),
            Err(Error::Unreachable(why)) if tree::state_of(pid) != Some('T') => {
                trouble(ServerState::Starting, pid_number, why)
            }
            Err(why) => Probe { hung: true, ..self.unanswered(pid_number, &why) },
        }
    }

    /// It lives and does not answer: what it was is all we know.
    fn unanswered(&self, pid: u32, why: &Error) -> Probe {
        let lineage = self.newest_lineage(Timeline(0)).unwrap_or_default();
        let standby = self.site.dir.conf("standby.signal").exists();
        let state = if standby { ServerState::Standby } else { ServerState::Primary };
        let mut probe = trouble(state, pid, why.to_string());
        probe.server.lineage = lineage;
        probe
    }

    async fn ask(&self, kept: &mut Option<Sql>) -> Result<Probe> {
        kept.take_if(|sql| sql.is_closed());
        if kept.is_none() {
            let sql = self.sql().await?;
            // Planned once: views as these take ten times as long to plan as to read.
            sql.prepare("tanist_one", ONE).await?;
            sql.prepare("tanist_standbys", STANDBYS).await?;
            *kept = Some(sql);
        }
        let Some(sql) = kept else { return Err(Error::Unreachable("no connection".to_string())) };
        let rows = sql.rows("tell how it is", "EXECUTE tanist_one").await?;
        let row = rows.first().ok_or_else(|| Error::BadAnswer("no row".to_string()))?;
        if text(row, "standby") == Some("t") { self.standby(row).await } else { self.primary(row, sql).await }
    }

    async fn standby(&self, row: &SimpleQueryRow) -> Result<Probe> {
        let replay: Lsn = read(row, "replayed").unwrap_or(Lsn::ZERO);
        let streams = is_streaming(text(row, "status"), text(row, "waits"), text(row, "heard"));
        // While nothing streams, the control file's timelines lag behind what
        // was replayed, and only the log itself tells whose it is (C-1).
        let (lineage, end) = if streams {
            let received = Timeline(read(row, "received_tli").unwrap_or(0));
            (self.newest_lineage(received)?, read(row, "received").unwrap_or(Lsn::ZERO).max(replay))
        } else {
            let scanned = self.wal_end_from((replay > Lsn::ZERO).then_some(replay)).await?;
            (scanned.lineage, scanned.end)
        };
        let term = text(row, "conninfo").and_then(term_of_conninfo);
        let caught_up = replay >= end;
        let server = ServerReport {
            state: ServerState::Standby,
            sysid: read(row, "sysid").unwrap_or(0),
            version: read(row, "version").unwrap_or(0),
            lineage,
            end,
            replay,
            replay_paused: text(row, "paused") == Some("t"),
            replay_lag_ms: if caught_up { 0 } else { read(row, "replay_age").unwrap_or(0) },
            streaming: term.filter(|_| streams),
            postmaster_pid: 0,
            trouble: None,
            unfit: false,
        };
        // A walreceiver that gets nothing counts from its own start.
        let wal_silent_ms = read(row, "silent").filter(|_| streams);
        Ok(Probe { server, leading: None, hung: false, wal_silent_ms })
    }

    async fn primary(&self, row: &SimpleQueryRow, sql: &Sql) -> Result<Probe> {
        let file = text(row, "file").and_then(|f| f.get(..8));
        let tli = file.and_then(|t| u32::from_str_radix(t, 16).ok()).map_or(Timeline(0), Timeline);
        let end = read(row, "flushed").unwrap_or(Lsn::ZERO);
        let rows = sql.rows("list its standbys", "EXECUTE tanist_standbys").await?;
        let server = ServerReport {
            state: ServerState::Primary,
            sysid: read(row, "sysid").unwrap_or(0),
            version: read(row, "version").unwrap_or(0),
            lineage: self.newest_lineage(tli)?,
            end,
            replay: end,
            ..ServerReport::default()
        };
        let waiters = rows.first().and_then(|r| read(r, "waiters")).unwrap_or(0);
        let standbys = rows.iter().filter_map(progress).collect();
        let leading = Leading { end, standbys, waiters, ..Leading::default() };
        Ok(Probe { server, leading: Some(leading), hung: false, wal_silent_ms: None })
    }

    fn newest_lineage(&self, timeline: Timeline) -> Result<Lineage> {
        let pg_wal = self.site.dir.pgdata().join("pg_wal");
        let timeline = if timeline == Timeline(0) {
            ControlFile::read(&self.site.dir.pgdata())
                .map_or(Timeline(0), |c| c.timeline.max(c.min_recovery_timeline))
        } else {
            timeline
        };
        Ok(history::lineage(&pg_wal, timeline)?)
    }

    /// A server that is down: read from its files, once until it starts again.
    async fn probe_still(&self) -> Probe {
        if !self.has_data() {
            return trouble(ServerState::Empty, 0, String::new());
        }
        let pgdata = self.site.dir.pgdata();
        let control = durable::off_loop(move || Ok(ControlFile::read(&pgdata).ok())).await.ok().flatten();
        let end = self.still_end().await;
        // A directory that can't be started is for an operator, not to be tried or made anew.
        let unfit = self.check_version().err().map(|e| e.to_string());
        let why = self.why_down.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut probe = trouble(ServerState::Down, 0, unfit.clone().unwrap_or(why));
        probe.server.unfit = unfit.is_some();
        probe.server.sysid = control.map_or(0, |c| c.sysid);
        if let Some(end) = end {
            (probe.server.lineage, probe.server.end, probe.server.replay) =
                (end.lineage, end.end, end.replay);
        }
        probe
    }

    async fn still_end(&self) -> Option<WalEnd> {
        let known = self.still.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return known;
        }
        let found = self.wal_end().await.ok()?;
        *self.still.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Some(found)
    }

    /// Our past, as far as files tell.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.newest_lineage(Timeline(0)).unwrap_or_default()
    }
}

fn trouble(state: ServerState, postmaster_pid: u32, why: String) -> Probe {
    let trouble = (!why.is_empty()).then_some(why);
    Probe {
        server: ServerReport { state, postmaster_pid, trouble, ..ServerReport::default() },
        ..Probe::default()
    }
}

/// Whether a walreceiver gets WAL. PostgreSQL calls it `streaming` from its start on: also
/// one that only asks, and one that is refused once its stream has begun. Both have heard
/// nothing since they started, when sent and received are set to one and the same moment.
fn is_streaming(status: Option<&str>, waits: Option<&str>, heard: Option<&str>) -> bool {
    let before = |wait: &str| BEFORE_THE_STREAM.iter().any(|name| name.eq_ignore_ascii_case(wait));
    status == Some("streaming") && heard == Some("t") && !waits.is_some_and(before)
}

/// The term whose credential a conninfo refers to.
fn term_of_conninfo(conninfo: &str) -> Option<Term> {
    let value = conninfo.split_whitespace().find_map(|pair| pair.strip_prefix("passfile="))?;
    term_of_passfile(value.trim_matches('\''))
}

fn progress(row: &SimpleQueryRow) -> Option<StandbyProgress> {
    let member: MemberId = read(row, "application_name")?;
    let own_slot = text(row, "slot_name") == Some(member.slot_name().as_str());
    let lsn = |column| read(row, column).unwrap_or(Lsn::ZERO);
    Some(StandbyProgress {
        streaming: text(row, "state") == Some("streaming") && own_slot,
        sent: lsn("sent_lsn"),
        write: lsn("write_lsn"),
        flush: lsn("flush_lsn"),
        replay: lsn("replay_lsn"),
        reply_age_ms: read(row, "reply_age").unwrap_or(0),
        replay_lag_ms: read(row, "replay_lag").unwrap_or(0),
        member,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walreceiver_that_only_asks_does_not_stream() {
        let streaming = |waits, heard| is_streaming(Some("streaming"), waits, heard);
        assert!(streaming(Some("WalReceiverMain"), Some("t")));
        assert!(streaming(None, Some("t")), "it is at work");
        assert!(!streaming(Some("WalReceiverMain"), Some("f")), "it is about to be refused");
        assert!(!streaming(None, None), "it has ended meanwhile");
        assert!(!is_streaming(Some("waiting"), None, Some("t")) && !is_streaming(None, None, None));
        // 11 to 16, and from 17 on; heard from when it followed an earlier timeline.
        for wait in ["LibPQWalReceiverReceive", "LibpqwalreceiverReceive", "WalReceiverUpstreamCatchup"] {
            assert!(!streaming(Some(wait), Some("t")), "{wait}");
        }
    }
}
