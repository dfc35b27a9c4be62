//! Strict reads: who grants them, who is told that they may be given, and who waits for their end (C-19 to C-21).
//!
//! ```text
//!   a proxy asks ──▶ leader's agent: a round begins, one within N for all who ask
//!                      │ its report carries the round ──▶ members: kept for W, and only then said
//!   its lease, G ◀── an ack set of the newest rule has granted a round that began after it asked
//! ```
//! Say n1 leads term 1 and is cut off with a proxy. n2 granted at 0 ms and is recruited for term 2 at 10 ms: it
//! answers at 320 ms, and what the proxy has ended at 300 ms at the latest, for it counts from when it asked.
//! Nobody compares two clocks, and a pause of the leader's host only makes its leases shorter.
//!
//! Never judges whether a server takes writes: reads alone need time.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use cluster::mutant::{Mutant, on};
use cluster::report::{Grant, GrantRound, Report, ServerState};
use cluster::state::Phase;
use cluster::{ActiveRule, Durability, MemberId, Term, Time, Timing};

use crate::controller::Controller;
use crate::rules;
use crate::view::View;

/// Questions that may wait for a lease at a time; the oldest are dropped, and asked again.
pub const ASKS_MAX: usize = 256;
/// Of these, of one subscriber.
pub const ASKS_EACH_MAX: usize = 8;

/// Whose question it is, for whoever carries the answer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which subscriber.
    pub from: u64,
    /// Which of its questions.
    pub seq: u64,
}

/// "Until `valid` after you asked, no later term serves anybody than `term`."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whom it is for.
    pub ticket: Ticket,
    /// The term that the sender leads.
    pub term: Term,
    /// How long, from when the proxy sent its question, by the proxy's own clock.
    pub valid: Duration,
}

/// One who asks for a lease.
#[derive(Clone, Copy, Debug)]
struct Ask {
    ticket: Ticket,
    /// The newest round when it asked: grants of a later one count.
    after: u64,
    at: Time,
    /// G when it asked, in milliseconds.
    valid_ms: u64,
}

/// What a leader's agent keeps of leases.
#[derive(Debug, Default)]
pub struct Desk {
    asks: VecDeque<Ask>,
    /// The round begun last, and when.
    round: u64,
    began: Time,
}

/// What others must wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Since when this agent process runs, once it does: one before it may have said anything.
    pub began: Option<Time>,
    /// When the last read that we granted ends.
    pub granted: Time,
    /// The newest rule by which we gave leases, and when the last of them ends.
    newest: (Term, u64, Time),
    /// When the last one by an older rule of that term ends.
    older: Time,
}

impl Ends {
    fn gave(&mut self, term: Term, sub: u64, until: Time) {
        let (of, by, last) = self.newest;
        let older = if of != term { Time::default() } else { self.older };
        self.older = if of == term && by < sub { older.max(last) } else { older };
        let last = if (of, by) == (term, sub) { last } else { Time::default() };
        self.newest = (term, sub, last.max(until));
    }

    /// When the last lease by a rule of `term` ends that is older than `sub`.
    fn before(&self, term: Term, sub: u64) -> Time {
        match self.newest {
            (of, ..) if of != term => Time::default(),
            (_, by, last) if by < sub => last.max(self.older),
            _ => self.older,
        }
    }
}

impl Desk {
    /// Somebody asks for a lease.
    pub(crate) fn ask(&mut self, at: Time, ticket: Ticket, timing: &Timing) {
        let mine = |a: &Ask| a.ticket.from == ticket.from;
        if self.asks.iter().filter(|a| mine(a)).count() >= ASKS_EACH_MAX {
            let oldest = self.asks.iter().position(mine);
            oldest.map(|at| self.asks.remove(at));
        }
        if self.asks.len() >= ASKS_MAX {
            self.asks.pop_front();
        }
        self.asks.push_back(Ask { ticket, after: self.round, at, valid_ms: timing.grant_ms });
    }

    /// The round of grants that our report asks for.
    #[must_use]
    pub(crate) fn round(&self, view: &View<'_>) -> Option<GrantRound> {
        let asked = !self.asks.is_empty() && self.round > 0 && may_lease(view).is_some_and(needs_grants);
        asked.then(|| GrantRound { term: view.term(), round: self.round, valid_ms: view.timing().grant_ms })
    }

