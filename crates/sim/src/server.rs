//! A model of PostgreSQL: a log, a history, replication, and the rule in force.
//!
//! What is modelled is what the protocol leans on: WAL in timelines, walsenders
//! that release commits under the rule in force, walreceivers that acknowledge
//! what they have flushed, a server that vanishes at a kill and keeps its log.

use std::collections::BTreeMap;

use cluster::lineage::Branch;
use cluster::report::ServerState;
use cluster::{Lineage, Lsn, MemberId, NodeId, Rule, Term, Timeline};

/// Bytes per model record.
pub const RECORD: u64 = 100;

/// One record: the timeline that wrote it, and the write it carries, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who wrote it.
    pub timeline: Timeline,
    /// A client's write, or `None` for the server's own.
    pub write: Option<String>,
}

/// A server and its directory.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// What it is doing.
    pub state: ServerState,
    /// What is on disk.
    pub wal: Vec<Record>,
    /// Its past.
    pub lineage: Lineage,
    /// System identifier; 0 for an empty directory.
    pub sysid: u64,
    /// Whom it is configured to stream from, in which term.
    pub upstream: Option<(NodeId, Term)>,
    /// Whether a walreceiver streams.
    pub streaming: bool,
    /// `synchronous_standby_names`.
    pub rule: SyncRule,
    /// As primary: how far each standby has acknowledged, by application name.
    pub acked: BTreeMap<MemberId, Lsn>,
    /// Stopped by a signal: alive, answers nobody.
    pub stopped: bool,
    /// After the last whole record lies one that its leader has not finished. A start
    /// reads it again; it asks for the rest, which no later timeline has.
    pub torn: bool,
}

/// The rule in force; a standby's placeholder admits nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyncRule {
    /// Nobody can acknowledge (C-9).
    #[default]
    Placeholder,
    /// The agreed rule.
    Set(Rule),
}

impl Server {
    /// End of its log.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.wal.len() as u64 * RECORD)
    }

    /// Whether the process runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        !matches!(self.state, ServerState::Down | ServerState::Empty)
    }

    /// Whether it is out of recovery, or about to be.
    #[must_use]
    pub fn is_read_write(&self) -> bool {
        matches!(self.state, ServerState::Primary | ServerState::Promoting)
    }

    /// The timeline that owns the last record.
    #[must_use]
    pub fn last_timeline(&self) -> Timeline {
        self.wal.last().map_or(self.lineage.timeline, |r| r.timeline)
    }

    /// Makes a fresh directory.
    pub fn initdb(&mut self, sysid: u64) {
        *self = Server { state: ServerState::Down, lineage: Lineage::initdb(), sysid, ..Server::default() };
        self.append(None);
    }

    /// Writes a record and returns its end.
    pub fn append(&mut self, write: Option<String>) -> Lsn {
        self.wal.push(Record { timeline: self.lineage.timeline, write });
        self.end()
    }

    /// Dies at once; the log stays.
    pub fn kill(&mut self) {
        if self.state != ServerState::Empty {
            self.state = ServerState::Down;
        }
        self.streaming = false;
        self.stopped = false;
        self.acked.clear();
    }

    /// Opens timeline `tli` and becomes primary.
    pub fn promote(&mut self, tli: Timeline, rule: Rule) {
        self.lineage.ancestors.push(Branch { timeline: self.lineage.timeline, end: self.end() });
        self.lineage.timeline = tli;
        self.rule = SyncRule::Set(rule);
        self.state = ServerState::Primary;
        self.upstream = None;
        self.streaming = false;
        self.torn = false;
        self.append(None);
    }

    /// Whether the record that ends at `lsn` carries `write`.
    #[must_use]
    pub fn holds(&self, write: &str, lsn: Lsn) -> bool {
        let at = usize::try_from(lsn.0 / RECORD).unwrap_or(usize::MAX).wrapping_sub(1);
        self.wal.get(at).is_some_and(|r| r.write.as_deref() == Some(write))
    }

    /// Whether a commit that ends at `lsn` is acknowledged to its client.
    #[must_use]
    pub fn is_acknowledged(&self, lsn: Lsn) -> bool {
        if self.state != ServerState::Primary || self.stopped {
            return false;
        }
        match &self.rule {
            SyncRule::Placeholder => false,
            SyncRule::Set(rule) => {
                rule.is_acked_by(self.acked.iter().filter(|(_, at)| **at >= lsn).map(|(m, _)| m))
            }
        }
    }

    /// Whether `upstream`'s log goes on where `self` asks for more.
    #[must_use]
    pub fn can_stream_from(&self, upstream: &Server) -> bool {
        let refused = self.torn && self.lineage.timeline != upstream.lineage.timeline;
        !refused && self.wal.len() <= upstream.wal.len() && upstream.wal[..self.wal.len()] == self.wal[..]
    }

    /// Receives all that `upstream` has. The rest of a record comes from whoever
    /// writes it, or lies before what another has received since.
    pub fn receive(&mut self, upstream: &Server) {
        let rest = upstream.state == ServerState::Primary || upstream.wal.len() > self.wal.len();
        self.torn &= !rest;
        self.wal = upstream.wal.clone();
        self.lineage = upstream.lineage.clone();
    }

    /// Cuts the log where it leaves `source`'s, as `pg_rewind` does, and takes its rest.
    pub fn rewind_to(&mut self, source: &Server) {
        self.receive(source);
        self.torn = false;
        self.rule = SyncRule::Placeholder;
    }
}
