//! I7 TliUnique: over all disks a timeline has one parent, one switch point and
//! one term.
//!
//! Source: docs/protocol.md, section 5 and (k). A user's own `pg_promote()` takes
//! whatever number PostgreSQL finds; elections refuse such a past (C-2).

use cluster::Lsn;

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Promoted { at, term } = moment else { return None };
    let lineage = &world.hosts[*at].server.wal.lineage;
    let last = lineage.ancestors.last();
    let now = (last.map(|b| b.timeline), last.map_or(Lsn::ZERO, |b| b.end), *term, *at);
    let reserved = world.truth.elections.iter().find(|e| e.term == *term).map(|e| e.tli);
    if reserved.is_some_and(|tli| tli != lineage.timeline) {
        return Some(format!(
            "{} opened timeline {} in term {term}, for which {} was reserved",
            world.hosts[*at].name,
            lineage.timeline,
            reserved.unwrap_or_default()
        ));
    }
    let before = world.witnessed.births.get(&lineage.timeline).filter(|b| **b != now)?;
    Some(format!("timeline {} was opened twice: {before:?} and {now:?}", lineage.timeline))
}
