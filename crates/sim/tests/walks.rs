//! Random stories: whatever happens to a cluster, no law is broken, and when
//! everything is well again it heals by itself and takes writes.
//!
//! A walk that fails prints its story, which then becomes one of `scenarios/`.
//! `WALKS=200 FIRST=1000 cargo test -p sim --test walks` tells more of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A small generator of numbers, the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

const CLUSTERS: [(&str, &[&str]); 6] = [
    ("cluster n1 n2 n3 durability quorum", &["n1", "n2", "n3"]),
    ("cluster n1 n2 witness w durability quorum-relaxed", &["n1", "n2"]),
    ("cluster n1 n2 n3 witness u witness v durability quorum", &["n1", "n2", "n3"]),
    ("cluster n1 n2 n3 n4 n5 durability quorum acks 2", &["n1", "n2", "n3", "n4", "n5"]),
    ("cluster n1 n2 n3 durability async", &["n1", "n2", "n3"]),
    ("cluster n1 n2 witness w durability async", &["n1", "n2"]),
];

fn story(seed: u64) -> String {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let (head, nodes) = CLUSTERS[(seed % CLUSTERS.len() as u64) as usize];
    // Async may lose what was acknowledged, so nobody writes; two must not acknowledge there either.
    let (write, rule, kept) = match head.contains("async") {
        true => ("", "nobody", ""),
        false => ("write w0\n", "all", "expect durable w0\n"),
    };
    let mut text = format!("{head}\nlead n1\n{write}");
    let mut down = BTreeSet::new();
    let mut paused = false;
    for step in 1..=40 {
        let (a, b) = (dice.of(nodes), dice.of(nodes));
        match dice.below(22) {
            0 | 1 if !down.contains(a) => {
                down.insert(a);
                let _ = writeln!(text, "kill {a}");
            }
            2..=5 if !down.is_empty() => {
                let a = down.pop_first().expect("somebody is down");
                let _ = writeln!(text, "start {a}");
            }
            6 if a != b => {
                let _ = writeln!(text, "cut {a} {b}");
            }
            7 if a != b => {
                let _ = writeln!(text, "cut {a} > {b}");
            }
            8 => {
                let _ = writeln!(text, "cut {a}");
            }
            9 | 10 => text.push_str("heal\n"),
            11 if !down.contains(a) => {
                let _ = writeln!(text, "kill {a} postmaster");
            }
            12 if !down.contains(a) => {
                let _ = writeln!(text, "crash {a} agent");
            }
            13 if !down.contains(a) => {
                let _ = writeln!(text, "freeze {a} {}", dice.of(&["agent", "postmaster"]));
            }
            14 => text.push_str("maybe switchover\n"),
            15 => {
                let _ = writeln!(text, "maybe switchover {a}");
            }
            16 => {
                let _ = writeln!(text, "maybe {} {a}", dice.of(&["failover", "reinit"]));
            }
            17 => {
                paused = !paused;
                text.push_str(if paused { "maybe pause\n" } else { "maybe resume\n" });
            }
            18 => {
                let _ = writeln!(text, "tear {a}");
            }
            _ => {}
        }
        if !write.is_empty() {
            let _ = writeln!(text, "try w{step}");
        }
        let _ = writeln!(text, "wait {}ms", 50 + dice.below(12) * dice.below(120));
    }
    text.push_str("heal\n");
    for a in down {
        let _ = writeln!(text, "start {a}");
    }
    let _ = write!(text, "maybe resume\nwait 15s\nexpect rule {rule} within 200s\nwrite last\n{kept}");
    text
}

#[test]
fn whatever_happens_nothing_is_lost_and_it_heals() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, count) = (number("FIRST", 1u64), number("WALKS", 8u64));
    for seed in first..first + count {
        let text = story(seed);
        if let Err(why) = sim::runner::tell(&text) {
            panic!("walk {seed}:\n{text}\n{why}");
        }
    }
}
