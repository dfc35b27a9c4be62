//! A model of PostgreSQL: one data directory and the processes on it.
//!
//! What is modelled is what the protocol leans on. A backend's commit waits
//! under what the *checkpointer* last made of `synchronous_standby_names`; each
//! walsender releases under what *it* last read; a walreceiver goes on receiving
//! and acknowledging while replay is paused; a crash keeps what was written, a
//! power loss what was flushed; and what was written and not acknowledged is
//! visible after recovery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster::report::ServerState;
use cluster::{Lineage, MemberId, Rule, Term, Timeline};

use crate::clock::Us;
use crate::network::At;
use crate::wal::Wal;

/// `synchronous_standby_names`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// A name that nobody has: nobody can acknowledge (C-9).
    #[default]
    Placeholder,
    /// The agreed rule; that of the leader alone is the empty string.
    Set(Rule),
}

impl Names {
    /// Whether it is the empty string, under which nobody is waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Names::Set(rule) if rule.is_leader_only())
    }

    /// The rule, if it is one that names somebody.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Names::Set(rule) if !rule.is_leader_only() => Some(rule),
            Names::Set(_) | Names::Placeholder => None,
        }
    }
}

/// A process of a server that may be stopped by a signal or killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// Accepts connections, forks, hands SIGHUP on.
    Postmaster,
    /// Every ordinary session.
    Backend,
    /// All walsenders.
    Walsender,
    /// The walreceiver.
    Walreceiver,
    /// Replays.
    Startup,
    /// Completes checkpoints, and keeps the flag that backends look at (C-9).
    Checkpointer,
}

/// A session that waits for its commit to be acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    /// Records that must be flushed.
    pub count: usize,
    /// Which write.
    pub write: u32,
    /// Which client.
    pub client: usize,
    /// The connection of a proxy whose backend it is, if it is one's.
    pub conn: Option<u64>,
}

/// A walreceiver that has a connection.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Of which stream.
    pub stream: u64,
    /// Told to end by SIGTERM, which a stopped one does not hear.
    pub ending: bool,
}

/// A server and its directory.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// What it is doing.
    pub state: ServerState,
    /// Its log.
    pub wal: Wal,
    /// How many records are replayed.
    pub replayed: usize,
    /// System identifier; 0 for an empty directory.
    pub sysid: u64,
    /// Counts starts and ends of its processes: what belongs to an earlier life is void.
    pub life: u32,
    /// `standby.signal` is there, so that a start is one of a standby (I10).
    pub signal_file: bool,
    /// `synchronous_standby_names` in the file.
    pub names: Names,
    /// The same, as new backends see it.
    pub names_live: Names,
    /// Whether backends wait at all: the checkpointer's `sync_standbys_defined`.
    pub defined: bool,
    /// Whom the file says to stream from, in which term.
    pub upstream: Option<(At, Term)>,
    /// The same, as the startup process last read it.
    pub upstream_live: Option<(At, Term)>,
    /// The term whose replication credential is on disk (C-5).
    pub credential: Option<Term>,
    /// The walreceiver, while there is one.
    pub receiver: Option<Receiver>,
    /// Replay is paused by hand.
    pub replay_paused: bool,
    /// Processes that a signal has stopped.
    pub stopped: BTreeSet<Process>,
    /// Streams that it serves, by the slot that each of them holds.
    pub senders: BTreeMap<MemberId, u64>,
    /// Sessions that wait for standbys.
    pub waiting: VecDeque<Waiter>,
    /// Sessions that wait for the own disk.
    pub flushing: VecDeque<Waiter>,
    /// The timeline that the control file names: `pg_rewind` believes it.
    pub checkpointed: Timeline,
    /// It was asked to shut down and takes no new commits.
    pub shutting_down: bool,
    /// When the last WAL came in.
    pub heard_at: Us,
    /// An fsync of its log is under way.
    pub syncing: bool,
    /// The life in which sessions have outlived their postmaster; 0 when there are none.
    pub orphans: u32,
    /// The postmaster has read its file and is still signalling its children.
    pub signalling: bool,
    /// SIGHUP came while the postmaster was stopped.
    pub hup_pending: bool,
    /// The walreceiver is to be restarted when replay next runs out of WAL.
    pub restart_owed: bool,
    /// The timeline that a promotion takes: placeholders are laid up to it.
    pub reserved: Option<(Timeline, Term)>,
    /// A user promoted it; no election did.
    pub by_user: bool,
}

impl Server {
    /// Whether the postmaster runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        !matches!(self.state, ServerState::Down | ServerState::Empty)
    }

    /// Whether it takes writes, as far as it knows.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.state == ServerState::Primary
    }

    /// Whether `process` runs and is not stopped.
    #[must_use]
    pub fn works(&self, process: Process) -> bool {
        self.runs() && !self.stopped.contains(&process)
    }

    /// Makes a fresh directory: `initdb` leaves one record on timeline 1.
    pub fn initdb(&mut self, sysid: u64, id: u32) {
        let life = self.life + 1;
        *self = Server { state: ServerState::Down, sysid, life, signal_file: true, ..Server::default() };
        self.wal.lineage = Lineage::initdb();
        self.checkpointed = self.wal.lineage.timeline;
        self.wal.append(id, None);
        self.wal.sync();
        self.replayed = self.wal.records.len();
    }

    /// Every process is gone; files stay. The streams are the world's to end.
    pub fn vanish(&mut self) {
        if self.state != ServerState::Empty {
            self.state = ServerState::Down;
        }
        self.life += 1;
        self.stopped.clear();
        self.replay_paused = false;
        self.waiting.clear();
        self.flushing.clear();
        self.receiver = None;
        self.shutting_down = false;
        self.syncing = false;
        self.defined = true;
        (self.by_user, self.reserved) = (false, None);
        (self.signalling, self.hup_pending, self.restart_owed) = (false, false, false);
    }

    /// Power is gone: so is what had not been flushed, or some of it.
    pub fn lose_unsynced(&mut self, kept: usize) {
        self.wal.truncate(self.wal.flushed.max(kept));
        self.replayed = self.replayed.min(self.wal.records.len());
    }

    /// A start has read everything again: recovery replays all there is.
    pub fn recover(&mut self) {
        if let Some(from) = self.wal.half_streamed.take() {
            // The shorter file of the newer timeline is preferred, and the rest is not read.
            self.wal.truncate(from);
        }
        self.wal.sync();
        self.replayed = self.wal.records.len();
        self.names_live = self.names.clone();
        self.defined = !self.names.is_empty();
        self.upstream_live = self.upstream;
        self.state = ServerState::Standby;
    }

    /// Opens timeline `next` as primary.
    pub fn promote(&mut self, next: Timeline, id: u32) {
        self.wal.sync();
        self.replayed = self.wal.records.len();
        self.wal.switch(next);
        self.wal.append(id, None);
        self.wal.sync();
        self.state = ServerState::Primary;
        self.signal_file = false;
        self.upstream_live = None;
        self.receiver = None;
        self.replay_paused = false;
        self.replayed = self.wal.records.len();
    }
}
