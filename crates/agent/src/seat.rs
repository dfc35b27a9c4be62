//! How a node comes to its seat: as before, by making the cluster, or by
//! asking somebody who has one.

use std::time::Duration;

use api::HostConfig;
use bytes::Bytes;
use cluster::command::{Addresses, Change, Command, Member};
use cluster::{ClusterState, NodeId};
use peers::Peers;
use serde::{Deserialize, Serialize};
use store::embedded::Start;
use store::{Store, SubmitError};

use crate::clock;
use crate::gone::{is_gone, was_out};
use crate::shared::Picture;

/// Between two rounds of asking for a seat, at first and at most.
pub const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));

/// A node of that name that was heard within so many milliseconds is alive.
pub const HEARD_LATELY_MS: u64 = 2_000;

/// "I have an empty disk; may I have a seat?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which cluster is meant.
    pub cluster: String,
    /// Where the node is.
    pub addresses: Addresses,
    /// Knows a repeated request.
    pub nonce: u64,
    /// The number of the seat that the node has, and only wants to know of; 0 asks for one.
    pub had: u64,
}

/// The seat, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// Everything that is agreed; the node finds its own seat in it.
    Welcome(Box<ClusterState>),
    /// Not now, or not at all, in words.
    No(String),
    /// The seat that it had is nobody's any more.
    Gone,
    /// The seat that it had is its own, as far as is known here.
    Kept,
}

