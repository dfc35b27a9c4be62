//! When an agent turns and when it speaks, so that an idle cluster wakes up
//! together: whoever follows speaks when the leader has just spoken.
//!
//! An agent at rest costs what its wake-ups cost, and messages that arrive
//! together cost one.

use core::time::Duration;

use cluster::state::Phase;

/// Longest between two turns of the loop, unless all is calm.
pub const TICK: Duration = Duration::from_millis(50);
/// Shortest wait for a heartbeat that is due.
pub const SOON: Duration = Duration::from_millis(1);
/// A follower waits so long beyond its own heartbeat for the leader to speak first.
pub const GRACE: Duration = Duration::from_millis(20);
/// The leader has just spoken.
pub const JUST: Duration = Duration::from_millis(5);

/// What the pace depends on, all of it by the own clock.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two heartbeats.
    pub beat: Duration,
    /// Since we last spoke.
    pub silent: Duration,
    /// Since the leader was last heard.
    pub led: Duration,
    /// Whether that is us.
    pub leads: bool,
    /// Of the term.
    pub phase: Phase,
}

impl Pace {
    /// How long the next turn may be off. While the term is open and its leader
    /// speaks, nothing is due before the next heartbeat; counted from our last
    /// word, so that other turns don't put the heartbeat off.
    #[must_use]
    pub fn next_turn(&self) -> Duration {
        let due = |after: Duration| after.saturating_sub(self.silent).max(SOON);
        match self.phase {
            Phase::Open if self.leads => due(self.beat),
            Phase::Open if self.led < self.beat => due(self.beat + GRACE),
            _ => TICK,
        }
    }

    /// Whether a heartbeat is due: in step with the leader's, where there is one to hear.
    #[must_use]
    pub fn must_speak(&self) -> bool {
        if self.leads || self.led >= self.beat * 2 {
            return self.silent + JUST >= self.beat;
        }
        (self.led < JUST && self.silent >= self.beat / 2) || self.silent >= self.beat + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn pace(leads: bool, silent: u64, led: u64) -> Pace {
        Pace { beat: ms(150), silent: ms(silent), led: ms(led), leads, phase: Phase::Open }
    }

    #[test]
    fn whoever_follows_speaks_with_the_leader() {
        assert!(!pace(false, 74, 0).must_speak(), "not twice for one heartbeat");
        assert!(pace(false, 148, 1).must_speak());
        assert!(!pace(false, 160, 160).must_speak(), "the leader is about to");
        assert!(pace(false, 170, 170).must_speak(), "by itself, if the leader does not");
        assert!(pace(false, 146, 400).must_speak(), "with nobody to hear, at its own pace");
    }

    #[test]
    fn no_turn_puts_the_heartbeat_off() {
        for silent in 0..300 {
            let leader = pace(true, silent, 9_999);
            let at = ms(silent) + leader.next_turn();
            assert!(leader.must_speak() || at <= ms(150), "the leader, {silent} ms after its word");
            let follower = pace(false, silent, silent.min(149));
            let at = ms(silent) + follower.next_turn();
            assert!(follower.must_speak() || at <= ms(170), "a follower, {silent} ms after its word");
        }
    }

    #[test]
    fn while_anything_is_afoot_turns_are_close() {
        for phase in [Phase::Revoking, Phase::Elected] {
            assert_eq!(Pace { phase, ..pace(true, 0, 0) }.next_turn(), TICK);
        }
        assert_eq!(pace(false, 0, 150).next_turn(), TICK, "the leader is late");
    }
}
