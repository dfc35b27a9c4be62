//! What the cluster's servers know of their users, asked of the agents.
//!
//! Kept for a short while, so that a password that was changed or withdrawn
//! counts soon, and a storm of logins is one question.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::verifier::Known;
use wire::scram::Verifier;

use crate::secrets::Secret;

/// How long an answer is believed.
pub const KEPT: Duration = Duration::from_secs(5);
/// Users that are kept at a time.
const USERS_MAX: usize = 10_000;

/// Asks and keeps.
#[derive(Clone)]
pub struct Verifiers {
    identity: peers::Identity,
    agents: Vec<String>,
    kept: RefCell<BTreeMap<String, (Instant, Option<Secret>)>>,
}

impl Verifiers {
    /// Asks these agents.
    #[must_use]
    pub fn new(identity: peers::Identity, agents: Vec<String>) -> Verifiers {
        Verifiers { identity, agents, kept: RefCell::default() }
    }

    /// What is known of a user; `None` if there is none who may log in by SCRAM.
    ///
    /// # Errors
    /// When no agent answers.
    pub async fn get(&self, user: &str) -> Result<Option<Secret>, String> {
        if let Some((at, secret)) = self.kept.borrow().get(user)
            && at.elapsed() < KEPT
        {
            return Ok(secret.clone());
        }
        let mut why = "no agent is configured".to_string();
        for agent in &self.agents {
            match ask(&self.identity, agent, user).await {
                Ok(answer) => {
                    let verifier = answer.and_then(|text| Verifier::parse(&text).ok());
                    let secret = verifier.map(Secret::Scram);
                    self.keep(user, secret.clone());
                    return Ok(secret);
                }
                Err(e) => why = e.to_string(),
            }
        }
        Err(why)
    }

    fn keep(&self, user: &str, secret: Option<Secret>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= USERS_MAX {
            kept.clear();
        }
        kept.insert(user.to_string(), (Instant::now(), secret));
    }
}

/// The verifier of a user, as one agent knows it; `None` if there is none.
async fn ask(identity: &peers::Identity, agent: &str, user: &str) -> Result<Option<String>, String> {
    let name = bytes::Bytes::copy_from_slice(user.as_bytes());
    let answer = peers::ask_verifier(identity, agent, name).await.map_err(|e| e.to_string())?;
    match Known::from_bytes(&answer) {
        Some(Known::Scram(text)) => Ok(Some(text)),
        Some(Known::Nobody) => Ok(None),
        Some(Known::NotNow) | None => Err(format!("the agent at {agent} has no server that could be asked")),
    }
}
