//! The changing verbs. Each checks the token, asks the store, and says in one
//! sentence what was done or why not.

#![allow(clippy::result_large_err)] // an HTTP answer is the error here, and is moved once

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cluster::command::{Addresses, Change, Command, MemberState};
use cluster::{ClusterState, NodeId, Term};
use failover::forecast::{self, Asked, Scene, Unwise};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use store::SubmitError;

use api::host_config::check_address;
use api::verbs::{Done, FailoverBody, MemberBody, SwitchoverBody};

use super::{Desk, problem};
use crate::clock;
use crate::shared::Picture;

pub(super) type Answer = Result<Response, Response>;

/// Compares digests in full, so that the time taken tells nothing.
pub(super) fn authorise(desk: &Desk, headers: &HeaderMap) -> Result<(), Response> {
    let given =
        headers.get("authorization").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let given: [u8; 32] = Sha256::digest(given.unwrap_or_default().trim().as_bytes()).into();
    let differs = given.iter().zip(desk.token.iter()).fold(0u8, |all, (a, b)| all | (a ^ b));
    if differs == 0 {
        return Ok(());
    }
    let advice = "Give the cluster's token with --token-file FILE or $TANIST_TOKEN_FILE";
    Err(problem(StatusCode::UNAUTHORIZED, "TAN0615", "this changes the cluster and needs its token", advice))
}

fn body<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Response> {
    if bytes.is_empty() || bytes.as_ref() == b"null" {
        return Ok(T::default());
    }
    let bad = |e: serde_json::Error| {
        problem(
            StatusCode::BAD_REQUEST,
            "TAN0616",
            &format!("the request can't be read: {e}"),
            "See the handbook",
        )
    };
    serde_json::from_slice(bytes).map_err(bad)
}

/// A node that was taken out has no store to ask: the client goes to the next.
fn has_seat(desk: &Desk) -> Result<(), Response> {
    let state = &desk.shared.picture().state;
    let gone = state.members.get(&desk.config.name).is_some_and(|m| m.state == MemberState::Removed);
    if !gone {
        return Ok(());
    }
    let what = format!("{} is no member of the cluster any more", desk.config.name);
    Err(problem(StatusCode::MISDIRECTED_REQUEST, "TAN0619", &what, "Ask an agent that is, with --api URL"))
}

async fn submit(desk: &Desk, change: Change) -> Result<std::sync::Arc<ClusterState>, Response> {
    has_seat(desk)?;
    let command = Command { at_ms: clock::unix_ms(), by: desk.config.name.clone(), change };
    desk.store.submit(command).await.map_err(|e| match e {
        SubmitError::Refused(why) => problem(
            StatusCode::CONFLICT,
            why.code(),
            &why.to_string(),
            "Nothing was changed; 'tanist status' shows how things are",
        ),
        SubmitError::Unknown => {
            let what = "the store did not answer in time, so whether it was done is not known";
            problem(
                StatusCode::GATEWAY_TIMEOUT,
                "TAN0201",
                what,
                "Look with 'tanist status' before trying again",
            )
        }
        SubmitError::Down => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "TAN0202",
            "this node's store is not running",
            "Ask another node",
        ),
    })
}

fn done(state: &ClusterState, said: String, dry_run: bool) -> Response {
    Json(Done { said, term: state.ctl.term.0, dry_run }).into_response()
}

fn parse_node(name: &str) -> Result<NodeId, Response> {
    let bad = |e: cluster::node::BadName| {
        problem(StatusCode::BAD_REQUEST, "TAN0005", &e.to_string(), "'tanist status' lists the nodes")
    };
    NodeId::new(name).map_err(bad)
}

pub(super) async fn switchover(State(desk): State<Desk>, headers: HeaderMap, bytes: Bytes) -> Answer {
    authorise(&desk, &headers)?;
    has_seat(&desk)?;
    let asked: SwitchoverBody = body(&bytes)?;
    let whom = foresee_switchover(&desk, &asked)?;
    if asked.dry_run {
        let said = format!("It would go to {whom}: nothing acknowledged would be lost");
        return Ok(done(&desk.shared.picture().state, said, true));
    }
    let change = Change::Switchover { to: asked.to.clone(), at_ms: asked.at_ms };
    let state = submit(&desk, change).await?;
    let when = if asked.at_ms.is_some() { "planned" } else { "under way" };
    Ok(done(&state, format!("a switchover to {whom} is {when}"), false))
}

