//! I10 NeverEmpty: `synchronous_standby_names` is empty on a running server only
//! if it leads under an agreed rule of the leader alone; and whenever a server is
//! down, `standby.signal` is there. In durability quorum such a rule is taken on only
//! where there is nobody else, or never was (C-15).
//!
//! Source: docs/protocol.md, section 5, 1.4 and C-9.

use cluster::report::ServerState;
use cluster::{ClusterState, Durability};

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    if let Moment::Agreed { old, .. } = moment {
        return alone_in_quorum(world, old);
    }
    let Moment::Step = moment else { return None };
    world.hosts.iter().find_map(|host| {
        let s = &host.server;
        if s.state == ServerState::Down && !s.signal_file && s.sysid != 0 {
            return Some(format!("{} is down, and would be started read-write", host.name));
        }
        let empty = s.runs() && s.state != ServerState::Starting && s.names_live.is_empty();
        if !empty || world.witnessed.is_dead(&host.name, host.ghost.leads) {
            return None;
        }
        let agreed = |r: &cluster::ActiveRule| r.leader.node == host.name && r.rule.is_leader_only();
        // One that was elected to lead alone, and was broken off before it was promoted.
        let elected = |e: &cluster::state::Election| e.leader.node == host.name && e.rule.is_leader_only();
        let broken_off = s.state == ServerState::Standby && world.truth.elections.iter().any(elected);
        (!broken_off && !world.truth.rules.iter().any(agreed))
            .then(|| format!("{} waits for nobody, and does not lead alone", host.name))
    })
}

fn alone_in_quorum(world: &World, old: &ClusterState) -> Option<String> {
    let new = &world.truth;
    let added =
        new.rules.last().filter(|r| r.rule.is_leader_only() && !old.rules.iter().any(|o| o.sub == r.sub))?;
    let strict = new.settings.durability == Durability::Quorum && old.exists();
    let before = old.rules.iter().all(|r| r.rule.is_leader_only() && r.mode != Durability::Async);
    let stays = old.newest_rule().is_some_and(|r| r.term == added.term && r.rule == added.rule);
    let allowed = before || stays || old.is_alone(&added.leader.node);
    (strict && !allowed).then(|| format!("{} is to wait for nobody, and others are there", added.leader))
}
