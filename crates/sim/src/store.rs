//! The store: one truth, reached through a majority of those who have a seat.
//!
//! How a group of machines keeps one truth is Raft's story, told and tested
//! elsewhere. Here it is what agents see of it: commands that take a while, are
//! lost on the way or answered by silence though they were agreed, news that
//! comes late, and nothing at all while a new leader of the group is chosen.

use std::sync::Arc;

use cluster::command::{Change, Command};
use cluster::{ClusterState, NodeId, Refused};
use failover::Event;

use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::network::At;
use crate::point::Point;
use crate::world::{What, World};

/// `agent::run::SUBMIT_LIMIT`.
const SUBMIT_LIMIT: Us = ms(2000);
/// `store::READ_LIMIT`: an answer that takes longer is none.
const READ_LIMIT: Us = ms(1000);
/// A leader of the group that is gone is missed for up to so long.
const GROUP_ELECTION: (Us, Us) = (ms(400), ms(1100));

/// How the truth is reached.
#[derive(Debug, Default)]
pub struct Store {
    known: Vec<Arc<ClusterState>>,
    before: Vec<Arc<ClusterState>>,
    /// Until when the group has no leader.
    pub leaderless_until: Us,
    /// Who leads the group.
    pub leader: At,
    /// Answers that are lost, per mille.
    pub lost_replies: u64,
    /// News that comes up to a second late, per mille.
    pub late_news: u64,
    /// Processes that act late on SIGHUP, per mille.
    pub slow_reload: u64,
    /// The group that ships, where the story has it.
    pub group: Option<crate::raft::Group>,
}

impl Store {
    /// What a node has on its own disk.
    #[must_use]
    pub fn known(&self, at: At) -> Arc<ClusterState> {
        self.known.get(at).cloned().unwrap_or_default()
    }

    /// Sets what a node has on its own disk.
    pub fn remember(&mut self, at: At, state: Arc<ClusterState>) {
        if self.known.len() <= at {
            self.known.resize(at + 1, Arc::default());
        }
        self.before.resize(self.known.len(), Arc::default());
        self.before[at] = std::mem::replace(&mut self.known[at], state);
    }

    /// What a process that has just started knows: a member of a group does not know
    /// of its last entries whether they are agreed until it hears from the others.
    pub(crate) fn known_at_start(&self, at: At, sure: bool) -> Arc<ClusterState> {
        let before = self.before.get(at).filter(|s| s.exists() && !sure);
        before.cloned().unwrap_or_else(|| self.known(at))
    }
}

impl World {
    /// Whether `at` reaches a majority of the store's voters.
    #[must_use]
    pub fn reaches_store(&self, at: At) -> bool {
        let mut seats = 0;
        let mut reached = 0;
        for (name, _) in self.truth.members.iter().filter(|(_, m)| m.has_seat()) {
            seats += 1;
            if let Some(v) = self.places.get(name).copied() {
                let host = &self.hosts[v];
                let awake = v == at || (host.up && !host.paused && host.agent.runs && !host.agent.stopped);
                reached += usize::from(awake && self.network.both(at, v));
            }
        }
        (seats == 0 || reached * 2 > seats) && self.hosts[at].up && !self.hosts[at].paused
    }

    /// The group's leader went away: another is chosen.
    fn elect_group(&mut self, at: At) {
        let leader = &self.hosts[self.store.leader];
        if leader.is_awake() && self.network.both(at, self.store.leader) {
            return;
        }
        self.store.leader = at;
        let pause = self.span(GROUP_ELECTION.0, GROUP_ELECTION.1);
        self.store.leaderless_until =
            self.store.leaderless_until.max(self.now + if self.chancy { pause } else { ms(5) });
    }

    /// Sends a command to the store.
    pub(crate) fn submit(&mut self, at: At, change: Change) {
        self.note(Some(at), || format!("asks {change:?}"));
        if matches!(change, Change::BeginTerm { .. }) {
            let host = &mut self.hosts[at];
            let now = host.clock.local(self.now);
            let since = host.agent.controller.view(now, 0).watch.missing_since;
            host.ghost.asked.extend(since.map(|since| (since, now)));
            // One may still be on its way when the next is sent.
            let old = host.ghost.asked.len().saturating_sub(4);
            host.ghost.asked.drain(..old);
        }
        if matches!(change, Change::RuleBegin { .. }) {
            self.hosts[at].ghost.rule_asked = self.now;
        }
        let life = self.hosts[at].agent.life;
        if self.store.group.is_some() {
            return self.after(0, What::RaftSubmit(at, life, Box::new(change)));
        }
        if !self.reaches_store(at) {
            let answer = Event::Submitted(Err("the store did not answer in time".into()));
            let wait = self.span(ms(100), SUBMIT_LIMIT);
            return self.after(wait, What::Tell(at, life, Box::new(answer)));
        }
        self.elect_group(at);
        let way = self.span(ms(2), ms(12));
        let when = self.now.max(self.store.leaderless_until) + way;
        if when > self.now + SUBMIT_LIMIT {
            let answer = Event::Submitted(Err("the store did not answer in time".into()));
            return self.after(SUBMIT_LIMIT, What::Tell(at, life, Box::new(answer)));
        }
        self.at(when, What::Commit(at, life, Box::new(change)));
    }

