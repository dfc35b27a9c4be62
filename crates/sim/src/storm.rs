//! A story made by chance from one seed: a cluster, a weather, a past, clients,
//! and faults, of which each seed leaves whole kinds out (swarm testing, Groce and
//! others 2012). Then all faults end, and the cluster must heal and serve.

use std::fmt::Write as _;

use crate::fault::{FAULTS, Fault, Scene};
use crate::rehearsal;
use crate::rng::Rng;

/// From the end of all faults until writes are acknowledged again.
pub const SERVE_WITHIN: &str = "60s";
/// From then until every member is back in the rule.
pub const WHOLE_WITHIN: &str = "150s";

/// Storms whose store is the Raft group that ships, and no model of one, per mille.
const RAFT: u64 = 300;
/// Outages at the end of a storm.
const REHEARSALS: usize = 2;

const CLUSTERS: [(&str, &[&str], &[&str]); 10] = [
    ("cluster n1 n2 witness w wal durability quorum", &["n1", "n2"], &["w"]),
    ("cluster n1 n2 witness w durability quorum", &["n1", "n2"], &["w"]),
    ("cluster n1 n2 n3 durability quorum", &["n1", "n2", "n3"], &[]),
    ("cluster n1 n2 n3 durability quorum", &["n1", "n2", "n3"], &[]),
    ("cluster n1 n2 n3 durability quorum acks 2", &["n1", "n2", "n3"], &[]),
    ("cluster n1 n2 witness w durability quorum-relaxed", &["n1", "n2"], &["w"]),
    ("cluster n1 n2 n3 witness u witness v durability quorum", &["n1", "n2", "n3"], &["u", "v"]),
    ("cluster n1 n2 n3 n4 n5 durability quorum acks 2", &["n1", "n2", "n3", "n4", "n5"], &[]),
    ("cluster n1 n2 n3 durability async", &["n1", "n2", "n3"], &[]),
    ("cluster n1 n2 witness w durability async", &["n1", "n2"], &["w"]),
];

/// Moments at which faults are armed: steps of deeds, and commands just agreed.
pub const POINTS: [&str; 44] = [
    "begin-term",
    "elect",
    "begin-and-elect",
    "opened",
    "rule-begin",
    "rule-end",
    "member-state",
    "join",
    "recruit:1",
    "recruit:2",
    "recruit:3",
    "recruit:4",
    "recruit:5",
    "promote:1",
    "promote:2",
    "promote:3",
    "promote:4",
    "promote:5",
    "promote:6",
    "promote:7",
    "barrier:1",
    "change-rule:1",
    "change-rule:2",
    "change-rule:3",
    "change-rule:4",
    "follow:1",
    "follow:2",
    "follow:3",
    "fence:1",
    "fence:2",
    "rewind:1",
    "rewind:2",
    "rewind:3",
    "rewind:4",
    "clone:1",
    "clone:2",
    "clone:3",
    "clone:4",
    "hand-over:1",
    "hand-over:2",
    "hand-over:3",
    "hand-over:4",
    "start:1",
    "checkpoint:1",
];

/// What hardly ever happens by itself, and needs more than one thing at the right moment.
const SPECIALS: &[&str] = &[
    "opened any freeze it checkpointer for 5s",
    "recruit:5 any rogue 77 after 4ms",
    "begin-term any rogue 78 after 60ms",
    "rule-end any crash it agent\nwhen rule-end any cut it for 5s",
    "recruit:5 any crash it agent\nwhen recruit:5 any cut it for 4s",
    // Somebody who has reported for a term forgets it, next to a leader that does not know of it.
    "begin-term any cut leader for 900ms\nwhen recruit:1 any split it leader for 6s\n\
     when recruited any crash it agent\nmaybe failover",
    "half-streamed any kill it postmaster",
    "half-streamed any kill it for 900ms",
    "change-rule:4 any pause-host it for 40ms",
    "change-rule:1 any kill it postmaster",
    "change-rule:1 any freeze it walsender for 2s",
];

