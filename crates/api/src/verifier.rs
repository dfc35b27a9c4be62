//! What a proxy asks an agent of a user that wants to come in, and the answer.
//!
//! The question is the user's name as it is. A verifier is no password: who has
//! it can't log in with it, but can try passwords against it.

use serde::{Deserialize, Serialize};

/// What an agent knows of a user. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// There is no server here that could be asked now: ask another agent.
    NotNow,
    /// Nobody of that name may log in with a SCRAM verifier.
    Nobody,
    /// `pg_authid.rolpassword`.
    Scram(String),
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Known::NotNow => "NotNow",
            Known::Nobody => "Nobody",
            Known::Scram(_) => "Scram",
        })
    }
}

impl Known {
    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What `to_bytes` made; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Known> {
        postcard::from_bytes(bytes).ok()
    }
}
