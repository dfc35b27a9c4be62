//! Where the cluster state is kept: one state, one judge, several ways to agree.
//!
//! A store gives three things: `submit` (a command is applied in one order
//! everywhere, or refused, or its fate is unknown), `watch` (the newest state
//! this node knows), and `read` (a state no older than the moment of asking).
//! The judge is always `ClusterState::apply`.
//!
//! Never decides anything, and writes nothing while nothing changes.
#![forbid(unsafe_code)]

pub mod conformance;
mod disk;
pub mod embedded;
pub mod memory;

use std::sync::Arc;
use std::time::Duration;

use cluster::{ClusterState, Command, Refused};
use tokio::sync::{mpsc, oneshot, watch};

/// Longest that a submission may wait for a majority before its fate is unknown.
pub const SUBMIT_LIMIT: Duration = Duration::from_millis(1800);
/// Longest that a read may wait for a majority.
pub const READ_LIMIT: Duration = Duration::from_millis(1000);
/// A submission or read that went unanswered is repeated after so long. A
/// command that is applied twice is refused the second time, which harms nobody.
pub const REPEAT: Duration = Duration::from_millis(150);

/// Why a submission did not bring an accepted command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Judged and refused; nothing changed.
    #[error("{code}: {0}", code = .0.code())]
    Refused(Refused),
    /// No answer in time: it may or may not have been applied. Read before acting on either.
    #[error(
        "TAN0201: the store did not answer in time; whether the change was made is not known. Look again with 'tanist status'"
    )]
    Unknown,
    /// The store is not running.
    #[error("TAN0202: the store of this node is not running")]
    Down,
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Our number in the group.
    pub id: u64,
    /// Who leads the group; 0 when nobody is known to.
    pub leader: u64,
    /// Raft's own term.
    pub term: u64,
    /// Who votes.
    pub voters: Vec<u64>,
    /// The last entry applied here.
    pub applied: u64,
    /// How long the last write to disk took, in microseconds.
    pub write_us: u64,
    /// Why nothing can be written, if so.
    pub trouble: Option<String>,
}

pub(crate) enum Ask {
    Submit(Box<Command>, oneshot::Sender<Result<Arc<ClusterState>, SubmitError>>),
    Read(oneshot::Sender<Arc<ClusterState>>),
}

/// A node's handle on the store.
#[derive(Clone)]
pub struct Store {
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
    pub(crate) state: watch::Receiver<Arc<ClusterState>>,
    pub(crate) health: watch::Receiver<Health>,
}

impl Store {
    /// Asks for a change.
    ///
    /// # Errors
    /// `Refused`, `Unknown` or `Down`.
    pub async fn submit(&self, command: Command) -> Result<Arc<ClusterState>, SubmitError> {
        let (tx, rx) = oneshot::channel();
        self.asks.send(Ask::Submit(Box::new(command), tx)).map_err(|_| SubmitError::Down)?;
        match tokio::time::timeout(SUBMIT_LIMIT, rx).await {
            Ok(Ok(answer)) => answer,
            // It was taken on, and given up there: as late as it would have been here, or with the store's end.
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unknown),
        }
    }

    /// The state as agreed at some moment after this call began.
    ///
    /// # Errors
    /// `Unknown` when no majority answered in time, or `Down`.
    pub async fn read(&self) -> Result<Arc<ClusterState>, SubmitError> {
        let (tx, rx) = oneshot::channel();
        self.asks.send(Ask::Read(tx)).map_err(|_| SubmitError::Down)?;
        match tokio::time::timeout(READ_LIMIT, rx).await {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unknown),
        }
    }

    /// The newest state that this node knows, and every newer one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.state.clone()
    }

    /// How the store is, and every change of it.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// How the store is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }
}
