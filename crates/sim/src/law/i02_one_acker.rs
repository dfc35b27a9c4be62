//! I2 OneAcker: at no time can two servers acknowledge a commit.
//!
//! Source: docs/protocol.md, section 5. Seen by what is acknowledged: once a
//! leader of a later term has acknowledged anything, none of an earlier one may,
//! but for what the later one has: acknowledgements of standbys that lay in a
//! socket when they were recruited (2.1).

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Acked { at, write } = moment else { return None };
    let host = &world.hosts[*at];
    let (term, newest) = (host.ghost.leads, world.witnessed.newest_acker);
    if host.server.by_user {
        return Some(format!("{} acknowledges w{write}, and only a user promoted it", host.name));
    }
    // C-18 says aloud that whoever was declared dead may go on.
    let behind = newest > term && !world.witnessed.is_dead(&host.name, term) && !is_kept(world, *write);
    behind.then(|| {
        format!("{} acknowledges w{write} in term {term}, after a leader of term {newest} has", host.name)
    })
}

/// Whether the newest leader that acknowledges has the write.
fn is_kept(world: &World, write: u32) -> bool {
    let (count, id) = world.writes[write as usize].place;
    let newest = world.hosts.iter().find(|h| h.ghost.leads == world.witnessed.newest_acker);
    newest.is_some_and(|h| h.server.wal.records.get(count.wrapping_sub(1)).is_some_and(|r| r.id == id))
}