/// The story of that seed.
#[must_use]
pub fn story(seed: u64) -> String {
    let mut rng = Rng::new(seed ^ 0x5EED);
    let (head, data, witnesses) = CLUSTERS[rng.below(CLUSTERS.len() as u64) as usize];
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let asynchronous = head.contains("async");
    let scene = Scene {
        data: owned(data),
        all: owned(data).into_iter().chain(owned(witnesses)).collect(),
        asynchronous,
        still_guards: asynchronous && rng.chance(400),
        both: head.contains("acks 2"),
        losses: rng.chance(300),
        promoted: (!asynchronous && data.len() > 2).then(|| (*rng.of(data)).to_string()),
        wiped: None,
    };
    let mut scene = scene;
    // One disk of three may be lost, unless an operator gives up others.
    if !asynchronous && data.len() > 2 && !scene.losses && rng.chance(350) {
        scene.wiped = Some((*rng.of(data)).to_string());
        scene.promoted = None;
    }
    let mut changes = Changes::of(seed, head, scene.wiped.is_some());
    if changes.any() {
        // Where a leader may be alone a user promotes nobody.
        scene.promoted = None;
    }
    let mut text = format!("seed {seed}\n{head}\n");
    // Not drawn from the same chance, so that a seed is the same storm with either.
    let raft = Rng::new(seed ^ 0x4AF7).chance(RAFT);
    weather(&mut text, &mut rng, raft);
    past(&mut text, &mut rng, data.len());
    let _ = writeln!(text, "load {} {}ms", rng.range(3, 5), rng.range(100, 240));
    let kinds: Vec<&Fault> = FAULTS.iter().filter(|f| f.name != "calm" && rng.chance(450)).collect();
    // With one disk lost, nobody else gives a copy up.
    let kinds: Vec<&Fault> = kinds
        .into_iter()
        .filter(|f| scene.wiped.is_none() || !["operator", "rogue"].contains(&f.name))
        .collect();
    // Where a guard may stand still its agent does not.
    let kinds: Vec<&Fault> = kinds
        .into_iter()
        .filter(|f| !scene.still_guards || !["agent", "pause-host", "disk"].contains(&f.name))
        .collect();
    let steps = rng.range(18, 34);
    let longest = *rng.of(&[500, 1200, 2000]);
    for _ in 0..steps {
        if rng.chance(250) {
            arm(&mut text, &mut rng, &scene, &kinds);
        } else {
            let line = draw(&mut rng, &scene, &kinds);
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "wait {}ms", rng.range(20, longest));
        changes.now_and_then(&mut text);
    }
    changes.take_back(&mut text);
    let everybody = if asynchronous { "nobody" } else { "all" };
    let _ = write!(
        text,
        "calm\nwait 2s\nmaybe resume\nmaybe cancel\nexpect serving within {SERVE_WITHIN}\nmaybe resume\n\
         expect rule {everybody} within {WHOLE_WITHIN}\nexpect serving within {SERVE_WITHIN}\n"
    );
    rehearsals(&mut text, &mut rng, &scene, everybody);
    let _ = write!(text, "expect serving within {SERVE_WITHIN}\nwait 4s\nend\n");
    text
}

/// Then one thing at a time goes wrong, and stays so: that must not take long.
fn rehearsals(text: &mut String, rng: &mut Rng, scene: &Scene, everybody: &str) {
    for _ in 0..REHEARSALS {
        let rehearsal = rehearsal::draw(rng, &scene.all, &scene.data, scene.asynchronous);
        let _ = write!(
            text,
            "wait 3s\n{rehearsal}\ncalm\nexpect serving within {SERVE_WITHIN}\n\
             expect rule {everybody} within {WHOLE_WITHIN}\n"
        );
    }
}

/// Changes of durability, in one storm of ten: between quorum and relaxed, or from async to
/// quorum and back. No storm becomes async that was not: hosts stand still in it for longer
/// than a lease.
struct Changes {
    rng: Rng,
    first: &'static str,
    others: &'static [&'static str],
    changed: bool,
}

impl Changes {
    fn of(seed: u64, head: &str, wiped: bool) -> Changes {
        // A chance of their own, so that every other storm stays as it is.
        let mut rng = Rng::new(seed ^ 0xD07A);
        let (first, others): (_, &'static [_]) = match head.split("durability ").nth(1) {
            Some(kind) if kind.starts_with("async") => ("async", &["quorum", "async"]),
            Some(kind) if kind.starts_with("quorum-relaxed") => {
                ("quorum-relaxed", &["quorum", "quorum-relaxed"])
            }
            _ => ("quorum", &["quorum-relaxed", "quorum"]),
        };
        // One copy that may be the only one is not to be lost.
        let any = rng.chance(100) && !wiped;
        Changes { rng, first, others: if any { others } else { &[] }, changed: false }
    }

    fn any(&self) -> bool {
        !self.others.is_empty()
    }

    fn now_and_then(&mut self, text: &mut String) {
        if self.any() && self.rng.chance(150) {
            let _ = writeln!(text, "maybe durability {}", self.rng.of(self.others));
            self.changed = true;
        }
    }

