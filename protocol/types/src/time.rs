//! A point in time: UTC nanoseconds since the epoch, set by the daemon or the shim only (ID-11). Durations are
//! `std::time::Duration`, or integers whose field name ends in the unit.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

static SKEW: std::sync::OnceLock<fn() -> i64> = std::sync::OnceLock::new();

/// UTC nanoseconds since 1970-01-01T00:00:00Z; prints as RFC 3339 with nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock now. It may be set back or forward at any time: order is never concluded from it, and waits go by the monotonic clock.
    pub fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        Self(SKEW.get().map_or(now, |skew| now.saturating_add(skew())))
    }

    /// From now on [`Self::now`] is off by so many nanoseconds, asked each time: for test builds, which have to set the clock without touching the host's.
    /// Only the first call counts.
    pub fn skew(nanoseconds: fn() -> i64) {
        let _ = SKEW.set(nanoseconds);
    }

    /// RFC 3339 to `Timestamp`.
    pub fn parse(text: &str) -> crate::Result<Self> {
        let parsed: jiff::Timestamp = text.parse().map_err(|error| {
            crate::Error::invalid_argument(format!("time {text:?} is malformed: {error}"))
                .with_hint("use RFC 3339, such as 2026-11-24T08:00:00Z")
        })?;
        Ok(Self(i64::try_from(parsed.as_nanosecond()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
