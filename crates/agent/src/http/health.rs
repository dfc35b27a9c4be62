//! Patroni's health endpoints, with its status codes and the fields that
//! people's tools read.

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cluster::command::Kind;
use cluster::report::{Report, ServerState};
use cluster::state::Phase;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;
use crate::clock;
use crate::shared::Picture;

/// An agent whose loop has not turned for longer is not alive.
const LIVE_MS: u64 = 3_000;

pub(super) fn routes(router: Router<Desk>) -> Router<Desk> {
    let mut router =
        router.route("/", get(root)).route("/patroni", get(patroni)).route("/cluster", get(members));
    for path in ["/primary", "/leader", "/read-write", "/master"] {
        router = router.route(path, get(primary));
    }
    router
        .route("/replica", get(replica))
        .route("/read-only", get(read_only))
        .route("/health", get(health))
        .route("/liveness", get(liveness))
        .route("/readiness", get(readiness))
}

/// What one node is, at one moment.
struct Here {
    picture: std::sync::Arc<Picture>,
    report: Option<Report>,
    name: String,
}

impl Here {
    fn of(desk: &Desk) -> Here {
        let picture = desk.shared.picture();
        let report = picture.reports.get(&desk.config.name).map(|(r, _)| r.clone());
        Here {
            picture,
            report: report.map(|r| readable(desk.config.kind, r)),
            name: desk.config.name.to_string(),
        }
    }

    fn server(&self) -> ServerState {
        self.report.as_ref().and_then(|r| r.server.as_ref()).map_or(ServerState::Down, |s| s.state)
    }

    /// Leads, takes writes, and may believe it now.
    fn is_primary(&self) -> bool {
        let state = &self.picture.state;
        let named = state.ctl.leader.as_ref().is_some_and(|l| l.node.as_str() == self.name);
        let writable = self.report.as_ref().and_then(|r| r.leading.as_ref()).is_some_and(|l| l.writable);
        // Past the deadline its server is gone, whether we have seen that yet or not.
        let may_run = clock::boot_ms(clock::now()) < self.picture.deadline_ms;
        let granted = self.picture.grants && may_run && self.is_live();
        named && writable && state.ctl.phase == Phase::Open && granted
    }

    fn is_live(&self) -> bool {
        let now = clock::boot_ms(clock::now());
        now.saturating_sub(self.picture.turned_ms) < LIVE_MS
    }

    /// `None` while it can't be told, which is never near enough.
    fn lag(&self) -> Option<u64> {
        let state = &self.picture.state;
        let leader = state.ctl.leader.as_ref().and_then(|l| self.picture.reports.get(&l.node));
        let end = leader.and_then(|(r, _)| r.leading.as_ref()).map(|l| l.end);
        let replay = self.report.as_ref().and_then(|r| r.server.as_ref()).map(|s| s.replay);
        end.zip(replay).map(|(end, replay)| end.bytes_past(replay))
    }

    fn is_replica(&self) -> bool {
        let streams =
            self.report.as_ref().and_then(|r| r.server.as_ref()).is_some_and(|s| s.streaming.is_some());
        self.server() == ServerState::Standby && streams && self.is_live()
    }

    fn document(&self) -> Value {
        let server = self.report.as_ref().and_then(|r| r.server.clone()).unwrap_or_default();
        let primary = server.state == ServerState::Primary;
        let state = match server.state {
            ServerState::Primary | ServerState::Standby | ServerState::Promoting => "running",
            ServerState::Starting => "starting",
            ServerState::Down | ServerState::Empty => "stopped",
        };
        let xlog = if primary {
            json!({ "location": server.end.0 })
        } else {
            json!({ "received_location": server.end.0, "replayed_location": server.replay.0, "paused": server.replay_paused })
        };
        json!({
            "state": state,
            "role": if primary { "primary" } else { "replica" },
            "server_version": server.version,
            "xlog": xlog,
            "timeline": server.lineage.timeline.0,
            "pause": self.picture.state.ctl.paused,
            "database_system_identifier": server.sysid.to_string(),
            "patroni": { "version": env!("CARGO_PKG_VERSION"), "scope": self.picture.state.cluster, "name": self.name },
        })
    }

