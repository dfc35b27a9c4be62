//! I5 Promise: after a node has reported for t it forwards no acknowledgement
//! for any earlier term, across restarts.
//!
//! Source: docs/protocol.md, section 5, C-4 and C-5.

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::AckSent { at, term } = moment else { return None };
    let host = &world.hosts[*at];
    (host.ghost.reported > *term).then(|| {
        format!(
            "{} acknowledges to the leader of term {term} and has reported to be recruited for {}",
            host.name, host.ghost.reported
        )
    })
}
