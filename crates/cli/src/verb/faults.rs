//! `faults`: the fault matrix on real servers, for whoever works on Tanist.
//!
//! Hidden: it takes root, makes namespaces, mounts disks, and takes hours.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use drill::matrix::ledger::Verdict;
use drill::matrix::{Asked, run as run_matrix};

use crate::say;

/// A cell failed.
const LIMIT_NOT_MET: u8 = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Where its clusters are made.
    #[arg(long, default_value = "/var/tmp/tanist-faults")]
    dir: PathBuf,
    /// Lines of the cells that were run, where a run goes on.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// The table to write.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// What this program was made of.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Only cells whose names hold this; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Also those that have passed.
    #[arg(long)]
    again: bool,
    /// Begin no cell that would end later than this.
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// PostgreSQL's programs.
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Only say which cells there are.
    #[arg(long)]
    list: bool,
}

pub async fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let asked = Asked {
        dir: args.dir.clone(),
        binary: None,
        pg_bin: args.pg_bin.clone(),
        state: args.state.clone(),
        table: args.table.clone(),
        commit: args.commit.clone(),
        only: args.only.clone(),
        again: args.again,
        time: args.time.map(Duration::from_secs),
    };
    let cells = asked.cells();
    if cells.is_empty() {
        bail!("TAN0718: no cell of the fault matrix is named like that. 'tanist faults --list' names all");
    }
    if args.list {
        cells.iter().for_each(|c| say::out(&c.id()));
        return Ok(ExitCode::SUCCESS);
    }
    let tell = |text: &str| {
        if !json {
            say::out(text);
        }
    };
    let lines = run_matrix(&asked, tell).await?;
    if json {
        say::out(&serde_json::to_string(&lines)?);
    }
    let failed = lines.iter().any(|l| l.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::from(LIMIT_NOT_MET) } else { ExitCode::SUCCESS })
}
