//! I11 Lineage: whoever streams shares the leader's past, and so does a directory
//! that was rewound or copied.
//!
//! Source: docs/protocol.md, section 5, (h) and C-11.

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let (from, to, how) = match moment {
        Moment::Attached { up, down } => (*up, *down, "streams from"),
        Moment::Rebuilt { at, from } => (*from, *at, "was rebuilt from"),
        _ => return None,
    };
    let (up, down) = (&world.hosts[from], &world.hosts[to]);
    let shares = down.server.wal.is_prefix_of(&up.server.wal) && down.server.sysid == up.server.sysid;
    (!shares).then(|| {
        format!(
            "{} {how} {} and has another past from record {} on",
            down.name,
            up.name,
            down.server.wal.common(&up.server.wal)
        )
    })
}
