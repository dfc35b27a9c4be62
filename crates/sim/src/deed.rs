//! Deeds as the real executor does them (`agent::executor`, `postgres::perform`):
//! step by step, with time, crashes and everybody else in between.
//!
//! What must be durable is durable before the deed goes on, and a deed that is
//! broken off leaves what its steps have done so far.

mod joining;
mod opening;

use cluster::local::Rebuild;
use cluster::report::{Recruited, ServerState};
use cluster::{Action, Position, Term};
use failover::{Event, Outcome, Setback};

use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::mutation::Env;
use crate::network::At;
use crate::point::Point;
use crate::server::Process;
use crate::world::{What, World};

/// `stream::CUT_LIMIT`, `executor::BARRIER_LIMIT`, `executor::HAND_OVER_LIMIT`,
/// `life::SENT_LIMIT`, `rule::LAGGING_LIMIT`, `rule::CHANGE_LIMIT`, `opening::RELOAD_LIMIT`.
const CUT_LIMIT: Us = ms(5000);
const BARRIER_LIMIT: Us = ms(5000);
const HAND_OVER_LIMIT: Us = ms(3000);
const SENT_LIMIT: Us = ms(500);
/// `postgres::perform::life::GUARD_KILLS`.
const GUARD_KILLS: Us = ms(1000);
const LAGGING_LIMIT: Us = ms(2000);
const CHANGE_LIMIT: Us = ms(15_000);
const RELOAD_LIMIT: Us = ms(5000);
/// Between two looks of a deed that waits.
const LOOK: Us = ms(5);

/// A deed under way.
#[derive(Clone, Debug)]
pub struct Deed {
    /// What is done.
    pub action: Action,
    /// Which of the host's deeds this is.
    pub number: u32,
    /// The step that comes next.
    pub step: u8,
    /// When this step was first tried.
    since: Us,
    /// What earlier steps found out.
    found: Found,
}

#[derive(Clone, Debug, Default)]
struct Found {
    count: usize,
    next_xid: u64,
    recruited: Option<Recruited>,
    clean: bool,
    read_at: Us,
}

/// What is opened, and when it is due.
#[derive(Clone, Copy)]
struct Order {
    term: Term,
    timeline: cluster::Timeline,
    sub: u64,
}

/// What a step says.
enum Next {
    /// The next step, after so long.
    Step(Us),
    /// This step again, after so long.
    Again(Us),
    /// It is over.
    Done(Result<Outcome, Setback>),
}

fn done() -> Next {
    Next::Done(Ok(Outcome::Done))
}

fn failed(why: &str, of_the_data: bool) -> Next {
    Next::Done(Err(Setback { why: why.to_string(), of_the_data }))
}

impl World {
    /// Begins a deed, breaking off the one that runs.
    pub(crate) fn begin(&mut self, at: At, action: Action) {
        self.note(Some(at), || format!("begins {action:?}"));
        self.forget_hand_over(at);
        self.next_deed += 1;
        let number = self.next_deed;
        let deed = Deed { action, number, step: 0, since: self.now, found: Found::default() };
        self.hosts[at].agent.deed = Some(deed);
        let life = self.hosts[at].agent.life;
        self.after(300, What::Deed(at, life, number));
    }

    /// A deed goes on.
    pub(crate) fn deed(&mut self, at: At, life: u32, number: u32) {
        let host = &self.hosts[at];
        if host.agent.life != life || !host.is_awake() {
            return;
        }
        let Some(mut deed) = host.agent.deed.clone().filter(|d| d.number == number) else { return };
        let kind = failover::retry::kind_of(&deed.action);
        self.reach(Point { what: kind, step: deed.step }, at);
        let host = &self.hosts[at];
        // The fault may have been its own end.
        if !host.is_awake() || host.agent.life != life {
            return;
        }
        let next = self.step_of(at, &mut deed);
        match next {
            Next::Step(delay) => {
                deed.step += 1;
                deed.since = self.now + delay;
                self.hosts[at].agent.deed = Some(deed);
                self.after(delay, What::Deed(at, life, number));
            }
            Next::Again(delay) => {
                self.hosts[at].agent.deed = Some(deed);
                self.after(delay, What::Deed(at, life, number));
            }
            Next::Done(outcome) => self.end_deed(at, life, deed.action, outcome),
        }
    }

    /// As `tell_end`: promises, a fresh look, and the end itself.
    fn end_deed(&mut self, at: At, life: u32, action: Action, outcome: Result<Outcome, Setback>) {
        self.note(Some(at), || match &outcome {
            Ok(o) => format!("done {} {o:?}", failover::retry::kind_of(&action)),
            Err(e) => format!("failed {} {}", failover::retry::kind_of(&action), e.why),
        });
        let ok = if outcome.is_ok() { "done" } else { "failed" };
        self.mark(&format!("deed: {} {ok}", failover::retry::kind_of(&action)));
        self.hosts[at].agent.deed = None;
        if let Ok(Outcome::Recruited(answer)) = &outcome {
            self.judge(&Moment::Recruited { at, answer: answer.clone() });
            self.hosts[at].ghost.reported = self.hosts[at].ghost.reported.max(answer.term);
        }
        let recruited = matches!(outcome, Ok(Outcome::Recruited(_)));
        self.tell_vows(at, life);
        let seen = self.seen(at);
        self.tell(at, life, seen);
        self.tell(at, life, Event::Done(Box::new(action), outcome));
        if recruited {
            self.reach(Point { what: "recruited", step: 0 }, at);
        }
    }

