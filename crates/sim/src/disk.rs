//! One host's disk: how long it takes to keep something, and whether it can.

use crate::clock::{Us, ms};
use crate::rng::Rng;

/// A disk. PostgreSQL's WAL and the agent's promises are on the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    /// Until when nothing that is written becomes durable.
    pub stalled_until: Us,
    /// No room for WAL; promises have theirs set aside.
    pub full: bool,
    /// How much chance adds to an fsync.
    pub jitter: Us,
}

impl Disk {
    /// When an fsync that begins at `now` is done.
    pub fn fsync(&self, now: Us, rng: &mut Rng) -> Us {
        now.max(self.stalled_until) + 300 + rng.below(self.jitter + 1)
    }

    /// Hangs for `span`.
    pub fn stall(&mut self, now: Us, span: Us) {
        self.stalled_until = self.stalled_until.max(now + span);
    }

    /// Works again.
    pub fn heal(&mut self) {
        self.stalled_until = 0;
        self.full = false;
    }

    /// An ordinary one of a machine that has other work to do as well.
    #[must_use]
    pub fn ordinary() -> Disk {
        Disk { jitter: ms(2), ..Disk::default() }
    }
}
