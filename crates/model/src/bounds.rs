//! How far the search goes, and which mistake is made on purpose.

use clap::{Args, ValueEnum};

/// Most nodes that a world has room for.
pub const NODES_MAX: usize = 4;
/// Most records that a log has room for.
pub const RECORDS_MAX: usize = 16;

/// How far the search goes.
#[derive(Clone, Debug, Args)]
pub struct Bounds {
    /// Nodes, 2 to 4; n1 leads term 1, the others are its standbys.
    #[arg(long, default_value_t = 3)]
    pub nodes: u8,
    /// The last term that may begin, 1 to 7; term 1 is open at the start.
    #[arg(long, default_value_t = 3)]
    pub terms: u8,
    /// Writes of clients.
    #[arg(long, default_value_t = 2)]
    pub writes: u8,
    /// Changes of the commit rule by a sitting leader.
    #[arg(long, default_value_t = 1)]
    pub changes: u8,
    /// Deaths of a leader's server that no vow follows at once.
    #[arg(long, default_value_t = 1)]
    pub crashes: u8,
    /// Standbys' directories made anew, each after the store agreed (C-10).
    #[arg(long, default_value_t = 0)]
    pub rebuilds: u8,
    /// Members that promise the next term before it began, for a planned change of leaders.
    #[arg(long, default_value_t = 0)]
    pub switchovers: u8,
    /// k of the first rule, and of those that leaders open under.
    #[arg(long, default_value_t = 1)]
    pub acks: u8,
    /// Durability `quorum-relaxed`: a rule may also be the leader alone.
    #[arg(long)]
    pub relaxed: bool,
    /// A leader may open under any rule that is accepted, not only the one with all others.
    #[arg(long)]
    pub any_opening: bool,
    /// Keep what can make no difference, and standbys' names: many more worlds, the same verdict.
    #[arg(long)]
    pub plain: bool,
    /// Also show of every state that one more term could be given a leader.
    #[arg(long)]
    pub liveness: bool,
}

impl Bounds {
    /// Whether worlds and logs have room for it.
    ///
    /// # Errors
    /// What is too large or too small, in one sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        let records = 1 + self.terms as usize + self.writes as usize + self.changes as usize;
        if !(2..=NODES_MAX).contains(&(self.nodes as usize)) {
            return Err("nodes must be 2 to 4");
        }
        if !(1..=7).contains(&self.terms) {
            return Err("terms must be 1 to 7");
        }
        if self.acks == 0 || self.acks >= self.nodes {
            return Err("acks must be at least 1, and there must be as many standbys");
        }
        if records > RECORDS_MAX {
            return Err("terms, writes and changes together write more than 16 records");
        }
        Ok(())
    }
}

/// A mistake in what surrounds the core, to show that the laws can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// A member reports its position while it still acknowledges.
    ReportBeforeCut,
    /// A member forgets its promise when it dies.
    PromiseNotDurable,
    /// A leader says that it has resigned before its server is dead.
    ResignBeforeKill,
    /// A server that was asked to promote lives on when its node is recruited (C-4).
    PromotingSurvives,
    /// A leader forgets, when it dies, that it was promoted in its term.
    PromotesTwice,
    /// A standby attaches without promising the term of its leader. No law is known to break by it.
    AttachKeepsPromise,
    /// Positions all claim to be of the same term, so only the LSN is compared.
    LsnOnly,
    /// What the new rule must have acknowledged is taken before every walsender has the rule, as
    /// the first design had it.
    EarlyDataBarrier,
    /// The leader-only rule is left without a proof that the checkpointer has seen it (C-9).
    NoCheckpointerProof,
    /// A rule change ends without the new rule's acknowledgement of what is older.
    NoDataBarrier,
    /// A rule change ends before every walsender has the new rule.
    NoConfigBarrier,
    /// A member is made anew without leaving the rules first (C-10).
    RebuildUnasked,
    /// A member is believed again before it has all that its leader had (C-10).
    BelievedEarly,
    /// A term is reported open before its barrier is acknowledged.
    OpenedWithoutBarrier,
}
