//! `proxy`: the front door, on a database host or alone on an application's.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::Builder;
use tracing_subscriber::prelude::*;

#[derive(clap::Args)]
pub struct Args {
    /// The proxy's configuration: TOML, or PgBouncer's if its name ends in `.ini`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file is a database host's.
    #[arg(long, hide = true)]
    host: bool,
}

/// Serves clients until it is told to stop.
pub fn run(args: &Args) -> Result<ExitCode> {
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(log.with_filter(super::run::log_filter())).init();
    let config = match args.host {
        true => proxy::Config::of_host(&api::HostConfig::load(&args.config)?, &args.config)?,
        false => proxy::Config::load(&args.config)?,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(proxy::run(config))?;
    Ok(ExitCode::SUCCESS)
}
