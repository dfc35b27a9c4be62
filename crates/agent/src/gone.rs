//! A seat that was taken away: noticed, given up, and asked for anew.
//!
//! Who was taken out, or was away while its disk was thought lost and another
//! took its seat, has a store that no majority talks to any more. It would wait
//! for ever, also after an operator lets it in again. So it sets that store
//! aside and asks like a node with an empty disk, which is what it is to the
//! others: somebody who promises nothing of old.
//!
//! Never judges by silence alone: either the own state says so, or a member's
//! that is certainly newer.

use std::path::Path;
use std::time::Duration;

use api::HostConfig;
use cluster::command::MemberState;
use cluster::{ClusterState, NodeId};
use peers::Peers;
use postgres::durable;
use store::Store;

use crate::seat::{self, JoinAnswer};

/// Between two looks at the own seat.
pub const LOOK: Duration = Duration::from_secs(3);

/// Whether the seat number `had` of `node` is nobody's any more, by a state that
/// knows that it was given: numbers only grow, and none is given twice.
#[must_use]
pub fn is_gone(state: &ClusterState, node: &NodeId, had: u64) -> bool {
    let seated = |m: &cluster::command::Member| m.raft_id == had && m.state != MemberState::Removed;
    state.exists() && state.raft_id_next > had && !state.members.get(node).is_some_and(seated)
}

/// Looks after the own seat; once it is gone, sets the store aside and ends the
/// agent, which the guard starts anew.
pub async fn mind_seat(config: HostConfig, peers: Peers, store: Store) {
    if config.join.is_empty() {
        return; // Nobody to ask: the operator who took it out stops it too.
    }
    let mut before = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let health = store.health();
        let known = is_gone(&store.watch().borrow(), &config.name, health.id);
        let lonely = health.leader == 0;
        // The group may need our vote to let us go, so we go when it has, or hears us no more.
        let let_go = lonely || !health.voters.contains(&health.id);
        let gone = (known && let_go) || (lonely && is_told_so(&config, &peers, health.id).await);
        // Two looks in a row, against an election at that moment.
        if !std::mem::replace(&mut before, gone) || !gone {
            continue;
        }
        tracing::warn!("this node was taken out of the cluster; it asks for a seat anew");
        match set_aside(&seat::store_dir(&config)) {
            Ok(()) => std::process::exit(0),
            Err(why) => tracing::error!(%why, "the store of a seat that is gone can't be set aside"),
        }
    }
}

async fn is_told_so(config: &HostConfig, peers: &Peers, had: u64) -> bool {
    for address in &config.join {
        if let Ok(JoinAnswer::Gone) = seat::ask(config, peers, address, 0, had).await {
            return true;
        }
    }
    false
}

/// Keeps the last one only: it is of no use but to whoever looks for what happened.
fn set_aside(dir: &Path) -> Result<(), postgres::Error> {
    let aside = dir.with_extension("gone");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(postgres::Error::file("remove", &aside))?;
    }
    std::fs::rename(dir, &aside).map_err(postgres::Error::file("rename", dir))?;
    if let Err(why) = durable::sync_dir(dir.parent().unwrap_or(dir)) {
        // After a crash it may be there again, and is set aside again.
        tracing::warn!(%why, "the store that was set aside may come back after a crash");
    }
    Ok(())
}

/// Whether a store was set aside here: such a node was in a cluster, and founds none.
#[must_use]
pub fn was_out(dir: &Path) -> bool {
    dir.with_extension("gone").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::command::{Addresses, Kind, Member, Tags};

    fn state(next: u64, seat: Option<(u64, MemberState)>) -> ClusterState {
        let mut s = ClusterState { raft_id_next: next, ..ClusterState::default() };
        s.ctl.term = cluster::Term(1);
        if let Some((raft_id, state)) = seat {
            let (addresses, tags) = (Addresses::default(), Tags::default());
            let seat = Member {
                incarnation: 1,
                raft_id,
                nonce: 0,
                kind: Kind::Data,
                addresses,
                tags,
                state,
                leaving: false,
                reinit: false,
            };
            s.members.insert(me(), seat);
        }
        s
    }

    fn me() -> NodeId {
        NodeId::new("n2").unwrap()
    }

    #[test]
    fn a_seat_is_gone_only_by_a_state_that_knew_it() {
        let voter = MemberState::Voter;
        assert!(!is_gone(&ClusterState::default(), &me(), 4), "nothing is known");
        assert!(!is_gone(&state(5, Some((4, voter.clone()))), &me(), 4), "it stands");
        assert!(!is_gone(&state(4, Some((3, voter.clone()))), &me(), 4), "an older state");
        assert!(is_gone(&state(6, Some((5, voter))), &me(), 4), "a later life");
        assert!(is_gone(&state(5, Some((4, MemberState::Removed))), &me(), 4), "taken out");
        assert!(is_gone(&state(5, Some((0, MemberState::Registered))), &me(), 4), "may join again");
        assert!(is_gone(&state(5, None), &me(), 4), "nobody of that name");
    }
}
