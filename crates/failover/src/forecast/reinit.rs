//! What making a member's copy anew would mean for commits.
//!
//! A standby leaves the commit rule before its directory is touched (C-10), and in
//! `quorum` it leaves only where another one acknowledges in its place. Where none is
//! there it would wait for ever after an answer that promised otherwise.

use alloc::vec::Vec;
use core::fmt;

use cluster::command::{Change, Command, Member};
use cluster::report::Leading;
use cluster::state::Phase;
use cluster::{Durability, MemberId, NodeId, Rule, Term};

use super::{Scene, Unwise};

/// How a copy would be made anew. In words: what the member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remake {
    /// At once: no rule waits for it.
    Free,
    /// Others acknowledge in its place.
    Leaves,
    /// Nobody does, and the durability lets the leader go on alone.
    LeaderAlone,
    /// It is the only one and stays in the rule: copied beside its old directory.
    CommitsWait,
    /// No leader is open, or this agent does not hear it.
    Later,
}

impl fmt::Display for Remake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remake::Free => "is made anew; no commit waits for it",
            Remake::Leaves => "leaves the commit rule and is then made anew",
            Remake::LeaderAlone => {
                "leaves the commit rule and is then made anew; until it is back commits are on the leader's disk alone"
            }
            Remake::CommitsWait => {
                "is made anew; commits wait until it has caught up, as nobody else may acknowledge them"
            }
            Remake::Later => {
                "is made anew once a leader is open that lets it out of the commit rule; this agent hears of none now"
            }
        })
    }
}

/// Nobody could acknowledge in a member's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Who is to be made anew.
    pub node: NodeId,
    /// Whether it acknowledges now.
    pub acknowledges: bool,
    /// What commits wait for.
    pub rule: Rule,
    /// Another one streams and is not let in, as automatic changes are off.
    pub paused: bool,
    /// Who would have to come back.
    pub away: Vec<NodeId>,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needed { node, rule, .. } = self;
        write!(
            f,
            "{node} can't be made anew now: commits wait for {rule}, and nobody else could acknowledge in its place"
        )
    }
}

impl Needed {
    pub(super) fn advice(&self) -> alloc::string::String {
        if self.paused {
            return "Nothing was changed; 'tanist resume' first: while paused nobody is let into the commit rule".into();
        }
        let names: Vec<&str> = self.away.iter().map(NodeId::as_str).collect();
        let Some(first) = names.first() else {
            return "Nothing was changed; ask again when another standby streams".into();
        };
        let mut advice = alloc::format!("Nothing was changed; ask again when {} streams", names.join(" or "));
        // Where nobody acknowledges no change of the rule can be proven, so nobody gets out.
        if self.acknowledges {
            advice += &alloc::format!(
                ", or after 'tanist member remove {first}' if it is gone for good; commits wait then until the copy is made"
            );
        }
        advice
    }
}

/// What a `reinit` that is asked for now would come to.
///
/// # Errors
/// Why it can't be done: as `ClusterState::apply` says, or that it would wait for
/// another standby that is not there.
pub fn reinit(scene: Scene<'_>, by: &NodeId, node: &NodeId) -> Result<Remake, Unwise> {
    let state = scene.state;
    let change = Change::Reinit { node: node.clone() };
    state.apply(&Command { at_ms: 0, by: by.clone(), change })?;
    let newest = state.newest_rule().filter(|_| state.ctl.phase == Phase::Open);
    let leader = state.ctl.leader.as_ref().filter(|l| scene.is_heard(l));
    let leading = leader.and_then(|l| scene.reports.get(&l.node)).and_then(|(r, _)| r.leading.as_ref());
    let (Some(id), Some(newest), Some(leader)) = (state.member_id(node), newest, leader) else {
        return Ok(Remake::Later);
    };
    if !state.is_in_rules(&id) {
        return Ok(Remake::Free);
    }
    let Some(leading) = leading else { return Ok(Remake::Later) };
    let others = state.members.iter().filter(|(n, m)| **n != *node && **n != leader.node && stays(m));
    let others: Vec<MemberId> = others.filter_map(|(n, _)| state.member_id(n)).collect();
    // As the leader judges it (`rules::wanted`): nobody is let in while paused.
    let takes_its_place = |m: &MemberId| {
        let may = newest.rule.names(m) || !state.ctl.paused;
        may && state.member(m).is_some_and(|m| m.is_wal_voter() && !m.reinit) && replies(scene, leading, m)
    };
    if others.iter().any(takes_its_place) {
        return Ok(Remake::Leaves);
    }
    if state.settings.durability != Durability::Quorum || state.is_alone(&leader.node) {
        return Ok(Remake::LeaderAlone);
    }
    let lone = state.rules.len() == 1 && newest.rule.standbys().iter().eq([&id]);
    let acknowledges = replies(scene, leading, &id);
    if lone && (!acknowledges || others.is_empty()) {
        return Ok(Remake::CommitsWait);
    }
    if !lone && !state.is_bound(&id, attached(scene, &id)) {
        return Ok(Remake::Free);
    }
    let paused = others.iter().any(|m| replies(scene, leading, m));
    let away = others.into_iter().map(|m| m.node).collect();
    Err(Unwise::Needed(Needed { node: node.clone(), acknowledges, rule: newest.rule.clone(), paused, away }))
}

/// Keeps WAL, and is here to stay.
fn stays(member: &Member) -> bool {
    member.kind.keeps_wal() && member.has_seat() && !member.leaving
}

/// Whether the leader's server has heard it within the limit, as the leader says.
fn replies(scene: Scene<'_>, leading: &Leading, member: &MemberId) -> bool {
    leading.hears(member, scene.state.settings.timing.shrink_ms)
}

/// The newest term to whose leader it attached; one that is not heard may have in any.
fn attached(scene: Scene<'_>, member: &MemberId) -> Term {
    let said = scene.reports.get(&member.node).filter(|(r, _)| r.member == *member);
    said.map_or(scene.state.ctl.term, |(r, _)| r.vows.attached)
}
