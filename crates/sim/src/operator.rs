//! What operators ask for, as the HTTP API does it: foreseen by the agent that is
//! asked, then judged by the store.

use std::collections::BTreeSet;

use cluster::command::{Change, Kind, MemberState, Registration};
use cluster::report::Report;
use cluster::{Durability, NodeId, Settings};
use failover::forecast::{self, Asked, Scene};
use std::collections::BTreeMap;

use crate::network::At;
use crate::story::Line;
use crate::world::World;

/// More members than a cluster may have.
pub const CROWD: usize = 100;

/// A change, or the refusal that the agent foresees.
type Foreseen = Result<Change, (&'static str, String)>;

/// Asks for what the line says, through whoever reaches the store.
///
/// # Errors
/// What is wrong with the line, or that nobody reaches the store. A refusal is
/// kept in the world.
pub fn ask(world: &mut World, line: &Line) -> Result<(), String> {
    let plain = ["losing", "", "durability", "acks"];
    let names = !plain.contains(&line.word(1)) && !plain.contains(&line.word(0));
    let named = names.then(|| line.node(1)).transpose()?;
    let must = || named.clone().ok_or("name a node".to_string());
    let awake = |at: &At| world.hosts[*at].is_awake() && world.reaches_store(*at);
    let removed = |at: &At| {
        let member = world.truth.members.get(&world.hosts[*at].name);
        member.is_some_and(|m| m.state == MemberState::Removed)
    };
    let mut all: Vec<At> = (0..world.hosts.len()).filter(awake).collect();
    // Who was taken out hears nobody.
    all.sort_by_key(removed);
    let at = *all.first().ok_or("nobody reaches the store")?;
    let by = world.hosts[at].name.clone();
    let settings = || world.truth.settings.clone();
    let change = match line.word(0) {
        "switchover" => switchover(world, at, named),
        "failover" => failover(world, at, line, named)?,
        "pause" => Ok(Change::Pause),
        "resume" => Ok(Change::Resume),
        "cancel" => Ok(Change::CancelSwitchover { why: "an operator thought better of it".into() }),
        "reinit" => Ok(Change::Reinit { node: must()? }),
        "durability" => {
            let durability = durability(line.word(1))?;
            Ok(Change::SetSettings(Settings { durability, ..settings() }))
        }
        "acks" => {
            let acks = line.word(1).parse().map_err(|_| "acks NUMBER")?;
            Ok(Change::SetSettings(Settings { acks, ..settings() }))
        }
        "remove" => Ok(Change::RemoveMember { node: must()? }),
        "add" => return add_member(world, &must()?),
        other => return Err(format!("'{other}' is nothing that operators ask for")),
    };
    let judged = change.and_then(|c| world.ask(&by, c).map_err(|e| (e.code(), e.to_string())));
    world.refused = judged.err();
    Ok(())
}

/// Reads a durability.
///
/// # Errors
/// That it is none.
pub fn durability(word: &str) -> Result<Durability, String> {
    match word {
        "quorum" => Ok(Durability::Quorum),
        "quorum-relaxed" => Ok(Durability::QuorumRelaxed),
        "async" => Ok(Durability::Async),
        other => Err(format!("'{other}' is no durability")),
    }
}

fn reports(world: &mut World, at: At) -> BTreeMap<NodeId, (Report, u64)> {
    let host = &mut world.hosts[at];
    let now = host.clock.local(world.now);
    let own = host.agent.controller.next_report(now);
    let view = host.agent.controller.view(now, 0);
    let age = |n: &NodeId| view.silent_ms(n).unwrap_or(u64::MAX);
    let peers = view.peers.iter().map(|(n, h)| (n.clone(), (h.report.clone(), age(n))));
    peers.chain(own.map(|r| (host.name.clone(), (r, 0)))).collect()
}

fn switchover(world: &mut World, at: At, to: Option<NodeId>) -> Foreseen {
    let (state, reports) = (world.seen_by(at).clone(), reports(world, at));
    let scene = Scene { state: &state, reports: &reports };
    let by = world.hosts[at].name.clone();
    let found = forecast::switchover(scene, &by, to.as_ref()).map_err(|e| (e.code(), e.to_string()))?;
    world.said = format!("to {found}");
    Ok(Change::Switchover { to, at_ms: None })
}

fn failover(world: &mut World, at: At, line: &Line, to: Option<NodeId>) -> Result<Foreseen, String> {
    let names = line.after("losing").unwrap_or("").split(',').filter(|n| !n.is_empty());
    let leader = world.truth.ctl.leader.as_ref().map_or("", |l| l.node.as_str());
    let dead: Result<BTreeSet<NodeId>, _> =
        names.map(|n| NodeId::new(if n == crate::fault::LEADER { leader } else { n })).collect();
    let accept_loss = dead.map_err(|e| e.to_string())?;
    let (state, reports) = (world.seen_by(at).clone(), reports(world, at));
    let by = world.hosts[at].name.clone();
    let asked = Asked { by, term: state.ctl.term.next(), to, accept_loss };
    let scene = Scene { state: &state, reports: &reports };
    let forecast = forecast::failover(scene, &asked);
    Ok(forecast.map_err(|e| (e.code(), e.to_string())).map(|f| {
        world.said = f.to_string();
        asked.change()
    }))
}

fn add_member(world: &mut World, node: &NodeId) -> Result<(), String> {
    let by = world.open_leader().ok_or("nobody leads")?.1;
    let by = world.hosts[by].name.clone();
    let change = Change::AddMember { node: node.clone(), registration: Registration::default() };
    world.ask(&by, change).map_err(|e| e.to_string())?;
    if let Some(at) = world.places.get(node).copied() {
        world.kill_server(at);
    }
    crate::fault::fresh(world, node, Kind::Data);
    crate::fault::join(world, node)
}

/// Registers nodes until no more are let in; the refusal, if there is one.
pub fn crowd(world: &mut World) -> Option<(&'static str, String)> {
    let by = world.hosts[world.open_leader()?.1].name.clone();
    (0..CROWD).filter_map(|i| NodeId::new(&format!("x{i}")).ok()).find_map(|node| {
        let change = Change::AddMember { node, registration: Registration::default() };
        world.ask(&by, change).err().map(|e| (e.code(), e.to_string()))
    })
}
