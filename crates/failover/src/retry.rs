//! How soon a deed that failed may be tried again, and how often.

use alloc::string::String;
use core::time::Duration;

use cluster::{Action, Time};

/// First wait after a failure; doubles with each further one.
pub const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
pub const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Tries of following an open leader before the directory is made anew.
pub const FOLLOW_TRIES_MAX: u32 = 8;
/// Tries of `pg_rewind` before the directory is cloned instead.
pub const REWIND_TRIES_MAX: u32 = 2;
/// Tries of a base backup before an operator is asked (`reinit` starts anew).
pub const CLONE_TRIES_MAX: u32 = 30;

/// The failures of one kind of action since it last succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How often in a row.
    pub count: u32,
    /// When the last one ended.
    pub at: Time,
    /// Why, in one sentence.
    pub why: String,
}

impl Failure {
    /// When the next try may begin.
    #[must_use]
    pub fn next_try(&self) -> Time {
        let doublings = self.count.saturating_sub(1).min(8);
        self.at + (RETRY_FIRST * (1 << doublings)).min(RETRY_LONGEST)
    }
}

/// The kind of an action: failures are counted by it.
#[must_use]
pub fn kind_of(action: &Action) -> &'static str {
    match action {
        Action::Initdb => "initdb",
        Action::StartCut => "start",
        Action::Fence { .. } => "fence",
        Action::Recruit { .. } => "recruit",
        Action::HandOver { .. } => "hand-over",
        Action::Prepare { .. } => "prepare",
        Action::FastForward { .. } => "fast-forward",
        Action::Promote { .. } => "promote",
        Action::Barrier { .. } => "barrier",
        Action::ChangeRule { .. } => "change-rule",
        Action::Follow { .. } => "follow",
        Action::Rewind { .. } => "rewind",
        Action::Clone { .. } => "clone",
        Action::Checkpoint { .. } => "checkpoint",
        Action::Stop => "stop",
    }
}

/// Whether `action` is worth breaking off what is under way. Only what guards
/// acknowledged commits is: ending an ack path, a leadership, a server.
#[must_use]
pub fn preempts(action: &Action, running: &Action) -> bool {
    let urgent = matches!(
        action,
        Action::Fence { .. } | Action::Recruit { .. } | Action::Stop | Action::HandOver { .. }
    );
    let protected = matches!(running, Action::Fence { .. } | Action::HandOver { .. });
    let moved = matches!(
        (action, running),
        (Action::Follow { .. } | Action::Clone { .. } | Action::Rewind { .. }, Action::Follow { .. })
            | (
                Action::ChangeRule { .. } | Action::Barrier { .. },
                Action::Barrier { .. } | Action::ChangeRule { .. }
            )
            | (Action::Promote { .. }, Action::Follow { .. } | Action::StartCut)
    );
    (urgent && !protected) || moved
}
