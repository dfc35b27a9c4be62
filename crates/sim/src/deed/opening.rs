//! Opening and leading: promotion, barriers, rule changes (C5, C6, M2).

use cluster::local::Promoting;
use cluster::report::ServerState;
use cluster::state::Phase;
use cluster::{MemberId, Rule, Term};
use failover::Outcome;

use super::{
    BARRIER_LIMIT, CHANGE_LIMIT, Deed, LAGGING_LIMIT, LOOK, Next, Order, RELOAD_LIMIT, done, failed,
};
use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::mutation::Env;
use crate::network::At;
use crate::server::{Names, Process};
use crate::wal::Wal;
use crate::world::World;

impl World {
    /// C5.
    pub(super) fn promote(&mut self, at: At, deed: &mut Deed, waited: Us, order: Order, rule: &Rule) -> Next {
        let standby = self.hosts[at].server.state == ServerState::Standby;
        if deed.step < 7 && !standby {
            return failed("it is not in recovery", false);
        }
        if deed.step < 5 {
            return self.prepare_promotion(at, deed, waited, order, rule);
        }
        self.go_primary(at, deed, order)
    }

    /// Replay everything, and put the rule in force.
    fn prepare_promotion(&mut self, at: At, deed: &mut Deed, waited: Us, order: Order, rule: &Rule) -> Next {
        let Order { term, timeline, sub } = order;
        match deed.step {
            0 => {
                let again = self.hosts[at].vows.promoting.is_some_and(|p| p.term >= term);
                if again {
                    return failed("it was asked to promote in this term before", false);
                }
                Next::Step(self.fsync(at))
            }
            1 => {
                let v = &mut self.hosts[at].vows;
                v.promise = v.promise.max(term);
                v.last_rule_seen = Some((term, sub, rule.clone()));
                if self.is(Env::XidBeforeReplay) {
                    deed.found.next_xid = self.hosts[at].xid_replayed();
                }
                Next::Step(0)
            }
            2 => {
                let s = &mut self.hosts[at].server;
                s.replay_paused = false;
                self.replay(at);
                let s = &self.hosts[at].server;
                if s.replayed < s.wal.records.len() && s.stopped.contains(&Process::Startup) {
                    return Next::Again(ms(20));
                }
                self.hosts[at].server.replayed = self.hosts[at].server.wal.records.len();
                if deed.found.next_xid == 0 {
                    deed.found.next_xid = self.hosts[at].server.wal.next_xid();
                }
                Next::Step(self.span(ms(2), ms(15)))
            }
            3 => {
                self.hosts[at].server.reserved = Some((timeline, term));
                self.hosts[at].server.names = Names::Set(rule.clone());
                self.sighup(at);
                Next::Step(ms(1))
            }
            _ => self.shown(at, waited),
        }
    }

    /// The vow, the store once more, the guard's deadline, and then it is asked to promote.
    fn go_primary(&mut self, at: At, deed: &mut Deed, order: Order) -> Next {
        let Order { term, timeline, .. } = order;
        match deed.step {
            5 => {
                // "promoting" is on disk, then the store is read once more.
                let next_xid = deed.found.next_xid;
                let v = &mut self.hosts[at].vows;
                v.promoting = Some(Promoting { term, next_xid });
                deed.found.read_at = self.now;
                let fsync = self.fsync(at);
                let way = self.span(ms(2), ms(8));
                Next::Step(fsync + way)
            }
            6 => {
                let mine = self.truth.ctl.leader.as_ref().is_some_and(|l| l.node == self.hosts[at].name);
                let valid = self.truth.ctl.term == term && self.truth.ctl.phase == Phase::Elected && mine;
                let reached = self.reaches_store(at);
                if !(valid && reached) {
                    self.hosts[at].server.names = Names::Placeholder;
                    self.hosts[at].server.reserved = None;
                    return failed(
                        if reached { "another term has begun" } else { "the store can't be read" },
                        false,
                    );
                }
                if self.hosts[at].guard.stopped {
                    return Next::Again(ms(50));
                }
                // C-25: armed first, from the moment at which the read began.
                if !self.is(Env::GuardUnarmed) {
                    let reach = failover::fencing::first_reach(&self.truth);
                    let host = &mut self.hosts[at];
                    let until = host.clock.local(deed.found.read_at) + reach;
                    (host.guard.deadline, host.agent.until) = (Some(until), Some(until));
                }
                self.hosts[at].server.state = ServerState::Promoting;
                Next::Step(self.span(ms(15), ms(60)) + self.fsync(at))
            }
            _ => {
                if self.hosts[at].server.state != ServerState::Promoting {
                    return failed("it ended", false);
                }
                self.open_primary(at, term, timeline);
                done()
            }
        }
    }

    fn open_primary(&mut self, at: At, term: Term, timeline: cluster::Timeline) {
        let taken = if self.is(Env::TimelineNotReserved) {
            cluster::Timeline(self.hosts[at].server.wal.lineage.timeline.0 + 1)
        } else {
            timeline
        };
        self.end_receiver(at);
        self.next_record += 1;
        let id = self.next_record;
        self.hosts[at].server.promote(taken, id);
        self.hosts[at].server.signal_file = !self.is(Env::NoStandbySignal);
        self.note(Some(at), || format!("is primary of term {term} on timeline {taken}"));
        self.judge(&Moment::Promoted { at, term });
        self.hosts[at].ghost.promoted.push(term);
        self.hosts[at].ghost.leads = term;
        self.pump_all(at);
    }

