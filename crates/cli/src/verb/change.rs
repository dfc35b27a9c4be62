//! The verbs that change the cluster.

use std::process::ExitCode;

use anyhow::Result;
use api::verbs::{Done, FailoverBody, MemberBody, SwitchoverBody};
use api::{Client, Status};
use cluster::NodeId;
use cluster::command::{Addresses, Kind, Registration};

#[derive(clap::Args)]
pub struct SwitchoverArgs {
    /// To whom; without it the leader chooses.
    #[arg(long)]
    to: Option<NodeId>,
    /// Not before this moment, Unix milliseconds.
    #[arg(long, value_name = "MS")]
    at: Option<u64>,
    /// Call the planned one off.
    #[arg(long)]
    cancel: bool,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
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
    },
    /// Take a node out.
    Remove {
        /// Its name.
        name: NodeId,
    },
}

fn say(done: &Done, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(done)?);
    } else {
        println!("{}.", done.said);
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn switchover(client: &Client, args: &SwitchoverArgs, json: bool) -> Result<ExitCode> {
    if args.cancel {
        return say(&client.send("DELETE", "/v1/switchover", &()).await?, json);
    }
    let body = SwitchoverBody { to: args.to.clone(), at_ms: args.at, dry_run: args.dry_run };
    say(&client.send("POST", "/v1/switchover", &body).await?, json)
}

pub async fn failover(client: &Client, args: &FailoverArgs, json: bool) -> Result<ExitCode> {
    // The term is read first: should the request arrive twice, the second ends nothing.
    let status: Status = client.get("/v1/status").await?;
    let (to, accept_loss, dry_run) = (args.to.clone(), args.accept_loss.clone(), args.dry_run);
    let body = FailoverBody { term: Some(status.term), to, accept_loss, dry_run };
    say(&client.send("POST", "/v1/failover", &body).await?, json)
}

pub async fn plain(client: &Client, path: &str, json: bool) -> Result<ExitCode> {
    say(&client.send("POST", path, &()).await?, json)
}

pub async fn reinit(client: &Client, args: &ReinitArgs, json: bool) -> Result<ExitCode> {
    say(&client.send("POST", &format!("/v1/reinit/{}", args.node), &()).await?, json)
}

pub async fn member(client: &Client, args: &MemberArgs, json: bool) -> Result<ExitCode> {
    let done: Done = match &args.deed {
        MemberDeed::Add { name, address, witness } => {
            let addresses = Addresses { peers: address.clone(), ..Addresses::default() };
            let kind = if *witness { Kind::Witness } else { Kind::Data };
            let registration = Registration { kind, addresses, ..Registration::default() };
            client.send("POST", "/v1/members", &MemberBody { name: name.clone(), registration }).await?
        }
        MemberDeed::Remove { name } => client.send("DELETE", &format!("/v1/members/{name}"), &()).await?,
    };
    say(&done, json)
}
