//! Streaming replication: walsender, walreceiver, and what each of them knows.

use cluster::report::ServerState;
use cluster::{Lsn, MemberId, Term};

use crate::clock::{Us, ms};
use crate::law::Moment;
use crate::network::At;
use crate::point::Point;
use crate::server::{Names, Process, Receiver};
use crate::wal::{Record, SEGMENT, Wal};
use crate::world::{What, World};

/// `wal_retrieve_retry_interval`.
pub const RETRY: Us = ms(100);
/// `wal_receiver_status_interval`.
pub const STATUS: Us = ms(1000);
/// A connection over a cut link is given up after so many tries, `HELD` apart:
/// `tcp_user_timeout` and its kin.
pub const HELD_TRIES: u32 = 25;
/// See `HELD_TRIES`.
pub const HELD: Us = ms(100);
/// A walsender that hears nothing of a host that is gone ends after so long.
pub const SENDER_TIMEOUT: Us = ms(5000);

/// Who stood still reads what has come in, and so long after looks at its settings.
pub(crate) const READ_FIRST: Us = 1;
/// A stopped process is looked at again after so long.
const STOPPED: Us = ms(20);

/// One connection.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who sends.
    pub up: At,
    /// Who receives.
    pub down: At,
    /// Of which lives of the two servers.
    pub lives: (u32, u32),
    /// The term of the credential by which it came about.
    pub term: Term,
    /// Who acknowledges, as its `application_name` says.
    pub member: MemberId,
    /// Records sent.
    pub sent: usize,
    /// Something is on its way.
    pub busy: bool,
    /// Records that the receiver acknowledged, as the walsender knows.
    pub flush: usize,
    /// `synchronous_standby_names` as this walsender last read it.
    pub names: Names,
    /// It was signalled to read it again, and has not yet.
    pub reload: bool,
    /// It was signalled between its look at the settings and its reading of replies, and
    /// stands still until then: what has come in is read under the old settings, and the
    /// new ones before anything is sent (`WalSndLoop` in walsender.c).
    pub still_until: Option<Us>,
    /// When its last reply came in.
    pub replied_at: Us,
    /// When it came about.
    pub since: Us,
}

impl World {
    /// The startup process of `down` asks for a walreceiver, or one tries to connect.
    pub(crate) fn try_receive(&mut self, down: At) {
        let host = &self.hosts[down];
        let s = &host.server;
        let wanted = s.state == ServerState::Standby && s.receiver.is_none() && host.up;
        let Some((up, term)) = s.upstream_live.filter(|_| wanted) else { return };
        if host.paused || s.stopped.contains(&Process::Startup) || s.replay_paused {
            return self.after(ms(50), What::Receive(down, self.hosts[down].server.life));
        }
        // C-5: no credential, no connection, whatever the process read before.
        let admitted = s.credential == Some(term) || self.is(crate::mutation::Env::CredentialStays);
        let pause = match self.connect(down, up, term, admitted) {
            true => return,
            false if !self.network.connects(down, up) || !self.hosts[up].up => ms(2000),
            false => RETRY,
        };
        let life = self.hosts[down].server.life;
        self.after(pause, What::Receive(down, life));
    }

    /// Whether the stream came about.
    fn connect(&mut self, down: At, up: At, term: Term, admitted: bool) -> bool {
        let (standby, source) = (&self.hosts[down], &self.hosts[up]);
        let Some(member) = standby.vows.member.clone() else { return false };
        let takes = matches!(source.server.state, ServerState::Primary | ServerState::Standby)
            && source.up
            && !source.paused
            && !source.server.stopped.contains(&Process::Postmaster)
            && !source.server.shutting_down
            && !standby.disk.full;
        if !admitted || !takes || !self.network.connects(down, up) {
            return false;
        }
        // A slot admits one walsender (C-8).
        if source.server.senders.contains_key(&member) {
            return false;
        }
        let (mine, theirs) = (&standby.server.wal, &source.server.wal);
        let fits = mine.lineage.can_follow(mine.end(), &theirs.lineage)
            && mine.records.len() <= theirs.records.len()
            && (!mine.torn || mine.lineage.timeline == theirs.lineage.timeline);
        if !fits || standby.server.sysid != source.server.sysid {
            return false;
        }
        self.judge(&Moment::Attached { up, down });
        self.open_stream(down, up, term, member);
        if self.hosts[down].server.wal.half_streamed.is_some() {
            self.reach(Point { what: "half-streamed", step: 0 }, down);
        }
        true
    }

