//! The lease that this proxy holds, for all of its threads (docs/protocol.md, C-19).
//!
//! Asked for while some database is to be read from strictly, and by nobody else.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use peers::clock;
use route::lease::{Given, Holder, Lease};
use tokio::sync::watch;

/// What was asked for and given.
#[derive(Debug)]
pub struct Leases {
    holder: Mutex<Holder>,
    held: watch::Sender<Lease>,
    wanted: watch::Sender<bool>,
}

impl Default for Leases {
    fn default() -> Leases {
        let (held, wanted) = (watch::Sender::new(Lease::default()), watch::Sender::new(false));
        Leases { holder: Mutex::default(), held, wanted }
    }
}

impl Leases {
    /// Has the leader's agent asked from now on, or not any more.
    pub fn want(&self, wanted: bool) {
        self.wanted.send_if_modified(|was| std::mem::replace(was, wanted) != wanted);
    }

    pub(crate) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// What is held, and each that follows.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Lease> {
        self.held.subscribe()
    }

    /// A question, to be sent now.
    pub(crate) fn ask(&self) -> Bytes {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::from(holder.ask(clock::now()).to_bytes())
    }

    /// An answer.
    pub(crate) fn given(&self, body: &[u8]) {
        let Some(given) = Given::from_bytes(body) else { return };
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.given(given);
        let lease = holder.lease();
        self.held.send_if_modified(|held| std::mem::replace(held, lease) != lease);
    }
}
