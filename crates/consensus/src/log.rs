//! The log as the Raft library reads it: in memory, a copy of what is on disk.
//!
//! Small: the cluster state changes a few times a day, and older entries are
//! folded into a snapshot.

use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError, eraftpb};

use crate::message::{Entry, HardState, Snapshot, Voters};

/// Snapshot, entries after it, and what must never be forgotten.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Folded entries.
    pub snapshot: Snapshot,
    /// Entries after the snapshot, in order.
    pub entries: Vec<Entry>,
    /// Term, vote, commit.
    pub hard: HardState,
    /// Who votes now.
    pub voters: Voters,
}

impl Log {
    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.index, |e| e.index)
    }

    /// Adds entries, replacing what they overlap.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.entries.retain(|e| e.index < first.index);
        self.entries.extend_from_slice(entries);
    }

    /// Replaces everything by a snapshot.
    pub fn install(&mut self, snapshot: Snapshot) {
        self.entries.retain(|e| e.index > snapshot.index);
        self.voters = snapshot.voters.clone();
        self.hard.commit = self.hard.commit.max(snapshot.index);
        self.hard.term = self.hard.term.max(snapshot.term);
        self.snapshot = snapshot;
    }

    /// Folds everything up to `index` into `data`. A follower that needs an
    /// older entry gets the snapshot, which is small.
    pub fn compact(&mut self, index: u64, data: Vec<u8>) {
        let Some(term) = self.term_at(index) else { return };
        self.snapshot = Snapshot { data, index, term, voters: self.voters.clone() };
        self.entries.retain(|e| e.index > index);
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entries.iter().find(|e| e.index == index).map(|e| e.term)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.to_raft(), conf_state: self.voters.to_raft() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.snapshot.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let wanted = self.entries.iter().filter(|e| e.index >= low && e.index < high);
        let mut found: Vec<eraftpb::Entry> = wanted.map(Entry::to_raft).collect();
        raft::util::limit_size(&mut found, max_size.into());
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.snapshot.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.snapshot.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.to_raft())
    }
}
