//! Keeps the Raft group's voters in step with the cluster's members, one
//! change at a time, by the group's leader.

use alloc::vec::Vec;

use crate::state::ClusterState;

/// The next change of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Lets a number listen.
    Learner(u64),
    /// Lets a listener vote.
    Voter(u64),
    /// Takes a number out.
    Remove(u64),
    /// Hands the group to that one first: a leader that is taken out goes on leading, and
    /// takes no more commands (the library's `step_leader`).
    HandOver(u64),
}

/// The next change that brings `voters` towards what `state` says. A number
/// that is of no member any more (a wiped disk's, a removed node's) goes first,
/// so that it counts for no majority longer than needed.
#[must_use]
pub fn next_change(
    state: &ClusterState,
    own: u64,
    voters: &[u64],
    learners: &[u64],
    caught_up: impl Fn(u64) -> bool,
) -> Option<Change> {
    if !state.exists() {
        return None;
    }
    let members = state.members.values().filter(|m| m.has_seat());
    let wanted: Vec<u64> = members.map(|m| m.raft_id).collect();
    let present = || voters.iter().chain(learners).copied();
    if let Some(gone) = present().find(|id| !wanted.contains(id)) {
        let other = || voters.iter().copied().find(|id| *id != own && wanted.contains(id) && caught_up(*id));
        return if gone == own { other().map(Change::HandOver) } else { Some(Change::Remove(gone)) };
    }
    if let Some(id) = learners.iter().copied().find(|id| caught_up(*id)) {
        return Some(Change::Voter(id));
    }
    wanted.into_iter().find(|id| !present().any(|p| p == *id)).map(Change::Learner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Addresses, Kind, Member, MemberState, Tags};
    use crate::node::NodeId;
    use crate::term::Term;

    fn state(seats: &[u64]) -> ClusterState {
        let mut state = ClusterState::default();
        state.ctl.term = Term(1);
        for id in seats {
            let member = Member {
                incarnation: 1,
                raft_id: *id,
                nonce: 0,
                kind: Kind::Data,
                addresses: Addresses::default(),
                tags: Tags::default(),
                state: MemberState::Voter,
                leaving: false,
                reinit: false,
            };
            state.members.insert(NodeId::new(&alloc::format!("n{id}")).unwrap(), member);
        }
        state
    }

    /// The storm: taken out while it led the group, a node led on, and nothing was agreed.
    #[test]
    fn a_leader_that_is_taken_out_hands_the_group_over_first() {
        let state = state(&[1, 2]);
        assert_eq!(next_change(&state, 1, &[1, 2, 3], &[], |_| true), Some(Change::Remove(3)));
        assert_eq!(next_change(&state, 3, &[1, 2, 3], &[], |id| id == 2), Some(Change::HandOver(2)));
        assert_eq!(next_change(&state, 3, &[1, 2, 3], &[], |_| false), None, "to nobody who lacks something");
        assert_eq!(next_change(&state, 1, &[1, 2], &[], |_| true), None);
    }
}