    /// Begins a round, if somebody asks for one that has not begun.
    pub(crate) fn begin(&mut self, view: &View<'_>) {
        if !view.i_lead() {
            return self.asks.clear();
        }
        let pause = Duration::from_millis(view.timing().renewal_ms);
        let due = self.round == 0 || view.now.since(self.began) >= pause;
        let asked = self.asks.iter().any(|a| a.after == self.round);
        if due && asked && may_lease(view).is_some_and(needs_grants) {
            self.round += 1;
            self.began = view.now;
        }
    }

    /// The leases that may be given now.
    pub(crate) fn give(&mut self, view: &View<'_>, boot: u64) -> Vec<Lease> {
        let Some(rule) = may_lease(view).filter(|_| !self.asks.is_empty()) else { return Vec::new() };
        let timing = view.timing();
        let granted = granted_round(view, rule, boot);
        let is_due = |ask: &Ask| match (needs_grants(rule), rule.mode) {
            (true, _) => granted > ask.after || (granted > 0 && on(Mutant::GrantsHeld)),
            // C-26: nobody is elected in async sooner than so long after this read.
            (false, Durability::Async) => view.watch.store_read_at >= ask.at,
            // The leader alone: nobody else is elected unless it has resigned.
            (false, Durability::Quorum | Durability::QuorumRelaxed) => true,
        };
        let asynchronous = rule.mode == Durability::Async && !needs_grants(rule);
        let (due, waiting): (VecDeque<Ask>, VecDeque<Ask>) = self.asks.drain(..).partition(is_due);
        self.asks = waiting;
        // Grants are for at least what was G when it asked: G only ever becomes longer.
        let valid_ms = |ask: &Ask| if asynchronous { timing.async_lease_ms } else { ask.valid_ms };
        let lease = |ask: Ask| {
            let valid = Duration::from_millis(valid_ms(&ask));
            Lease { ticket: ask.ticket, term: view.term(), valid }
        };
        due.into_iter().map(lease).collect()
    }
}

/// The rule by which leases are given now: our newest, while our server takes writes under it.
fn may_lease<'a>(view: &View<'a>) -> Option<&'a ActiveRule> {
    let open = view.i_lead() && view.phase() == Phase::Open && view.me.vows.resigned < view.term();
    let primary = view.server_state() == ServerState::Primary;
    let older = view.state.own_rules().next().filter(|_| on(Mutant::LeaseByOlder));
    let rule = older.or_else(|| view.state.newest_rule());
    rule.filter(|_| open && primary && !rules::is_behind(view))
}

fn needs_grants(rule: &ActiveRule) -> bool {
    !rule.rule.is_leader_only()
}

/// The newest round that an ack set of `rule` has granted to this process (`boot`); 0 for none.
fn granted_round(view: &View<'_>, rule: &ActiveRule, boot: u64) -> u64 {
    let term = view.term();
    let of = |m: &MemberId| {
        let said = view.peers.get(&m.node).map(|h| &h.report).filter(|r| r.member == *m);
        let grant = said.and_then(|r| r.grant).filter(|g| g.term == term && g.boot == boot);
        grant.map_or(0, |g| g.round)
    };
    let rounds: BTreeSet<u64> = rule.rule.standbys().iter().map(of).filter(|r| *r > 0).collect();
    let by_all = |round: &u64| rule.rule.is_acked_by(rule.rule.standbys().iter().filter(|m| of(m) >= *round));
    rounds.into_iter().rev().find(by_all).unwrap_or(0)
}

impl Controller {
    /// Leases that may be given now, and a round of grants for those that may not yet.
    pub(crate) fn lease(&mut self, now: Time) -> Vec<Lease> {
        let mut desk = core::mem::take(&mut self.desk);
        let view = self.view(now, 0);
        let leases = desk.give(&view, self.facts.boot);
        desk.begin(&view);
        let ends = gave(&view, &leases);
        (self.watch.ends, self.desk) = (ends, desk);
        leases
    }
}

