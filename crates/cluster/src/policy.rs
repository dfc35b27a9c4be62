//! What the operator decides for the whole cluster, and what may be decided.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::mutant::{Mutant, on};

/// What an acknowledged commit promises (protocol 1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Flushed on the leader and on k standbys, always.
    #[default]
    Quorum,
    /// The same, but the set may shrink to the leader alone when its standbys
    /// are gone: by a stored command first, shown as degraded.
    QuorumRelaxed,
    /// Flushed on the leader. The last moments may be lost in a failover.
    Async,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Quorum => "quorum",
            Durability::QuorumRelaxed => "quorum-relaxed",
            Durability::Async => "async",
        })
    }
}

/// Cluster-wide settings; part of the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// k: how many standbys must acknowledge a commit. At least 1.
    pub acks: u32,
    /// Patience and deadlines.
    pub timing: Timing,
    /// PostgreSQL settings for every member, below the ones Tanist owns.
    pub parameters: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            durability: Durability::Quorum,
            acks: 1,
            timing: Timing::default(),
            parameters: BTreeMap::new(),
        }
    }
}

/// Most standbys whose acknowledgement may be asked for.
pub const ACKS_MAX: u32 = 8;

impl Settings {
    /// Whether these settings can be lived with.
    ///
    /// # Errors
    /// The first thing that is wrong, in one sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        if on(Mutant::AnyTiming) {
            return Ok(());
        }
        if self.acks == 0 || self.acks > ACKS_MAX {
            return Err("acks must be between 1 and 8; durability 'async' is the way to wait for nobody");
        }
        self.timing.check()
    }
}

/// The constants of C-28, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// H: between two heartbeats.
    pub heartbeat_ms: u64,
    /// S: silence after which a leader is suspected.
    pub suspicion_ms: u64,
    /// N: renewal round of read grants, for proxies.
    pub renewal_ms: u64,
    /// G: life of a read grant.
    pub grant_ms: u64,
    /// W: how long a member honours a grant it gave.
    pub grant_wait_ms: u64,
    /// V: wait for answers to a pre-vote.
    pub prevote_ms: u64,
    /// R: restart of an agent until its first heartbeat.
    pub agent_restart_ms: u64,
    /// A: silence after which the guard kills the agent.
    pub agent_silence_ms: u64,
    /// D: silence after which the guard kills PostgreSQL.
    pub guard_deadline_ms: u64,
    /// P: patience with a silent leader whose PostgreSQL still answers.
    pub patience_ms: u64,
    /// T: async lease.
    pub async_lease_ms: u64,
    /// Wa: async wait before another may be elected.
    pub async_wait_ms: u64,
    /// K: from a deadline to the last possible acknowledgement.
    pub kill_ms: u64,
    /// Limit of C-14 for a term that does not open (C-14, O-3).
    pub term_limit_ms: u64,
    /// A standby of the rule that is silent for so long is dropped from it.
    pub shrink_ms: u64,
    /// For so long a leader that came by a failover can't be missed out of office
    /// again, counted by each agent from when it saw the term reach its present
    /// phase: once from the election, and anew from the opening. One that resigned
    /// or got stuck is replaced at once.
    pub failover_pause_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat_ms: 150,
            suspicion_ms: 500,
            renewal_ms: 50,
            grant_ms: 300,
            grant_wait_ms: 320,
            prevote_ms: 200,
            agent_restart_ms: 200,
            agent_silence_ms: 1000,
            guard_deadline_ms: 3000,
            patience_ms: 3300,
            async_lease_ms: 3000,
            async_wait_ms: 3200,
            kill_ms: 100,
            term_limit_ms: 5000,
            shrink_ms: 2000,
            failover_pause_ms: 2000,
        }
    }
}

impl Timing {
    /// Relative drift of one clock that the constants allow for, per mille (e of C-28).
    pub const DRIFT_PER_MILLE: u64 = 2;

    /// Longest of all patience: one day.
    pub const LONGEST_MS: u64 = 86_400_000;
    /// δ, the longest that a message between agents takes while all is well.
    pub const DELAY_MS: u64 = 100;
    /// A heartbeat that waits for its leader's is so late, and a loop that stands
    /// still for less than the rest passes as being on time (20 + 100).
    pub const LATE_MS: u64 = 120;
    /// The longest between two reads of the store by a leader that needs them.
    pub const READ_MS: u64 = 400;
    /// The longest from a new deadline until the guard is told.
    pub const ARM_MS: u64 = 300;

