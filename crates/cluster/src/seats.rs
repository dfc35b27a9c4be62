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
}

/// The next change that brings `voters` towards what `state` says. A number
/// that is of no member any more (a wiped disk's, a removed node's) goes first,
/// so that it counts for no majority longer than needed.
#[must_use]
pub fn next_change(
    state: &ClusterState,
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
        return Some(Change::Remove(gone));
    }
    if let Some(id) = learners.iter().copied().find(|id| caught_up(*id)) {
        return Some(Change::Voter(id));
    }
    wanted.into_iter().find(|id| !present().any(|p| p == *id)).map(Change::Learner)
}