    fn open_stream(&mut self, down: At, up: At, term: Term, member: MemberId) {
        self.next_stream += 1;
        let id = self.next_stream;
        let lives = (self.hosts[up].server.life, self.hosts[down].server.life);
        let names = self.hosts[up].server.names_live.clone();
        let theirs = self.hosts[up].server.wal.lineage.clone();
        let writes = self.hosts[up].server.is_primary();
        let longer = self.hosts[up].server.wal.records.len();
        let s = &mut self.hosts[down].server;
        let have = s.wal.records.len();
        if s.wal.lineage != theirs && longer > have {
            // The switch segment comes once more, into a file of the newer timeline.
            s.wal.half_streamed = Some(have / SEGMENT * SEGMENT).filter(|from| *from < have);
        }
        s.wal.lineage = theirs;
        s.wal.torn &= !(writes || longer > have);
        s.receiver = Some(Receiver { stream: id, ending: false });
        s.heard_at = self.now;
        self.hosts[up].server.senders.insert(member.clone(), id);
        let stream = Stream {
            up,
            down,
            lives,
            term,
            member,
            sent: have,
            busy: false,
            flush: 0,
            names,
            reload: false,
            still_until: None,
            replied_at: self.now,
            since: self.now,
        };
        self.streams.insert(id, stream);
        self.again(down);
        self.again(up);
        self.reply(id);
        self.after(STATUS, What::Status(id));
        self.pump(id);
    }

    /// Sends what is flushed and not sent, one chunk at a time.
    pub(crate) fn pump(&mut self, id: u64) {
        let Some(s) = self.streams.get(&id) else { return };
        let source = &self.hosts[s.up];
        let works =
            source.server.life == s.lives.0 && source.server.works(Process::Walsender) && !source.paused;
        if s.busy || s.still_until.is_some() || !works || source.server.wal.flushed <= s.sent {
            return;
        }
        let (from, to) = (s.sent, source.server.wal.flushed);
        // What is on its way is cut where chance wants it, as by the size of a message.
        let cut = self.chancy && self.rng.chance(self.store.slow_reload);
        let to = if cut { from + 1 } else { to };
        let chunk: Vec<Record> = self.hosts[s.up].server.wal.records[from..to].to_vec();
        let delay = self.network.delay(&mut self.rng);
        let s = self.streams.get_mut(&id).expect("just seen");
        (s.busy, s.sent) = (true, to);
        self.after(delay, What::Chunk { id, from, chunk, tries: 0 });
    }

    pub(crate) fn pump_all(&mut self, up: At) {
        let ids: Vec<u64> = self.hosts[up].server.senders.values().copied().collect();
        for id in ids {
            self.pump(id);
        }
    }

    /// A chunk comes in, or is held up by a cut link or a stopped process.
    pub(crate) fn chunk(&mut self, id: u64, from: usize, chunk: Vec<Record>, tries: u32) {
        let Some(s) = self.streams.get(&id) else { return };
        let (up, down) = (s.up, s.down);
        if !self.receives(id) {
            return;
        }
        if !self.network.carries(down, up, up, down) {
            if tries >= HELD_TRIES {
                return self.break_stream(id);
            }
            return self.after(HELD, What::Chunk { id, from, chunk, tries: tries + 1 });
        }
        let host = &self.hosts[down];
        if host.paused || !host.server.works(Process::Walreceiver) {
            return self.after(ms(50), What::Chunk { id, from, chunk, tries });
        }
        if host.disk.full {
            return self.end_receiver(down);
        }
        let now = self.now;
        self.next_timeline(up, down, &chunk);
        let s = &mut self.hosts[down].server;
        s.heard_at = now;
        if s.wal.records.len() == from {
            s.wal.records.extend_from_slice(&chunk);
            s.wal.torn = false;
        }
        let count = s.wal.records.len();
        let done = self.hosts[down].disk.fsync(now, &mut self.rng);
        self.at(done, What::Received(id, count));
        self.streams.get_mut(&id).expect("just seen").busy = false;
        self.pump(id);
    }

