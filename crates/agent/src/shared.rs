//! What the agent's loop lets others read: the HTTP API above all.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cluster::report::Report;
use cluster::{ClusterState, NodeId};
use failover::Controller;

use crate::clock;

/// A picture of the agent's knowledge, replaced whole on every turn.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What is agreed.
    pub state: Arc<ClusterState>,
    /// What everybody last said, ourselves included, and how many milliseconds ago.
    pub reports: BTreeMap<NodeId, (Report, u64)>,
    /// What we are waiting for, in words.
    pub waiting: Option<String>,
    /// Whether our leadership, if we lead, is valid now.
    pub grants: bool,
    /// Until when our server may run, by CLOCK_BOOTTIME: the guard's deadline, and in async
    /// the end of our lease. 0 before the first.
    pub deadline_ms: u64,
    /// When the loop last turned, by CLOCK_BOOTTIME.
    pub turned_ms: u64,
}

/// The newest picture.
#[derive(Debug, Default)]
pub struct Shared {
    picture: RwLock<Arc<Picture>>,
}

impl Shared {
    /// The newest picture.
    #[must_use]
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the picture by what the controller knows.
    pub fn update(&self, controller: &Controller, state: Arc<ClusterState>, own: Option<Report>) {
        let now = clock::now();
        let view = controller.view(now, 0);
        let age = |n: &NodeId| view.silent_ms(n).unwrap_or(u64::MAX);
        let mut reports: BTreeMap<NodeId, (Report, u64)> =
            view.peers.iter().map(|(n, h)| (n.clone(), (h.report.clone(), age(n)))).collect();
        if let Some(own) = own {
            reports.insert(own.member.node.clone(), (own, 0));
        }
        let deadline_ms = controller.guard_deadline(now).map_or(self.picture().deadline_ms, clock::boot_ms);
        let leader_only = state.rules.iter().all(|r| r.rule.is_leader_only());
        let picture = Picture {
            grants: leader_only || failover::fencing::has_grants(&view),
            waiting: controller.waiting().map(ToString::to_string),
            deadline_ms,
            turned_ms: clock::boot_ms(now),
            state,
            reports,
        };
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(picture);
    }
}