    /// C-28: the inequalities that the proofs rest on.
    ///
    /// # Errors
    /// The first one that does not hold, in one sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        // Sums saturate: a hostile value is refused, and never takes a voter down.
        let sum = |all: &[u64]| all.iter().fold(0, |sum: u64, ms| sum.saturating_add(*ms));
        let stretched = |ms: u64| sum(&[ms, ms.saturating_mul(2 * Self::DRIFT_PER_MILLE) / 1000]);
        let free = [self.patience_ms, self.async_wait_ms, self.term_limit_ms, self.shrink_ms];
        if free.iter().chain([&self.failover_pause_ms, &self.prevote_ms]).any(|ms| *ms > Self::LONGEST_MS)
            || self.heartbeat_ms == 0
        {
            return Err("timing: a heartbeat takes at least 1 ms, and no patience is longer than a day");
        }
        if self.shrink_ms < self.suspicion_ms || self.term_limit_ms < self.suspicion_ms {
            return Err("timing: shrink and term_limit must not be shorter than suspicion");
        }
        if stretched(self.grant_ms) >= self.grant_wait_ms || self.grant_wait_ms >= self.suspicion_ms {
            return Err(
                "timing: a grant must end before its giver's wait, and that before suspicion (G < W < S)",
            );
        }
        if sum(&[self.agent_restart_ms, self.heartbeat_ms]) >= self.suspicion_ms
            || self.suspicion_ms >= self.agent_silence_ms
        {
            return Err("timing: restart + heartbeat < suspicion < agent_silence (R + H < S < A)");
        }
        if sum(&[self.heartbeat_ms, self.heartbeat_ms, Self::LATE_MS]) >= self.suspicion_ms {
            return Err("timing: one lost heartbeat and a late loop: 2 heartbeats + 120 ms < suspicion");
        }
        if sum(&[self.agent_silence_ms, self.agent_restart_ms, self.heartbeat_ms, self.heartbeat_ms])
            > self.guard_deadline_ms
        {
            return Err("timing: agent_silence + restart + 2 heartbeats <= guard_deadline (A + R + 2H <= D)");
        }
        if sum(&[self.guard_deadline_ms, self.kill_ms, self.heartbeat_ms]) > self.patience_ms {
            return Err("timing: guard_deadline + kill + heartbeat <= patience (D + K + H <= P)");
        }
        let restarted = sum(&[self.agent_silence_ms, self.agent_restart_ms, self.heartbeat_ms]);
        if self.async_lease_ms < sum(&[restarted, Self::READ_MS, Self::ARM_MS, 3 * Self::DELAY_MS]) {
            return Err(
                "timing: async_lease >= agent_silence + restart + heartbeat + 700 ms + 3 delays (C-26)",
            );
        }
        if self.guard_deadline_ms > self.async_lease_ms {
            return Err("timing: guard_deadline <= async_lease (D <= T), for the first lease begins under D");
        }
        if self.async_wait_ms < sum(&[stretched(sum(&[self.async_lease_ms, self.kill_ms])), 10]) {
            return Err("timing: async_wait >= (async_lease + kill), stretched by drift, + 10 ms (C-26)");
        }
        if sum(&[self.agent_restart_ms, self.renewal_ms]) >= self.grant_ms {
            return Err("timing: a renewal round must fit into a grant (R + N < G)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c28_defaults_satisfy_every_inequality_and_each_is_checked() {
        assert_eq!(Timing::default().check(), Ok(()));
        let spoil: [fn(&mut Timing); 15] = [
            |t| t.grant_ms = t.grant_wait_ms,
            |t| t.grant_wait_ms = t.suspicion_ms,
            |t| t.suspicion_ms = t.agent_silence_ms,
            |t| t.agent_silence_ms = t.guard_deadline_ms,
            |t| t.patience_ms = t.guard_deadline_ms,
            |t| t.async_wait_ms = t.async_lease_ms,
            |t| t.renewal_ms = t.grant_ms - t.agent_restart_ms,
            |t| t.async_lease_ms = t.agent_silence_ms,
            |t| (t.guard_deadline_ms, t.patience_ms) = (t.async_lease_ms + 1, t.async_lease_ms + 1000),
            |t| t.heartbeat_ms = (t.suspicion_ms - Timing::LATE_MS) / 2,
            |t| (t.agent_silence_ms, t.guard_deadline_ms, t.async_lease_ms) = (1000, 1500, 2349),
            |t| t.shrink_ms = t.suspicion_ms - 1,
            |t| t.heartbeat_ms = 0,
            |t| t.grant_ms = u64::MAX,
            |t| t.async_wait_ms = u64::MAX,
        ];
        for (i, spoil) in spoil.iter().enumerate() {
            let mut t = Timing::default();
            spoil(&mut t);
            assert!(t.check().is_err(), "inequality {i}");
        }
        // The shortest lease and the longest heartbeat there may be.
        let short = Timing { guard_deadline_ms: 1500, async_lease_ms: 2350, ..Timing::default() };
        assert_eq!(short.check(), Ok(()));
        let slow = Timing { heartbeat_ms: 189, ..Timing::default() };
        assert_eq!(slow.check(), Ok(()));
    }
}
