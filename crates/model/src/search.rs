//! Breadth first, so that the first trace found is one of the shortest.
//!
//! Of a world that was met only a fingerprint of 64 bits is kept, with that of
//! the world before it. Among n worlds two share one by chance with a
//! probability of n² / 2⁶⁵ (for 100 million: 0.03 %); then a part of the worlds
//! would go unseen.
//!
//! An own search and not a library's: `stateright` 0.31 keeps for each waiting
//! world the whole path to it, and knows no symmetry when it goes breadth first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use crate::fingerprint::fingerprint;
use crate::law::Law;
use crate::step::{Explorer, Step};
use crate::world::World;

/// Where to stop, whatever is left.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Worlds.
    pub worlds: usize,
    /// Time.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Different worlds, those that differ in standbys' names only counted once.
    pub worlds: usize,
    /// Different agreed states among them.
    pub states: usize,
    /// Steps that were tried.
    pub steps: u64,
    /// Steps from the start to the last world met.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// Nothing is left within the bounds.
    pub complete: bool,
    /// The law that was broken, and the way there, one line a step.
    pub violation: Option<(Law, Vec<String>)>,
}

/// A fingerprint is its own hash.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Met = HashMap<u64, u64, BuildHasherDefault<Same>>;

/// Worlds of one depth, as few bytes.
#[derive(Default)]
struct Level {
    bytes: Vec<u8>,
    count: usize,
}

impl Level {
    fn push(&mut self, world: &World) {
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(world, bytes).expect("a world can be written into memory");
        self.count += 1;
    }
}

/// Every world within the bounds, or until a law is broken or a limit reached.
/// `progress` hears of each depth: its number, its worlds, all worlds so far.
pub fn search(
    explorer: &mut Explorer,
    limits: Limits,
    mut progress: impl FnMut(usize, usize, usize),
) -> Found {
    let began = Instant::now();
    let mut met = Met::default();
    let first = explorer.first();
    met.insert(fingerprint(&first), 0);
    let mut level = Level::default();
    level.push(&first);
    let mut found = Found {
        worlds: 1,
        states: 0,
        steps: 0,
        depth: 0,
        time: Duration::ZERO,
        complete: true,
        violation: None,
    };
    while level.count > 0 && found.complete && found.violation.is_none() {
        progress(found.depth, level.count, met.len());
        level = deeper(explorer, &level, &mut met, &mut found, |worlds| {
            worlds >= limits.worlds || began.elapsed() >= limits.time
        });
    }
    found.worlds = met.len();
    found.states = explorer.store.len();
    found.time = began.elapsed();
    found
}

fn deeper(
    explorer: &mut Explorer,
    level: &Level,
    met: &mut Met,
    found: &mut Found,
    is_enough: impl Fn(usize) -> bool,
) -> Level {
    let mut next = Level::default();
    let mut rest = level.bytes.as_slice();
    while !rest.is_empty() {
        let (world, left): (World, _) = postcard::take_from_bytes(rest).expect("written above");
        rest = left;
        let from = fingerprint(&world);
        explorer.explore(&world);
        for (_, reached) in std::mem::take(&mut explorer.found) {
            found.steps += 1;
            let canonical = explorer.canonical(&reached);
            let mark = fingerprint(&canonical);
            if met.contains_key(&mark) {
                continue;
            }
            met.insert(mark, from);
            if let Some(law) = explorer.broken(&canonical) {
                found.violation = Some((law, trace(explorer, met, mark)));
                found.depth += 1;
                return next;
            }
            next.push(&canonical);
        }
        if is_enough(met.len()) {
            found.complete = false;
            return next;
        }
    }
    found.depth += usize::from(next.count > 0);
    next
}

/// The way to `last`, walked again from the start so that names don't change on the way.
fn trace(explorer: &mut Explorer, met: &Met, last: u64) -> Vec<String> {
    let mut marks = vec![last];
    while let Some(before) = met.get(marks.last().expect("it began with one")).filter(|m| **m != 0) {
        marks.push(*before);
    }
    let mut world = explorer.first();
    let mut lines = Vec::new();
    for mark in marks.iter().rev().skip(1) {
        explorer.explore(&world);
        let all = std::mem::take(&mut explorer.found);
        let taken = all.into_iter().find(|(_, to)| fingerprint(&explorer.canonical(to)) == *mark);
        let (step, to) = taken.expect("the search went this way");
        world = to;
        lines.push(line(step, &world, explorer));
    }
    lines
}

fn line(step: Step, world: &World, explorer: &Explorer) -> String {
    let brief = explorer.store.brief(world.state);
    let logs: Vec<String> =
        world.nodes.iter().take(explorer.bounds.nodes.into()).map(|n| format!("[{}]", n.log)).collect();
    let acked: Vec<String> = (world.acked.iter().enumerate())
        .filter(|(_, lsn)| **lsn > 0)
        .map(|(term, lsn)| format!("{term}:{lsn}"))
        .collect();
    let acked = if acked.is_empty() { String::new() } else { format!("  acknowledged {}", acked.join(" ")) };
    let step = step.to_string();
    format!("term {}  {step:<62}  {}{acked}", brief.term, logs.join(" "))
}
