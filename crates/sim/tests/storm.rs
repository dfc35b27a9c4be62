//! What storms are worth: they hold, they are the same every time, and they
//! catch every deliberate mistake.
//!
//! One test at a time, since a deliberate mistake is one of the whole process.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sim::mutation::{self, Mutation};
use sim::runner::told;
use sim::{fronted, shrink, storm};

/// Each mistake with what breaks a law, or does not heal, by it.
const CAUGHT: &str = include_str!("caught.txt");

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each line: the mistake, and what catches it: a seed, `front:` and one of a storm with proxies, or a story.
fn caught() -> Vec<(&'static str, &'static str)> {
    let lines = CAUGHT.lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_once(' ')).collect()
}

fn told_by(what: &str) -> String {
    if let Some(seed) = what.strip_prefix("front:").and_then(|seed| seed.parse().ok()) {
        return fronted::story(seed);
    }
    match what.parse() {
        Ok(seed) => storm::story(seed),
        Err(_) => {
            let path = format!("{}/../../scenarios/{what}.story", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(&path).expect(&path)
        }
    }
}

#[test]
fn every_mistake_is_caught_by_the_seed_that_is_pinned_for_it() {
    let _alone = alone();
    let mut wrong = Vec::new();
    for (name, what) in caught() {
        let mistake = mutation::named(name).unwrap_or_else(|| panic!("there is no mistake '{name}'"));
        let story = told_by(what);
        if told(&story, Some(mistake), false).1.is_ok() {
            wrong.push(format!("{name} goes unnoticed by {what}"));
        }
        if let Err(failure) = told(&story, None, false).1 {
            wrong.push(format!("{what} fails without {name}: {}", failure.text));
        }
    }
    Mutation::arm(None);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_has_a_pinned_seed() {
    let pinned: BTreeSet<&str> = caught().iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = mutation::all().map(|(name, _)| name).collect();
    let missing: Vec<_> = all.difference(&pinned).collect();
    assert!(missing.is_empty(), "nothing shows that these are caught: {missing:?}");
}

#[test]
fn storms_with_proxies_hold_and_everybody_is_served() {
    let _alone = alone();
    for seed in 1..21 {
        let outcome = told(&fronted::story(seed), None, false).1;
        assert!(outcome.is_ok(), "front:{seed}: {}", outcome.unwrap_err().text);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_by_byte() {
    let _alone = alone();
    for (seed, story) in
        [3, 17, 4711].into_iter().flat_map(|s| [(s, storm::story(s)), (s, fronted::story(s))])
    {
        let (one, other) = (told(&story, None, true).0, told(&story, None, true).0);
        assert_eq!(one.trace.text(), other.trace.text(), "seed {seed}");
        assert_eq!(one.trace.digest(), other.trace.digest(), "seed {seed}");
        assert!(one.trace.text().lines().count() > 50, "a trace tells what happened");
    }
}

#[test]
fn a_storm_that_fails_is_cut_down_to_a_story_that_still_does() {
    let _alone = alone();
    let (name, what) = caught()[0];
    let mistake = mutation::named(name);
    let whole = told_by(what);
    let short = shrink::shrink(&whole, mistake);
    assert!(short.lines().count() < whole.lines().count(), "{short}");
    assert!(told(&short, mistake, false).1.is_err(), "{short}");
    Mutation::arm(None);
}

#[test]
fn storms_hold_and_the_cluster_heals() {
    let _alone = alone();
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, count) = (number("FIRST", 1u64), number("SEEDS", 40u64));
    for seed in first..first + count {
        let outcome = told(&storm::story(seed), None, false).1;
        assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err().text);
    }
}