    /// The upstream was promoted while it streamed: the walreceiver fetches its history
    /// and begins the switch segment anew.
    fn next_timeline(&mut self, up: At, down: At, chunk: &[Record]) {
        let theirs = &self.hosts[up].server.wal.lineage;
        let newest = chunk.last().map_or(theirs.timeline, |r| r.timeline);
        let wal = &self.hosts[down].server.wal;
        if newest != wal.lineage.timeline && newest == theirs.timeline {
            let (theirs, have) = (theirs.clone(), wal.records.len());
            let wal = &mut self.hosts[down].server.wal;
            wal.half_streamed = Some(have / SEGMENT * SEGMENT).filter(|at| *at < have);
            wal.lineage = theirs;
        }
    }

    /// Whether the walreceiver of this stream is still the one.
    fn receives(&self, id: u64) -> bool {
        self.streams.get(&id).is_some_and(|s| {
            let server = &self.hosts[s.down].server;
            server.life == s.lives.1 && server.receiver.as_ref().is_some_and(|r| r.stream == id)
        })
    }

    /// The walreceiver has flushed, and says so.
    pub(crate) fn received(&mut self, id: u64, count: usize) {
        if !self.receives(id) {
            return;
        }
        let down = self.streams[&id].down;
        if self.hosts[down].paused || !self.hosts[down].server.works(Process::Walreceiver) {
            return self.after(ms(50), What::Received(id, count));
        }
        let s = &mut self.hosts[down].server;
        s.wal.flushed = s.wal.flushed.max(count);
        s.wal.half_streamed = None;
        self.replay(down);
        self.reply(id);
        self.pump_all(down);
    }

    /// The startup process applies what has come in.
    pub(crate) fn replay(&mut self, at: At) {
        let s = &mut self.hosts[at].server;
        if s.state == ServerState::Standby && !s.replay_paused && s.works(Process::Startup) {
            s.replayed = s.wal.flushed;
        }
    }

    /// A standby status update leaves: an acknowledgement of what is flushed.
    pub(crate) fn reply(&mut self, id: u64) {
        if !self.receives(id) {
            return;
        }
        let s = &self.streams[&id];
        let (down, term, member) = (s.down, s.term, s.member.clone());
        let server = &self.hosts[down].server;
        if self.hosts[down].paused || !server.works(Process::Walreceiver) {
            return;
        }
        let count = server.wal.flushed.min(server.wal.records.len());
        self.judge(&Moment::AckSent { at: down, term });
        let host = &mut self.hosts[down];
        if let Some(last) = count.checked_sub(1) {
            let record = host.server.wal.records[last];
            host.ghost.acked = Some((last, record.id));
            self.witnessed.replied.insert((term, member), (count, record));
        }
        let delay = self.network.delay(&mut self.rng);
        self.after(delay, What::Reply { id, count, tries: 0 });
    }

    /// The walsender hears it: reload first, if one is pending, then the reply
    /// (`WalSndLoop` in walsender.c), and only then release.
    pub(crate) fn replied(&mut self, id: u64, count: usize, tries: u32) {
        let Some(s) = self.streams.get(&id) else { return };
        let (up, down) = (s.up, s.down);
        let server = &self.hosts[up].server;
        if server.life != s.lives.0 || !server.senders.values().any(|x| *x == id) {
            return;
        }
        if !self.network.carries(down, up, down, up) {
            if tries >= HELD_TRIES {
                return self.break_stream(id);
            }
            return self.after(HELD, What::Reply { id, count, tries: tries + 1 });
        }
        if self.hosts[up].paused || !server.works(Process::Walsender) {
            return self.after(STOPPED, What::Reply { id, count, tries });
        }
        let now = self.now;
        match self.streams[&id].still_until {
            Some(until) if now < until => return self.at(until, What::Reply { id, count, tries }),
            Some(_) => {}
            None => self.reload_sender(id),
        }
        let s = self.streams.get_mut(&id).expect("just seen");
        s.flush = s.flush.max(count);
        s.replied_at = now;
        self.release(id);
    }