/// Asks until there is a seat.
pub async fn ask_for_seat(config: &HostConfig, peers: &Peers, nonce: u64) -> (Member, ClusterState) {
    let (mut told, mut pause) = (String::new(), ASK_AGAIN.0);
    loop {
        for address in &config.join {
            match ask_one(config, peers, address, nonce).await {
                Ok(seat) => return seat,
                // The same answer again is no news.
                Err(why) if why == told => {}
                Err(why) => {
                    tracing::warn!(%address, %why, "no seat yet");
                    told = why;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
}

/// Asks one agent about the seat `had`, or for one.
pub(crate) async fn ask(
    config: &HostConfig,
    peers: &Peers,
    address: &str,
    nonce: u64,
    had: u64,
) -> Result<JoinAnswer, String> {
    let (cluster, addresses) = (config.cluster.clone(), config.addresses());
    let request = JoinRequest { cluster, addresses, nonce, had };
    let body = postcard::to_allocvec(&request).map_err(|e| e.to_string())?;
    let (_, answer) = peers.ask(address, Bytes::from(body)).await.map_err(|e| e.to_string())?;
    postcard::from_bytes(&answer).map_err(|e| e.to_string())
}

async fn ask_one(
    config: &HostConfig,
    peers: &Peers,
    address: &str,
    nonce: u64,
) -> Result<(Member, ClusterState), String> {
    match ask(config, peers, address, nonce, 0).await? {
        JoinAnswer::Welcome(state) => {
            let seat = state.members.get(&config.name).filter(|m| m.raft_id != 0).cloned();
            seat.map(|m| (m, *state)).ok_or_else(|| "it gave no seat".to_string())
        }
        JoinAnswer::No(why) => Err(why),
        JoinAnswer::Gone | JoinAnswer::Kept => Err("it answered what was not asked".to_string()),
    }
}

/// Answers a node that asks; its name is what its certificate says.
pub async fn give_seat(store: &Store, cluster: &str, picture: &Picture, from: NodeId, body: &[u8]) -> Bytes {
    let answer = match postcard::from_bytes::<JoinRequest>(body) {
        Ok(request) if request.cluster == cluster && request.had != 0 => {
            let votes = store.health().voters.contains(&request.had);
            let gone = !votes && is_gone(&picture.state, &from, request.had);
            if gone { JoinAnswer::Gone } else { JoinAnswer::Kept }
        }
        Ok(request) if request.cluster == cluster && is_heard(picture, &from) => JoinAnswer::No(format!(
            "TAN0618: a node named '{from}' is running and heard: stop that one, or give this one another name"
        )),
        Ok(request) if request.cluster == cluster => seat(store, &picture.state, from, request).await,
        Ok(request) => {
            JoinAnswer::No(format!("TAN0604: this is cluster '{cluster}', not '{}'", request.cluster))
        }
        Err(why) => JoinAnswer::No(why.to_string()),
    };
    postcard::to_allocvec(&answer).unwrap_or_default().into()
}

/// Whether anybody has heard `node` lately. A node that lives needs no seat: who
/// asks for one in its name is somebody else, and would push it out.
fn is_heard(picture: &Picture, node: &NodeId) -> bool {
    let young = |age: u64| age < HEARD_LATELY_MS;
    picture.reports.iter().any(|(speaker, (report, age))| {
        let by_others = report.hears.get(node).map(|heard| heard.saturating_add(*age));
        young(*age) && (speaker == node || by_others.is_some_and(young))
    })
}

async fn seat(store: &Store, known: &ClusterState, node: NodeId, request: JoinRequest) -> JoinAnswer {
    let JoinRequest { addresses, nonce, .. } = request;
    let change = Change::Join { node: node.clone(), addresses, nonce };
    let command = Command { at_ms: clock::unix_ms(), by: node.clone(), change };
    // What would be refused is not even written down: whoever was taken out asks on and on.
    if let Err(why @ cluster::Refused::NoSuchNode(_)) = known.apply(&command) {
        let advice = format!("'tanist member add {node} ADDRESS' lets it in");
        return JoinAnswer::No(format!("{}: {why}. {advice}", why.code()));
    }
    match store.submit(command).await {
        Ok(state) => JoinAnswer::Welcome(Box::new((*state).clone())),
        Err(SubmitError::Refused(cluster::Refused::NothingToDo(_))) => match store.read().await {
            Ok(state) => JoinAnswer::Welcome(Box::new((*state).clone())),
            Err(why) => JoinAnswer::No(why.to_string()),
        },
        Err(why) => JoinAnswer::No(why.to_string()),
    }
}

/// How this node's store starts: a disk that remembers goes on, a bootstrap
/// file makes the group once, anybody else asks.
#[must_use]
pub fn known_start(config: &HostConfig) -> Option<Start> {
    if store::embedded::exists(&store_dir(config)) {
        return Some(Start::Again);
    }
    makes_cluster(config).then_some(Start::Bootstrap)
}

/// Whether the bootstrap file is there, for a node that was in no cluster before.
#[must_use]
pub fn makes_cluster(config: &HostConfig) -> bool {
    config.bootstrap.as_ref().is_some_and(|f| f.exists()) && !was_out(&store_dir(config))
}

/// Where the store and the promises are.
#[must_use]
pub fn store_dir(config: &HostConfig) -> std::path::PathBuf {
    config.data_dir.join("store")
}

/// Claims the cluster that this node makes; a claim that stands is as good.
pub async fn claim(config: &HostConfig, store: &Store) {
    let settings = cluster::Settings { durability: config.durability, ..cluster::Settings::default() };
    let (cluster, members) = (config.cluster.clone(), config.registrations());
    let change = Change::Claim { cluster, settings, members };
    let command = Command { at_ms: clock::unix_ms(), by: config.name.clone(), change };
    loop {
        match store.submit(command.clone()).await {
            Ok(_) | Err(SubmitError::Refused(cluster::Refused::ClusterExists(_))) => break,
            Err(why) => tracing::warn!(%why, "the cluster can't be claimed yet"),
        }
        tokio::time::sleep(ASK_AGAIN.0).await;
    }
    if let Some(file) = &config.bootstrap
        && let Err(why) = std::fs::remove_file(file)
    {
        tracing::warn!(%why, "the bootstrap file could not be removed; remove it by hand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::MemberId;
    use cluster::report::Report;
    use std::collections::BTreeMap;

    fn report(of: &str, hears: &[(&str, u64)]) -> Report {
        let node = |n: &str| NodeId::new(n).unwrap();
        Report {
            hears: hears.iter().map(|(n, ms)| (node(n), *ms)).collect(),
            ..Report::first(MemberId::new(node(of), 1))
        }
    }

    #[test]
    fn a_name_that_anybody_hears_gets_no_second_seat() {
        let node = NodeId::new("n2").unwrap();
        let picture = |all: &[(Report, u64)]| Picture {
            reports: all
                .iter()
                .map(|(r, age)| (r.member.node.clone(), (r.clone(), *age)))
                .collect::<BTreeMap<_, _>>(),
            ..Picture::default()
        };
        let heard = |all: &[(Report, u64)]| is_heard(&picture(all), &node);
        assert!(!heard(&[]));
        assert!(heard(&[(report("n2", &[]), 100)]));
        assert!(!heard(&[(report("n2", &[]), HEARD_LATELY_MS)]));
        assert!(heard(&[(report("n1", &[("n2", 900)]), 900)]), "heard by another");
        assert!(!heard(&[(report("n1", &[("n2", 900)]), 1_200)]), "that is too long ago");
    }
}
