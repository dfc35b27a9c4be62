//! Runs storms: `cargo run --release -p sim -- --seeds 1..1000`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::mutation::{self, Mutation};
use sim::runner::{Failure, told};
use sim::world::{Counts, World};
use sim::{fronted, shrink, storm};

const USAGE: &str = "\
usage: sim --seeds A..B [--mutation NAME] [--stop-at-first] [--threads N] [--marks]
           [--front]                           with proxies before the servers, and applications before these
           [--stories DIR]                     tells the stories that are there, too
           [--reached FILE]                    fails if a mark that FILE names was not reached
       sim --replay SEED [--front] [--mutation NAME]  tells one storm with its trace; shrinks it if it fails
       sim --story FILE [--mutation NAME]      tells a story with its trace
       sim --list-mutations";

struct Wanted {
    seeds: std::ops::Range<u64>,
    replay: Option<u64>,
    story: Option<String>,
    mutation: Option<Mutation>,
    first: bool,
    threads: usize,
    marks: bool,
    stories: Option<String>,
    reached: Option<String>,
    front: bool,
}

impl Wanted {
    fn storm(&self, seed: u64) -> String {
        if self.front { fronted::story(seed) } else { storm::story(seed) }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|w| w == "--list-mutations") {
        mutation::all().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match wanted(&words) {
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(w) => match (&w.story, w.replay) {
            (Some(path), _) => tell_file(path, w.mutation),
            (None, Some(seed)) => replay(seed, &w),
            (None, None) => run(&w),
        },
    }
}

fn wanted(words: &[String]) -> Result<Wanted, String> {
    let mut w = Wanted {
        seeds: 1..601,
        replay: None,
        story: None,
        mutation: None,
        first: false,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        marks: false,
        stories: None,
        reached: None,
        front: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let (a, b) = value()?.split_once("..").ok_or("--seeds A..B")?;
                let number = |t: &str| t.parse::<u64>().map_err(|_| format!("'{t}' is no number"));
                w.seeds = number(a)?..number(b)?;
            }
            "--mutation" => {
                let name = value()?;
                let found = mutation::named(name).ok_or(format!("there is no mutation '{name}'"))?;
                w.mutation = Some(found);
            }
            "--replay" => w.replay = Some(value()?.parse().map_err(|_| "--replay SEED")?),
            "--story" => w.story = Some(value()?.clone()),
            "--threads" => w.threads = value()?.parse().map_err(|_| "--threads N")?,
            "--stop-at-first" => w.first = true,
            "--marks" => w.marks = true,
            "--front" => w.front = true,
            "--stories" => w.stories = Some(value()?.clone()),
            "--reached" => w.reached = Some(value()?.clone()),
            other => return Err(format!("'{other}' is not known")),
        }
    }
    Ok(w)
}

fn tell_file(path: &str, mutation: Option<Mutation>) -> ExitCode {
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("{path} can't be read");
        return ExitCode::from(2);
    };
    let (world, outcome) = told(&text, mutation, true);
    print!("{}", world.trace.text());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{}", failure.text);
            ExitCode::FAILURE
        }
    }
}

fn replay(seed: u64, w: &Wanted) -> ExitCode {
    let (story, mutation) = (w.storm(seed), w.mutation);
    let (world, outcome) = told(&story, mutation, true);
    print!("{}", world.trace.text());
    let Err(failure) = outcome else {
        println!("seed {seed} holds, digest {:016x}", world.trace.digest());
        return ExitCode::SUCCESS;
    };
    println!("{}\nshrunk:\n{}", failure.text, shrink::shrink(&story, mutation));
    ExitCode::FAILURE
}

/// What a run of seeds came to.
#[derive(Default)]
struct Tally {
    faults: Vec<u64>,
    terms: Vec<u64>,
    changes: Vec<u64>,
    operations: Vec<u64>,
    events: u64,
    simulated_us: u64,
    lost_in_async: u64,
    violations: u64,
    liveness: u64,
    seeds: u64,
    failed: Vec<u64>,
    marks: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, seed: u64, world: &World, outcome: &Result<(), Failure>) {
        let Counts { faults, terms, changes, operations, events, lost_in_async } = world.counts;
        self.seeds += 1;
        self.faults.push(faults);
        self.terms.push(terms);
        self.changes.push(changes);
        self.operations.push(operations);
        self.events += events;
        self.lost_in_async += lost_in_async;
        self.simulated_us += world.now;
        if let Err(failure) = outcome {
            let lawless = failure.law.is_some();
            self.violations += u64::from(lawless);
            self.liveness += u64::from(!lawless);
            self.failed.push(seed);
        }
        self.marks.extend(world.marks.iter().cloned());
    }
}