    fn tell_vows(&mut self, at: At, life: u32) {
        let vows = Box::new(self.hosts[at].vows.clone());
        self.tell(at, life, Event::Vows(vows));
    }

    fn fsync(&mut self, at: At) -> Us {
        self.hosts[at].disk.fsync(self.now, &mut self.rng) - self.now
    }

    fn step_of(&mut self, at: At, deed: &mut Deed) -> Next {
        let waited = self.now.saturating_sub(deed.since);
        match deed.action.clone() {
            Action::Initdb => self.initdb(at, deed.step),
            Action::StartCut => self.start_cut(at, deed.step),
            Action::Fence { term } => self.fence(at, deed.step, term, waited),
            Action::Recruit { term } => self.recruit(at, deed, term, waited),
            Action::HandOver { term } => self.hand_over(at, deed, term, waited),
            Action::Prepare { .. } => self.checkpoint_steps(at, deed.step, 2),
            Action::Checkpoint { .. } => self.checkpoint_steps(at, deed.step, 1),
            Action::FastForward { term, holder, .. } => self.fast_forward(at, deed.step, term, &holder),
            Action::Promote { term, timeline, rule, sub } => {
                self.promote(at, deed, waited, Order { term, timeline, sub }, &rule)
            }
            Action::Barrier { rule, .. } => self.barrier(at, deed, waited, &rule),
            Action::ChangeRule { term, from, to, sub } => {
                if deed.step == 0 {
                    self.hosts[at].vows.last_rule_seen = Some((term, sub, to.clone()));
                }
                self.change_rule(at, deed, waited, &from, &to)
            }
            Action::Follow { term, leader, afresh } => self.follow(at, deed.step, term, &leader, afresh),
            Action::Rewind { leader, .. } => self.rebuild(at, deed.step, &leader, Rebuild::Rewind),
            Action::Clone { leader, .. } => self.rebuild(at, deed.step, &leader, Rebuild::Clone),
            Action::Stop => {
                self.kill_server(at);
                done()
            }
        }
    }

    fn initdb(&mut self, at: At, step: u8) -> Next {
        if step == 0 {
            return Next::Step(self.span(ms(300), ms(700)));
        }
        self.next_record += 1;
        let id = self.next_record;
        self.hosts[at].server.initdb(7, id);
        done()
    }

    /// Starts the server as a standby, unless it runs; the step is repeated until it is up.
    fn start(&mut self, at: At, begun: bool) -> Next {
        let host = &self.hosts[at];
        match host.server.state {
            ServerState::Down if begun => failed("it did not start", !host.disk.full),
            ServerState::Down if host.guard.stopped => Next::Again(ms(50)),
            ServerState::Down => {
                self.start_server(at);
                Next::Step(ms(15))
            }
            ServerState::Starting => Next::Again(ms(15)),
            ServerState::Empty => failed("there is no data directory", true),
            ServerState::Standby | ServerState::Promoting | ServerState::Primary => done(),
        }
    }

    fn start_cut(&mut self, at: At, step: u8) -> Next {
        if step == 0 {
            let s = &mut self.hosts[at].server;
            (s.credential, s.upstream) = (None, None);
        }
        self.start(at, step > 0)
    }

    /// C-4: the tree is dead, and that is on disk, before anybody hears of it.
    fn fence(&mut self, at: At, step: u8, term: Term, waited: Us) -> Next {
        let early = self.is(Env::FencedBeforeKilled);
        let vow = |w: &mut World| {
            let v = &mut w.hosts[at].vows;
            v.resigned = v.resigned.max(term);
            (v.resigned_at, v.resigned_clean) = (None, false);
        };
        match step {
            0 if early => {
                vow(self);
                done()
            }
            0 => Next::Step(self.span(ms(3), ms(20))),
            1 if self.hosts[at].guard.stopped && waited < GUARD_KILLS => Next::Again(ms(50)),
            1 => {
                self.kill_server(at);
                self.hosts[at].server.signal_file = true;
                Next::Step(self.fsync(at))
            }
            _ => {
                vow(self);
                done()
            }
        }
    }

