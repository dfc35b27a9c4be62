//! One rule a line, first match wins.

use core::time::Duration;

use cluster::command::{Change, Member, MemberState, Trigger};
use cluster::mutant::{Mutant, on};
use cluster::report::ServerState;
use cluster::state::Phase;
use cluster::{Action, Term};

use crate::view::View;
use crate::waiting::Waiting;
use crate::{election, fencing, rejoin, retry, rules, salvage, suspicion, switchover};

/// What an agent should do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// On its own server.
    pub action: Option<Action>,
    /// To the store.
    pub command: Option<Change>,
    /// Promise this term, with nothing else to do about it.
    pub promise: Option<Term>,
    /// We must leave the commit rule before we can go on.
    pub wants_out: bool,
    /// What we wait for, for people.
    pub waiting: Option<Waiting>,
    /// The rule that decided.
    pub rule: &'static str,
}

impl Verdict {
    /// Nothing but waiting.
    #[must_use]
    pub fn wait(waiting: Waiting) -> Verdict {
        Verdict { waiting: Some(waiting), ..Verdict::default() }
    }

    /// Ask the store.
    #[must_use]
    pub fn ask(change: Change) -> Verdict {
        Verdict { command: Some(change), ..Verdict::default() }
    }

    /// Act on the own server, unless the same just failed.
    #[must_use]
    pub fn act(view: &View<'_>, action: Action) -> Verdict {
        let what = retry::kind_of(&action);
        match view.me.failures.get(what) {
            Some(f) if view.now < f.next_try() => Verdict::wait(Waiting::Retry { what, why: f.why.clone() }),
            Some(_) | None => Verdict { action: Some(action), ..Verdict::default() },
        }
    }
}

/// What an agent should do now.
#[must_use]
pub fn decide(view: &View<'_>) -> Verdict {
    let decided = RULES.iter().find_map(|(rule, says)| says(view).map(|v| Verdict { rule, ..v }));
    decided.unwrap_or_else(|| Verdict { rule: "rejoin", ..rejoin::rejoin(view) })
}

type Rule = (&'static str, fn(&View<'_>) -> Option<Verdict>);

/// In this order; where none says anything, a member (re)joins its leader.
const RULES: [Rule; 10] = [
    ("unknown", unknown),
    ("outsider", outsider),
    ("witness", witness),
    ("first_probe", first_probe),
    ("fence", fence),
    ("replace_resigned", replace_resigned),
    ("recruit_and_elect", recruit_and_elect),
    ("lead", lead),
    ("succeed", succeed),
    ("replace_missing", replace_missing),
];

/// Nothing agreed is known (yet): nothing may be concluded.
fn unknown(view: &View<'_>) -> Option<Verdict> {
    (!view.state.exists()).then(|| Verdict::wait(Waiting::Cluster))
}

/// Not a member: whatever runs here must not.
fn outsider(view: &View<'_>) -> Option<Verdict> {
    let record = view.my_member();
    let written_off = record.is_some_and(|m| m.state == MemberState::WrittenOff);
    let member = record.is_some_and(Member::has_seat);
    if member && !written_off {
        return None;
    }
    let runs = !matches!(view.server_state(), ServerState::Down | ServerState::Empty);
    let resigned = view.me.vows.resigned;
    let promised = view.me.vows.promising_up_to();
    if runs || (written_off && resigned < promised) {
        return Some(Verdict::act(view, Action::Fence { term: promised }));
    }
    let me = view.my_id().filter(|_| written_off && view.phase() == Phase::Open);
    match me {
        Some(member) => Some(Verdict::ask(Change::Reincarnate { member })),
        None => Some(Verdict::wait(Waiting::Membership)),
    }
}

/// A witness promises, judges silence, and has no server. One that keeps WAL goes the
/// way of a standby: it has an ack path to be cut and a position to tell.
fn witness(view: &View<'_>) -> Option<Verdict> {
    if view.me.kind.keeps_wal() {
        return None;
    }
    let promise = (view.me.vows.promise < view.term()).then_some(view.term());
    let stuck = stuck(view).or_else(|| resigned(view));
    let elect =
        (view.phase() == Phase::Revoking && election::is_our_turn(view)).then(|| election::ballot(view).ok());
    let command = elect.flatten().or_else(|| suspicion::begin_term(view)).or(stuck);
    Some(Verdict { promise, command, ..Verdict::default() })
}