    /// C-7: a first connection shows the new value; a second, fresh one was forked
    /// after every child had been signalled.
    fn shown(&mut self, at: At, waited: Us) -> Next {
        let s = &self.hosts[at].server;
        let shows = s.names_live == s.names && s.works(Process::Postmaster);
        if waited > RELOAD_LIMIT {
            return failed("its setting is overridden", false);
        }
        let second = !s.signalling || self.is(Env::FirstConnectionWillDo);
        if shows && second { Next::Step(ms(1)) } else { Next::Again(LOOK) }
    }

    /// C6: k members of the rule have flushed a record of ours.
    pub(super) fn barrier(&mut self, at: At, deed: &mut Deed, waited: Us, rule: &Rule) -> Next {
        if !self.hosts[at].server.is_primary() {
            return failed("it is no primary", false);
        }
        match deed.step {
            0 => {
                deed.found.count = self.emit(at);
                Next::Step(LOOK)
            }
            _ if self.has_flushed(at, rule, deed.found.count) || self.is(Env::NoDataBarrier) => {
                Next::Done(Ok(Outcome::Proven(Wal::lsn(deed.found.count))))
            }
            _ if waited > BARRIER_LIMIT => failed("its standbys did not acknowledge in time", false),
            _ => Next::Again(LOOK),
        }
    }

    fn has_flushed(&self, at: At, rule: &Rule, count: usize) -> bool {
        let server = &self.hosts[at].server;
        let flushed =
            server.senders.iter().filter(|(_, id)| self.streams.get(id).is_some_and(|s| s.flush >= count));
        server.wal.flushed >= count && rule.is_acked_by(flushed.map(|(m, _)| m))
    }

    /// M2: the new rule in force at every walsender, and proven.
    pub(super) fn change_rule(
        &mut self,
        at: At,
        deed: &mut Deed,
        waited: Us,
        from: &Rule,
        to: &Rule,
    ) -> Next {
        if !self.hosts[at].server.is_primary() {
            return failed("it is no primary", false);
        }
        match deed.step {
            0 => {
                self.hosts[at].server.names = Names::Set(to.clone());
                self.sighup(at);
                Next::Step(ms(1))
            }
            1 => self.shown(at, waited),
            2 if from.is_leader_only() && !to.is_leader_only() && !self.is(Env::NoCheckpointerProof) => {
                // C-9: the flag that backends look at is the checkpointer's.
                let s = &self.hosts[at].server;
                let proven = s.defined && !s.stopped.contains(&Process::Checkpointer);
                if proven { Next::Step(self.span(ms(15), ms(40))) } else { Next::Again(ms(20)) }
            }
            2 => Next::Step(0),
            3 => {
                deed.found.count = self.emit(at);
                Next::Step(LOOK)
            }
            4 => self.await_config(at, deed, waited, from, to),
            5 => {
                // Only now is everything older, and what follows, released by the new rule.
                deed.found.count = self.emit(at);
                Next::Step(LOOK)
            }
            _ if self.has_flushed(at, to, deed.found.count) => {
                Next::Done(Ok(Outcome::Proven(Wal::lsn(deed.found.count))))
            }
            _ if waited > CHANGE_LIMIT => failed("the new commit rule could not be put in force", false),
            _ => Next::Again(LOOK),
        }
    }

    /// The config barrier: every walsender of both rules has flushed a record that was
    /// written after all were signalled.
    fn await_config(&mut self, at: At, deed: &mut Deed, waited: Us, from: &Rule, to: &Rule) -> Next {
        let count = deed.found.count;
        let named = |m: &MemberId| from.names(m) || to.names(m);
        let server = &self.hosts[at].server;
        let behind = server
            .senders
            .iter()
            .filter(|(m, _)| named(m))
            .find(|(_, id)| self.streams.get(id).is_some_and(|s| s.flush < count))
            .map(|(_, id)| *id);
        match behind {
            _ if self.is(Env::NoConfigBarrier) => {
                return Next::Done(Ok(Outcome::Proven(Wal::lsn(count))));
            }
            None if self.is(Env::EarlyDataBarrier) && self.has_flushed(at, to, count) => {
                return Next::Done(Ok(Outcome::Proven(Wal::lsn(count))));
            }
            None if !self.is(Env::EarlyDataBarrier) => return Next::Step(0),
            // A stopped one hears SIGTERM when it runs again.
            Some(id) if waited > LAGGING_LIMIT && server.works(Process::Walsender) => self.end_sender(id),
            None | Some(_) => {}
        }
        if waited > CHANGE_LIMIT {
            return failed("the new commit rule could not be put in force", false);
        }
        Next::Again(LOOK)
    }
}

impl crate::host::Host {
    /// The next transaction id as far as replay has come.
    fn xid_replayed(&self) -> u64 {
        let wal = &self.server.wal;
        3 + wal.records.iter().take(self.server.replayed).filter(|r| r.begins().is_some()).count() as u64
    }
}
