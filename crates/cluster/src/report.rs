//! What an agent tells every other agent, ten times a second and on change.
//!
//! One message serves as heartbeat, vote and probe result. It holds facts about
//! its sender only; orders travel as agreed state. The durable part is sent
//! only after it is on disk: persist, then speak.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;
use crate::local::Vows;
use crate::lsn::{Lsn, Position};
use crate::node::{MemberId, NodeId};
use crate::term::Term;

/// One agent's account of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who speaks.
    pub member: MemberId,
    /// Random number of this agent process.
    pub boot: u64,
    /// How long this agent process has run, in milliseconds: of those it never
    /// heard it can say no more than that.
    pub up_ms: u64,
    /// Counts this process's reports, so an overtaken one can be dropped.
    pub seq: u64,
    /// Newest term and revision of the agreed state that the sender has seen.
    pub term_seen: Term,
    /// See `term_seen`.
    pub revision_seen: u64,
    /// For each other node: milliseconds since the sender last heard it.
    pub hears: BTreeMap<NodeId, u64>,
    /// The sender misses the leader of this term (C-23), for so many milliseconds.
    pub misses: Option<Missing>,
    /// The sender follows a leader, whose PostgreSQL has shown no sign of life (WAL, an
    /// answer on its port) for so many milliseconds. It is looked at only once it has been
    /// silent for longer than an idle stream is.
    pub leader_server_silent_ms: Option<u64>,
    /// The sender's durable promises.
    pub vows: Vows,
    /// Answer to the current term's recruiting, once the ack path is cut.
    pub recruited: Option<Recruited>,
    /// The sender leads, and asks for read grants (C-19).
    pub asks: Option<GrantRound>,
    /// The newest round of read grants that the sender granted to the leader.
    pub grant: Option<Grant>,
    /// The sender's server; `None` on a witness.
    pub server: Option<ServerReport>,
    /// What only a leader knows.
    pub leading: Option<Leading>,
    /// Long work under way, for people to see.
    pub progress: Option<Progress>,
    /// The sender has just resigned because no standby reached its PostgreSQL: it is to be
    /// elected only if nobody else can be.
    pub yields: bool,
    /// The sender must rebuild its directory and wants out of the commit rule first (C-10).
    pub wants_out: bool,
}

impl Report {
    /// The first word of an agent that knows nothing yet and hears nobody.
    #[must_use]
    pub fn first(member: MemberId) -> Report {
        Report {
            member,
            boot: 0,
            up_ms: 0,
            seq: 0,
            term_seen: Term(0),
            revision_seen: 0,
            hears: BTreeMap::new(),
            misses: None,
            leader_server_silent_ms: None,
            vows: Vows::default(),
            recruited: None,
            asks: None,
            grant: None,
            server: None,
            leading: None,
            progress: None,
            yields: false,
            wants_out: false,
        }
    }
}

/// "I miss the leader."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Of which term.
    pub term: Term,
    /// For how long it has been silent.
    pub silent_ms: u64,
}

/// A member's answer to a recruiting term: promise fsynced, ack path cut, and
/// only then the position was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recruited {
    /// The term that is promised.
    pub term: Term,
    /// Where the WAL ends; `None` if it can't be told, which blocks but never discovers.
    pub position: Option<Position>,
    /// The history that this position lies on.
    pub lineage: Lineage,
    /// How far the WAL has been replayed.
    pub replay: Lsn,
}

/// "May I say for `valid_ms` that nobody leads after me?", of a leader to everybody (C-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRound {
    /// The term that it leads.
    pub term: Term,
    /// Counts the rounds of this agent process.
    pub round: u64,
    /// For how long, from before it asked, in milliseconds.
    pub valid_ms: u64,
}

/// "For so long I won't help to elect anybody else."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// In which term.
    pub term: Term,
    /// The agent process that asked: a round of another says nothing to it.
    pub boot: u64,
    /// Its round.
    pub round: u64,
}

/// What PostgreSQL is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// There is no data directory that could be started.
    Empty,
    /// Not running.
    #[default]
    Down,
    /// Running, not yet taking connections.
    Starting,
    /// In recovery.
    Standby,
    /// Asked to promote, still in recovery.
    Promoting,
    /// Out of recovery.
    Primary,
}

/// The sender's server, as last probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// What it is doing.
    pub state: ServerState,
    /// System identifier; 0 while there is none.
    pub sysid: u64,
    /// As in `server_version_num`, 150018; 0 while unknown.
    pub version: u32,
    /// The history it is on.
    pub lineage: Lineage,
    /// End of the WAL it has: flushed when primary, received or replayed when standby.
    pub end: Lsn,
    /// How far it has replayed; equals `end` on a primary.
    pub replay: Lsn,
    /// Replay is paused by hand.
    pub replay_paused: bool,
    /// Milliseconds since the last replayed commit, 0 when caught up.
    pub replay_lag_ms: u64,
    /// A walreceiver streams, from this leader's term.
    pub streaming: Option<Term>,
    /// Pid of the postmaster; 0 when down.
    pub postmaster_pid: u32,
    /// Why it can't be started or reached, in one sentence.
    pub trouble: Option<String>,
    /// It is down and must not be tried or made anew before an operator has looked:
    /// the directory is another major version's, say.
    pub unfit: bool,
}

/// What only the sender's being leader lets it know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leading {
    /// The term it leads.
    pub term: Term,
    /// Its barrier is proven and it takes writes.
    pub writable: bool,
    /// The rule in force on every walsender.
    pub rule_in_force: u64,
    /// A checkpoint has completed since promotion, so `pg_rewind` may read it.
    pub checkpointed: bool,
    /// End of flushed WAL.
    pub end: Lsn,
    /// The standbys that stream from it.
    pub standbys: Vec<StandbyProgress>,
    /// Backends that wait for a standby's acknowledgement.
    pub waiters: u32,
    /// It is about to shut down for a switchover, or has.
    pub handing_over: bool,
}

impl Leading {
    /// Whether this member streams from the leader's server and replied to it less than
    /// `limit_ms` milliseconds ago.
    #[must_use]
    pub fn hears(&self, member: &MemberId, limit_ms: u64) -> bool {
        let row = self.standbys.iter().find(|p| p.member == *member);
        row.is_some_and(|p| p.streaming && p.reply_age_ms < limit_ms)
    }
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyProgress {
    /// Who streams.
    pub member: MemberId,
    /// `state = 'streaming'`, through the member's own slot.
    pub streaming: bool,
    /// `sent_lsn`.
    pub sent: Lsn,
    /// `write_lsn`.
    pub write: Lsn,
    /// `flush_lsn`: what it has acknowledged.
    pub flush: Lsn,
    /// `replay_lsn`.
    pub replay: Lsn,
    /// Milliseconds since its last reply.
    pub reply_age_ms: u64,
    /// `replay_lag` in milliseconds.
    pub replay_lag_ms: u64,
}

/// Long work, for people to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done: clone, rewind, catch-up, shutdown.
    pub what: String,
    /// How far, in percent, where it can be told.
    pub percent: Option<u8>,
    /// In words.
    pub detail: String,
}
