//! `playground`: a local cluster, left running.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use cluster::Durability;
use drill::layout::{DEMO_MARK, Options};
use drill::{Stage, StageError};

use crate::say;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// Make it where there is none, start what does not run, return when it is healthy.
    Up {
        #[command(flatten)]
        at: At,
        /// Data nodes, 3 without it; 2 adds a witness.
        #[arg(long)]
        nodes: Option<u16>,
        /// A witness that keeps WAL: two nodes and it are as safe as three, in durability quorum.
        #[arg(long)]
        wal_witness: bool,
        /// First port; 0 takes free ones.
        #[arg(long)]
        base_port: Option<u16>,
        /// PostgreSQL's programs.
        #[arg(long, value_name = "DIR")]
        pg_bin: Option<PathBuf>,
        /// What an acknowledgement promises.
        #[arg(long, value_enum)]
        durability: Option<Mode>,
        /// Each node in a network namespace of its own (root).
        #[arg(long)]
        isolate: bool,
    },
    /// The same document again.
    Status(At),
    /// Start a node, or all.
    Start {
        /// Which.
        node: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Stop a node in order, or all.
    Stop {
        /// Which.
        node: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Stop everything.
    Down {
        #[command(flatten)]
        at: At,
        /// And remove it.
        #[arg(long)]
        wipe: bool,
    },
}

#[derive(clap::Args)]
struct At {
    /// The cluster's folder.
    #[arg(long, default_value = "./playground")]
    dir: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    Quorum,
    QuorumRelaxed,
    Async,
}

impl From<Mode> for Durability {
    fn from(mode: Mode) -> Durability {
        match mode {
            Mode::Quorum => Durability::Quorum,
            Mode::QuorumRelaxed => Durability::QuorumRelaxed,
            Mode::Async => Durability::Async,
        }
    }
}

pub async fn run(args: &Args, json: bool) -> Result<ExitCode> {
    match &args.deed {
        Deed::Up { at, nodes, wal_witness, base_port, pg_bin, durability, isolate } => {
            let options = Options {
                dir: at.dir.clone(),
                nodes: *nodes,
                wal_witness: *wal_witness,
                base_port: *base_port,
                pg_bin: pg_bin.clone(),
                durability: durability.map(Into::into),
                binary: None,
                isolate: *isolate,
            };
            let stage = Stage::up(&options).await?;
            adopt(&stage);
            show(&stage, json)?;
        }
        Deed::Status(at) => show(&Stage::open(&at.dir)?, json)?,
        Deed::Start { node, at } => {
            let stage = Stage::open(&at.dir)?;
            adopt(&stage);
            for node in chosen(&stage, node.as_deref())? {
                stage.start(&node)?;
            }
            stage.start_proxy()?;
            show(&stage, json)?;
        }
        Deed::Stop { node, at } => {
            let stage = Stage::open(&at.dir)?;
            if node.is_none() {
                stage.stop_proxy();
            }
            for node in chosen(&stage, node.as_deref())? {
                stage.stop(&node);
            }
            show(&stage, json)?;
        }
        Deed::Down { at, wipe } => {
            match Stage::open(&at.dir) {
                Ok(stage) => stage.down(*wipe)?,
                // `up` was broken off before there was a cluster.
                Err(why) => {
                    if !Stage::clear_away(&at.dir, *wipe)? {
                        return Err(why.into());
                    }
                }
            }
            if json {
                say::out(&serde_json::json!({ "down": true, "wiped": wipe }).to_string());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever uses what a demo left has it for good: the next demo leaves it alone.
fn adopt(stage: &Stage) {
    let _ = std::fs::remove_file(stage.plan.dir.join(DEMO_MARK));
}

fn chosen(stage: &Stage, name: Option<&str>) -> Result<Vec<drill::layout::PlannedNode>> {
    let Some(name) = name else { return Ok(stage.plan.nodes.clone()) };
    match stage.plan.node(name) {
        Some(node) => Ok(vec![node.clone()]),
        None => bail!(StageError::NoNode(name.to_string())),
    }
}

fn show(stage: &Stage, json: bool) -> Result<()> {
    let document = stage.document();
    if json {
        say::out(&serde_json::to_string(&document)?);
        return Ok(());
    }
    say::out(&format!("A local cluster of {} nodes in {}", document.nodes.len(), document.dir.display()));
    say::out(&format!("  durability  {}", document.durability));
    say::out(&format!("  write to    {}", document.write_url));
    for node in &document.nodes {
        let of_its_own = |netns: &String| format!(", in network namespace {netns}");
        let netns = node.netns.as_ref().map(of_its_own).unwrap_or_default();
        let server = match node.postgres_port {
            0 => "a witness".to_string(),
            port => format!("PostgreSQL {}:{port}", node.address),
        };
        say::out(&format!("  {:<10}  {server}, API {}{netns}", node.name, node.api));
    }
    say::out("  'tanist status', 'tanist switchover', 'tanist playground down' go on from here");
    Ok(())
}
