//! The clock that leases and deadlines are counted by.

use std::time::Duration;

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
