//! Faults on request: the token, the configuration's leave, and then the
//! guard's, which makes them.

use api::verbs::{Done, Fault, FaultBody};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use postgres::guard::protocol::Fault as GuardFault;

use super::verbs::{Answer, authorise};
use super::{Desk, problem};

pub(super) async fn fault(State(desk): State<Desk>, headers: HeaderMap, bytes: Bytes) -> Answer {
    authorise(&desk, &headers)?;
    if !desk.config.allow_drills {
        let what = format!("{} does not allow drills: nothing was touched", desk.config.name);
        let advice = "Set allow_drills = true in its configuration and restart 'tanist run'";
        return Err(problem(StatusCode::FORBIDDEN, "TAN0503", &what, advice));
    }
    let asked: FaultBody = serde_json::from_slice(&bytes).map_err(|e| {
        let what = format!("the request can't be read: {e}");
        let advice = "Say {\"fault\": \"freeze-agent\", \"ms\": 500}, or another of the faults named";
        problem(StatusCode::BAD_REQUEST, "TAN0616", &what, advice)
    })?;
    let done = desk.guard.fault(by_the_guard(asked.fault), asked.ms).await;
    done.map_err(|why| {
        problem(
            StatusCode::CONFLICT,
            why.code(),
            &why.to_string(),
            "Nothing was touched; see the guard's log",
        )
    })?;
    let term = desk.shared.picture().state.ctl.term.0;
    let said = format!("{:?} begins on {}", asked.fault, desk.config.name);
    Ok(Json(Done { said, term, dry_run: false }).into_response())
}

fn by_the_guard(fault: Fault) -> GuardFault {
    match fault {
        Fault::FreezeAgent => GuardFault::FreezeAgent,
        Fault::KillAgent => GuardFault::KillAgent,
        Fault::FreezePostmaster => GuardFault::FreezePostmaster,
        Fault::KillPostmaster => GuardFault::KillPostmaster,
        Fault::KillNode => GuardFault::KillNode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way back: a fault that only the guard knew would stop the compiler here, as one
    /// that only the API knew does above.
    fn by_the_api(fault: GuardFault) -> Fault {
        match fault {
            GuardFault::FreezeAgent => Fault::FreezeAgent,
            GuardFault::KillAgent => Fault::KillAgent,
            GuardFault::FreezePostmaster => Fault::FreezePostmaster,
            GuardFault::KillPostmaster => Fault::KillPostmaster,
            GuardFault::KillNode => Fault::KillNode,
        }
    }

    #[test]
    fn api_and_guard_know_the_same_faults_by_the_same_names() {
        for name in ["freeze-agent", "kill-agent", "freeze-postmaster", "kill-postmaster", "kill-node"] {
            let quoted = format!("\"{name}\"");
            let asked: Fault = serde_json::from_str(&quoted).expect("the API knows it");
            let made: GuardFault = serde_json::from_str(&quoted).expect("the guard knows it");
            assert_eq!((by_the_guard(asked), by_the_api(made)), (made, asked), "{name}");
        }
    }
}
