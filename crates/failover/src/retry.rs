//! How soon a deed that failed may be tried again, and how often.

use alloc::string::String;
use core::time::Duration;

use cluster::{Action, Time};

/// First wait after a failure; doubles with each further one.
pub const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
pub const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Failures of following an open leader, for reasons of the data, before the
/// directory is made anew.
pub const FOLLOW_TRIES_MAX: u32 = 8;
/// Failures of `pg_rewind` after it had begun before the directory is cloned
/// instead: it leaves behind what can't be trusted (its documentation, "Warning").
pub const REWIND_TRIES_MAX: u32 = 1;
/// Tries of a base backup before an operator is asked (`reinit` starts anew).
pub const CLONE_TRIES_MAX: u32 = 30;

/// Why a deed could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// In one sentence.
    pub why: String,
    /// The data directory itself may be to blame, so that a new copy may be the
    /// cure. Not so for a taken port, a full disk or a leader out of reach: a copy
    /// would take hours and change nothing.
    pub of_the_data: bool,
}

/// The failures of one kind of action since it last succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How often in a row.
    pub count: u32,
    /// How often of these the data may have been to blame.
    pub of_the_data: u32,
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

/// Whether a deed leaves the server following whom it follows.
#[must_use]
pub fn leaves_following(action: &Action) -> bool {
    matches!(
        action,
        Action::Follow { .. }
            | Action::Barrier { .. }
            | Action::ChangeRule { .. }
            | Action::Checkpoint { .. }
            | Action::Prepare { .. }
    )
}
