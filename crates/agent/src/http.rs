//! The agent's HTTP API: `/v1/…`, and the health endpoints that people's tools
//! know from Patroni.
//!
//! Reading is free; changing takes the token.

mod drill;
mod health;
mod verbs;

use std::sync::Arc;

use api::HostConfig;
use api::verbs::Problem;
use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use postgres::guard::client::Client as Guard;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::Store;
use tokio::net::TcpListener;

use crate::shared::Shared;

/// Longest body of a request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most history entries in one answer.
pub const HISTORY_MAX: usize = 1000;

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address.
    #[error("TAN0608: the API can't listen on {address}: {why}. Is another agent running there?")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        why: String,
    },
    /// The token.
    #[error(
        "TAN0609: the token file '{path}' can't be used: {why}. It must hold the token for changing verbs, mode 0600"
    )]
    Token {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// What handlers use.
#[derive(Clone)]
pub(crate) struct Desk {
    pub shared: Arc<Shared>,
    pub store: Store,
    pub config: Arc<HostConfig>,
    pub token: [u8; 32],
    pub guard: Guard,
}

/// Starts serving; returns once it listens.
///
/// # Errors
/// `Listen`, `Token`.
pub async fn serve(
    config: &HostConfig,
    shared: Arc<Shared>,
    store: Store,
    guard: Guard,
) -> Result<(), HttpError> {
    let path = config.token_file.display().to_string();
    let text = std::fs::read_to_string(&config.token_file)
        .map_err(|e| HttpError::Token { path: path.clone(), why: e.to_string() })?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(HttpError::Token { path, why: "it is shorter than 16 characters".to_string() });
    }
    let token = Sha256::digest(token.as_bytes()).into();
    let desk = Desk { shared, store, config: Arc::new(config.clone()), token, guard };
    let address = config.listen.api.clone();
    let listener = TcpListener::bind(&address).await;
    let listener = listener.map_err(|e| HttpError::Listen { address, why: e.to_string() })?;
    tokio::spawn(async move {
        if let Err(why) = axum::serve(listener, router(desk)).await {
            tracing::error!(%why, "the API ended");
        }
    });
    Ok(())
}

fn router(desk: Desk) -> Router {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/history", get(history))
        .route("/v1/switchover", post(verbs::switchover).delete(verbs::cancel))
        .route("/v1/failover", post(verbs::failover))
        .route("/v1/pause", post(verbs::pause))
        .route("/v1/resume", post(verbs::resume))
        .route("/v1/reinit/{node}", post(verbs::reinit))
        .route("/v1/drill/fault", post(drill::fault))
        .route("/v1/members", post(verbs::add_member))
        .route("/v1/members/{node}", delete(verbs::remove_member));
    health::routes(router)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .fallback(|| async {
            problem(StatusCode::NOT_FOUND, "TAN0614", "there is nothing at this path", "See /v1/status")
        })
        .with_state(desk)
}

async fn status(State(desk): State<Desk>) -> Response {
    let picture = desk.shared.picture();
    Json(api::status(&picture.state, &picture.reports, picture.waiting.clone())).into_response()
}

#[derive(Deserialize)]
struct Since {
    since: Option<u64>,
}

/// One line of `/v1/history`.
#[derive(Serialize)]
struct Entry {
    at_ms: u64,
    term: u64,
    revision: u64,
    by: String,
    what: String,
}

async fn history(State(desk): State<Desk>, Query(q): Query<Since>) -> Response {
    let picture = desk.shared.picture();
    let since = q.since.unwrap_or(0);
    let entries = picture.state.history.iter().filter(|e| e.revision > since).take(HISTORY_MAX);
    let entries: Vec<Entry> = entries
        .map(|e| Entry {
            at_ms: e.at_ms,
            term: e.term.0,
            revision: e.revision,
            by: e.by.to_string(),
            what: e.reason.to_string(),
        })
        .collect();
    Json(entries).into_response()
}

/// A refusal as people and scripts read it.
pub(crate) fn problem(status: StatusCode, code: &str, what: &str, advice: &str) -> Response {
    let body = Problem { code: code.to_string(), what: what.to_string(), advice: advice.to_string() };
    (status, Json(body)).into_response()
}
