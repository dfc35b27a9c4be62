//! What others say, as it comes in: kept, and a read granted to a leader that asks for it.

use cluster::Time;
use cluster::report::Report;

use crate::controller::Controller;
use crate::lease;
use crate::view::Heard;

impl Controller {
    /// Takes in a report, unless a newer one of the same agent was heard.
    pub(crate) fn hear(&mut self, now: Time, report: Report) {
        let node = report.member.node.clone();
        let stale = |old: &Heard| old.report.boot == report.boot && old.report.seq >= report.seq;
        if self.peers.get(&node).is_some_and(stale) {
            return;
        }
        if self.state.ctl.leader.as_ref() == Some(&report.member) {
            let suspicion_ms = self.state.settings.timing.suspicion_ms;
            let up_ms = self.up_ms(now);
            self.watch.on_leader_report(&report, &self.facts.node, suspicion_ms, up_ms, now);
        }
        let missed = |r: &Report| r.misses.is_some();
        self.asked |= missed(&report) && !self.peers.get(&node).is_some_and(|old| missed(&old.report));
        // Kept before it is said.
        if let Some((grant, until)) = lease::grant(&self.view(now, 0), self.facts.granted, &report) {
            self.facts.granted = Some(grant);
            self.watch.ends.granted = self.watch.ends.granted.max(until);
        }
        self.peers.insert(node, Heard { at: now, report });
    }
}
