//! What an agent says of itself: one report, made from what it knows.

use core::time::Duration;

use cluster::report::{Leading, Report};
use cluster::{Action, MemberId, Time};

use crate::controller::Controller;
use crate::{lease, severed, suspicion};

/// A disk that has kept nothing for so long hangs: a leader can neither acknowledge
/// with it nor resign. What is slow on a busy machine takes less.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

impl Controller {
    /// Our report, as it should be sent now. None before we have a seat, and none as a
    /// leader whose disk hangs: it can't write down that it resigns, so it falls silent,
    /// and is missed once the others' patience (P) is over.
    #[must_use]
    pub fn next_report(&mut self, now: Time) -> Option<Report> {
        let speaks = self.facts.vows.member.is_some() && !self.is_held_up(now);
        self.seq = self.seq.saturating_add(1);
        let report = self.report(now);
        speaks.then_some(report)
    }

    /// Whether we lead with a disk that hangs.
    fn is_held_up(&self, now: Time) -> bool {
        self.facts.stalled && self.view(now, 0).i_lead()
    }

    /// How long this agent process has run, in milliseconds.
    pub(crate) fn up_ms(&self, now: Time) -> u64 {
        ms_of(now.since(self.watch.ends.began.unwrap_or(now)))
    }

    /// How long the PostgreSQL of the leader whom we follow has given no sign of life, as
    /// far as we can know: not before this process began, nor while its loop ran late.
    #[must_use]
    pub fn leader_server_silent(&self, now: Time) -> Option<Duration> {
        let since = self.watch.ends.began.unwrap_or(now);
        suspicion::server_silent(&self.view(now, 0)).map(|silent| silent.min(now.since(since)))
    }

    pub(crate) fn report(&self, now: Time) -> Report {
        let view = self.view(now, 0);
        let hears = self.peers.keys().filter_map(|n| view.silent_ms(n).map(|ms| (n.clone(), ms))).collect();
        let member = self.facts.vows.member.clone();
        let fallback = || MemberId::new(self.facts.node.clone(), 0);
        Report {
            member: member.unwrap_or_else(fallback),
            boot: self.facts.boot,
            up_ms: self.up_ms(now),
            seq: self.seq,
            term_seen: self.state.ctl.term,
            revision_seen: self.state.revision,
            hears,
            misses: suspicion::missing(&view),
            leader_server_silent_ms: self.leader_server_silent(now).map(ms_of),
            vows: self.facts.vows.clone(),
            // Said once nothing that was granted runs any more.
            recruited: self.facts.recruited.clone().filter(|_| lease::is_outwaited(&view)),
            asks: self.desk.round(&view),
            grant: self.facts.granted,
            server: self.facts.server.clone(),
            leading: self.leading(),
            progress: self.facts.progress.clone(),
            yields: severed::yields(&view),
            wants_out: self.wants_out,
        }
    }

    /// What we say of our server as long as it is primary.
    #[must_use]
    pub fn leading(&self) -> Option<Leading> {
        let mut leading = self.facts.leading.clone()?;
        let term = self.state.ctl.term;
        leading.term = term;
        leading.checkpointed = self.facts.checkpointed == term;
        leading.rule_in_force = self.facts.proof.filter(|p| p.term == term).map_or(0, |p| p.sub);
        leading.writable = self.facts.vows.resigned < term && leading.rule_in_force != 0;
        leading.handing_over = self.running == Some(Action::HandOver { term });
        Some(leading)
    }
}

fn ms_of(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Whether others would decide otherwise on the new report than on the old.
pub(crate) fn differs(old: &Report, new: &Report) -> bool {
    let server = |r: &Report| r.server.as_ref().map(|s| (s.state, s.lineage.clone(), s.streaming));
    let leading = |r: &Report| r.leading.as_ref().map(|l| (l.writable, l.checkpointed));
    old.vows != new.vows
        || old.recruited != new.recruited
        || (new.asks.is_some() && old.asks != new.asks)
        || old.grant != new.grant
        || old.misses.is_some() != new.misses.is_some()
        || old.wants_out != new.wants_out
        || server(old) != server(new)
        || leading(old) != leading(new)
}