    fn take_back(&mut self, text: &mut String) {
        if self.changed {
            let _ = writeln!(text, "calm\nwait 2s\nmaybe durability {}", self.first);
        }
    }
}

fn weather(text: &mut String, rng: &mut Rng, raft: bool) {
    let (delay, jitter) = *rng.of(&[(200, 300), (500, 2000), (1000, 8000), (3000, 20_000)]);
    let mut per_mille = |most: u64| if rng.chance(500) { 0 } else { rng.below(most) };
    let (loss, twice, stray) = (per_mille(60), per_mille(40), per_mille(40));
    let (lost, late, slow) = (per_mille(150), per_mille(150), per_mille(250));
    let _ = writeln!(
        text,
        "weather {}ms {}ms loss {loss} twice {twice} stray {stray}",
        (delay + 500) / 1000,
        (jitter + 500) / 1000
    );
    let raft = if raft { " raft" } else { "" };
    let _ = writeln!(text, "store lost {lost} late {late} slow {slow}{raft}");
}

/// From the very beginning, or from a late state.
fn past(text: &mut String, rng: &mut Rng, data: usize) {
    let terms = rng.range(1, 6);
    let tail = if terms > 1 && data > 2 && rng.chance(400) { " tail" } else { "" };
    match rng.below(12) {
        0 => text.push_str("lead n1\n"),
        1 => drop(writeln!(text, "late {terms} changing")),
        2 => drop(writeln!(text, "late {terms} revoking")),
        3 => drop(writeln!(text, "late {terms} elected")),
        _ => drop(writeln!(text, "late {terms}{tail}")),
    }
}

/// What ends terms more surely than anything else.
const ENDS_A_TERM: [&str; 6] = [
    "kill leader postmaster",
    "kill leader for 2500ms",
    "crash leader guard",
    "cut leader for 5500ms",
    "maybe switchover",
    "kill leader checkpointer",
];

fn draw(rng: &mut Rng, scene: &Scene, kinds: &[&Fault]) -> String {
    if rng.chance(170) {
        return (*rng.of(&ENDS_A_TERM)).to_string();
    }
    for _ in 0..20 {
        if kinds.is_empty() {
            break;
        }
        if let Some(line) = (rng.of(kinds).draw)(rng, scene) {
            return line;
        }
    }
    format!("kill {} postmaster", scene.node(rng))
}

/// Something at a point: mostly to whoever is there.
fn arm(text: &mut String, rng: &mut Rng, scene: &Scene, kinds: &[&Fault]) {
    let point = rng.of(&POINTS);
    let most = if scene.asynchronous { 500 } else { 3000 };
    if scene.wiped.is_none() && !scene.still_guards && rng.chance(150) {
        let special = rng.of(SPECIALS);
        let number = rng.below(1_000_000);
        let special = special
            .replace("rogue 77", &format!("rogue {number}"))
            .replace("rogue 78", &format!("rogue {number}"));
        let _ = writeln!(text, "when {special}");
        return;
    }
    if scene.losses && scene.data.len() > 2 && rng.chance(120) {
        // One has less than another, who is not heard when an operator gives the leader up.
        let (less, more) = (rng.of(scene.data.as_slice()), rng.of(scene.data.as_slice()));
        let _ = writeln!(
            text,
            "cut {less} leader for 3s\nwait 900ms\ncut {more} for 4s\nmaybe failover losing leader"
        );
        return;
    }
    if scene.asynchronous && rng.chance(200) {
        // News of the next term does not get to a leader whose last read of the store is answered.
        text.push_str("when begin-term any mute leader for 7s\nmaybe failover\n");
        return;
    }
    if scene.asynchronous && rng.chance(150) {
        // A guard that has just begun, and a server that is promoted and cut off.
        text.push_str("when promote:7 any cut it for 7s\ncrash leader guard\n");
        return;
    }
    if scene.both && rng.chance(200) {
        // The rule is one acknowledgement fewer for a while.
        let _ = writeln!(text, "cut {} leader for 4s\nwait 9s", rng.of(scene.data.as_slice()));
        return;
    }
    let line = match rng.below(8) {
        0..=6 if scene.still_guards => "kill it".to_string(),
        0 | 1 => "kill it".to_string(),
        2 => "crash it agent".to_string(),
        3 => format!("freeze it agent for {}ms", rng.range(100, 2500)),
        4 => "kill it postmaster".to_string(),
        5 => format!("cut it for {}ms", rng.range(100, 3000)),
        6 => format!("pause-host it for {}ms", rng.range(50, most)),
        _ => draw(rng, scene, kinds),
    };
    // A witness has no server whose processes could be killed.
    let _ = writeln!(text, "when {point} any {line}");
}
