//! Virtual time, and what each host's clocks make of it.

use std::time::Duration;

use cluster::Time;

/// Microseconds since the world began.
pub type Us = u64;

/// Milliseconds as `Us`.
#[must_use]
pub const fn ms(n: u64) -> Us {
    n * 1000
}

/// A span as `Us`.
#[must_use]
pub fn us(span: Duration) -> Us {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// One host's clocks: CLOCK_BOOTTIME, which drifts and never jumps, and the wall
/// clock, which may be set to anything. Moments of two hosts are never compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Reading at the world's beginning.
    pub origin: Us,
    /// How much faster it runs than the world, in parts per million.
    pub drift_ppm: i64,
    /// How far the wall clock is from the world's, in microseconds.
    pub wall_offset: i64,
}

impl Clock {
    /// What CLOCK_BOOTTIME shows at `now`.
    #[must_use]
    pub fn local(&self, now: Us) -> Time {
        Time(Duration::from_micros(self.origin + self.scaled(now)))
    }

    /// The moment at which CLOCK_BOOTTIME will show `local`; never before it does.
    #[must_use]
    pub fn moment(&self, local: Time) -> Us {
        let since = i128::from(us(local.0).saturating_sub(self.origin));
        let world = since * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        u64::try_from(world).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Unix milliseconds by the wall clock at `now`.
    #[must_use]
    pub fn wall_ms(&self, now: Us) -> u64 {
        let us = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(self.wall_offset);
        u64::try_from(us / 1000).unwrap_or(0)
    }

    fn scaled(&self, now: Us) -> Us {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(now) + drift).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_never_before_the_clock_shows_it() {
        for drift_ppm in [-1000, -3, 0, 7, 1000] {
            let clock = Clock { origin: 55, drift_ppm, wall_offset: -4_000_000 };
            for now in [0, 1, 999_999, 123_456_789] {
                let shown = clock.local(now);
                assert!(clock.local(clock.moment(shown)) >= shown);
                assert!(clock.moment(shown) <= now + 2 + now / 500);
            }
            assert_eq!(clock.wall_ms(1_000_000), 0, "a wall clock before 1970 reads 1970");
        }
    }
}
