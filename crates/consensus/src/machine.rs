//! The Ready loop, in the one order that is safe.
//!
//! ```text
//!   tick/step/propose ▶ work() ▶ send `now` ▶ persist ▶ finish() ▶ send the rest ▶ apply what is committed
//! ```
//! A leader's appends may leave before its own write is on disk (`now`);
//! everything that promises something waits for it (`Rest::messages`).

use raft::eraftpb::{ConfChange, ConfChangeType, EntryType};
use raft::{Config, RawNode, Ready, StateRole};
use slog::{Discard, Logger, o};

use crate::log::Log;
use crate::message::{Entry, HardState, Message, Snapshot, Voters};

/// How fast the group beats, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Ticks between two heartbeats of the group's leader.
    pub heartbeat: usize,
    /// Ticks without one after which another is voted for; up to twice that.
    pub election: usize,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { heartbeat: 2, election: 4 }
    }
}

/// One member of a Raft group.
pub struct Machine {
    raw: RawNode<Log>,
    ready: Option<Ready>,
}

/// What must be done before `finish`.
#[derive(Debug, Default)]
pub struct Work {
    /// May be sent at once.
    pub now: Vec<Message>,
    /// To be stored first of all, replacing everything.
    pub snapshot: Option<Snapshot>,
    /// To be stored, replacing what they overlap.
    pub entries: Vec<Entry>,
    /// To be stored.
    pub hard: Option<HardState>,
    /// Committed already; to be applied after the snapshot.
    pub committed: Vec<Committed>,
    /// Reads that may be answered once this index is applied.
    pub reads: Vec<(Vec<u8>, u64)>,
}

/// What follows once the work is on disk.
#[derive(Debug, Default)]
pub struct Rest {
    /// To be sent.
    pub messages: Vec<Message>,
    /// To be applied.
    pub committed: Vec<Committed>,
    /// The commit index moved to here.
    pub commit: Option<u64>,
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place.
    pub index: u64,
    /// A command; empty for a leader's first entry.
    pub data: Vec<u8>,
    /// Who votes from here on, when it changed that.
    pub voters: Option<Voters>,
}

/// Why the group would not take it now. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped(pub String);

impl Machine {
    /// A member with this `log`, knowing what is on its disk.
    ///
    /// # Errors
    /// When the library refuses the log.
    pub fn new(id: u64, log: Log, tuning: Tuning) -> Result<Machine, Dropped> {
        let config = Config {
            id,
            election_tick: tuning.election,
            heartbeat_tick: tuning.heartbeat,
            pre_vote: true,
            check_quorum: true,
            applied: log.snapshot.index,
            max_inflight_msgs: 64,
            max_size_per_msg: 1024 * 1024,
            ..Config::default()
        };
        let raw = RawNode::new(&config, log, &Logger::root(Discard, o!())).map_err(dropped)?;
        Ok(Machine { raw, ready: None })
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        self.raw.tick();
    }

    /// Asks to lead now rather than at the next timeout.
    pub fn campaign(&mut self) {
        let _ = self.raw.campaign();
    }

    /// How long this member waits for a leader before it votes for another, in ticks, from
    /// `Tuning::election` to twice that, not included. The library draws it anew whenever it
    /// changes sides; where chance comes from a seed it is set again after each call.
    pub fn set_patience(&mut self, ticks: usize) {
        let (least, most) = (self.raw.raft.election_timeout(), 2 * self.raw.raft.election_timeout());
        self.raw.raft.set_randomized_election_timeout(ticks.clamp(least, most - 1));
    }

    /// A message came in. What can't be understood is dropped, as on any network.
    pub fn step(&mut self, message: &Message) {
        if let Some(message) = message.to_raft() {
            let _ = self.raw.step(message);
        }
    }

