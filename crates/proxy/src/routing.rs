//! Where the servers are now, as one reactor sees it.

use std::rc::Rc;

use api::routes::{Opening, Role};

use crate::merge::Merged;

/// What clients of a listener want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// To write: the leader, and nobody else.
    Primary,
    /// To read: a replica, and the leader only while no replica will do.
    Replica,
}

/// Where the servers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The highest term heard of; 0 for servers that no cluster manages.
    pub term: u64,
    /// Who takes writes, `host:port`.
    pub primary: Option<Rc<str>>,
    /// New transactions wait: the leader is about to hand over.
    pub holding: bool,
    /// Who may be read from, best first.
    pub replicas: Vec<Rc<str>>,
    /// For the fate of a COMMIT.
    pub openings: Vec<Opening>,
}

impl Routing {
    /// What the agents say, for readers that take no more than so much lag.
    #[must_use]
    pub fn of(merged: &Merged, lag_ms_max: u64) -> Routing {
        let reads = |m: &&api::routes::RouteMember| {
            let fresh = m.replay_lag_ms.is_some_and(|lag| lag <= lag_ms_max);
            m.role == Role::Standby
                && m.streaming
                && fresh
                && !m.maintenance
                && !m.unreachable
                && !m.postgres.is_empty()
        };
        Routing {
            term: merged.term,
            primary: merged.leader.as_ref().map(|l| l.postgres.as_str().into()),
            holding: merged.handing_over,
            replicas: merged.members.iter().filter(reads).map(|m| m.postgres.as_str().into()).collect(),
            openings: merged.openings.clone(),
        }
    }

    /// Whether a server at `address` may get new work of this kind.
    #[must_use]
    pub fn admits(&self, target: Target, address: &Rc<str>) -> bool {
        match target {
            Target::Primary => self.primary.as_ref() == Some(address),
            Target::Replica if self.replicas.is_empty() => self.primary.as_ref() == Some(address),
            Target::Replica => self.replicas.contains(address),
        }
    }

    /// The servers that may get new work of this kind.
    #[must_use]
    pub fn candidates(&self, target: Target) -> &[Rc<str>] {
        match (target, &self.primary) {
            (Target::Replica, _) if !self.replicas.is_empty() => &self.replicas,
            (_, Some(primary)) => std::slice::from_ref(primary),
            (_, None) => &[],
        }
    }

    /// Whether new transactions of this kind wait now.
    #[must_use]
    pub fn holds(&self, target: Target) -> bool {
        self.candidates(target).is_empty() || target == Target::Primary && self.holding
    }
}