    /// C2 a to c: promise and cut may overlap; the position is read after both.
    fn recruit(&mut self, at: At, deed: &mut Deed, term: Term, waited: Us) -> Next {
        match deed.step {
            0 => {
                if self.is(Env::ReportBeforeCut) {
                    deed.found.recruited = Some(self.hosts[at].position(term));
                } else {
                    let s = &mut self.hosts[at].server;
                    (s.credential, s.upstream) = (None, None);
                    self.sighup(at);
                }
                Next::Step(self.fsync(at))
            }
            1 => {
                if !self.is(Env::PromiseNotDurable) {
                    let v = &mut self.hosts[at].vows;
                    v.promise = v.promise.max(term);
                }
                match deed.found.recruited.clone() {
                    Some(early) => Next::Done(Ok(Outcome::Recruited(early))),
                    None => Next::Step(0),
                }
            }
            2 => self.cut(at, waited),
            // Twice in a row nobody is there.
            3 if self.hosts[at].server.receiver.is_some() => Next::Again(0),
            3 => Next::Step(LOOK),
            4 if self.hosts[at].server.receiver.is_some() => self.cut(at, waited),
            4 => Next::Step(self.fsync(at)),
            _ => {
                self.hosts[at].server.wal.sync();
                if self.is(Env::PromiseNotDurable) {
                    // As if in memory alone: it is gone with the next process.
                    let mut vows = self.hosts[at].vows.clone();
                    vows.promise = vows.promise.max(term);
                    let life = self.hosts[at].agent.life;
                    self.tell(at, life, Event::Vows(Box::new(vows)));
                }
                Next::Done(Ok(Outcome::Recruited(self.hosts[at].position(term))))
            }
        }
    }

    /// SIGTERM for every walreceiver until none is left.
    fn cut(&mut self, at: At, waited: Us) -> Next {
        let host = &self.hosts[at];
        if host.server.receiver.is_none() {
            return Next::Step(0);
        }
        if waited > CUT_LIMIT {
            return failed("a walreceiver stays", false);
        }
        if host.server.works(Process::Walreceiver) && self.rng_chance(600) {
            self.end_receiver(at);
        }
        Next::Again(LOOK)
    }

    fn rng_chance(&mut self, per_mille: u64) -> bool {
        !self.chancy || self.rng.chance(per_mille)
    }

    /// P1 and P2's first half.
    fn hand_over(&mut self, at: At, deed: &mut Deed, term: Term, waited: Us) -> Next {
        let end = self.hosts[at].server.wal.end();
        match deed.step {
            0 => {
                if !self.hosts[at].server.is_primary() {
                    return failed("it is no primary", false);
                }
                if self.waits_for_proxies(at, term, waited) {
                    return Next::Again(LOOK);
                }
                self.hosts[at].server.shutting_down = true;
                let life = self.hosts[at].server.life;
                self.after(ms(150), What::ShutDown(at, life));
                self.close_sessions(at);
                Next::Step(self.span(ms(10), ms(40)))
            }
            1 => {
                // The shutdown checkpoint, which needs the disk and the checkpointer.
                let host = &self.hosts[at];
                if !host.server.is_primary() {
                    return Next::Step(0);
                }
                if host.server.stopped.contains(&Process::Checkpointer) && waited < HAND_OVER_LIMIT {
                    return Next::Again(LOOK);
                }
                deed.found.clean = !host.server.stopped.contains(&Process::Checkpointer);
                if deed.found.clean {
                    self.emit(at);
                }
                Next::Step(self.fsync(at))
            }
            2 => {
                let s = &self.hosts[at].server;
                let count = s.wal.records.len();
                let behind = |id: &u64| self.streams.get(id).is_some_and(|x| x.flush < count);
                let flushed = s.wal.flushed >= count || !s.is_primary();
                let sent = flushed && !s.senders.values().any(behind);
                if !sent && waited < SENT_LIMIT { Next::Again(LOOK) } else { Next::Step(0) }
            }
            3 if self.hosts[at].guard.stopped && waited < GUARD_KILLS => Next::Again(ms(50)),
            3 => {
                deed.found.clean &= self.hosts[at].server.is_primary() && self.hosts[at].server.shutting_down;
                self.kill_server(at);
                self.hosts[at].server.signal_file = true;
                Next::Step(self.fsync(at))
            }
            _ => {
                let (clean, lineage) = (deed.found.clean, self.hosts[at].server.wal.lineage.clone());
                let v = &mut self.hosts[at].vows;
                v.resigned = v.resigned.max(term);
                v.resigned_at = clean.then(|| Position::new(term, end));
                v.resigned_lineage = clean.then_some(lineage);
                v.resigned_clean = clean;
                done()
            }
        }
    }

    fn checkpoint_steps(&mut self, at: At, step: u8, count: u8) -> Next {
        let host = &self.hosts[at];
        if !host.server.is_primary() {
            return failed("it is no primary", false);
        }
        if host.server.stopped.contains(&Process::Checkpointer) || host.paused {
            return Next::Again(ms(100));
        }
        if step < count {
            return Next::Step(self.span(ms(15), ms(60)) + self.fsync(at));
        }
        let s = &mut self.hosts[at].server;
        s.checkpointed = s.wal.lineage.timeline;
        done()
    }
}
