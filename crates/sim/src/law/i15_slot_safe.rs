//! I15 SlotSafe: nobody who streams holds what its leader's log does not have on
//! the same lineage.
//!
//! Source: docs/protocol.md, section 5 and (k). Logical consumers come with failover
//! slots; physical ones are looked at here: a standby is never ahead of its leader's
//! flushed end, since walsenders send only what is flushed.

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Step = moment else { return None };
    world.streams.values().find_map(|s| {
        let (up, down) = (&world.hosts[s.up], &world.hosts[s.down]);
        let live = up.server.life == s.lives.0 && down.server.life == s.lives.1;
        let ahead = s.sent > up.server.wal.flushed.max(up.server.wal.records.len());
        (live && ahead).then(|| format!("{} was sent more than {} has", down.name, up.name))
    })
}
