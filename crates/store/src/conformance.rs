//! What every store must pass. A store that passes may carry a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::command::{Change, Registration};
use cluster::{ClusterState, Command, NodeId, Refused, Settings};

use crate::{Store, SubmitError};

/// Longest that any condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The claim of a cluster by its first node, with these members.
#[must_use]
pub fn claim(names: &[&str]) -> Command {
    let node = |n: &&str| NodeId::new(n).expect("tests name nodes well");
    let members: BTreeMap<NodeId, Registration> =
        names.iter().map(|n| (node(n), Registration::default())).collect();
    let change = Change::Claim { cluster: "conformance".into(), settings: Settings::default(), members };
    Command { at_ms: 0, by: node(&names[0]), change }
}

/// A command by `node`.
#[must_use]
pub fn by(node: &str, change: Change) -> Command {
    Command { at_ms: 0, by: NodeId::new(node).expect("tests name nodes well"), change }
}

/// Submits until its fate is known.
///
/// # Errors
/// The refusal.
pub async fn settle(store: &Store, command: &Command) -> Result<Arc<ClusterState>, Refused> {
    loop {
        match store.submit(command.clone()).await {
            Ok(state) => return Ok(state),
            Err(SubmitError::Refused(why)) => return Err(why),
            Err(SubmitError::Unknown | SubmitError::Down) => {}
        }
    }
}

/// Waits until `store` knows a state for which `holds`.
pub async fn until(store: &Store, what: &str, holds: impl Fn(&ClusterState) -> bool) {
    let mut watch = store.watch();
    let seen = tokio::time::timeout(PATIENCE, watch.wait_for(|s| holds(s))).await;
    assert!(matches!(seen, Ok(Ok(_))), "waited in vain for {what}");
}

/// Accepted commands change the state everywhere, refused ones nowhere, and a
/// read sees every command that was accepted before it began.
pub async fn agrees(stores: &[Store]) {
    let first = &stores[0];
    let state = settle(first, &claim(&["n1", "n2", "n3"])).await.expect("an empty store takes a claim");
    assert_eq!(state.cluster, "conformance");
    let again = settle(first, &claim(&["n1"])).await;
    assert_eq!(again, Err(Refused::ClusterExists("conformance".into())));
    for store in stores {
        let read = store.read().await.expect("a healthy store can be read");
        assert!(read.revision >= state.revision, "a read is no older than its asking");
        until(store, "the claim", |s| s.exists()).await;
    }
}

/// Commands submitted at once are applied in one order: exactly one wins.
pub async fn serialises(stores: &[Store]) {
    let pause = by("n1", Change::Pause);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        for store in stores {
            let (store, pause) = (store.clone(), pause.clone());
            tasks.push(tokio::spawn(async move { settle(&store, &pause).await.is_ok() }));
        }
    }
    let mut accepted = 0;
    for task in tasks {
        accepted += usize::from(task.await.expect("submitting does not panic"));
    }
    assert_eq!(accepted, 1, "one pause is accepted, the others find it done");
    settle(&stores[0], &by("n1", Change::Resume)).await.expect("what was paused can be resumed");
}
