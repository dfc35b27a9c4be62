//! What travels and what is stored, and its way to the Raft library and back.

use raft::eraftpb;
use serde::{Deserialize, Serialize};

/// One log entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 0 a command, 1 and 2 a change of voters.
    pub kind: u8,
    /// Raft's own term.
    pub term: u64,
    /// Its place in the log.
    pub index: u64,
    /// What it says.
    pub data: Vec<u8>,
    /// What its proposer knows it by.
    pub context: Vec<u8>,
}

/// What must never be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Raft's own term.
    pub term: u64,
    /// Whom we voted for in it.
    pub vote: u64,
    /// How far the log is known to be committed.
    pub commit: u64,
}

/// Who votes and who only listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// Vote.
    pub voters: Vec<u64>,
    /// Listen, until they have caught up.
    pub learners: Vec<u64>,
}

/// The whole state up to an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The state, as bytes.
    pub data: Vec<u8>,
    /// Up to which entry.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Who votes as of then.
    pub voters: Voters,
}

/// A message between two members of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The library's number of its kind.
    pub kind: i32,
    /// To whom.
    pub to: u64,
    /// From whom.
    pub from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<Entry>,
    commit: u64,
    commit_term: u64,
    snapshot: Option<Snapshot>,
    request_snapshot: u64,
    reject: bool,
    reject_hint: u64,
    context: Vec<u8>,
    priority: i64,
}

impl Entry {
    pub(crate) fn from_raft(e: &eraftpb::Entry) -> Entry {
        let kind = match e.get_entry_type() {
            eraftpb::EntryType::EntryNormal => 0,
            eraftpb::EntryType::EntryConfChange => 1,
            eraftpb::EntryType::EntryConfChangeV2 => 2,
        };
        Entry { kind, term: e.term, index: e.index, data: e.data.to_vec(), context: e.context.to_vec() }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::Entry {
        let mut e = eraftpb::Entry::default();
        e.set_entry_type(match self.kind {
            1 => eraftpb::EntryType::EntryConfChange,
            2 => eraftpb::EntryType::EntryConfChangeV2,
            _ => eraftpb::EntryType::EntryNormal,
        });
        (e.term, e.index) = (self.term, self.index);
        e.data = self.data.clone().into();
        e.context = self.context.clone().into();
        e
    }
}

impl HardState {
    pub(crate) fn from_raft(h: &eraftpb::HardState) -> HardState {
        HardState { term: h.term, vote: h.vote, commit: h.commit }
    }

    pub(crate) fn to_raft(self) -> eraftpb::HardState {
        let mut h = eraftpb::HardState::default();
        (h.term, h.vote, h.commit) = (self.term, self.vote, self.commit);
        h
    }
}

impl Voters {
    pub(crate) fn from_raft(c: &eraftpb::ConfState) -> Voters {
        Voters { voters: c.voters.clone(), learners: c.learners.clone() }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::ConfState {
        eraftpb::ConfState {
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            ..Default::default()
        }
    }
}

impl Snapshot {
    pub(crate) fn from_raft(s: &eraftpb::Snapshot) -> Snapshot {
        let meta = s.get_metadata();
        Snapshot {
            data: s.data.to_vec(),
            index: meta.index,
            term: meta.term,
            voters: Voters::from_raft(meta.get_conf_state()),
        }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::Snapshot {
        let mut s = eraftpb::Snapshot { data: self.data.clone().into(), ..Default::default() };
        let meta = s.mut_metadata();
        (meta.index, meta.term) = (self.index, self.term);
        meta.set_conf_state(self.voters.to_raft());
        s
    }
}

impl Message {
    pub(crate) fn from_raft(m: &eraftpb::Message) -> Message {
        let snapshot = m.has_snapshot().then(|| Snapshot::from_raft(m.get_snapshot()));
        Message {
            kind: m.get_msg_type() as i32,
            to: m.to,
            from: m.from,
            term: m.term,
            log_term: m.log_term,
            index: m.index,
            entries: m.entries.iter().map(Entry::from_raft).collect(),
            commit: m.commit,
            commit_term: m.commit_term,
            snapshot,
            request_snapshot: m.request_snapshot,
            reject: m.reject,
            reject_hint: m.reject_hint,
            context: m.context.to_vec(),
            priority: m.priority,
        }
    }

    /// `None` for a kind that the library does not know.
    pub(crate) fn to_raft(&self) -> Option<eraftpb::Message> {
        let mut m = eraftpb::Message::default();
        m.set_msg_type(protobuf::ProtobufEnum::from_i32(self.kind)?);
        (m.to, m.from, m.term, m.log_term, m.index) =
            (self.to, self.from, self.term, self.log_term, self.index);
        m.entries = self.entries.iter().map(Entry::to_raft).collect::<Vec<_>>().into();
        (m.commit, m.commit_term) = (self.commit, self.commit_term);
        if let Some(snapshot) = &self.snapshot {
            m.set_snapshot(snapshot.to_raft());
        }
        (m.request_snapshot, m.reject, m.reject_hint) =
            (self.request_snapshot, self.reject, self.reject_hint);
        m.context = self.context.clone().into();
        m.priority = self.priority;
        Some(m)
    }
}