/// Refuses at once what would only be called off later, and says to whom it
/// would go. One that is for later is judged by what is agreed alone: who is
/// healthy then, the leader sees then.
fn foresee_switchover(desk: &Desk, asked: &SwitchoverBody) -> Result<String, Response> {
    let picture = desk.shared.picture();
    let me = &desk.config.name;
    let judged = if asked.at_ms.is_some_and(|at| at > clock::unix_ms()) {
        let change = Change::Switchover { to: asked.to.clone(), at_ms: asked.at_ms };
        let judged = picture.state.apply(&Command { at_ms: clock::unix_ms(), by: me.clone(), change });
        judged.map(|_| asked.to.as_ref().map_or("the best standby then".to_string(), ToString::to_string))
    } else {
        forecast::switchover(scene(&picture), me, asked.to.as_ref()).map(|n| n.to_string())
    };
    let advice = "Nothing was changed; 'tanist status' shows how things are";
    judged.map_err(|e| problem(StatusCode::CONFLICT, e.code(), &e.to_string(), advice))
}

fn unwise(e: Unwise) -> Response {
    problem(StatusCode::CONFLICT, e.code(), &e.to_string(), &e.advice())
}

fn scene(picture: &Picture) -> Scene<'_> {
    Scene { state: &picture.state, reports: &picture.reports }
}

pub(super) async fn cancel(State(desk): State<Desk>, headers: HeaderMap) -> Answer {
    authorise(&desk, &headers)?;
    let state = submit(&desk, Change::CancelSwitchover { why: "an operator asked".to_string() }).await?;
    Ok(done(&state, "the switchover was called off".to_string(), false))
}

/// The request may name the term that it is meant to end, so that a repetition
/// of it finds another term and ends nothing.
pub(super) async fn failover(State(desk): State<Desk>, headers: HeaderMap, bytes: Bytes) -> Answer {
    authorise(&desk, &headers)?;
    has_seat(&desk)?;
    let asked: FailoverBody = body(&bytes)?;
    let picture = desk.shared.picture();
    let asked_for = Asked {
        by: desk.config.name.clone(),
        term: asked.term.map_or(picture.state.ctl.term, Term).next(),
        to: asked.to,
        accept_loss: asked.accept_loss.into_iter().collect(),
    };
    let forecast = forecast::failover(scene(&picture), &asked_for).map_err(unwise)?;
    if asked.dry_run {
        return Ok(done(&picture.state, format!("It would be done: {forecast}"), true));
    }
    let state = submit(&desk, asked_for.change()).await?;
    Ok(done(&state, format!("a leader is being elected; most likely {forecast}"), false))
}

pub(super) async fn pause(State(desk): State<Desk>, headers: HeaderMap) -> Answer {
    authorise(&desk, &headers)?;
    let state = submit(&desk, Change::Pause).await?;
    Ok(done(&state, "automatic failover is paused".to_string(), false))
}

pub(super) async fn resume(State(desk): State<Desk>, headers: HeaderMap) -> Answer {
    authorise(&desk, &headers)?;
    let state = submit(&desk, Change::Resume).await?;
    Ok(done(&state, "automatic failover is on".to_string(), false))
}

pub(super) async fn reinit(State(desk): State<Desk>, headers: HeaderMap, Path(node): Path<String>) -> Answer {
    authorise(&desk, &headers)?;
    let node = parse_node(&node)?;
    has_seat(&desk)?;
    let foreseen =
        forecast::reinit(scene(&desk.shared.picture()), &desk.config.name, &node).map_err(unwise)?;
    let state = submit(&desk, Change::Reinit { node: node.clone() }).await?;
    Ok(done(&state, format!("{node} {foreseen}"), false))
}

pub(super) async fn add_member(State(desk): State<Desk>, headers: HeaderMap, bytes: Bytes) -> Answer {
    authorise(&desk, &headers)?;
    let bad = |e: serde_json::Error| {
        problem(
            StatusCode::BAD_REQUEST,
            "TAN0616",
            &format!("the request can't be read: {e}"),
            "See the handbook",
        )
    };
    let asked: MemberBody = serde_json::from_slice(&bytes).map_err(bad)?;
    check_addresses(&asked.registration.addresses)?;
    let change = Change::AddMember { node: asked.name.clone(), registration: asked.registration };
    let state = submit(&desk, change).await?;
    let said = format!(
        "{} may join: start its agent with a certificate of this cluster's CA in that name",
        asked.name
    );
    Ok(done(&state, said, false))
}

/// The agent that joins says its own addresses; what is given beforehand must
/// be one where somebody could listen.
fn check_addresses(given: &Addresses) -> Result<(), Response> {
    let known = |a: &&String| !a.is_empty();
    for address in [&given.peers, &given.api, &given.postgres].into_iter().filter(known) {
        if let Err(why) = check_address(address) {
            let advice = "Nothing was changed; give the address where its agent listens for others";
            let what = format!("'{address}' can't be an address: {why}");
            return Err(problem(StatusCode::BAD_REQUEST, "TAN0620", &what, advice));
        }
    }
    Ok(())
}

pub(super) async fn remove_member(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path(node): Path<String>,
) -> Answer {
    authorise(&desk, &headers)?;
    let node = parse_node(&node)?;
    let state = submit(&desk, Change::RemoveMember { node: node.clone() }).await?;
    Ok(done(&state, format!("{node} is being taken out"), false))
}
