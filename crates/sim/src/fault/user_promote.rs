//! A superuser calls `pg_promote()` on a standby: `promote n2`.

use super::{Fault, host_at};
use cluster::report::ServerState;
use cluster::state::Phase;
use cluster::{Term, Timeline};

pub(super) const FAULT: Fault = Fault {
    name: "user-promote",
    verbs: &["promote"],
    draw: |_, scene| scene.promoted.as_ref().map(|node| format!("promote {node}")),
    act: |world, line| {
        Some((|| {
            let at = host_at(world, line, 1)?;
            let host = &world.hosts[at];
            // In the moment between an election and its promotion others stream from it,
            // and all of them would come to be on a timeline that nobody gave out: what
            // only an operator can mend (docs/protocol.md).
            let elected = world.truth.ctl.leader.as_ref().is_some_and(|l| l.node == host.name);
            let changing = world.truth.ctl.phase != Phase::Open;
            let moment = elected || changing || !host.server.senders.is_empty();
            if host.server.state != ServerState::Standby || host.paused || moment {
                return Ok(());
            }
            world.end_receiver(at);
            world.next_record += 1;
            let id = world.next_record;
            let s = &mut world.hosts[at].server;
            // PostgreSQL takes the first number that it has no history file of; while a
            // promotion is prepared, that is the reserved one.
            let (next, term) = s.reserved.unwrap_or((Timeline(s.wal.lineage.timeline.0 + 1), Term(0)));
            s.promote(next, id);
            (s.by_user, s.signal_file) = (term == Term(0), true);
            world.hosts[at].ghost.leads = term;
            world.again(at);
            Ok(())
        })())
    },
};
