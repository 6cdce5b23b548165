//! Two clocks. The wall clock is what other programs and people read, and it may be set; the steady one stands still
//! while the machine sleeps. Age counts by whichever says more, so that neither a correction nor a sleep makes
//! something look younger than it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, by this machine's wall clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The last second of the year 9999, since 1970. A later one in a foreign answer, and a longer time, count as this one:
/// so no sum and no product of two of them overflows anything.
pub const LAST: u64 = 253_402_300_799;

/// A point in time by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago that was, by the clock that says more.
    pub fn elapsed(&self) -> Duration {
        let by_wall = self.wall.elapsed().unwrap_or_default();
        self.steady.elapsed().max(by_wall)
    }
}

/// Waits until `duration` has passed since `moment`, by the clock that says more.
///
/// It looks again every two seconds: the sleep of a runtime goes by the steady clock alone.
pub async fn sleep_until(moment: Moment, duration: Duration) {
    loop {
        let left = duration.saturating_sub(moment.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(2))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_more_counts() {
        let hour = Duration::from_hours(1);
        let set_forward = Moment { steady: Instant::now(), wall: SystemTime::now() - hour };
        assert!(set_forward.elapsed() >= hour);
        let set_back = Moment { steady: Instant::now(), wall: SystemTime::now() + hour };
        assert!(set_back.elapsed() < Duration::from_secs(5));
    }
}
