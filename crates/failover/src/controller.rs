//! The small machine around `decide`: keeps what is known, and turns a verdict
//! into what the shell must do that it is not doing already.
//!
//! The shell hands in events with the moment they happened and carries out the
//! effects. It sends a fresh `Probed` and `Vows` before each `Done`, so that a
//! deed is judged by what it changed and not by its return.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use cluster::command::{Change, MemberState};
use cluster::recruited::recruited;
use cluster::report::{Leading, Progress, Recruited, Report, ServerReport};
use cluster::state::Phase;
use cluster::{Action, ClusterState, Lsn, NodeId, Term, Time, Vows};

use crate::decide::{Verdict, decide};
use crate::election;
use crate::facts::Facts;
use crate::fencing;
use crate::lease::{Desk, Lease, Ticket};
use crate::retry::{self, Setback, kind_of, preempts};
use crate::rules;
use crate::severed;
use crate::speech;
use crate::suspicion::{self, Watch};
use crate::switchover;
use crate::view::{Heard, View};
use crate::waiting::Waiting;

/// A command that failed is not sent again before this has passed.
pub const RESUBMIT: Duration = Duration::from_millis(100);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Our own loop ran late by so much.
    Late(Duration),
    /// The agreed state, newer than any before.
    State(Arc<ClusterState>),
    /// Another agent's report.
    Heard(Box<Report>),
    /// The own server was probed; `leading` while it is primary.
    Probed(Box<ServerReport>, Option<Box<Leading>>),
    /// What is on disk now.
    Vows(Box<Vows>),
    /// The leader's PostgreSQL sent WAL or answered on its port, so long ago.
    LeaderAlive(Duration),
    /// Our postmaster answers nobody (true), or does again.
    Hung(bool),
    /// Whether this host's disk has kept nothing that was written for `STALL_LIMIT`.
    Stalled(bool),
    /// A linearizable read that started then showed this term.
    StoreRead(Time, Term),
    /// How far long work is.
    Progress(Option<Progress>),
    /// A deed ended.
    Done(Box<Action>, Result<Outcome, Setback>),
    /// A proxy asks for a lease.
    LeaseAsked(Ticket),
    /// A command was answered: accepted or not.
    Submitted(Result<(), String>),
}

/// What a deed brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The ack path is cut and this is our position.
    Recruited(Recruited),
    /// A rule is in force and proven up to here.
    Proven(Lsn),
}

/// What the shell must do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Fsync this promise at once, whatever else is under way.
    pub promise: Option<Term>,
    /// Begin this deed, breaking off the one that runs.
    pub perform: Option<Action>,
    /// Send this command.
    pub submit: Option<Change>,
    /// Leases to be given to those who asked.
    pub leases: Vec<Lease>,
    /// Our report changed in a way that others wait for: send it now.
    pub speak: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Controller {
    pub(crate) facts: Facts,
    pub(crate) desk: Desk,
    pub(crate) state: Arc<ClusterState>,
    pub(crate) peers: BTreeMap<NodeId, Heard>,
    pub(crate) watch: Watch,
    pub(crate) running: Option<Action>,
    submitting: Option<Change>,
    resubmit_at: Time,
    pub(crate) wants_out: bool,
    waiting: Option<Waiting>,
    rule: &'static str,
    headline: Option<Report>,
    /// Somebody else begins to miss the leader, and waits for our word (C-24).
    pub(crate) asked: bool,
    pub(crate) seq: u64,
}

impl Controller {
    /// A machine that knows what `facts` say and nothing of the cluster.
    #[must_use]
    pub fn new(facts: Facts) -> Controller {
        Controller {
            facts,
            desk: Desk::default(),
            state: Arc::new(ClusterState::default()),
            peers: BTreeMap::new(),
            watch: Watch::default(),
            running: None,
            submitting: None,
            resubmit_at: Time::default(),
            wants_out: false,
            waiting: None,
            rule: "",
            headline: None,
            asked: false,
            seq: 0,
        }
    }

    /// Takes in one event and says what to do.
    pub fn step(&mut self, now: Time, wall_ms: u64, event: Event) -> Effects {
        self.watch.ends.began.get_or_insert(now);
        self.take(now, event);
        self.observe(now, wall_ms);
        let verdict = decide(&self.view(now, wall_ms));
        let mut effects = self.begin(now, verdict);
        effects.leases = self.lease(now);
        let report = self.report(now);
        let asked = core::mem::take(&mut self.asked);
        effects.speak = asked || self.headline.as_ref().is_none_or(|old| speech::differs(old, &report));
        if effects.speak {
            self.headline = Some(report);
        }
        effects
    }