    /// The group agrees to a command, if it still can.
    pub(crate) fn commit(&mut self, at: At, life: u32, change: Change) {
        let lost = Event::Submitted(Err("the store did not answer in time".into()));
        if !self.hosts[at].up || !self.reaches_store(at) || self.store.group.is_some() {
            return self.after(ms(1500), What::Tell(at, life, Box::new(lost)));
        }
        let by = self.hosts[at].name.clone();
        let answer = self.ask(&by, change).map_err(|r| r.to_string());
        let silent = self.store.lost_replies > 0 && self.rng.chance(self.store.lost_replies);
        let (delay, event) = match silent {
            true => (SUBMIT_LIMIT, lost),
            false => (self.span(ms(1), ms(6)), Event::Submitted(answer)),
        };
        self.after(delay, What::Tell(at, life, Box::new(event)));
    }

    /// Asks the store, as an operator would through `by`.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask(&mut self, by: &NodeId, change: Change) -> Result<(), Refused> {
        let at = self.places.get(by).copied();
        let wall = at.map_or(self.now / 1000, |at| self.hosts[at].clock.wall_ms(self.now));
        let command = Command { at_ms: wall, by: by.clone(), change };
        if self.store.group.is_none() {
            return self.agree(&command);
        }
        // What would be refused now is refused now; the rest goes through the log.
        if let Err(refused) = self.truth.apply(&command) {
            let kind = kind_of(&command.change);
            self.mark(&format!("apply: {kind} refused: {}", crate::cover::branch(&refused)));
            return Err(refused);
        }
        self.raft_ask(&command);
        Ok(())
    }

    /// A command has its place in the log: it is taken or refused.
    pub(crate) fn agree(&mut self, command: &Command) -> Result<(), Refused> {
        let at = self.places.get(&command.by).copied();
        let kind = kind_of(&command.change);
        let next = match self.truth.apply(command) {
            Ok(next) => next,
            Err(refused) => {
                self.note(at, || format!("refused: {refused}"));
                self.mark(&format!("apply: {kind} refused: {}", crate::cover::branch(&refused)));
                return Err(refused);
            }
        };
        self.mark(&format!("apply: {kind} accepted"));
        self.note(at, || {
            next.history.back().map_or(String::new(), |e| format!("agreed: term {} {}", e.term, e.reason))
        });
        let old = std::mem::replace(&mut self.truth, Arc::new(next));
        self.agreed(&old, command);
        self.reach(Point { what: kind, step: 0 }, at.unwrap_or(0));
        Ok(())
    }

    fn agreed(&mut self, old: &Arc<ClusterState>, command: &Command) {
        self.counts.terms += self.truth.ctl.term.0.saturating_sub(old.ctl.term.0).min(1);
        self.counts.changes += u64::from(matches!(command.change, Change::RuleBegin { .. }));
        self.judge(&Moment::Agreed { old: old.clone(), command: command.clone() });
        if self.store.group.is_some() {
            return;
        }
        for at in 0..self.hosts.len() {
            let late = self.store.late_news > 0 && self.rng.chance(self.store.late_news);
            let delay = if late { self.rng.below(ms(1000)) } else { self.span(ms(1), ms(8)) };
            self.after(delay, What::Learn(at));
        }
    }

    /// News of the store reaches a node, if anything does.
    pub(crate) fn learn(&mut self, at: At) {
        let host = &self.hosts[at];
        if self.store.group.is_some()
            || !host.up
            || host.agent.revision >= self.truth.revision
            || !host.agent.runs
        {
            return;
        }
        if !host.is_awake() || !self.reaches_store(at) {
            return self.after(ms(200), What::Learn(at));
        }
        let truth = self.truth.clone();
        self.hosts[at].agent.revision = truth.revision;
        self.store.remember(at, truth.clone());
        self.adopt_seat(at, &truth);
        let life = self.hosts[at].agent.life;
        self.tell(at, life, Event::State(truth));
    }

    /// A linearizable read begins.
    pub(crate) fn begin_read(&mut self, at: At) {
        let life = self.hosts[at].agent.life;
        if self.store.group.is_some() {
            return self.after(0, What::RaftRead(at, life));
        }
        // It may be what was agreed when it began: the answer takes its time.
        let term = self.truth.ctl.term;
        let late = self.store.late_news > 0 && self.rng.chance(self.store.late_news);
        let way = if late { self.rng.below(READ_LIMIT) } else { self.span(ms(1), ms(12)) };
        let began = if self.reaches_store(at) { self.now.max(1) } else { 0 };
        if began > 0 {
            self.elect_group(at);
        }
        let when = self.now.max(self.store.leaderless_until) + way;
        self.at(if began == 0 { when + ms(400) } else { when }, What::Read(at, life, began, term));
    }
}

/// The kind of a command, as points and marks call it.
#[must_use]
pub fn kind_of(change: &Change) -> &'static str {
    match change {
        Change::Claim { .. } => "claim",
        Change::BeginTerm { .. } => "begin-term",
        Change::Elect(_) => "elect",
        Change::BeginAndElect(_) => "begin-and-elect",
        Change::Opened { .. } => "opened",
        Change::RuleBegin { .. } => "rule-begin",
        Change::RuleEnd { .. } => "rule-end",
        Change::AddMember { .. } => "add-member",
        Change::RemoveMember { .. } => "remove-member",
        Change::Join { .. } => "join",
        Change::Reincarnate { .. } => "reincarnate",
        Change::SetMemberState { .. } => "member-state",
        Change::Reinit { .. } => "reinit",
        Change::Switchover { .. } => "switchover",
        Change::Aim { .. } => "aim",
        Change::CancelSwitchover { .. } => "cancel-switchover",
        Change::Pause => "pause",
        Change::Resume => "resume",
        Change::SetSettings(_) => "settings",
    }
}
