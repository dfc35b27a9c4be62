//! I3 TermLeader: one leader a term; a server is promoted in t only after the
//! store has elected it for t, and at most once in t.
//!
//! Source: docs/protocol.md, section 5 and C-4.

use std::collections::BTreeSet;

use super::Moment;
use crate::world::World;

pub(super) fn judge(world: &World, moment: &Moment) -> Option<String> {
    match moment {
        Moment::Promoted { at, term } => {
            let host = &world.hosts[*at];
            let elected = world.truth.elections.iter().any(|e| e.term == *term && e.leader.node == host.name);
            if !elected {
                return Some(format!(
                    "{} was promoted in term {term}, for which it was not elected",
                    host.name
                ));
            }
            let again = host.ghost.promoted.contains(term);
            again.then(|| format!("{} was promoted twice in term {term}", host.name))
        }
        Moment::Agreed { old, .. } => {
            if world.truth.ctl.term < old.ctl.term {
                return Some(format!("the term went back from {} to {}", old.ctl.term, world.truth.ctl.term));
            }
            let mut terms = BTreeSet::new();
            let twice = world.truth.elections.iter().find(|e| !terms.insert(e.term))?;
            Some(format!("term {} has two elections", twice.term))
        }
        Moment::Started { at } => {
            let host = &world.hosts[*at];
            host.server.is_primary().then(|| format!("{} was started read-write", host.name))
        }
        _ => None,
    }
}
