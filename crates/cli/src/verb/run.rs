//! `run`, `witness` and the agent below them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use api::HostConfig;
use postgres::guard::{self, GuardConfig};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[derive(clap::Args)]
pub struct Args {
    /// The host's configuration, TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// The guard: parent of PostgreSQL and of the agent.
pub fn guard(args: &Args) -> Result<ExitCode> {
    let config = HostConfig::load(&args.config)?;
    let program = own_program()?.display().to_string();
    let file = args.config.canonicalize()?.display().to_string();
    let socket = agent::start::guard_socket(&config);
    std::fs::create_dir_all(&config.data_dir)?;
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if config.durability == cluster::Durability::QuorumRelaxed {
        eprintln!(
            "durability quorum-relaxed: commits may wait for the leader alone while its standbys are gone"
        );
    }
    let command = |words: &[&str]| -> Vec<String> {
        let own = |word: &&str| (*word).to_string();
        std::iter::once(program.clone()).chain(words.iter().map(own)).chain([file.clone()]).collect()
    };
    let beside = config.proxy.as_ref().is_some_and(|p| p.enabled);
    let proxy = if beside { command(&["proxy", "--host", "--config"]) } else { Vec::new() };
    let agent = command(&["agent", "--config"]);
    let pgdata = agent::start::pgdata(&config);
    let HostConfig { data_dir: dir, allow_drills, .. } = config;
    guard::run(GuardConfig { dir, socket, pgdata, agent, proxy, allow_drills })?;
    Ok(ExitCode::SUCCESS)
}

/// What the agent is started from: the name that we were started by, so that
/// an upgrade which moves a link is followed without restarting the guard.
fn own_program() -> Result<PathBuf> {
    let name = std::env::args_os().next().map(PathBuf::from);
    let given = name.filter(|p| p.is_absolute() && p.is_file());
    Ok(given.map_or_else(std::env::current_exe, Ok)?)
}

/// What is logged: `$TANIST_LOG` as in `warn` or `info,store=debug`, else `info`.
pub(super) fn log_filter() -> Targets {
    let info = Targets::new().with_default(LevelFilter::INFO);
    std::env::var("TANIST_LOG").ok().and_then(|asked| asked.parse().ok()).unwrap_or(info)
}

/// The agent, as the guard starts it.
pub fn agent(args: &Args) -> Result<ExitCode> {
    // A log that takes nothing must not end the agent, nor keep it waiting.
    let log = tracing_subscriber::fmt::layer().with_writer(|| guard::log::Lossy).with_ansi(false);
    let log = log.log_internal_errors(false).with_filter(log_filter());
    tracing_subscriber::registry().with(log).init();
    let config = HostConfig::load(&args.config)?;
    // Heartbeats keep to one thread, which costs least at rest; what may wait
    // for a disk or a server runs on others and never delays them.
    // Two of them, so that a deed which blocks keeps neither the probe nor the next deed.
    let (beats, deeds) = (runtime("agent", 1)?, runtime("deeds", 2)?);
    let agent = agent::start::run(config, deeds.handle().clone());
    let ended = beats.block_on(async { beats.spawn(agent).await });
    guard::log::wait_until_written();
    ended??;
    Ok(ExitCode::SUCCESS)
}

fn runtime(name: &str, threads: usize) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.thread_name(name).worker_threads(threads).enable_all().build()?)
}
