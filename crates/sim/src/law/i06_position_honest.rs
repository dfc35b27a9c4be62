//! I6 PosHonest: a reported position is at or after everything that node ever
//! acknowledged in that lineage, and bears the term of its last record.
//!
//! Source: docs/protocol.md, section 5 and C-1.

use super::Moment;
use crate::wal::Wal;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Recruited { at, answer } = moment else { return None };
    let host = &world.hosts[*at];
    let position = answer.position?;
    let name = &host.name;
    if let Some((place, id)) = host.ghost.acked {
        let there = host.server.wal.records.get(place).is_some_and(|r| r.id == id);
        if !there || position.lsn < Wal::lsn(place + 1) {
            return Some(format!(
                "{name} says {position}, and has acknowledged up to {}",
                Wal::lsn(place + 1)
            ));
        }
    }
    let owner = cluster::lineage::term_of(host.server.wal.owner(), &world.truth.elections)?;
    (owner != position.term)
        .then(|| format!("{name} says {position}, and its last record is of term {owner}"))
}
