//! Coming to a leader: follow, rewind, clone.

use cluster::local::Rebuild;
use cluster::report::ServerState;
use cluster::{MemberId, Term};

use super::{Next, done, failed};
use crate::clock::ms;
use crate::law::Moment;
use crate::network::At;
use crate::server::{Names, Process};
use crate::world::World;

impl World {
    /// Attaching is itself a promise: to that term, and to having attached (O-8).
    pub(super) fn follow(&mut self, at: At, step: u8, term: Term, leader: &MemberId, afresh: bool) -> Next {
        match step {
            0 => {
                if afresh {
                    self.kill_server(at);
                    // What follows the last whole record, and history files of timelines
                    // that own no record, are put aside while the server is down.
                    let wal = &mut self.hosts[at].server.wal;
                    wal.torn = false;
                    wal.lineage = wal.log_lineage();
                }
                if self.hosts[at].vows.promise > term {
                    return failed("a later term is promised", false);
                }
                Next::Step(self.fsync(at))
            }
            1 => {
                let v = &mut self.hosts[at].vows;
                if v.promise > term {
                    return failed("a later term is promised", false);
                }
                v.promise = v.promise.max(term);
                v.attached = v.attached.max(term);
                Next::Step(self.span(ms(1), ms(6)))
            }
            2 => {
                let Some(up) = self.places.get(&leader.node).copied() else {
                    return failed("its leader has no address", false);
                };
                let s = &mut self.hosts[at].server;
                if s.state == ServerState::Empty {
                    return failed("there is no data directory", true);
                }
                (s.credential, s.upstream) = (Some(term), Some((up, term)));
                if self.hosts[at].server.runs() {
                    self.sighup(at);
                    self.hosts[at].server.replay_paused = false;
                    self.replay(at);
                    return done();
                }
                Next::Step(0)
            }
            _ => self.start(at, step > 3),
        }
    }

    /// The mark stands on disk before the first byte is changed.
    pub(super) fn rebuild(&mut self, at: At, step: u8, leader: &MemberId, how: Rebuild) -> Next {
        let Some(up) = self.places.get(&leader.node).copied().filter(|up| *up != at) else {
            return failed("its leader has no address", false);
        };
        let source = &self.hosts[up];
        let there = source.server.is_primary()
            && source.up
            && !source.paused
            && source.server.works(Process::Postmaster)
            && self.network.connects(at, up);
        let begun = step > 1;
        if !there {
            // A rewind that has begun leaves what can't be trusted.
            return failed("the source is gone", begun && how == Rebuild::Rewind);
        }
        if self.hosts[at].disk.full {
            return failed("no room", false);
        }
        match step {
            0 => Next::Step(self.fsync(at)),
            1 => {
                self.hosts[at].vows.rebuilding = Some(how);
                let life = self.hosts[at].agent.life;
                self.tell_vows(at, life);
                Next::Step(0)
            }
            2 => {
                self.kill_server(at);
                let (low, high) =
                    if how == Rebuild::Clone { (ms(500), ms(2500)) } else { (ms(200), ms(900)) };
                Next::Step(self.span(low, high))
            }
            3 => {
                self.copy(at, up, how);
                Next::Step(self.fsync(at))
            }
            _ => {
                self.hosts[at].vows.rebuilding = None;
                self.hosts[at].vows.sysid = self.hosts[at].server.sysid;
                done()
            }
        }
    }

    fn copy(&mut self, at: At, up: At, how: Rebuild) {
        let source = &self.hosts[up].server;
        let (wal, sysid, checkpointed) = (source.wal.clone(), source.sysid, source.checkpointed);
        let s = &mut self.hosts[at].server;
        // `pg_rewind` believes the source's control file: before a checkpoint it
        // still names the older timeline, and no rewind seems to be required (C-11).
        let blind = how == Rebuild::Rewind && checkpointed == s.wal.lineage.timeline;
        if !blind {
            s.wal.records = wal.records;
            s.wal.records.truncate(wal.flushed);
            s.wal.lineage = wal.lineage;
            (s.wal.torn, s.wal.half_streamed) = (false, None);
            s.wal.sync();
            s.replayed = s.wal.records.len();
        }
        s.sysid = sysid;
        s.checkpointed = checkpointed;
        s.state = ServerState::Down;
        (s.names, s.upstream, s.credential) = (Names::Placeholder, None, None);
        s.signal_file = true;
        self.hosts[at].ghost.acked = None;
        self.judge(&Moment::Rebuilt { at, from: up });
    }

    /// The rest of the holder's log, if ours is its beginning; then where that ends.
    pub(super) fn fast_forward(&mut self, at: At, step: u8, term: Term, holder: &MemberId) -> Next {
        let Some(from) = self.places.get(&holder.node).copied() else {
            return failed("the holder has no address", false);
        };
        if !self.network.both(at, from) || !self.hosts[from].is_awake() {
            return failed("the holder can't be reached", false);
        }
        if step == 0 {
            return Next::Step(self.span(ms(20), ms(300)) + self.fsync(at));
        }
        let theirs = self.hosts[from].server.wal.clone();
        let host = &mut self.hosts[at];
        if !host.server.wal.is_prefix_of(&theirs) {
            return failed("the holder's log does not go on where ours ends", false);
        }
        let wal = &mut host.server.wal;
        wal.records.clone_from(&theirs.records);
        wal.lineage = theirs.log_lineage();
        (wal.torn, wal.half_streamed) = (false, None);
        wal.sync();
        self.replay(at);
        Next::Done(Ok(failover::Outcome::Recruited(self.hosts[at].position(term))))
    }
}
