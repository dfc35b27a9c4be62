//! The changing verbs. Each checks the token, asks the store, and says in one
//! sentence what was done or why not.

#![allow(clippy::result_large_err)] // an HTTP answer is the error here, and is moved once

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cluster::command::{Change, Command, Evidence, Trigger};
use cluster::recruited::recruited;
use cluster::{ClusterState, NodeId};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use store::SubmitError;

use api::verbs::{Done, FailoverBody, MemberBody, SwitchoverBody};

use super::{Desk, problem};
use crate::clock;
use crate::shared::Picture;

type Answer = Result<Response, Response>;

/// Compares digests in full, so that the time taken tells nothing.
fn authorise(desk: &Desk, headers: &HeaderMap) -> Result<(), Response> {
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

async fn submit(desk: &Desk, change: Change) -> Result<std::sync::Arc<ClusterState>, Response> {
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
    let asked: SwitchoverBody = body(&bytes)?;
    let change = Change::Switchover { to: asked.to.clone(), at_ms: asked.at_ms };
    if asked.dry_run {
        let picture = desk.shared.picture();
        let command = Command { at_ms: clock::unix_ms(), by: desk.config.name.clone(), change };
        let judged = picture.state.apply(&command);
        let refused = |e: cluster::Refused| {
            problem(StatusCode::CONFLICT, e.code(), &e.to_string(), "Nothing was changed")
        };
        judged.map_err(refused)?;
        return Ok(done(
            &picture.state,
            "It would be done: nothing acknowledged would be lost".to_string(),
            true,
        ));
    }
    let state = submit(&desk, change).await?;
    let whom = asked.to.map_or("the best standby".to_string(), |n| n.to_string());
    Ok(done(&state, format!("switchover to {whom} is under way"), false))
}

pub(super) async fn cancel(State(desk): State<Desk>, headers: HeaderMap) -> Answer {
    authorise(&desk, &headers)?;
    let state = submit(&desk, Change::CancelSwitchover { why: "an operator asked".to_string() }).await?;
    Ok(done(&state, "the switchover was called off".to_string(), false))
}

/// Refuses what could not be completed, or would lose something that nobody accepted.
fn foresee(picture: &Picture, asked: &FailoverBody) -> Result<(), Response> {
    let state = &picture.state;
    let term = state.ctl.term.next();
    let mut after = (**state).clone();
    for node in &asked.accept_loss {
        after.ctl.written_off.extend(state.member_id(node));
    }
    let lives =
        |n: &&NodeId| picture.reports.get(*n).is_some_and(|(_, age)| *age < api::status::REPORT_AGE_MS_MAX);
    let would = state.members.keys().filter(lives).filter_map(|n| {
        let (report, _) = picture.reports.get(n)?;
        let server = report.server.as_ref()?;
        let position = cluster::lineage::term_of(server.lineage.owner_of(server.end), &state.elections);
        let leads = state.last_elected(&report.member).filter(|t| *t == state.ctl.term);
        Some(Evidence {
            member: report.member.clone(),
            promise: term,
            resigned: report.vows.resigned.max(leads.unwrap_or_default()),
            position: position.map(|t| cluster::Position::new(t, server.end)),
            lineage: server.lineage.clone(),
            time_fenced: true,
        })
    });
    let evidence: Vec<Evidence> = would.collect();
    recruited(&after, term, &evidence).map(|_| ()).map_err(|missing| {
        let what = format!("a failover now could lose acknowledged commits: {missing}");
        let advice = "Bring the missing node back, or name it with --accept-loss NODE if it is gone for good";
        problem(StatusCode::CONFLICT, "TAN0617", &what, advice)
    })
}

pub(super) async fn failover(State(desk): State<Desk>, headers: HeaderMap, bytes: Bytes) -> Answer {
    authorise(&desk, &headers)?;
    let asked: FailoverBody = body(&bytes)?;
    let picture = desk.shared.picture();
    let term = picture.state.ctl.term.next();
    let accept_loss = asked.accept_loss.iter().cloned().collect();
    let trigger = Trigger::Operator { to: asked.to.clone(), accept_loss };
    let change = Change::BeginTerm { term, trigger };
    let command = Command { at_ms: clock::unix_ms(), by: desk.config.name.clone(), change: change.clone() };
    let refused =
        |e: cluster::Refused| problem(StatusCode::CONFLICT, e.code(), &e.to_string(), "Nothing was changed");
    picture.state.apply(&command).map_err(refused)?;
    foresee(&picture, &asked)?;
    let lost = if asked.accept_loss.is_empty() {
        "nothing acknowledged is lost"
    } else {
        "what only the dead nodes had is lost; a cut-off leader and a cut-off standby may still acknowledge to each other"
    };
    if asked.dry_run {
        return Ok(done(&picture.state, format!("It would be done: {lost}"), true));
    }
    let state = submit(&desk, change).await?;
    Ok(done(&state, format!("term {} is electing a leader; {lost}", state.ctl.term), false))
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
    let state = submit(&desk, Change::Reinit { node: node.clone() }).await?;
    Ok(done(&state, format!("{node} leaves the commit rule and is then made anew"), false))
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
    let change = Change::AddMember { node: asked.name.clone(), registration: asked.registration };
    let state = submit(&desk, change).await?;
    let said = format!(
        "{} may join: start its agent with a certificate of this cluster's CA in that name",
        asked.name
    );
    Ok(done(&state, said, false))
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
