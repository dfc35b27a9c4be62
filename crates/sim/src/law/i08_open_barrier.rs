//! I8 OpenBarrier: a term is opened only after a record of its own has reached an
//! ack set of a rule of its own, so every commit that recovery made visible has.
//!
//! Source: docs/protocol.md, section 5, C6 and C7.

use cluster::MemberId;
use cluster::command::Change;

use super::Moment;
use crate::wal::Wal;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Agreed { old, command } = moment else { return None };
    let Change::Opened { term, switch_lsn, sub, .. } = &command.change else { return None };
    let rule = &old.rules.iter().find(|r| r.sub == *sub)?.rule;
    let leader = &world.hosts[*world.places.get(&command.by)?];
    let first = Wal::count(*switch_lsn);
    let record = leader.server.wal.records.get(first)?;
    let has = |m: &&MemberId| {
        let Some(at) = world.places.get(&m.node) else { return false };
        let host = &world.hosts[*at];
        let held = host.server.wal.records.get(first).is_some_and(|r| r.id == record.id);
        // A disk that was lost since had it.
        (held && host.vows.member.as_ref() == Some(*m)) || world.witnessed.wiped.contains(*m)
    };
    let reached = rule.is_acked_by(rule.standbys().iter().filter(has));
    (!reached).then(|| format!("{} opened term {term} before its first record reached {rule}", command.by))
}
