//! The two clocks of an agent.

use std::time::{SystemTime, UNIX_EPOCH};

use cluster::Time;
pub use peers::clock::now;

/// A moment of `now` in whole milliseconds, as the guard is told it.
#[must_use]
pub fn boot_ms(t: Time) -> u64 {
    u64::try_from(t.0.as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds: for schedules and history only, it may jump.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
