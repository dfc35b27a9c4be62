//! `model`: search, then say how much was seen and what was broken.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use model::bounds::{Bounds, Mutation};
use model::search::{Limits, search};
use model::step::Explorer;

/// Every order of steps of a small cluster, up to a bound, over the core that ships.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    bounds: Bounds,
    /// Make this mistake on purpose.
    #[arg(long, value_enum)]
    mutation: Option<Mutation>,
    /// Stop after so many worlds (about 60 bytes each, and those of the last depths 200).
    #[arg(long, default_value_t = 100_000_000)]
    worlds: usize,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 1_800)]
    seconds: u64,
    /// Say each depth on stderr.
    #[arg(long)]
    progress: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(why) = cli.bounds.check() {
        eprintln!("these bounds can't be searched: {why}");
        return ExitCode::from(2);
    }
    let mut explorer = Explorer::new(cli.bounds, cli.mutation);
    let limits = Limits { worlds: cli.worlds, time: Duration::from_secs(cli.seconds) };
    let found = search(&mut explorer, limits, |depth, level, all| {
        if cli.progress {
            eprintln!("depth {depth}: {level} worlds, {all} in all");
        }
    });
    if let Some((law, trace)) = &found.violation {
        for (i, line) in trace.iter().enumerate() {
            println!("{:>3}  {line}", i + 1);
        }
        println!("BROKEN: {law:?}");
    }
    let left = if found.complete { "complete" } else { "NOT complete" };
    let end = if found.violation.is_some() { "stopped at a violation" } else { left };
    println!(
        "{end}: {} unique states, {} agreed states among them, {} steps, depth {}, {:.1} s",
        found.worlds,
        found.states,
        found.steps,
        found.depth,
        found.time.as_secs_f64()
    );
    if found.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
