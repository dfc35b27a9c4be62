//! What deeds and the HTTP API need to know of the cluster: the newest agreed
//! state and reports, shared and always replaced whole.

use std::sync::{Arc, PoisonError, RwLock};

use cluster::lineage::term_of;
use cluster::{ClusterState, Lsn, MemberId, NodeId, Position};

use postgres::Error as HandsError;
use postgres::perform::{SlotNeed, WalEnd};

/// The newest agreed state, as this agent knows it.
#[derive(Clone, Debug)]
pub struct Source {
    me: NodeId,
    state: Arc<RwLock<Arc<ClusterState>>>,
}

impl Source {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(me: NodeId) -> Source {
        Source { me, state: Arc::default() }
    }

    /// Our name.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me.clone()
    }

    /// Replaces what is known.
    pub fn set(&self, state: Arc<ClusterState>) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The newest agreed state.
    #[must_use]
    pub fn state(&self) -> Arc<ClusterState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster's system identifier; 0 before there is one.
    #[must_use]
    pub fn sysid(&self) -> u64 {
        self.state().sysid
    }

    /// Where the leader's timeline left its parent: what we have beyond it is ours alone.
    #[must_use]
    pub fn switch_lsn(&self) -> cluster::Lsn {
        let state = self.state();
        let opened = state.election().and_then(|e| e.opened.as_ref()).map(|o| o.switch_lsn);
        opened.unwrap_or(cluster::Lsn::ZERO)
    }

    /// C-1: the term of the timeline that owns the last complete record, by
    /// that record's start.
    #[must_use]
    pub fn position_of(&self, end: &WalEnd) -> Option<Position> {
        let owner = end.lineage.owner_of(end.last_start);
        term_of(owner, &self.state().elections).map(|term| Position::new(term, end.end))
    }

    /// The slots that every member has for all others, moved nowhere yet.
    #[must_use]
    pub fn slots(&self) -> SlotNeed {
        let state = self.state();
        let others =
            state.members.iter().filter(|(n, m)| m.kind.keeps_wal() && m.has_seat() && **n != self.me);
        others.map(|(n, m)| (MemberId::new(n.clone(), m.incarnation), Lsn::ZERO)).collect()
    }

    /// Where a member's PostgreSQL listens.
    ///
    /// # Errors
    /// When it is not a member, or has told no address.
    pub fn postgres_address(&self, member: &MemberId) -> Result<String, HandsError> {
        let state = self.state();
        let address = state.member(member).map(|m| m.addresses.postgres.clone());
        address
            .filter(|a| !a.is_empty())
            .ok_or_else(|| HandsError::CalledOff(format!("{member} has told no address")))
    }
}
