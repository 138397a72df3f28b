//! Trying again what may pass: connection loss, 429, 5xx. Exponential back-off with jitter; Retry-After is honoured, up to a cap.

use std::time::Duration;

/// Tries in all.
pub(crate) const TRIES_MAX: u32 = 4;
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait before try `next` (1 is the first repeat).
pub(crate) fn delay(next: u32, retry_after: Option<Duration>) -> Duration {
    if let Some(asked) = retry_after {
        return asked.min(LONGEST);
    }
    let base = FIRST.saturating_mul(1 << next.min(10).saturating_sub(1)).min(LONGEST);
    // Between half and the whole, so that many clients do not come back at once.
    let mut byte = [0_u8; 1];
    let _ = getrandom::fill(&mut byte);
    base / 2 + base / 2 * u32::from(byte[0]) / 255
}

/// `Retry-After` in seconds; its date form is rare and ignored.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_are_capped() {
        for next in 1..40 {
            let waited = delay(next, None);
            assert!(waited >= FIRST / 2 && waited <= LONGEST, "{next}: {waited:?}");
        }
        assert_eq!(delay(1, Some(Duration::from_secs(3600))), LONGEST);
        assert_eq!(delay(1, Some(Duration::from_secs(2))), Duration::from_secs(2));
    }
}
