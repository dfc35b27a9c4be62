//! One binary, every verb. Parses, calls, prints; decides nothing.

mod find;
mod say;
mod verb;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// PostgreSQL that stays up.
#[derive(Parser)]
#[command(name = "tanist", version, about, max_term_width = 100)]
struct Cli {
    /// Answer with one JSON document on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Agents to ask, http://host:port, separated by commas.
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// File with the token for changing verbs.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Yes to what would be asked.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything on a database host: guard, PostgreSQL and agent.
    Run(verb::run::Args),
    /// A voter with no PostgreSQL.
    Witness(verb::run::Args),
    #[command(hide = true)]
    Agent(verb::run::Args),
    /// The proxy alone: one address for clients, wherever the leader is.
    Proxy(verb::proxy::Args),
    /// Another program's configuration, in our terms.
    Import(verb::import::Args),
    /// A local cluster, left running in the background.
    Playground(verb::playground::Args),
    /// A local cluster under load: switchover, crash, lost node, and a verdict.
    Demo(verb::demo::Args),
    #[command(hide = true)]
    Faults(verb::faults::Args),
    /// Who leads, since when and why; what is wrong and what to do.
    Status,
    /// What happened, and why.
    History(verb::look::HistoryArgs),
    /// A planned change of leaders: nothing lost.
    Switchover(verb::change::SwitchoverArgs),
    /// A forced change of leaders.
    Failover(verb::change::FailoverArgs),
    /// Automatic failover off.
    Pause,
    /// Automatic failover on again.
    Resume,
    /// Make a member's copy of the database anew.
    Reinit(verb::change::ReinitArgs),
    /// Add or remove members.
    Member(verb::change::MemberArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let said = match &cli.verb {
        // The guard must be alone in its process: no runtime, no thread but its log's.
        Verb::Run(args) | Verb::Witness(args) => verb::run::guard(args),
        Verb::Agent(args) => verb::run::agent(args),
        Verb::Proxy(args) => verb::proxy::run(args),
        Verb::Import(args) => verb::import::run(args),
        _ => asking(&cli),
    };
    match said {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error {why:#}");
            ExitCode::from(1)
        }
    }
}

/// Verbs that ask a cluster, or make one.
fn asking(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = || find::client(cli.api.as_deref(), cli.token_file.as_deref());
    runtime.block_on(async {
        match &cli.verb {
            Verb::Run(_) | Verb::Witness(_) | Verb::Agent(_) | Verb::Proxy(_) | Verb::Import(_) => {
                Ok(ExitCode::SUCCESS)
            }
            Verb::Playground(args) => verb::playground::run(args, cli.json).await,
            Verb::Demo(args) => verb::demo::run(args, cli.json).await,
            Verb::Faults(args) => verb::faults::run(args, cli.json).await,
            Verb::Status => verb::look::status(&client()?, cli.json).await,
            Verb::History(args) => verb::look::history(&client()?, args, cli.json).await,
            Verb::Switchover(args) => verb::change::switchover(&client()?, args, cli.json).await,
            Verb::Failover(args) => verb::change::failover(&client()?, args, cli.yes, cli.json).await,
            Verb::Pause => verb::change::plain(&client()?, "/v1/pause", cli.json).await,
            Verb::Resume => verb::change::plain(&client()?, "/v1/resume", cli.json).await,
            Verb::Reinit(args) => verb::change::reinit(&client()?, args, cli.json).await,
            Verb::Member(args) => verb::change::member(&client()?, args, cli.json).await,
        }
    })
}
