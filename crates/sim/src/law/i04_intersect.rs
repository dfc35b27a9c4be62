//! I4 Intersect: every configuration in force at any walsender of the leader of
//! term t is one that is agreed, and so blocked by the next election.
//!
//! Source: docs/protocol.md, section 5 and (i).

use super::Moment;
use crate::server::Names;
use crate::stream::Stream;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Step = moment else { return None };
    let term = world.truth.ctl.term;
    let leader = world.truth.ctl.leader.as_ref()?;
    let host = &world.hosts[*world.places.get(&leader.node)?];
    if !host.server.is_primary() || host.ghost.leads != term || host.server.by_user {
        return None;
    }
    let agreed = |names: &Names| match names {
        Names::Placeholder => true,
        Names::Set(rule) => world.truth.own_rules().any(|r| r.rule == *rule),
    };
    let senders = host.server.senders.values().filter_map(|id| world.streams.get(id));
    // One whose own reading does not name its standby releases nobody.
    let releases = |s: &&Stream| s.names.rule().is_some_and(|r| r.names(&s.member));
    if let Some(s) = senders.filter(releases).find(|s| !agreed(&s.names)) {
        return Some(format!(
            "the walsender of {} for {} releases under {:?}, which is not agreed",
            host.name, s.member, s.names
        ));
    }
    let alone = world.truth.own_rules().any(|r| r.rule.is_leader_only());
    (!host.server.defined && !alone)
        .then(|| format!("sessions of {} wait for nobody, and no agreed rule says so", host.name))
}
