//! The storm of a seed with proxies before it: every fault of that storm, and what can go
//! wrong between applications, proxies and servers.
//!
//! Drawn from a chance of its own, so that every storm without proxies stays as it is.

use std::fmt::Write as _;

use crate::rng::Rng;
use crate::storm;

/// From the end of all faults until every application was told that a write is done.
pub const FRONTED_WITHIN: &str = "60s";

/// The story of that seed.
#[must_use]
pub fn story(seed: u64) -> String {
    let mut rng = Rng::new(seed ^ 0xF207_7E57);
    let plain = storm::story(seed);
    let nodes: Vec<&str> = plain
        .lines()
        .find_map(|l| l.strip_prefix("cluster "))
        .unwrap_or_default()
        .split_whitespace()
        .take_while(|w| *w != "durability")
        .filter(|w| !["witness", "wal"].contains(w))
        .collect();
    // A stream of its own as well: which proxies give strict reads.
    let mut strict = Rng::new(seed ^ 0x57F1_C7ED);
    let mut text = String::new();
    let kinds: Vec<u64> = (0..KINDS).filter(|_| rng.chance(600)).collect();
    for line in plain.lines() {
        let _ = writeln!(text, "{line}");
        if line.starts_with("load ") {
            begin(&mut text, &mut rng, &mut strict, &nodes);
        } else if line.starts_with("wait ") && !text.contains("\ncalm\n") && rng.chance(500) {
            draw(&mut text, &mut rng, &nodes, &kinds);
        } else if line.starts_with("expect serving") {
            let _ = writeln!(text, "expect fronted within {FRONTED_WITHIN}");
        }
    }
    text
}

/// Two proxies and their applications.
fn begin(text: &mut String, rng: &mut Rng, strict: &mut Rng, nodes: &[&str]) {
    for name in ["p1", "p2"] {
        let home = if rng.chance(350) { format!(" on {}", rng.of(nodes)) } else { String::new() };
        let settles = match rng.below(10) {
            0 => " settle none",
            1..4 => " settle commits",
            _ => "",
        };
        let strict = if strict.chance(600) { " strict" } else { "" };
        let _ = writeln!(text, "proxy {name}{home}{settles}{strict}");
    }
    let _ = writeln!(text, "apps {} {}ms", rng.range(5, 9), rng.range(30, 150));
}

const KINDS: u64 = 6;

fn draw(text: &mut String, rng: &mut Rng, nodes: &[&str], kinds: &[u64]) {
    if kinds.is_empty() {
        return;
    }
    let proxy = *rng.of(&["p1", "p2"]);
    let node = if rng.chance(500) { "leader" } else { *rng.of(nodes) };
    let point = *rng.of(&["front-insert", "front-commit", "front-commit", "front-answer"]);
    let span = rng.range(50, 6000);
    let line = match *rng.of(kinds) {
        0 => format!("cut-proxy {proxy} {node} for {span}ms"),
        1 => format!("deafen-proxy {proxy} for {span}ms"),
        2 => "cancel-waits leader".to_string(),
        3 => format!("when {point} any cut-proxy {proxy} it for {span}ms"),
        4 => format!("when {point} any cancel-waits it"),
        _ => {
            let fault =
                *rng.of(&["kill it postmaster", "kill it for 2500ms", "disconnect it", "cut it for 3s"]);
            format!("when {point} any {fault}")
        }
    };
    let _ = writeln!(text, "{line}");
}
