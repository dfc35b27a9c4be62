//! To whom a switchover would go: healthy means heard, streaming and close.

use alloc::string::String;
use alloc::vec::Vec;

use cluster::command::{Change, Command, Member};
use cluster::state::Phase;
use cluster::{MemberId, NodeId, Refused};

use super::Scene;
use crate::switchover::Field;

/// A standby that lags by more is no successor now: the leader would wait for
/// it until it calls the switchover off. Above what the leader itself asks for
/// before it shuts down, since a standby may catch up in that time.
pub const LAG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// To whom a switchover that is asked for now would go.
///
/// # Errors
/// Why it can't be done: as `ClusterState::apply` says, or that nobody who
/// could take over is healthy.
pub fn switchover(scene: Scene<'_>, by: &NodeId, to: Option<&NodeId>) -> Result<NodeId, Refused> {
    let change = Change::Switchover { to: to.cloned(), at_ms: None };
    scene.state.apply(&Command { at_ms: 0, by: by.clone(), change })?;
    let leader = scene.state.ctl.leader.as_ref().filter(|_| scene.state.ctl.phase == Phase::Open);
    let said = leader.filter(|l| scene.is_heard(l)).and_then(|l| scene.reports.get(&l.node));
    let Some(leading) = said.and_then(|(r, _)| r.leading.as_ref()) else {
        let why = "the leader is not heard by this agent, so nobody can hand over";
        return Err(Refused::NoCandidate(why.into()));
    };
    let field = Field { state: scene.state, leading: Some(leading) };
    let others = scene.state.members.keys().filter_map(|n| scene.state.member_id(n));
    let voter = |m: &MemberId| scene.state.member(m).is_some_and(Member::is_data_voter);
    let others: Vec<MemberId> = others.filter(|m| Some(m) != leader && voter(m)).collect();
    let asked = others.iter().filter(|m| to.is_none_or(|n| m.node == *n));
    let why_not: Vec<String> = asked.clone().filter_map(|m| unready(scene, &field, m)).collect();
    let mut ready = asked.filter(|m| unready(scene, &field, m).is_none());
    let best = match to {
        Some(_) => ready.next().cloned(),
        None => field.choose(ready.cloned()),
    };
    let why = if why_not.is_empty() { "no other data node may lead".into() } else { why_not.join(", ") };
    best.map(|m| m.node).ok_or(Refused::NoCandidate(why.into()))
}

/// Why `member` could not take over soon.
fn unready(scene: Scene<'_>, field: &Field<'_>, member: &MemberId) -> Option<String> {
    let node = &member.node;
    if !scene.is_heard(member) {
        return Some(alloc::format!("{node}'s agent is not heard"));
    }
    let Some(lag) = field.lag_bytes(member) else {
        return Some(alloc::format!("{node} does not stream from the leader"));
    };
    (lag >= LAG_BYTES_MAX).then(|| alloc::format!("{node} lags by {} MB", lag >> 20))
}