    fn answer(&self, well: bool) -> Response {
        let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self.document())).into_response()
    }
}

/// A witness that keeps WAL reports as a standby does, and nobody can read from it.
fn readable(kind: Kind, report: Report) -> Report {
    Report { server: report.server.filter(|_| kind == Kind::Data), ..report }
}

async fn root(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(here.is_primary())
}

async fn patroni(State(desk): State<Desk>) -> Response {
    Here::of(&desk).answer(true)
}

async fn primary(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(here.is_primary())
}

#[derive(Deserialize)]
struct Lag {
    lag: Option<String>,
}

/// `1048576`, `16MB`, `1GB`, as Patroni takes them.
fn bytes(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

async fn replica(State(desk): State<Desk>, Query(q): Query<Lag>) -> Response {
    let here = Here::of(&desk);
    let near =
        q.lag.as_deref().is_none_or(|l| bytes(l).zip(here.lag()).is_some_and(|(most, lag)| lag <= most));
    here.answer(here.is_replica() && near)
}

async fn read_only(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(here.is_replica() || here.is_primary())
}

async fn health(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(matches!(here.server(), ServerState::Primary | ServerState::Standby))
}

async fn liveness(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(here.is_live())
}

async fn readiness(State(desk): State<Desk>) -> Response {
    let here = Here::of(&desk);
    here.answer(here.is_primary() || here.is_replica())
}

async fn members(State(desk): State<Desk>) -> Response {
    let picture = desk.shared.picture();
    let status = api::status(&picture.state, &picture.reports, None);
    let member = |m: &api::status::MemberStatus| {
        let (host, port) = m.postgres.rsplit_once(':').unwrap_or((m.postgres.as_str(), "0"));
        json!({
            "name": m.name, "role": if m.role == "standby" { "replica" } else { m.role.as_str() }, "state": m.state,
            "api_url": format!("http://{}/patroni", m.api), "host": host, "port": port.parse::<u16>().unwrap_or(0),
            "timeline": m.timeline, "lag": m.lag_bytes.map_or(json!("unknown"), |lag| json!(lag)),
        })
    };
    let members: Vec<Value> = status.members.iter().map(member).collect();
    Json(json!({ "members": members, "scope": status.cluster, "pause": status.paused })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::report::ServerReport;
    use cluster::{MemberId, NodeId, Term};

    #[test]
    fn no_client_is_sent_to_a_leader_whose_deadline_has_passed() {
        let now_ms = clock::boot_ms(clock::now());
        let id = MemberId::new(NodeId::new("n1").unwrap(), 1);
        let leading = cluster::report::Leading { writable: true, ..Default::default() };
        let report = Report { leading: Some(leading), ..Report::first(id.clone()) };
        let mut state = cluster::ClusterState::default();
        (state.ctl.phase, state.ctl.leader) = (Phase::Open, Some(id));
        let state = std::sync::Arc::new(state);
        let is_primary = |deadline_ms| {
            let picture = Picture {
                deadline_ms,
                grants: true,
                turned_ms: now_ms,
                state: state.clone(),
                ..Picture::default()
            };
            let (picture, report) = (std::sync::Arc::new(picture), Some(report.clone()));
            Here { picture, report, name: "n1".to_string() }.is_primary()
        };
        assert!(is_primary(now_ms + 60_000));
        assert!(!is_primary(now_ms));
    }

    #[test]
    fn no_client_is_sent_to_a_witness_that_keeps_wal() {
        let server =
            ServerReport { state: ServerState::Standby, streaming: Some(Term(1)), ..ServerReport::default() };
        let report =
            Report { server: Some(server), ..Report::first(MemberId::new(NodeId::new("w").unwrap(), 1)) };
        let turned_ms = clock::boot_ms(clock::now());
        let picture = std::sync::Arc::new(Picture { turned_ms, ..Picture::default() });
        let here = |kind| Here {
            picture: picture.clone(),
            report: Some(readable(kind, report.clone())),
            name: "w".to_string(),
        };
        assert!(here(Kind::Data).is_replica());
        assert!(!here(Kind::WalWitness).is_replica());
        assert_eq!(here(Kind::WalWitness).server(), ServerState::Down);
    }
}
