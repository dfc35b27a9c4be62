//! The slots through which the other members stream, on a leader and on every standby
//! that may be the next.
//!
//! Asked for every two seconds, and ten times a second while a member is being cloned,
//! so the conversation is kept. Between two questions it is idle: it holds no snapshot
//! and no lock, and a fast shutdown ends it as any other.

use std::collections::BTreeMap;

use cluster::{Lsn, MemberId};

use crate::error::{Error, Result};
use crate::perform::Hands;
use crate::sql::{Sql, read, text};

/// A slot that should be there, and how far its member has flushed.
pub type SlotNeed = BTreeMap<MemberId, Lsn>;

const SLOTS: &str = "SELECT slot_name, active, restart_lsn, pg_is_in_recovery() AS standby, \
    pg_last_wal_replay_lsn() AS replay \
    FROM pg_replication_slots WHERE slot_type = 'physical' AND slot_name LIKE 'tanist\\_%'";

impl Hands {
    /// Makes the slots of all other members, drops those of members that are no
    /// more, and on a standby moves them along, so that whoever leads next has
    /// the WAL that the others need and no more.
    ///
    /// # Errors
    /// `Sql` and its kin.
    pub async fn keep_slots(&self, wanted: &SlotNeed) -> Result<()> {
        let mut kept = self.keeping.lock().await;
        // Taken out: one that is broken off or fails is closed, and not asked again.
        let sql = match kept.take().filter(|sql| !sql.is_closed()) {
            Some(sql) => sql,
            None => self.sql().await?,
        };
        keep(&sql, wanted).await?;
        *kept = Some(sql);
        Ok(())
    }
}

/// `duplicate_object`.
const DUPLICATE_OBJECT: &str = "42710";

async fn keep(sql: &Sql, wanted: &SlotNeed) -> Result<()> {
    let rows = sql.rows("list its slots", SLOTS).await?;
    let names: BTreeMap<String, Lsn> = wanted.iter().map(|(m, lsn)| (m.slot_name(), *lsn)).collect();
    let there: Vec<&str> = rows.iter().filter_map(|r| text(r, "slot_name")).collect();
    for name in names.keys().filter(|n| !there.contains(&n.as_str())) {
        let make = format!("SELECT pg_create_physical_replication_slot('{name}', true)");
        match sql.rows("make a slot", &make).await {
            // One that was broken off a moment ago has made it since we looked.
            Err(Error::Sql { sqlstate, .. }) if sqlstate == DUPLICATE_OBJECT => {}
            made => drop(made?),
        }
    }
    for row in &rows {
        let Some(name) = text(row, "slot_name") else { continue };
        let idle = text(row, "active") == Some("f");
        match names.get(name) {
            None if idle => {
                sql.rows("drop a slot", &format!("SELECT pg_drop_replication_slot('{name}')")).await?;
            }
            Some(flushed) if idle && text(row, "standby") == Some("t") => {
                let replay: Lsn = read(row, "replay").unwrap_or(Lsn::ZERO);
                let at: Lsn = read(row, "restart_lsn").unwrap_or(Lsn::ZERO);
                let to = (*flushed).min(replay);
                if to > at {
                    let advance = format!("SELECT pg_replication_slot_advance('{name}', '{to}')");
                    sql.rows("advance a slot", &advance).await?;
                }
            }
            None | Some(_) => {}
        }
    }
    Ok(())
}
