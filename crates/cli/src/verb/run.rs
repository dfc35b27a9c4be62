//! `run`, `witness` and the agent below them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use api::HostConfig;
use postgres::guard::{self, GuardConfig};

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
    let agent = vec![program, "agent".to_string(), "--config".to_string(), file];
    let pgdata = agent::start::pgdata(&config);
    let HostConfig { data_dir: dir, allow_drills, .. } = config;
    guard::run(GuardConfig { dir, socket, pgdata, agent, allow_drills })?;
    Ok(ExitCode::SUCCESS)
}

/// What the agent is started from: the name that we were started by, so that
/// an upgrade which moves a link is followed without restarting the guard.
fn own_program() -> Result<PathBuf> {
    let name = std::env::args_os().next().map(PathBuf::from);
    let given = name.filter(|p| p.is_absolute() && p.is_file());
    Ok(given.map_or_else(std::env::current_exe, Ok)?)
}

/// The agent, as the guard starts it.
pub fn agent(args: &Args) -> Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANIST_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A log that takes nothing must not end the agent, nor keep it waiting.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| guard::log::Lossy);
    log.log_internal_errors(false).with_ansi(false).init();
    let config = HostConfig::load(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(agent::start::run(config))?;
    Ok(ExitCode::SUCCESS)
}
