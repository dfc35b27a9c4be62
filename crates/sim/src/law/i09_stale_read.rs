//! I9 StrictRead, as far as there is no proxy: a client that is connected to a
//! server of a term that is over reads from it only until its guard's deadline.
//!
//! Source: docs/protocol.md, section 5, 2.4 ("direct connections") and C-25. The
//! strict form, with read grants and route leases, comes with the proxy.

use super::Moment;
use crate::clock::{Us, ms};
use crate::world::World;

/// Beyond the deadline itself: grants are believed for S, a deadline is armed up to
/// 0.4 s late, clocks drift.
const SLACK: Us = ms(2500);

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Read { at } = moment else { return None };
    let host = &world.hosts[*at];
    let term = host.ghost.leads;
    let (later, opened) = world.witnessed.opened.iter().find(|(t, _)| *t > term)?;
    let deadline = ms(world.truth.settings.timing.guard_deadline_ms) + SLACK;
    let since = world.witnessed.unguarded.get(at).map_or(*opened, |t| (*t).max(*opened));
    let stale =
        world.now > since + deadline && !world.witnessed.is_dead(&host.name, term) && !host.server.by_user;
    stale.then(|| {
        format!(
            "{} of term {term} answers a read {} ms after term {later} was opened",
            host.name,
            (world.now - opened) / 1000
        )
    })
}
