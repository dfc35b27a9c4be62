//! What applications may rely on that come through a proxy (docs/protocol.md, 6).
//!
//! Told is what they read, byte by byte, behind `route::Session`; true is what the logs
//! hold. A write of theirs that they were told is done is one that I1 looks at from then on.

use std::collections::BTreeSet;

use cluster::command::Change;

use super::Moment;
use crate::clock::{Us, ms};
use crate::front::app::Kind;
use crate::front::told::{Sends, UNKNOWN};
use crate::front::{Op, Told};
use crate::network::At;
use crate::wal::Record;
use crate::world::World;

/// What a client may be told of a statement of this model besides that it is done.
const CODES: [&str; 6] = ["40001", UNKNOWN, "57014", "57P03", "53300", "ROLLBACK"];
/// Longest that a statement may be held: the limit, and two looks of who keeps it.
const HELD_MAX: Us = ms(8000) + 2 * ms(100);
/// Longest that anything may take once the cluster is whole and nobody asks for more.
const REST: Us = ms(2500);

fn op_name(world: &World, op: usize) -> String {
    let o = &world.front.ops[op];
    format!(
        "op {op} ({:?} of app {} at {})",
        o.kind, o.app, world.front.proxies[world.front.apps[o.app].proxy].name
    )
}

/// F1 Done: what an application was told is done has committed somewhere. That it stays is I1's.
pub(super) fn done(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Told { op } = moment else { return None };
    let o = &world.front.ops[*op];
    if !o.is_done() || o.kind == Kind::Read {
        return None;
    }
    let committed = o.runs.iter().any(|w| world.writes[*w as usize].place.0 > 0);
    (o.kind == Kind::Undone || !committed)
        .then(|| format!("{} was told that it is done, and nothing has committed", op_name(world, *op)))
}

/// F2 Refused: what was refused, or rolled back, is not in the log of whoever leads, then or later.
pub(super) fn refused(world: &World, moment: &Moment) -> Option<String> {
    let at = leader_at(world, moment)?;
    let committed = committed_in(world, at);
    let risen = world
        .front
        .ops
        .iter()
        .position(|o| o.is_refused() && o.runs.iter().any(|w| committed.contains(w)))?;
    let told = &world.front.ops[risen].told;
    Some(format!("{} was told {told:?}, and {} has it", op_name(world, risen), world.hosts[at].name))
}

/// F3 Unknown: 'whether it did is not known' is said only of what was under way when its server was lost, and
/// where neither its number nor what became of that could be had.
pub(super) fn unknown(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Told { op } = moment else { return None };
    let o = &world.front.ops[*op];
    if !matches!(&o.told, Some((Told::Failed(code), _)) if code == UNKNOWN) {
        return None;
    }
    let rules = world.front.proxies[world.front.apps[o.app].proxy].rules;
    let asks = match o.kind {
        Kind::Single | Kind::Prepared => rules.settle_autocommit,
        // Nothing is asked between what is sent at once, and a commit may be cut short.
        Kind::AtOnce => false,
        Kind::Block | Kind::Undone | Kind::Read => rules.settle_commits,
    };
    let why = o.loss.unsettled.is_some() || o.loss.unnumbered || !asks;
    let lost = o.loss.lost && why && !matches!(o.kind, Kind::Read | Kind::Undone);
    // One in a batch can't be proven while more is on its way.
    let fair = lost || o.cut_short && o.kind == Kind::AtOnce;
    (!fair).then(|| format!("{} was told that nobody knows: {:?}", op_name(world, *op), o.loss))
}

/// F4 Once: no log ever has two commits of the same operation.
pub(super) fn once(world: &World, moment: &Moment) -> Option<String> {
    let (at, ops) = match moment {
        Moment::Committed { at, op } => (*at, *op..*op + 1),
        _ => (leader_at(world, moment)?, 0..world.front.ops.len()),
    };
    let many = |o: &Op| o.runs.len() > 1;
    if !world.front.ops[ops.clone()].iter().any(many) {
        return None;
    }
    let committed = committed_in(world, at);
    let twice = ops.into_iter().find(|op| {
        let runs = &world.front.ops[*op].runs;
        runs.iter().filter(|w| committed.contains(*w)).count() > 1
    })?;
    Some(format!(
        "{} is there twice on {}: {:?}",
        op_name(world, twice),
        world.hosts[at].name,
        world.front.ops[twice].runs
    ))
}

/// F5 Sent: nothing new goes to anybody but the leader of the newest term that the proxy knows, nor to
/// one that hands over; nothing that a client says goes anywhere once that term is known to be over, and nothing
/// at all to an older leader once it knows the newer.
pub(super) fn sent(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Sent { app, to, term, sends } = moment else { return None };
    let p = &world.front.proxies[world.front.apps[*app].proxy];
    let leads = p.merged.leader.as_ref().and_then(|l| world.places.get(&l.name).copied());
    let held = *sends == Sends::First && (leads != Some(*to) || p.merged.handing_over);
    let over = *sends != Sends::Ours && p.merged.term != term.0;
    let old = over || leads.is_some() && leads != Some(*to);
    (held || old).then(|| {
        format!(
            "{} sends app {app}'s to {} in term {term}, and knows term {} with leader {:?}, handing over {}",
            p.name,
            world.hosts[*to].name,
            p.merged.term,
            p.merged.leader.as_ref().map(|l| &l.name),
            p.merged.handing_over
        )
    })
}

/// F6 Stays: no session is closed, and nobody is told what no statement of its own can cause.
pub(super) fn stays(world: &World, moment: &Moment) -> Option<String> {
    let Moment::Told { op } = moment else { return None };
    let told = &world.front.ops[*op].told.as_ref()?.0;
    let fair = match told {
        Told::Done | Told::Lost => true,
        Told::Failed(code) => CODES.contains(&code.as_str()) || code == "53100",
        Told::Closed => false,
    };
    (!fair).then(|| format!("{} was told {told:?}", op_name(world, *op)))
}

/// F7 Held: nobody waits for a server longer than the limit; and with all faults over everybody has an answer.
pub(super) fn held(world: &World, moment: &Moment) -> Option<String> {
    match moment {
        Moment::Step => {
            let late = |p: &&crate::front::Proxy| {
                p.home.is_none() && p.queue.front().is_some_and(|w| world.now > w.since + HELD_MAX)
            };
            let p = world.front.proxies.iter().find(late)?;
            Some(format!("{} holds a statement for longer than it may", p.name))
        }
        Moment::Ended => {
            let stuck = |o: &&Op| o.told.is_none() && world.now > o.since + REST;
            let op = world.front.ops.iter().position(|o| stuck(&o))?;
            let app = &world.front.apps[world.front.ops[op].app];
            Some(format!("{} has no answer: {}", op_name(world, op), app.waits_for()))
        }
        _ => None,
    }
}

/// Whose log counts in this moment.
fn leader_at(world: &World, moment: &Moment) -> Option<At> {
    if world.front.ops.is_empty() {
        return None;
    }
    let node = match moment {
        Moment::Agreed { command, .. } if matches!(command.change, Change::Opened { .. }) => &command.by,
        Moment::Ended => &world.truth.ctl.leader.as_ref()?.node,
        _ => return None,
    };
    world.places.get(node).copied()
}

fn committed_in(world: &World, at: At) -> BTreeSet<u32> {
    world.hosts[at].server.wal.records.iter().filter_map(Record::commits).collect()
}
