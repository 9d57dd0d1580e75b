/// A moment as PostgreSQL counts it: microseconds since 2000-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(i64);

/// Microseconds from the Unix epoch, 1970-01-01, to PostgreSQL's, 2000-01-01.
const UNIX_TO_PG_US: i64 = 946_684_800_000_000;

impl PgTimestamp {
    /// The moment this many microseconds after 2000-01-01 00:00:00 UTC.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 2000-01-01 00:00:00 UTC.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// From microseconds since 1970-01-01 00:00:00 UTC; a moment out of range becomes the nearest one in it.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(UNIX_TO_PG_US))
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC, saturating.
    #[must_use]
    pub const fn as_unix_micros(self) -> i64 {
        self.0.saturating_add(UNIX_TO_PG_US)
    }
}

#[cfg(feature = "std")]
impl From<std::time::SystemTime> for PgTimestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let micros = match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        };
        Self::from_unix_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_the_year_2000() {
        assert_eq!(PgTimestamp::from_unix_micros(UNIX_TO_PG_US).as_micros(), 0);
        assert_eq!(PgTimestamp::from_micros(0).as_unix_micros(), UNIX_TO_PG_US);
        assert_eq!(PgTimestamp::from_unix_micros(i64::MIN).as_micros(), i64::MIN);
    }

    #[cfg(feature = "std")]
    #[test]
    fn system_time_converts_on_both_sides_of_the_unix_epoch() {
        use core::time::Duration;
        use std::time::UNIX_EPOCH;
        assert_eq!(PgTimestamp::from(UNIX_EPOCH).as_unix_micros(), 0);
        assert_eq!(PgTimestamp::from(UNIX_EPOCH - Duration::from_secs(1)).as_unix_micros(), -1_000_000);
    }
}
