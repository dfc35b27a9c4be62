//! The two clocks of an agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::Time;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME: goes on while the host sleeps, never jumps.
#[must_use]
pub fn now() -> Time {
    let t = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(t.tv_nsec).unwrap_or_default();
    Time(Duration::new(secs, nanos))
}

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
