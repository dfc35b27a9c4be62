//! Power is lost on every host at once: everybody is dead in an instant, and what
//! was not synced is gone.

use super::disk::Disk;
use super::process::{self, Target};
use crate::stage::{Stage, StageError};

/// Kills everything, and has the disks forget what was not synced.
///
/// # Errors
/// `Disk`.
pub fn lose(stage: &Stage, disks: &[Disk]) -> Result<(), StageError> {
    let all: Vec<i32> = stage.plan.nodes.iter().flat_map(|n| process::find(stage, n, Target::Node)).collect();
    process::end(&all);
    disks.iter().try_for_each(Disk::lose_unsynced)
}