fn run(w: &Wanted) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(w.seeds.start);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..w.threads.max(1) {
            scope.spawn(|| work(w, &next, &tally));
        }
    });
    let mut t = tally.into_inner().unwrap_or_default();
    t.failed.sort_unstable();
    let well = tell_stories(w, &mut t.marks) & all_reached(w, &t.marks);
    if w.marks {
        t.marks.iter().for_each(|m| println!("mark {m}"));
    }
    summary(&mut t, began.elapsed().as_secs_f64(), w);
    if well && t.violations + t.liveness == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all stories hold; what they reach counts.
fn tell_stories(w: &Wanted, marks: &mut BTreeSet<String>) -> bool {
    let files = w.stories.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|e| e.path());
    let mut well = true;
    for path in files.filter(|p| p.extension().is_some_and(|x| x == "story")) {
        let (world, outcome) = told(&std::fs::read_to_string(&path).unwrap_or_default(), w.mutation, false);
        marks.extend(world.marks);
        if let Err(failure) = outcome {
            println!("{}: {}", path.display(), failure.text);
            well = false;
        }
    }
    well
}

/// Whether everything was reached that has to be: a storm that does not get there proves
/// nothing about it.
fn all_reached(w: &Wanted, marks: &BTreeSet<String>) -> bool {
    let Some(file) = &w.reached else { return true };
    let Ok(text) = std::fs::read_to_string(file) else {
        eprintln!("{file} can't be read");
        return false;
    };
    let wanted = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let missing: Vec<&str> = wanted.filter(|m| !marks.contains(*m)).collect();
    missing.iter().for_each(|m| println!("not reached: {m}"));
    missing.is_empty()
}

fn work(w: &Wanted, next: &AtomicU64, tally: &Mutex<Tally>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= w.seeds.end {
            return;
        }
        let story = w.storm(seed);
        let (world, outcome) = told(&story, w.mutation, false);
        let Ok(mut tally) = tally.lock() else { return };
        tally.add(seed, &world, &outcome);
        if let Err(failure) = outcome {
            let mutation = w.mutation.map(|m| format!(" --mutation {}", m.name())).unwrap_or_default();
            let first = failure.text.lines().nth(1).unwrap_or("").trim();
            let front = if w.front { " --front" } else { "" };
            println!(
                "seed {seed}: {first}\n  cargo run --release -p sim -- --replay {seed}{front}{mutation}"
            );
            if w.first {
                next.store(w.seeds.end, Ordering::Relaxed);
            }
        }
    }
}

fn median(all: &mut [u64]) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

fn summary(t: &mut Tally, seconds: f64, w: &Wanted) {
    println!(
        "{{\"seeds\": {}, \"first_seed\": {}, \"mutation\": {}, \"simulated_hours\": {:.2}, \"median_faults\": {}, \
         \"median_terms\": {}, \"median_rule_changes\": {}, \"median_operations\": {}, \"events\": {}, \
         \"lost_in_async\": {}, \"violations\": {}, \"liveness_failures\": {}, \"failed_seeds\": {:?}, \
         \"seeds_per_minute\": {:.0}, \"seconds\": {:.1}}}",
        t.seeds,
        w.seeds.start,
        w.mutation.map_or("null".to_string(), |m| format!("\"{}\"", m.name())),
        t.simulated_us as f64 / 3.6e9,
        median(&mut t.faults),
        median(&mut t.terms),
        median(&mut t.changes),
        median(&mut t.operations),
        t.events,
        t.lost_in_async,
        t.violations,
        t.liveness,
        t.failed.iter().take(20).collect::<Vec<_>>(),
        t.seeds as f64 * 60.0 / seconds.max(0.001),
        seconds,
    );
}