fn first_probe(view: &View<'_>) -> Option<Verdict> {
    view.me.server.is_none().then(|| Verdict::wait(Waiting::FirstProbe))
}

fn fence(view: &View<'_>) -> Option<Verdict> {
    fencing::fence(view).map(|action| Verdict { action: Some(action), ..Verdict::default() })
}

/// We led and our server is dead: say so, and let a term begin at once.
fn replace_resigned(view: &View<'_>) -> Option<Verdict> {
    if !view.i_lead() || view.me.vows.resigned < view.term() {
        return None;
    }
    if let Some(target) = switchover::due(view).filter(|_| view.me.vows.resigned_clean) {
        let waited =
            view.watch.resigned_since.is_some_and(|t| view.now.since(t) >= switchover::TAKE_OVER_LIMIT);
        if !waited {
            return Some(Verdict::wait(target.to.clone().map_or(Waiting::Candidate, Waiting::Successor)));
        }
    }
    let trigger = Trigger::Resigned { leader: view.my_id()?, term: view.me.vows.resigned };
    Some(Verdict::ask(Change::BeginTerm { term: view.term().next(), trigger }))
}

/// C2 to C4.
fn recruit_and_elect(view: &View<'_>) -> Option<Verdict> {
    if view.phase() != Phase::Revoking {
        return None;
    }
    let term = view.term();
    let copying = matches!(view.running, Some(Action::Clone { .. } | Action::Rewind { .. }));
    let mut verdict = Verdict::default();
    if copying {
        // Not broken off for it, since it has no position to give. It promises now, and
        // is recruited when the copy has ended: then its word blocks, too.
        verdict.promise = (view.me.vows.promise < term).then_some(term);
    } else if election::must_recruit(view) {
        return Some(Verdict::act(view, Action::Recruit { term }));
    } else if let Some(action) = salvage::fast_forward(view) {
        verdict = Verdict::act(view, action);
    }
    if election::is_our_turn(view) {
        match election::ballot(view) {
            Ok(change) => verdict.command = Some(change),
            Err(waiting) => verdict.waiting = Some(waiting),
        }
    }
    Some(verdict)
}

/// We were elected: open, then lead.
fn lead(view: &View<'_>) -> Option<Verdict> {
    if !view.i_lead() {
        return None;
    }
    if rules::is_behind(view) {
        return Some(Verdict::wait(Waiting::News));
    }
    if view.server_state() == ServerState::Primary {
        return Some(if view.phase() == Phase::Open { lead_open(view) } else { open(view) });
    }
    Some(promote(view))
}

/// C5: from whatever there is to a promoted server.
fn promote(view: &View<'_>) -> Verdict {
    let (Some(election), Some(server)) = (view.state.election(), view.server()) else {
        return Verdict::wait(Waiting::FirstProbe);
    };
    let Some(rule) = view.state.newest_rule() else { return Verdict::wait(Waiting::Cluster) };
    match server.state {
        ServerState::Empty if view.term() == Term(1) => Verdict::act(view, Action::Initdb),
        ServerState::Empty => Verdict::wait(Waiting::Operator("its data directory is empty".into())),
        ServerState::Down if server.unfit => {
            Verdict::wait(Waiting::Operator(server.trouble.clone().unwrap_or_default()))
        }
        ServerState::Down | ServerState::Starting => Verdict::act(view, Action::StartCut),
        // A guard that was just started has no deadline in force yet.
        ServerState::Standby if fencing::needs_lease(view) && !fencing::has_lease(view) => {
            Verdict::wait(Waiting::Lease)
        }
        ServerState::Standby | ServerState::Promoting => {
            let (term, timeline) = (view.term(), election.tli);
            let (rule, sub) = (rule.rule.clone(), rule.sub);
            Verdict::act(view, Action::Promote { term, timeline, rule, sub })
        }
        ServerState::Primary => Verdict::default(),
    }
}