/// Notes down what leases were given by the newest rule, for its successor (C-21).
fn gave(view: &View<'_>, leases: &[Lease]) -> Ends {
    let mut ends = view.watch.ends;
    let sub = view.state.newest_rule().map_or(0, |r| r.sub);
    for lease in leases {
        ends.gave(lease.term, sub, view.now + stretched(lease.valid));
    }
    ends
}

/// What a member grants to whoever sent `report`, and until when it must keep that, if it is to grant anything new.
pub(crate) fn grant(view: &View<'_>, old: Option<Grant>, report: &Report) -> Option<(Grant, Time)> {
    let asked = report.asks?;
    let leads = view.other_leader() == Some(&report.member) && view.term() == asked.term;
    let known = old.is_some_and(|g| g.term == asked.term && g.boot == report.boot && g.round >= asked.round);
    // What takes longer than we are patient is nothing that C-28 allows; and one that has not heard us for two
    // heartbeats won't hear this, while an election would wait for it.
    let timing = view.timing();
    let hears_us = report.hears.get(&view.me.node).is_none_or(|age| *age < 2 * timing.heartbeat_ms);
    let fair = asked.valid_ms < timing.suspicion_ms && hears_us;
    if !leads || known || !fair || view.me.vows.promise > asked.term {
        return None;
    }
    let kept = wait(view).max(kept_for(asked.valid_ms));
    Some((Grant { term: asked.term, boot: report.boot, round: asked.round }, view.now + kept))
}

/// W.
fn wait(view: &View<'_>) -> Duration {
    Duration::from_millis(view.timing().grant_wait_ms)
}

/// W ≥ G(1+2e)+10 ms.
fn kept_for(valid_ms: u64) -> Duration {
    stretched(Duration::from_millis(valid_ms)) + Duration::from_millis(10)
}

/// So long by one clock, as the slowest other may count it: (1 + 2e).
fn stretched(span: Duration) -> Duration {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let drift = ms.saturating_mul(2 * Timing::DRIFT_PER_MILLE).div_ceil(1000);
    span.saturating_add(Duration::from_millis(drift))
}

/// Whether nothing that we, or the process before us, granted can still be used: only then does a recruited
/// member answer. A leader that is dead reads nothing to anybody, whatever was granted to it.
#[must_use]
pub fn is_outwaited(view: &View<'_>) -> bool {
    let before = view.watch.ends.began.filter(|_| !on(Mutant::GrantForgotten));
    let until = before.map_or(Time::default(), |began| began + wait(view)).max(view.watch.ends.granted);
    view.now >= until || on(Mutant::GrantUnwaited) || is_dead(view)
}

/// Whether what those may have granted is over whom an operator wrote off (O-15): nobody hears them say so.
#[must_use]
pub fn is_over_for_lost(view: &View<'_>) -> bool {
    let waited = view.now.since(view.watch.phase_since) >= wait(view);
    view.state.ctl.written_off.is_empty() || waited || is_dead(view)
}

/// Whether whoever was elected last has resigned: its server is dead. Unlike `View::leader_resigned` this asks of its
/// own term, and of exactly that life of a node.
fn is_dead(view: &View<'_>) -> bool {
    let Some(last) = view.state.elections.last() else { return true };
    let own = (view.my_id().as_ref() == Some(&last.leader)).then_some(&view.me.vows);
    let said = view.peers.get(&last.leader.node).map(|h| &h.report).filter(|r| r.member == last.leader);
    own.or(said.map(|r| &r.vows)).is_some_and(|v| v.resigned >= last.term)
}

/// Whether the rules of our term before `sub` may be dropped: no lease that was given by them runs (C-21).
#[must_use]
pub fn may_drop_before(view: &View<'_>, sub: u64) -> bool {
    let timing = view.timing();
    let asynchronous = view.state.own_rules().any(|r| r.mode == Durability::Async);
    // The process before this one may have given some; in async by an older T, which was never longer than Wa is now.
    let longest = if asynchronous { timing.async_wait_ms } else { timing.grant_ms };
    let before = view.watch.ends.began.map(|b| b + stretched(Duration::from_millis(longest)));
    let until = view.watch.ends.before(view.term(), sub).max(before.unwrap_or_default());
    view.now >= until || on(Mutant::EndUnwaited)
}