    /// Proposes a command, here or through the group's leader.
    ///
    /// # Errors
    /// When no leader is known.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), Dropped> {
        self.raw.propose(Vec::new(), data).map_err(dropped)
    }

    /// Asks how far one must have applied to read what is agreed now.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.raw.read_index(context);
    }

    /// Lets `id` listen (`learner`) or vote, or takes it out (`None`).
    ///
    /// # Errors
    /// When a change is under way or we do not lead.
    pub fn change_voter(&mut self, id: u64, role: Option<bool>) -> Result<(), Dropped> {
        let mut change = ConfChange { node_id: id, ..ConfChange::default() };
        change.set_change_type(match role {
            Some(true) => ConfChangeType::AddLearnerNode,
            Some(false) => ConfChangeType::AddNode,
            None => ConfChangeType::RemoveNode,
        });
        if self.raw.raft.has_pending_conf() {
            return Err(Dropped("a change of voters is under way".into()));
        }
        self.raw.propose_conf_change(Vec::new(), change).map_err(dropped)
    }

    /// Hands leadership of the group to `id`.
    pub fn transfer_leader(&mut self, id: u64) {
        self.raw.transfer_leader(id);
    }

    /// A peer could not be reached: probe it again instead of streaming.
    pub fn report_unreachable(&mut self, id: u64) {
        self.raw.report_unreachable(id);
    }

    /// A snapshot was sent: go on as if it had arrived; a lost one is asked for again.
    pub fn report_snapshot_sent(&mut self, id: u64) {
        self.raw.report_snapshot(id, raft::SnapshotStatus::Finish);
    }

    /// What is to be done, if anything. Call `finish` before the next.
    pub fn work(&mut self) -> Option<Work> {
        assert!(self.ready.is_none(), "the last work is not finished");
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let snapshot = (!ready.snapshot().is_empty()).then(|| Snapshot::from_raft(ready.snapshot()));
        let reads = ready.take_read_states().into_iter().map(|r| (r.request_ctx, r.index)).collect();
        let mut work = Work {
            now: ready.take_messages().iter().map(Message::from_raft).collect(),
            snapshot,
            entries: ready.entries().iter().map(Entry::from_raft).collect(),
            hard: ready.hs().map(HardState::from_raft),
            committed: Vec::new(),
            reads,
        };
        let log = self.raw.mut_store();
        if let Some(snapshot) = &work.snapshot {
            log.install(snapshot.clone());
        }
        log.append(&work.entries);
        if let Some(hard) = work.hard {
            log.hard = hard;
        }
        let committed = ready.take_committed_entries();
        work.committed = self.apply_voters(committed);
        self.ready = Some(ready);
        Some(work)
    }

    /// The work is on disk.
    pub fn finish(&mut self) -> Rest {
        let Some(mut ready) = self.ready.take() else { return Rest::default() };
        let mut messages: Vec<Message> =
            ready.take_persisted_messages().iter().map(Message::from_raft).collect();
        let mut light = self.raw.advance(ready);
        messages.extend(light.take_messages().iter().map(Message::from_raft));
        let commit = light.commit_index();
        if let Some(commit) = commit {
            self.raw.mut_store().hard.commit = commit;
        }
        let committed = light.take_committed_entries();
        let committed = self.apply_voters(committed);
        self.raw.advance_apply();
        Rest { messages, committed, commit }
    }

    fn apply_voters(&mut self, entries: Vec<raft::eraftpb::Entry>) -> Vec<Committed> {
        let mut all = Vec::with_capacity(entries.len());
        for e in entries {
            let changes = e.get_entry_type() == EntryType::EntryConfChange;
            let change = changes.then(|| protobuf::Message::parse_from_bytes(&e.data).unwrap_or_default());
            let voters = change.and_then(|c: ConfChange| self.raw.apply_conf_change(&c).ok());
            let voters = voters.map(|v| Voters::from_raft(&v));
            if let Some(v) = &voters {
                self.raw.mut_store().voters = v.clone();
            }
            let data = if changes { Vec::new() } else { e.data.to_vec() };
            all.push(Committed { index: e.index, data, voters });
        }
        all
    }

    /// Folds the log up to `index`.
    pub fn compact(&mut self, index: u64, data: Vec<u8>) -> Snapshot {
        let log = self.raw.mut_store();
        log.compact(index, data);
        log.snapshot.clone()
    }

    /// Who votes now.
    #[must_use]
    pub fn voters(&self) -> &Voters {
        &self.raw.store().voters
    }

    /// Entries kept after the snapshot.
    #[must_use]
    pub fn log_length(&self) -> usize {
        self.raw.store().entries.len()
    }

    /// Who leads the group; 0 when nobody is known to.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// Whether we lead the group.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Raft's own term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// As leader: whether `id` has (nearly) everything and answers.
    #[must_use]
    pub fn is_caught_up(&self, id: u64) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        self.raw
            .raft
            .prs()
            .get(id)
            .is_some_and(|p| p.recent_active && p.matched + 16 >= last && p.matched > 0)
    }
}

fn dropped(why: raft::Error) -> Dropped {
    Dropped(why.to_string())
}
