//! The one judge of change: `ClusterState::apply`.
//!
//! It runs on every voter for every committed entry (or before the
//! compare-and-swap of a store that has one), so it is a pure function of the
//! state and the command, refuses instead of panicking, and changes nothing
//! when it refuses.

mod election;
mod members;
mod operator;
mod rules;
mod trigger;

use crate::command::{Change, Command};
use crate::reason::Reason;
use crate::refused::Refused;
use crate::state::{ClusterState, Event, HISTORY_MAX};

impl ClusterState {
    /// The state after `command`.
    ///
    /// # Errors
    /// Why it is refused; the state is then unchanged.
    pub fn apply(&self, command: &Command) -> Result<ClusterState, Refused> {
        let mut next = self.clone();
        let claims = matches!(command.change, Change::Claim { .. });
        if !claims && !self.exists() {
            return Err(Refused::NoCluster);
        }
        next.revision = self.revision.saturating_add(1);
        next.change(command)?;
        Ok(next)
    }

    fn change(&mut self, c: &Command) -> Result<(), Refused> {
        match &c.change {
            Change::Claim { cluster, settings, members } => {
                members::claim(self, c, cluster, settings, members)
            }
            Change::BeginTerm { term, trigger } => election::begin(self, c, *term, trigger),
            Change::Elect(ballot) => election::elect(self, c, ballot, false),
            Change::BeginAndElect(ballot) => election::begin_and_elect(self, c, ballot),
            Change::Opened { .. } => election::opened(self, c),
            Change::RuleBegin { term, from_sub, rule, agreed_by } => {
                rules::begin(self, c, *term, *from_sub, rule, agreed_by)
            }
            Change::RuleEnd { term, keep, drop, lsn } => rules::end(self, c, *term, *keep, *drop, *lsn),
            Change::AddMember { node, registration } => members::add(self, c, node, registration),
            Change::RemoveMember { node } => members::remove(self, c, node),
            Change::Join { node, addresses, nonce } => members::join(self, c, node, addresses, *nonce),
            Change::Reincarnate { member } => members::reincarnate(self, c, member),
            Change::SetMemberState { member, state, attached } => {
                members::set_state(self, c, member, state, *attached)
            }
            Change::Reinit { node } => members::reinit(self, c, node),
            Change::Switchover { to, at_ms } => operator::switchover(self, c, to.as_ref(), *at_ms),
            Change::Aim { to } => operator::aim(self, c, to),
            Change::CancelSwitchover { why } => operator::cancel(self, c, why),
            Change::Pause => operator::pause(self, c, true),
            Change::Resume => operator::pause(self, c, false),
            Change::SetSettings(settings) => operator::settings(self, c, settings),
        }
    }

    /// Writes one line of history.
    fn note(&mut self, c: &Command, reason: Reason) {
        while self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        let (revision, term, by) = (self.revision, self.ctl.term, c.by.clone());
        self.history.push_back(Event { at_ms: c.at_ms, revision, term, by, reason });
    }
}
