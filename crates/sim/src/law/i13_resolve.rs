//! I13 Resolve: what the transaction ids of each term say of an ambiguous write
//! (C-17) is what became of it.
//!
//! Source: docs/protocol.md, section 5 and 6.2. Let h be the first term after the
//! write's own in the surviving past: an id at or above h's first one is lost; one
//! below it is whatever `pg_xact_status` says, which knows numbers only. Before all
//! that: where the write's own timeline is not in the surviving past, it is lost.

use std::collections::BTreeSet;

use super::Moment;
use crate::client::Fate;
use crate::wal::{Record, Wal};
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Ended = moment else { return None };
    let at = *world.places.get(&world.truth.ctl.leader.as_ref()?.node)?;
    let wal = &world.hosts[at].server.wal;
    let by_xid: Vec<u32> = wal.records.iter().filter_map(Record::begins).collect();
    let committed: BTreeSet<u32> = wal.records.iter().filter_map(Record::commits).collect();
    let by_xid: Vec<bool> = by_xid.into_iter().map(|w| committed.contains(&w)).collect();
    world.writes.iter().enumerate().find_map(|(n, w)| {
        let asked = w.fate == Fate::Ambiguous && w.on.is_some();
        let verdict = if asked { verdict(world, wal, w.ran_in, w.xid, &by_xid)? } else { return None };
        let kept = wal.records.get(w.place.0 - 1).is_some_and(|r| r.id == w.place.1);
        (verdict != kept).then(|| {
            let word = |yes| if yes { "committed" } else { "lost" };
            format!(
                "w{n} with transaction id {} would be called {}, and is {}",
                w.xid,
                word(verdict),
                word(kept)
            )
        })
    })
}

/// Whether it would be called committed; nothing where that is unknown (08007).
fn verdict(world: &World, wal: &Wal, ran_in: cluster::Term, xid: u64, by_xid: &[bool]) -> Option<bool> {
    let lineage = &wal.lineage;
    let own = world.truth.elections.iter().find(|e| e.term == ran_in)?;
    if !lineage.contains(own.tli) {
        return Some(false);
    }
    let mut later = world.truth.elections.iter().filter(|e| e.term > ran_in && lineage.contains(e.tli));
    let status = usize::try_from(xid - 3).ok().and_then(|i| by_xid.get(i)).copied().unwrap_or(false);
    match later.next() {
        None => Some(status),
        Some(h) => {
            let first = h.opened.as_ref()?.next_xid;
            if first == 0 { None } else { Some(xid < first && status) }
        }
    }
}
