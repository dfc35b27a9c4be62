//! All that a decision may look at.

use alloc::collections::BTreeMap;
use core::time::Duration;

use cluster::command::Member;
use cluster::report::{Leading, Report, ServerReport, ServerState};
use cluster::state::Phase;
use cluster::{Action, ClusterState, Lineage, MemberId, NodeId, Term, Time, Timing};

use crate::facts::Facts;
use crate::suspicion::Watch;

/// The newest report of a peer, and when it came in.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When it came in, by our clock.
    pub at: Time,
    /// What it said.
    pub report: Report,
}

/// A moment in the life of a cluster, as one agent sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Now, by our own clock.
    pub now: Time,
    /// Now, Unix milliseconds; only for schedules and history.
    pub wall_ms: u64,
    /// What is agreed, as far as we know.
    pub state: &'a ClusterState,
    /// What we know of ourselves.
    pub me: &'a Facts,
    /// What the others last said.
    pub peers: &'a BTreeMap<NodeId, Heard>,
    /// How long things have lasted.
    pub watch: &'a Watch,
    /// The deed under way.
    pub running: Option<&'a Action>,
}

impl<'a> View<'a> {
    /// Our current incarnation, as agreed.
    #[must_use]
    pub fn my_id(&self) -> Option<MemberId> {
        self.state.member_id(&self.me.node).filter(|id| id.incarnation > 0)
    }

    /// Our member record.
    #[must_use]
    pub fn my_member(&self) -> Option<&'a Member> {
        self.state.members.get(&self.me.node)
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.state.ctl.term
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.ctl.phase
    }

    /// Patience and deadlines.
    #[must_use]
    pub fn timing(&self) -> &'a Timing {
        &self.state.settings.timing
    }

    /// S: how long a leader may be silent.
    #[must_use]
    pub fn suspicion(&self) -> Duration {
        Duration::from_millis(self.timing().suspicion_ms)
    }

    /// P: how long, while its PostgreSQL lives.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.timing().patience_ms)
    }

    /// How long a term may stay unopened (C-14).
    #[must_use]
    pub fn term_limit(&self) -> Duration {
        Duration::from_millis(self.timing().term_limit_ms)
    }

    /// How long a standby of the rule may be silent.
    #[must_use]
    pub fn shrink(&self) -> Duration {
        Duration::from_millis(self.timing().shrink_ms)
    }

    /// Whether we were elected in the current term.
    #[must_use]
    pub fn i_lead(&self) -> bool {
        let leader = self.state.ctl.leader.as_ref();
        self.phase() != Phase::Revoking && leader.is_some() && leader == self.my_id().as_ref()
    }

    /// The leader elected in the current term, unless it is us.
    #[must_use]
    pub fn other_leader(&self) -> Option<&'a MemberId> {
        let leader = self.state.ctl.leader.as_ref().filter(|_| self.phase() != Phase::Revoking);
        leader.filter(|l| l.node != self.me.node)
    }

    /// Our server; callers come after the rule that waits for the first probe.
    #[must_use]
    pub fn server(&self) -> Option<&'a ServerReport> {
        self.me.server.as_ref()
    }

    /// What our server is doing; `Down` before the first probe.
    #[must_use]
    pub fn server_state(&self) -> ServerState {
        self.server().map_or(ServerState::Down, |s| s.state)
    }

    /// The report of exactly this life of a node, if it is not older than `max_age_ms`.
    #[must_use]
    pub fn fresh(&self, member: &MemberId, max_age_ms: u64) -> Option<&'a Report> {
        let heard = self.peers.get(&member.node)?;
        let young = self.now.since(heard.at).as_millis() <= u128::from(max_age_ms);
        (young && heard.report.member == *member).then_some(&heard.report)
    }

    /// Whether the leader last elected, ourselves or another, has resigned this term.
    #[must_use]
    pub fn leader_resigned(&self) -> bool {
        let Some(leader) = self.state.ctl.leader.as_ref() else { return false };
        let said = self.peers.get(&leader.node).map(|h| &h.report).filter(|r| r.member == *leader);
        let own = (leader.node == self.me.node).then_some(&self.me.vows);
        own.or(said.map(|r| &r.vows)).is_some_and(|v| v.resigned >= self.term())
    }

    /// The leader's report, if it is recent and about this term.
    #[must_use]
    pub fn leader_report(&self) -> Option<&'a Report> {
        let leader = self.other_leader()?;
        self.fresh(leader, self.timing().patience_ms)
    }

    /// What the leader says of its leading.
    #[must_use]
    pub fn leader_leading(&self) -> Option<&'a Leading> {
        self.leader_report()?.leading.as_ref()
    }

    /// Whether the leader says that its server is a primary.
    #[must_use]
    pub fn leader_is_up(&self) -> bool {
        let server = self.leader_report().and_then(|r| r.server.as_ref());
        server.is_some_and(|s| s.state == ServerState::Primary)
    }

    /// Milliseconds since `node` was heard; `None` if never.
    #[must_use]
    pub fn silent_ms(&self, node: &NodeId) -> Option<u64> {
        let heard = self.peers.get(node)?;
        Some(u64::try_from(self.now.since(heard.at).as_millis()).unwrap_or(u64::MAX))
    }

    /// The history of the elected leader: its own word once it has opened the
    /// reserved timeline, else what it must become from its election.
    #[must_use]
    pub fn leader_lineage(&self) -> Option<Lineage> {
        let election = self.state.election()?;
        let said = &self.leader_report()?.server.as_ref()?.lineage;
        if said.timeline == election.tli {
            return Some(said.clone());
        }
        if said.timeline != election.parent_tli {
            return None;
        }
        let mut lineage = said.clone();
        let end = election.base.lsn;
        lineage.ancestors.push(cluster::lineage::Branch { timeline: election.parent_tli, end });
        lineage.timeline = election.tli;
        Some(lineage)
    }

    /// Members that could ever be elected, our own node included.
    pub fn data_voters(&self) -> impl Iterator<Item = (MemberId, &'a Member)> {
        let state = self.state;
        state
            .members
            .iter()
            .filter(|(_, m)| m.is_data_voter())
            .map(|(n, m)| (MemberId::new(n.clone(), m.incarnation), m))
    }

    /// Members whom a commit may wait for, our own node included.
    pub fn wal_voters(&self) -> impl Iterator<Item = (MemberId, &'a Member)> {
        let all = self.state.members.iter().filter(|(_, m)| m.is_wal_voter());
        all.map(|(n, m)| (MemberId::new(n.clone(), m.incarnation), m))
    }

    /// Our turn when several agents could do the same: milliseconds to hold
    /// back, 0 for the first. Duels are harmless but slow.
    #[must_use]
    pub fn turn_ms(&self, step_ms: u64) -> u64 {
        let key = |n: &NodeId| {
            let m = self.state.members.get(n);
            let unfit = m.is_none_or(|m| !m.is_data_voter() || m.tags.no_failover);
            (unfit, core::cmp::Reverse(m.map_or(0, |m| m.tags.priority)), n.clone())
        };
        let mine = key(&self.me.node);
        let leader = self.state.ctl.leader.as_ref().map(|l| &l.node);
        let others = self.state.members.iter().filter(|(n, m)| m.has_seat() && Some(*n) != leader);
        let before = others.filter(|(n, _)| key(n) < mine).count();
        step_ms.saturating_mul(before as u64)
    }
}