    /// All that a decision may look at.
    #[must_use]
    pub fn view(&self, now: Time, wall_ms: u64) -> View<'_> {
        let (state, me, peers, watch) = (&*self.state, &self.facts, &self.peers, &self.watch);
        View { now, wall_ms, state, me, peers, watch, running: self.running.as_ref() }
    }

    /// Until when the guard may let our server run (C-25, C-26).
    #[must_use]
    pub fn guard_deadline(&self, now: Time) -> Option<Time> {
        fencing::guard_deadline(&self.view(now, 0))
    }

    /// What we wait for.
    #[must_use]
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// The rule of `decide` that spoke last.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// The deed under way.
    #[must_use]
    pub fn running(&self) -> Option<&Action> {
        self.running.as_ref()
    }

    fn take(&mut self, now: Time, event: Event) {
        match event {
            Event::Tick => {}
            Event::Late(late) => self.watch.on_late(late, now),
            Event::State(state) if state.revision >= self.state.revision => {
                self.watch.on_state(&state, now);
                let standing = state.members.get(&self.facts.node).map(|m| &m.state);
                if standing != self.state.members.get(&self.facts.node).map(|m| &m.state) {
                    self.watch.standing_since = now;
                }
                if standing == Some(&MemberState::Voter) {
                    self.facts.rebuilt = Term(0);
                }
                self.state = state;
            }
            Event::State(_) => {}
            Event::Heard(report) => self.hear(now, *report),
            Event::Probed(server, leading) => {
                self.facts.probed(now, self.state.ctl.term, *server, leading.map(|l| *l));
            }
            Event::Vows(vows) => self.facts.vows = *vows,
            Event::LeaderAlive(ago) => self.facts.leader_lives(now, ago),
            Event::Hung(true) => {
                self.facts.hung_since.get_or_insert(now);
            }
            Event::Hung(false) => self.facts.hung_since = None,
            Event::Stalled(stalled) => self.facts.stalled = stalled,
            Event::StoreRead(started, term) if term == self.state.ctl.term => {
                self.watch.store_read_at = started
            }
            Event::StoreRead(..) => {}
            Event::LeaseAsked(ticket) => self.desk.ask(now, ticket, &self.state.settings.timing),
            Event::Progress(progress) => self.facts.progress = progress,
            Event::Done(action, outcome) => self.done(now, *action, outcome),
            Event::Submitted(answer) => {
                self.submitting = None;
                self.resubmit_at = if answer.is_ok() { now } else { now + RESUBMIT };
            }
        }
    }

    fn done(&mut self, now: Time, action: Action, outcome: Result<Outcome, Setback>) {
        if self.running.as_ref() == Some(&action) {
            self.running = None;
            self.facts.progress = None;
        }
        let kind = kind_of(&action);
        match outcome {
            Ok(outcome) => {
                self.facts.failures.remove(kind);
                self.facts.achieve(now, action, outcome);
            }
            Err(setback) => self.facts.fail(now, kind, setback),
        }
    }

    /// What follows from the passing of time alone.
    fn observe(&mut self, now: Time, wall_ms: u64) {
        let view = self.view(now, wall_ms);
        let missing = suspicion::missing(&view).is_some();
        let grants = fencing::has_grants(&view);
        let nowhere = rules::leads_nowhere(&view) || rules::opens_nowhere(&view);
        let resigned = view.leader_resigned();
        let term = self.state.ctl.term;
        let up = view.leader_is_up();
        let electable = self.state.ctl.phase == Phase::Revoking
            && recruited(&self.state, term, &election::evidence(&view, term)).is_ok();
        let due = switchover::due(&view).map(|t| t.asked_ms);
        let severed = severed::is_severed(&view);
        let w = &mut self.watch;
        w.severed = if severed { term } else { w.severed };
        w.due_since = due.map(|asked| w.due_since.filter(|d| d.0 == asked).unwrap_or((asked, now)));
        w.nowhere_since = nowhere.then(|| w.nowhere_since.unwrap_or(now));
        w.leader_up_since = up.then(|| w.leader_up_since.unwrap_or(now));
        w.missing_since = missing.then(|| w.missing_since.unwrap_or(now));
        w.resigned_since = resigned.then(|| w.resigned_since.unwrap_or(now));
        w.recruited_since = electable.then(|| w.recruited_since.unwrap_or(now));
        if grants {
            w.grants_at = now;
        }
    }

    /// What of a verdict is not under way already.
    fn begin(&mut self, now: Time, verdict: Verdict) -> Effects {
        self.wants_out = verdict.wants_out;
        (self.waiting, self.rule) = (verdict.waiting, verdict.rule);
        let mut effects = Effects { promise: verdict.promise, ..Effects::default() };
        if let Some(action) = verdict.action {
            let free = self.running.as_ref().is_none_or(|r| *r != action && preempts(&action, r));
            if free {
                // A deed that moves the server makes older knowledge of it void.
                if !retry::leaves_following(&action) {
                    self.facts.following = None;
                }
                effects.perform = Some(action.clone());
                self.running = Some(action);
            }
        }
        let may_submit = self.submitting.is_none() && now >= self.resubmit_at;
        if let Some(change) = verdict.command.filter(|_| may_submit) {
            self.submitting = Some(change.clone());
            effects.submit = Some(change);
        }
        effects
    }
}
