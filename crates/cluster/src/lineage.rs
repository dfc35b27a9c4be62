//! Timeline histories, and whether one is legal in this cluster.
//!
//! Two standbys promoted apart both pick the same next timeline id
//! (finding 9), so a timeline id proves nothing by itself. What proves a node's
//! past is that each of its timelines was given out by an election and left
//! where the next one began (C-2). Judged by elections, opened or not: commits
//! may be acknowledged between promotion and `Opened`, and judging by opened
//! terms alone loses them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::lsn::{Lsn, Timeline};
use crate::mutant::{Mutant, on};
use crate::state::Election;
use crate::term::Term;

/// One line of a `.history` file: `timeline` was left at `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The ancestor.
    pub timeline: Timeline,
    /// First byte that no longer belongs to it (the switch point).
    pub end: Lsn,
}

/// A server's whole past: its ancestors, oldest first, and the timeline it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Ancestors, oldest first.
    pub ancestors: Vec<Branch>,
    /// The newest timeline.
    pub timeline: Timeline,
}

/// The timeline on which `initdb` leaves a fresh directory. Term 1 opens the next one.
pub const INITDB_TIMELINE: Timeline = Timeline(1);

/// From one election's timeline to the next one's. A server that is promoted by hand
/// takes the first number that it has no history file of, so the odd one after its
/// own: never one that an election gives to somebody else (protocol (k), I7).
pub const TIMELINE_STRIDE: u32 = 2;

impl Lineage {
    /// The past of a directory fresh from `initdb`.
    #[must_use]
    pub fn initdb() -> Lineage {
        Lineage { ancestors: Vec::new(), timeline: INITDB_TIMELINE }
    }

    /// Where this past left `timeline`; `None` while it is still on it, or never was.
    #[must_use]
    pub fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.ancestors.iter().find(|b| b.timeline == timeline).map(|b| b.end)
    }

    /// Whether this past ever went through `timeline`.
    #[must_use]
    pub fn contains(&self, timeline: Timeline) -> bool {
        self.timeline == timeline || self.end_of(timeline).is_some()
    }

    /// The timeline of this past that owns the byte at `lsn`.
    #[must_use]
    pub fn owner_of(&self, lsn: Lsn) -> Timeline {
        self.ancestors.iter().find(|b| lsn < b.end).map_or(self.timeline, |b| b.timeline)
    }

    /// Whether a server with this past whose WAL ends at `end` can follow one
    /// with the past `other` without being rewound: every timeline it went
    /// through is in `other`, left at the same place, and the newest not
    /// overrun. (Compared with the switch of *my* timeline in the other's
    /// history, not with the newest switch: protocol (h) 2.)
    #[must_use]
    pub fn can_follow(&self, end: Lsn, other: &Lineage) -> bool {
        let shared = self.ancestors.iter().all(|b| other.end_of(b.timeline) == Some(b.end));
        let newest_fits = match other.end_of(self.timeline) {
            Some(switch) => end <= switch,
            None => self.timeline == other.timeline,
        };
        shared && newest_fits
    }

    /// Whether every step of this past was given out by an election.
    ///
    /// Placeholder ancestors (protocol (k)) that left a never-opened timeline
    /// at the same point as their child are legal: the child's election names
    /// an older parent.
    #[must_use]
    pub fn is_legal(&self, elections: &[Election]) -> bool {
        let mut real: Vec<Branch> = Vec::new();
        for (i, b) in self.ancestors.iter().enumerate() {
            let left_at_birth = i > 0 && self.ancestors.get(i - 1).is_some_and(|p| p.end == b.end);
            if !left_at_birth {
                real.push(*b);
            }
        }
        let children = real.iter().skip(1).map(|b| b.timeline).chain([self.timeline]);
        let steps_legal = real.iter().zip(children).all(|(parent, child)| {
            elections
                .iter()
                .filter(|e| e.opened.is_some() || !on(Mutant::JudgedByOpened))
                .any(|e| e.tli == child && e.parent_tli == parent.timeline && e.admits_switch(parent.end))
        });
        let root_legal = match real.first() {
            Some(b) => known_root(b.timeline, elections),
            None => known_root(self.timeline, elections),
        };
        steps_legal && root_legal
    }
}

/// A past may begin where `initdb` does, or on the timeline that was adopted.
fn known_root(timeline: Timeline, elections: &[Election]) -> bool {
    elections.first().is_some_and(|first| first.parent_tli == timeline || first.tli == timeline)
}

/// The term that owns `timeline`; `initdb`'s and an adopted one's own belong to term 0.
#[must_use]
pub fn term_of(timeline: Timeline, elections: &[Election]) -> Option<Term> {
    if let Some(e) = elections.iter().rev().find(|e| e.tli == timeline) {
        return Some(e.term);
    }
    elections.first().filter(|first| first.parent_tli == timeline).map(|_| Term(0))
}
