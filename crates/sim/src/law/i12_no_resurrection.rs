//! I12 NoResurrect: a write that a client was told has failed is never seen.
//!
//! Source: docs/protocol.md, section 5 and 6.4. One whose connection was lost is
//! not failed but ambiguous.

use super::Moment;
use crate::client::Fate;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Ended = moment else { return None };
    let at = *world.places.get(&world.truth.ctl.leader.as_ref()?.node)?;
    let wal = &world.hosts[at].server.wal;
    let seen = wal.records.iter().filter_map(crate::wal::Record::commits);
    let risen = seen.into_iter().find(|w| world.writes[*w as usize].fate == Fate::Failed)?;
    Some(format!("w{risen} was said to have failed, and {} has it", world.hosts[at].name))
}
