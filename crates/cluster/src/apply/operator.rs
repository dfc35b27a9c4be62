//! What operators ask for: switchover, pause, settings.

use alloc::string::ToString;

use super::election::check_fit;
use crate::command::{Command, Kind, MemberState};
use crate::node::{MemberId, NodeId};
use crate::policy::{Durability, Settings};
use crate::reason::Reason;
use crate::refused::Refused;
use crate::state::{ClusterState, Phase, Switchover};

pub(super) fn switchover(
    s: &mut ClusterState,
    c: &Command,
    to: Option<&NodeId>,
    at_ms: Option<u64>,
) -> Result<(), Refused> {
    if s.ctl.phase != Phase::Open {
        return Err(Refused::WrongPhase { term: s.ctl.term, phase: s.ctl.phase });
    }
    if s.ctl.target.is_some() {
        return Err(Refused::SwitchoverPlanned);
    }
    match to {
        Some(node) => check_successor(s, node)?,
        None => check_any_successor(s)?,
    }
    s.ctl.target = Some(Switchover { to: to.cloned(), at_ms, asked_ms: c.at_ms });
    s.note(c, Reason::SwitchoverAsked { to: to.cloned(), at_ms });
    Ok(())
}

/// Only one that may acknowledge is sure to have everything; with nobody in
/// the rule, any voter will do, for the handing-over proves completeness.
fn check_successor(s: &ClusterState, node: &NodeId) -> Result<(), Refused> {
    check_fit(s, node, true)?;
    if s.ctl.leader.as_ref().is_some_and(|l| l.node == *node) {
        return Err(Refused::CandidateUnfit { node: node.clone(), why: "it leads already".into() });
    }
    let named = |m: &MemberId| s.newest_rule().is_none_or(|r| r.rule.is_leader_only() || r.rule.names(m));
    match s.member_id(node) {
        Some(id) if named(&id) => Ok(()),
        Some(_) | None => Err(Refused::CandidateUnfit {
            node: node.clone(),
            why: "it is not in the commit rule now".into(),
        }),
    }
}

fn check_any_successor(s: &ClusterState) -> Result<(), Refused> {
    let fit = |n: &NodeId| check_successor(s, n).is_ok() && check_fit(s, n, false).is_ok();
    if s.members.keys().any(fit) {
        return Ok(());
    }
    let lone =
        !s.members.values().any(|m| m.kind == Kind::Data && m.has_seat() && m.state != MemberState::Voter);
    let why = if lone { "no other data node may lead" } else { "no other data node is caught up" };
    Err(Refused::NoCandidate(why.into()))
}

/// The leader names the successor of a switchover that named none.
pub(super) fn aim(s: &mut ClusterState, c: &Command, to: &NodeId) -> Result<(), Refused> {
    if s.ctl.leader.as_ref().is_none_or(|l| l.node != c.by) || s.ctl.phase != Phase::Open {
        return Err(Refused::NotLeader(s.ctl.term));
    }
    check_successor(s, to)?;
    match &mut s.ctl.target {
        Some(target) if target.to.is_none() => target.to = Some(to.clone()),
        Some(_) => return Err(Refused::SwitchoverPlanned),
        None => return Err(Refused::NoSwitchover),
    }
    s.note(c, Reason::SwitchoverAsked { to: Some(to.clone()), at_ms: None });
    Ok(())
}

pub(super) fn cancel(s: &mut ClusterState, c: &Command, why: &str) -> Result<(), Refused> {
    if s.ctl.target.take().is_none() {
        return Err(Refused::NoSwitchover);
    }
    s.note(c, Reason::SwitchoverCancelled(why.to_string()));
    Ok(())
}

pub(super) fn pause(s: &mut ClusterState, c: &Command, paused: bool) -> Result<(), Refused> {
    if s.ctl.paused == paused {
        let why = if paused { "it is paused already" } else { "it is not paused" };
        return Err(Refused::NothingToDo(why.into()));
    }
    s.ctl.paused = paused;
    s.note(c, if paused { Reason::Paused } else { Reason::Resumed });
    Ok(())
}

pub(super) fn settings(s: &mut ClusterState, c: &Command, settings: &Settings) -> Result<(), Refused> {
    settings.check().map_err(|why| Refused::BadSettings(why.to_string()))?;
    // A leader that is cut off holds its lease by the timing that it last saw.
    let leased = s.rules.iter().any(|r| r.mode == Durability::Async);
    if leased && settings.timing.async_wait_ms < s.settings.timing.async_wait_ms {
        let why = "async_wait can't be shortened while commits are acknowledged by lease; \
                   choose another durability first";
        return Err(Refused::BadSettings(why.to_string()));
    }
    // Nor does anybody know what was granted by the times before.
    let (new, old) = (&settings.timing, &s.settings.timing);
    if new.grant_ms < old.grant_ms || new.grant_wait_ms < old.grant_wait_ms {
        return Err(Refused::BadSettings("grant and grant_wait can't be shortened".to_string()));
    }
    if s.settings == *settings {
        return Err(Refused::NothingToDo("these settings are in force".into()));
    }
    s.settings = settings.clone();
    s.note(c, Reason::SettingsChanged);
    Ok(())
}