/// C6 and C7.
fn open(view: &View<'_>) -> Verdict {
    let (Some(rule), Some(server)) = (view.state.newest_rule(), view.server()) else {
        return Verdict::wait(Waiting::FirstProbe);
    };
    let term = view.term();
    let proven =
        view.me.proof.is_some_and(|p| p.term == term && p.sub == rule.sub) || on(Mutant::OpenedUnproven);
    let changing = view.state.own_rules().count() > 1;
    if proven && !changing {
        let switch_lsn = server.lineage.ancestors.last().map(|b| b.end).unwrap_or_default();
        let next_xid = view.me.vows.promoting.filter(|p| p.term == term).map_or(0, |p| p.next_xid);
        let (sysid, timeline, sub) = (server.sysid, server.lineage.timeline, rule.sub);
        return Verdict::ask(Change::Opened { term, sysid, timeline, switch_lsn, next_xid, sub });
    }
    let late = view.now.since(view.watch.phase_since) >= view.shrink();
    let step = if changing || late { rules::step(view) } else { None };
    match step {
        Some(rules::Step::Prove(action @ Action::ChangeRule { .. })) if changing => {
            Verdict::act(view, action)
        }
        Some(rules::Step::Ask(change)) => Verdict::ask(change),
        Some(rules::Step::Wait) => Verdict::wait(Waiting::Reads),
        Some(rules::Step::Prove(_)) | None => {
            let (rule, sub) = (rule.rule.clone(), rule.sub);
            Verdict::act(view, Action::Barrier { term, rule, sub })
        }
    }
}

/// The daily life of a leader.
fn lead_open(view: &View<'_>) -> Verdict {
    let term = view.term();
    let mut verdict = match rules::step(view) {
        Some(rules::Step::Prove(action)) => Verdict::act(view, action),
        Some(rules::Step::Ask(change)) => Verdict::ask(change),
        Some(rules::Step::Wait) => Verdict::wait(Waiting::Reads),
        None => switchover::hand_over(view).unwrap_or_default(),
    };
    if verdict.command.is_none() {
        verdict.command = switchover::overdue(view).or_else(|| rules::let_go(view));
    }
    // Also between two tries of a rule that can't be proven: others are copied from us
    // only after it, and may be the ones that it takes.
    if verdict.action.is_none() && view.me.checkpointed < term {
        verdict.action = Verdict::act(view, Action::Checkpoint { term }).action;
    }
    verdict
}

/// A switchover whose successor we are.
fn succeed(view: &View<'_>) -> Option<Verdict> {
    switchover::take_over(view)
}

/// Somebody else leads, or should: it resigned, got stuck or is missed.
fn replace_missing(view: &View<'_>) -> Option<Verdict> {
    let change = resigned(view).or_else(|| stuck(view)).or_else(|| suspicion::begin_term(view))?;
    Some(Verdict::ask(change))
}

/// The leader says that it has resigned, and nobody has begun a term yet.
fn resigned(view: &View<'_>) -> Option<Change> {
    let leader = view.other_leader()?;
    let report = view.peers.get(&leader.node).map(|h| &h.report).filter(|r| r.member == *leader)?;
    let since = view.watch.resigned_since.filter(|_| report.vows.resigned >= view.term())?;
    let planned = switchover::due(view).is_some() && report.vows.resigned_clean;
    let patience =
        if planned { switchover::TAKE_OVER_LIMIT } else { Duration::from_millis(view.turn_ms(100) + 100) };
    let waited = view.now.since(since) >= patience;
    let trigger = Trigger::Resigned { leader: leader.clone(), term: report.vows.resigned };
    waited.then(|| Change::BeginTerm { term: view.term().next(), trigger })
}

/// An elected leader that is silent, or does not get its server up (O-3). One
/// whose server is up and waits for standbys is let be: a new term would not
/// bring them back.
fn stuck(view: &View<'_>) -> Option<Change> {
    let leader = view.other_leader().filter(|_| view.phase() == Phase::Elected && view.term() > Term(1))?;
    let waited = view.now.since(view.watch.phase_since);
    let turn = Duration::from_millis(view.turn_ms(suspicion::TURN_MS));
    let report = view.fresh(leader, view.timing().suspicion_ms);
    let up = report.and_then(|r| r.server.as_ref()).is_some_and(|s| s.state == ServerState::Primary);
    let working = report.is_some_and(|r| r.progress.is_some());
    let limit = match report {
        None => view.suspicion() * 2,
        Some(_) if working => view.term_limit() * 12,
        Some(_) => view.term_limit(),
    };
    let late = view.now < view.watch.late_until && !on(Mutant::StuckWhileLate);
    if on(Mutant::StuckForever) || up || waited < limit + turn || late {
        return None;
    }
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let trigger = Trigger::Stuck { phase: view.phase(), waited_ms };
    Some(Change::BeginTerm { term: view.term().next(), trigger })
}
