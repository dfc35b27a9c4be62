//! The store in the agents themselves: a Raft group over their own connections.
//!
//! One thread owns the group's member and its file: it takes in messages, ticks
//! and questions, writes, and only then speaks. A disk that fails or is full
//! makes it fall silent until it can write again; it never speaks unwritten.

mod member;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::{ClusterState, NodeId};
use consensus::{Log, Machine, Snapshot, Tuning, Voters};
use tokio::sync::{mpsc, watch};

use crate::disk::{Disk, DiskError, Identity};
use crate::{Health, Store};

pub use member::Wire;

/// Between two ticks of the group.
pub const TICK: Duration = Duration::from_millis(100);
/// Entries after which the log is folded into a snapshot.
pub const FOLD_ENTRIES: usize = 1000;

/// How a node comes into its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It was in it before: everything is on disk.
    Again,
    /// It makes the group, alone at first.
    Bootstrap,
    /// It was given this number, and listens until it has caught up.
    Join(u64),
}

/// A message to another node's store.
#[derive(Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// Opaque to everybody between.
    pub body: Bytes,
}

/// Whether this directory has been in a group before.
#[must_use]
pub fn exists(dir: &Path) -> bool {
    Disk::exists(dir) && Disk::open(dir).and_then(|d| d.identity()).is_ok_and(|i| i.is_some())
}

/// Opens the store of `cluster` in `dir`. Messages of other nodes' stores go
/// into `wire`, ours come out of `out`.
///
/// # Errors
/// `Unusable` or `OtherCluster`; nothing is changed then.
pub fn open(
    dir: &Path,
    cluster: &str,
    start: &Start,
    out: mpsc::UnboundedSender<Outgoing>,
) -> Result<(Store, Wire), DiskError> {
    let disk = Disk::open(dir)?;
    let identity = match (disk.identity()?, start) {
        (Some(identity), _) => identity,
        (None, Start::Join(raft_id)) => begin(&disk, cluster, *raft_id, None)?,
        (None, Start::Bootstrap | Start::Again) => begin(&disk, cluster, 1, Some(first_snapshot()))?,
    };
    disk.check(&identity, cluster)?;
    let log = disk.load()?;
    let state = restore(&log);
    let machine = Machine::new(identity.raft_id, log, Tuning::default());
    let machine = machine.map_err(|e| DiskError::Unusable { path: dir.to_owned(), why: e.0 })?;
    let (asks, asks_rx) = mpsc::unbounded_channel();
    let (state_tx, state_rx) = watch::channel(state);
    let (health_tx, health) = watch::channel(Health { id: identity.raft_id, ..Health::default() });
    let wire = member::spawn(member::Parts {
        identity,
        machine,
        disk,
        asks: asks_rx,
        state: state_tx,
        health: health_tx,
        out,
    });
    Ok((Store { asks, state: state_rx, health }, wire))
}

fn begin(disk: &Disk, cluster: &str, raft_id: u64, first: Option<Snapshot>) -> Result<Identity, DiskError> {
    let identity = Identity { cluster: cluster.to_string(), raft_id };
    disk.begin(&identity, first.as_ref())?;
    Ok(identity)
}

/// A group begins with a snapshot of nothing that names its one voter, so that
/// whoever joins learns of that voter before any change of voters.
fn first_snapshot() -> Snapshot {
    Snapshot { data: Vec::new(), index: 1, term: 1, voters: Voters { voters: vec![1], learners: Vec::new() } }
}

/// The state as of the snapshot; entries after it are applied again.
fn restore(log: &Log) -> Arc<ClusterState> {
    Arc::new(postcard::from_bytes(&log.snapshot.data).unwrap_or_default())
}