    /// A walsender reads its settings again, if it was told to.
    pub(crate) fn reload_sender(&mut self, id: u64) {
        let Some(s) = self.streams.get(&id) else { return };
        let server = &self.hosts[s.up].server;
        if server.life != s.lives.0 {
            return;
        }
        let free = server.works(Process::Walsender) && !self.hosts[s.up].paused;
        if s.still_until.is_some() && !free {
            let again = self.now + STOPPED;
            self.streams.get_mut(&id).expect("just seen").still_until = Some(again);
            return self.at(again + READ_FIRST, What::SenderReloads(id));
        }
        if s.reload && free {
            let names = server.names_live.clone();
            let s = self.streams.get_mut(&id).expect("just seen");
            (s.reload, s.still_until, s.names) = (false, None, names);
            self.pump(id);
        }
    }

    /// Each second the receiver says where it is, and sends what was held up.
    pub(crate) fn status(&mut self, id: u64) {
        if !self.receives(id) {
            return;
        }
        let down = self.streams[&id].down;
        self.replay(down);
        self.reply(id);
        self.pump(id);
        self.after(STATUS, What::Status(id));
    }

    /// The receiver's end is over: SIGTERM, an end of the stream, a timeout. It
    /// flushes what it received and sends no reply for it (`WalRcvDie`).
    pub(crate) fn end_receiver(&mut self, down: At) {
        let server = &mut self.hosts[down].server;
        let Some(receiver) = server.receiver.take() else { return };
        server.wal.sync();
        server.wal.half_streamed = None;
        let life = server.life;
        self.replay(down);
        self.after(RETRY, What::Receive(down, life));
        self.again(down);
        self.hang_up(receiver.stream);
    }

    /// The other end learns of it: at once, or when it has waited long enough.
    pub(crate) fn hang_up(&mut self, id: u64) {
        let Some(s) = self.streams.get(&id) else { return };
        let heard =
            self.network.connects(s.down, s.up) && self.hosts[s.down].up && !self.hosts[s.down].paused;
        let delay = if heard { self.network.delay(&mut self.rng) } else { SENDER_TIMEOUT };
        self.after(delay, What::SenderEnds(id));
    }

    /// The walsender's end is over.
    pub(crate) fn end_sender(&mut self, id: u64) {
        let Some(s) = self.streams.remove(&id) else { return };
        let server = &mut self.hosts[s.up].server;
        server.senders.retain(|_, x| *x != id);
        let heard = self.network.connects(s.down, s.up) && self.hosts[s.up].up;
        let delay = if heard { self.network.delay(&mut self.rng) } else { HELD * u64::from(HELD_TRIES) };
        self.after(delay, What::ReceiverEnds(s.down, id));
    }

    /// Nothing got through for too long: both ends give up.
    fn break_stream(&mut self, id: u64) {
        let Some(s) = self.streams.get(&id) else { return };
        let down = s.down;
        if self.receives(id) {
            self.end_receiver(down);
        } else {
            self.hang_up(id);
        }
    }

    /// All connections of a server that is gone.
    pub(crate) fn drop_streams(&mut self, at: At) {
        let served: Vec<u64> = self.hosts[at].server.senders.values().copied().collect();
        for id in served {
            self.end_sender(id);
        }
        self.hosts[at].server.senders.clear();
        let received: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.down == at).map(|(id, _)| *id).collect();
        for id in received {
            self.hang_up(id);
        }
    }

    /// How far a standby's log is behind what its leader says.
    #[must_use]
    pub fn flushed(&self, at: At) -> Lsn {
        Wal::lsn(self.hosts[at].server.wal.flushed)
    }
}
