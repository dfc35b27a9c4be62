//! One thing goes wrong in a cluster that is whole, and stays so: the cluster must
//! serve without it, and in time. `rehearse kill leader within 8s` does what the
//! fault's words say, and after that time somebody must acknowledge writes;
//! `rehearse switchover n2 within 8s` asks for it, and then n2 must.
//!
//! Where the rest of the cluster could not go on by its own rules (two nodes in
//! durability quorum, a paused cluster), nothing is done.

use cluster::command::{Kind, Member, MemberState, Trigger};
use cluster::state::Phase;
use cluster::{Durability, NodeId, Reason};

use crate::clock::{Us, ms};
use crate::network::At;
use crate::rng::Rng;
use crate::story::Line;
use crate::world::World;

/// From the fault on until writes are acknowledged, in seconds, in quorum and in async: what
/// 4,000 storms took at most, and about a third more. In it are suspicion, pre-vote, the
/// async wait, an election of the store's own, promotion, and a client's patience with a
/// dead connection. Whatever is only slow is not hidden behind it.
const BOUNDS: [(&str, u64, u64); 12] = [
    ("switchover", 2, 2),
    ("kill leader postmaster", 2, 2),
    ("kill leader", 3, 7),
    ("kill", 4, 7),
    ("crash leader guard", 3, 4),
    ("freeze leader agent", 3, 3),
    ("pause-host leader", 3, 3),
    ("close-port leader", 5, 2),
    ("cut", 5, 9),
    ("mute leader", 5, 7),
    ("deafen leader", 5, 8),
    ("stall leader", 14, 16),
];

/// Above all of them, for what is not listed.
const ANYTHING: u64 = 20;

/// How long it may take until writes are acknowledged again, in seconds.
fn bound(what: &str, asynchronous: bool) -> u64 {
    let found = BOUNDS.iter().find(|(kind, ..)| what.starts_with(kind));
    found.map_or(ANYTHING, |(_, quorum, by_lease)| if asynchronous { *by_lease } else { *quorum })
}

/// A stream that is as old as this is known to the leader's agent, and to who asks it.
const SEEN: Us = ms(1500);

/// Which node a rehearsal is about: the first word that names one.
///
/// # Errors
/// That no word does.
fn about(world: &World, line: &Line) -> Result<At, String> {
    let node = line.words.iter().find_map(|w| match w.as_str() {
        crate::fault::LEADER => world.truth.ctl.leader.as_ref().map(|l| l.node.clone()),
        name => NodeId::new(name).ok().filter(|n| world.places.contains_key(n)),
    });
    world.place(&node.ok_or("a rehearsal names a node")?)
}

/// Does what the line says, if the cluster can bear it. Says whether it did.
///
/// # Errors
/// What is wrong with the line.
pub fn begin(world: &mut World, line: &Line) -> Result<bool, String> {
    let words = line.words.iter().skip(1).take_while(|w| *w != "within").cloned().collect();
    let line = Line { number: line.number, words };
    let at = about(world, &line)?;
    let taken_out = |m: &Member| m.state == MemberState::Removed;
    let there = world.truth.members.get(&world.hosts[at].name).is_some_and(|m| !taken_out(m));
    if !there || !is_whole(world) || !can_bear(world, &line, at) {
        return Ok(false);
    }
    world.mark(&format!("rehearsal: {}", line.word(0)));
    if line.word(0) != "switchover" {
        return crate::fault::act(world, &line).map(|()| true);
    }
    let leads = world.open_leader().is_some_and(|(_, leader)| leader == at);
    if leads || world.hosts[at].kind != Kind::Data {
        return Ok(false);
    }
    crate::operator::ask(world, &line)?;
    match world.refused.take() {
        None => Ok(true),
        Some((_, why)) => Err(format!("refused though the cluster is whole: {why}")),
    }
}

/// Whether what the rehearsal wants has come.
#[must_use]
pub fn is_well(world: &World, line: &Line) -> bool {
    let asked = line.word(1) == "switchover";
    let Some((_, leader)) = world.open_leader() else { return false };
    let planned = || about(world, line).is_ok_and(|at| at == leader) && was_handed_over(world);
    crate::runner::is_serving(world) && (!asked || planned())
}

