//! The verbs that change the cluster.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Result, bail};
use api::verbs::{Done, FailoverBody, MemberBody, SwitchoverBody};
use api::{Client, ClientError, Status};
use cluster::NodeId;
use cluster::command::{Addresses, Kind, Registration};

use crate::say;
use crate::verb::settled::{Verb, settled};

#[derive(clap::Args)]
pub struct SwitchoverArgs {
    /// To whom; without it the leader chooses.
    #[arg(long)]
    to: Option<NodeId>,
    /// Not before this moment: +90s, +10m, +2h, 2026-11-24T02:00:00Z or Unix milliseconds.
    #[arg(long, value_name = "TIME", value_parser = super::moment::parse)]
    at: Option<u64>,
    /// Call the planned one off.
    #[arg(long)]
    cancel: bool,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
}

#[derive(clap::Args)]
pub struct FailoverArgs {
    /// To whom.
    #[arg(long)]
    to: Option<NodeId>,
    /// Nodes that are gone for good, with what only they had.
    #[arg(long, value_delimiter = ',', value_name = "NODE")]
    accept_loss: Vec<NodeId>,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
}

#[derive(clap::Args)]
pub struct ReinitArgs {
    /// Whose copy.
    node: NodeId,
}

#[derive(clap::Args)]
pub struct MemberArgs {
    #[command(subcommand)]
    deed: MemberDeed,
}

#[derive(clap::Subcommand)]
enum MemberDeed {
    /// Let a node join.
    Add {
        /// Its name.
        name: NodeId,
        /// Where its agent listens for others, host:port.
        address: String,
        /// A voter without PostgreSQL.
        #[arg(long)]
        witness: bool,
        /// A voter without PostgreSQL that keeps WAL and acknowledges it.
        #[arg(long, conflicts_with = "witness")]
        wal_witness: bool,
    },
    /// Take a node out.
    Remove {
        /// Its name.
        name: NodeId,
    },
}

fn tell(done: &Done, json: bool) -> Result<ExitCode> {
    if json {
        say::out(&serde_json::to_string(done)?);
    } else {
        say::out(&format!("{}.", done.said));
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn switchover(client: &Client, args: &SwitchoverArgs, json: bool) -> Result<ExitCode> {
    if args.cancel {
        return tell(&client.send("DELETE", "/v1/switchover", &()).await?, json);
    }
    let before = current(client).await?;
    let body = SwitchoverBody { to: args.to.clone(), at_ms: args.at, dry_run: args.dry_run };
    let done: Done = client.send("POST", "/v1/switchover", &body).await?;
    if args.dry_run || args.no_wait || args.at.is_some() {
        return tell(&done, json);
    }
    tell(&settled(client, &before, Verb::Switchover, args.to.as_ref()).await?, json)
}

pub async fn failover(client: &Client, args: &FailoverArgs, yes: bool, json: bool) -> Result<ExitCode> {
    // The term is read first: should the request arrive twice, the second ends nothing.
    let before = current(client).await?;
    let (to, accept_loss) = (args.to.clone(), args.accept_loss.clone());
    let mut body = FailoverBody { term: Some(before.term), to, accept_loss, dry_run: true };
    if !args.dry_run && !args.accept_loss.is_empty() && !yes {
        let foreseen: Done = client.send("POST", "/v1/failover", &body).await?;
        confirm(&foreseen.said)?;
    }
    body.dry_run = args.dry_run;
    let done: Done = client.send("POST", "/v1/failover", &body).await?;
    if args.dry_run || args.no_wait {
        return tell(&done, json);
    }
    tell(&settled(client, &before, Verb::Failover, args.to.as_ref()).await?, json)
}

/// Asks the person at the terminal; refuses where there is none.
fn confirm(what: &str) -> Result<()> {
    let refused = "this loses data for good and was not confirmed. Nothing was changed; --yes confirms it";
    if !std::io::stdin().is_terminal() {
        bail!("TAN0009: {refused}");
    }
    eprint!("{what}.\nDo it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { bail!("TAN0009: {refused}") }
}

/// How things are, by whoever knows the newest term.
pub async fn current(client: &Client) -> Result<Status, ClientError> {
    client.best("/v1/status", |s: &Status| (s.term, s.revision)).await
}

pub async fn plain(client: &Client, path: &str, json: bool) -> Result<ExitCode> {
    tell(&client.send("POST", path, &()).await?, json)
}

pub async fn reinit(client: &Client, args: &ReinitArgs, json: bool) -> Result<ExitCode> {
    tell(&client.send("POST", &format!("/v1/reinit/{}", args.node), &()).await?, json)
}

pub async fn member(client: &Client, args: &MemberArgs, json: bool) -> Result<ExitCode> {
    let done: Done = match &args.deed {
        MemberDeed::Add { name, address, witness, wal_witness } => {
            let addresses = Addresses { peers: address.clone(), ..Addresses::default() };
            let kind = match (witness, wal_witness) {
                (_, true) => Kind::WalWitness,
                (true, false) => Kind::Witness,
                (false, false) => Kind::Data,
            };
            let registration = Registration { kind, addresses, ..Registration::default() };
            client.send("POST", "/v1/members", &MemberBody { name: name.clone(), registration }).await?
        }
        MemberDeed::Remove { name } => client.send("DELETE", &format!("/v1/members/{name}"), &()).await?,
    };
    tell(&done, json)
}
