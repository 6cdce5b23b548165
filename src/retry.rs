//! What is worth another try, and when. Pure: no clock, no sleep, no network.

use std::time::Duration;

use crate::clock;

/// First step of the exponential backoff. (Half of it lets a crowd in less well, by more calls: docs/benchmarks.md.)
const BASE: Duration = Duration::from_secs(1);
/// No single wait of our own choice is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
/// A server's `Retry-After` is honoured up to this; a longer one is taken as refusal for now.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Tries in all, the first one included: nearly a minute of waiting on average, so that the deadline mostly decides.
pub const MOST_TRIES: u32 = 10;

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after a backoff, not before `Retry-After`.
    Again {
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Try once more, at once, with a fresh assertion.
    FreshAssertion,
    /// No further try can succeed.
    Stop,
}

/// The statuses that a later, identical request may not meet.
///
/// 408, 429 and 5xx, as Microsoft's MSAL counts them (MSAL .NET `HttpRetryConditions.cs`), less 501 and 505.
pub fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 506..=599)
}

/// How long to wait before try number `next` (2 for the first repetition), or `None` to give up.
///
/// Full jitter: a uniform share of an exponentially growing window, so that jobs which failed together do not come
/// back together. `random` is in 0..1. A `Retry-After` is the least wait; on top of it comes jitter of at least half as
/// long: those who were refused in one second would else be refused together in another.
pub fn wait(next: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
    if next > MOST_TRIES || retry_after.is_some_and(|wanted| wanted > LONGEST_RETRY_AFTER) {
        return None;
    }
    let asked_for = retry_after.unwrap_or_default();
    let window = BASE.saturating_mul(1 << next.saturating_sub(2).min(10)).min(LONGEST_BACKOFF);
    Some(asked_for + window.max(asked_for / 2).mul_f64(random.clamp(0.0, 1.0)))
}

/// Before asking again whether Entra knows a new credential by now: 2, 4, 8, then 15 seconds. `tries` counts from 1.
pub fn propagation_wait(tries: u32) -> Duration {
    Duration::from_secs(2_u64.saturating_pow(tries).min(15))
}

/// Reads a `Retry-After` header: seconds, or an HTTP date (RFC 9110, 10.2.3) against the same answer's `Date`.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(clock::LAST)));
    }
    let until = httpdate::parse_http_date(value.trim()).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok())?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_and_stop() {
        let windows: Vec<_> = (2..=11).map(|next| wait(next, None, 1.0)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        let expected = [1, 2, 4, 8, 16, 20, 20, 20, 20].map(seconds);
        assert_eq!(windows, [&expected[..], &[None]].concat());
        assert_eq!(wait(2, None, 0.0), seconds(0));
    }

    #[test]
    fn retry_after_is_the_least_wait() {
        assert_eq!(wait(2, Some(Duration::from_secs(7)), 0.0), Some(Duration::from_secs(7)));
        assert_eq!(wait(2, Some(Duration::from_mins(1)), 1.0), Some(Duration::from_secs(90)));
        assert_eq!(wait(2, Some(Duration::from_secs(61)), 0.0), None);
    }

    #[test]
    fn retry_after_forms() {
        assert_eq!(retry_after("120", None), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("18446744073709551615", None), Some(Duration::from_secs(clock::LAST)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", Some(date)), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", Some(date)), Some(Duration::ZERO));
        for odd in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(odd, Some(date)), None);
        }
    }

    #[test]
    fn statuses() {
        for transient in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient_status(transient));
        }
        for permanent in [200, 301, 400, 401, 403, 404, 501, 505] {
            assert!(!is_transient_status(permanent));
        }
    }
}