/// Whether the present term began as planned, and not as after a crash.
fn was_handed_over(world: &World) -> bool {
    let began = world.truth.history.iter().rev().find_map(|e| match &e.reason {
        Reason::TermBegan { trigger, .. } => Some(trigger),
        _ => None,
    });
    matches!(began, Some(Trigger::HandedOver { .. }))
}

/// Whether a leader is open, takes its orders from one rule, and nobody is missing.
fn is_whole(world: &World) -> bool {
    let s = &world.truth;
    let Some((_, leader)) = world.open_leader() else { return false };
    let copies = s.members.iter().filter(|(_, m)| m.is_wal_voter()).count();
    // As long as the leader's agent may take to see who streams.
    let known = |id: &u64| world.streams.get(id).is_some_and(|s| world.now >= s.since + SEEN);
    if world.hosts[leader].server.senders.values().filter(|id| known(id)).count() + 1 < copies {
        return false;
    }
    let members = || s.members.values().filter(|m| m.state != MemberState::Removed);
    let voters = members().filter(|m| m.kind.keeps_wal()).all(|m| m.is_wal_voter() && !m.reinit);
    let leaving = members().any(|m| m.leaving);
    let awake = s.members.iter().filter(|(_, m)| m.state != MemberState::Removed).all(|(n, _)| {
        world.places.get(n).is_some_and(|at| world.hosts[*at].is_awake() && world.reaches_store(*at))
    });
    s.ctl.phase == Phase::Open && !s.ctl.paused && s.rules.len() == 1 && voters && !leaving && awake
}

/// Whether the cluster can go on in what the line says.
fn can_bear(world: &World, line: &Line, at: At) -> bool {
    match (line.word(0), line.word(2)) {
        ("switchover", _) => true,
        // One link: both ends are there, a third agent hears them, and in quorum a third copy
        // serves one of them.
        ("cut", other) if other.starts_with('n') => {
            let count =
                |wanted: fn(&Member) -> bool| world.truth.members.values().filter(|m| wanted(m)).count();
            let enough =
                world.truth.settings.durability != Durability::Quorum || count(Member::is_wal_voter) > 2;
            count(Member::has_seat) > 2 && enough
        }
        _ => can_spare(world, at),
    }
}

/// Whether the others can go on without `at`: the store has its majority, and the
/// commit rule those it needs.
fn can_spare(world: &World, at: At) -> bool {
    let s = &world.truth;
    let gone = &world.hosts[at].name;
    let seats = s.members.values().filter(|m| m.has_seat()).count();
    let left =
        |wanted: &dyn Fn(&Member) -> bool| s.members.iter().filter(|(n, m)| *n != gone && wanted(m)).count();
    let (data, copies) = (left(&Member::is_data_voter), left(&Member::is_wal_voter));
    let enough = match s.settings.durability {
        Durability::Async | Durability::QuorumRelaxed => data > 0,
        Durability::Quorum => data > 0 && copies > s.settings.acks as usize,
    };
    left(&Member::has_seat) * 2 > seats && enough
}

/// A rehearsal for a storm among these nodes.
pub(crate) fn draw(rng: &mut Rng, all: &[String], data: &[String], asynchronous: bool) -> String {
    let (any, node) = (rng.of(all).clone(), rng.of(data).clone());
    // The others' patience comes first, and in async the wait after it.
    if rng.chance(60) {
        return timed("stall leader for 30s", asynchronous);
    }
    let what = match rng.below(15) {
        0 | 1 => "kill leader".to_string(),
        2 => "cut leader".to_string(),
        3 => "deafen leader".to_string(),
        4 => "mute leader".to_string(),
        // For longer than a lease it is not covered in async (C-27).
        5 if !asynchronous => "pause-host leader".to_string(),
        6 => "kill leader postmaster".to_string(),
        7 => "crash leader guard".to_string(),
        8 => "freeze leader agent".to_string(),
        9 => format!("cut {any}"),
        10 => format!("kill {any}"),
        11 | 12 => "close-port leader".to_string(),
        13 if node != any => format!("cut leader {node}"),
        _ => format!("switchover {node}"),
    };
    timed(&what, asynchronous)
}

fn timed(what: &str, asynchronous: bool) -> String {
    format!("rehearse {what} within {}s", bound(what, asynchronous))
}
