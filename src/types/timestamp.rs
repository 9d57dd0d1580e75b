use core::fmt;
use core::str::FromStr;

/// A moment as PostgreSQL counts it: microseconds since 2000-01-01 00:00:00 UTC.
///
/// The text form is RFC 3339 in UTC with microseconds, `2026-11-22T08:50:11.123456Z`. Parsing also takes what else
/// RFC 3339 allows, and what the server prints for a `timestamptz` with `DateStyle` `ISO`: a blank instead of the `T`,
/// fewer digits of the second or none, a time zone as an offset (`2026-11-22 10:50:11.1+02`), a year of four or more
/// digits. A text without a time zone is no moment; `infinity` and years BC are none either.
///
/// ```
/// use tapster::types::PgTimestamp;
/// let moment: PgTimestamp = "2000-02-29T00:00:00.000001Z".parse()?;
/// assert_eq!(moment.as_micros(), 59 * 86_400_000_000 + 1);
/// assert_eq!(moment.to_string(), "2000-02-29T00:00:00.000001Z");
/// # Ok::<(), tapster::types::ParseTimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(i64);

/// Microseconds from the Unix epoch, 1970-01-01, to PostgreSQL's, 2000-01-01.
const UNIX_TO_PG_US: i64 = 946_684_800_000_000;
const DAY_US: i64 = 86_400_000_000;

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

    /// From microseconds since 1970-01-01 00:00:00 UTC; a moment out of range becomes the nearest one in
    /// range.
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

impl fmt::Display for PgTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY_US));
        let micros = self.0.rem_euclid(DAY_US);
        let seconds = micros / 1_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = micros % 1_000_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
    }
}

/// The text is not a moment such as `2026-11-22T08:50:11.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTimestampError(());

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a moment in UTC: expected a text such as 2026-11-22T08:50:11.123456Z")
    }
}

impl core::error::Error for ParseTimestampError {}

impl FromStr for PgTimestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text).map(Self).ok_or(ParseTimestampError(()))
    }
}

/// The years of moments that have a text. PostgreSQL's own range ends with the last one.
const YEARS: core::ops::RangeInclusive<i64> = 0..=294_276;

fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let (date, day) = date.rsplit_once('-')?;
    let (year, month) = date.split_once('-')?;
    let (time, zone) = time.split_at_checked(time.find(['Z', '+', '-'])?)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, time) = time.split_once(':')?;
    let (minute, second) = time.split_once(':')?;
    let number = |digits: &str, width: usize, max: i64| {
        let is_number = digits.len() == width && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|&n| is_number && n <= max)
    };
    let year = number(year, year.len().clamp(4, 6), *YEARS.end())?;
    let (month, day) = (number(month, 2, 12)?, number(day, 2, 31)?);
    let days = days_since_2000(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    let (hour, minute) = (number(hour, 2, 23)?, number(minute, 2, 59)?);
    let seconds = hour * 3600 + minute * 60 + number(second, 2, 59)?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=6).contains(digits))?;
    let micros = number(fraction, fraction.len(), 999_999)? * 10_i64.pow(6 - digits);
    // The zone's clock is ahead of UTC by the offset.
    let offset = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign @ ("+" | "-"), zone) => {
            let mut parts = zone.splitn(3, ':');
            // The server's time zones are less than 16 hours away from UTC.
            let hours = number(parts.next()?, 2, 15)?;
            let minutes = parts.next().map_or(Some(0), |minutes| number(minutes, 2, 59))?;
            let seconds = parts.next().map_or(Some(0), |seconds| number(seconds, 2, 59))?;
            let offset = hours * 3600 + minutes * 60 + seconds;
            if sign == "-" { -offset } else { offset }
        }
        _ => return None,
    };
    let parsed = days.checked_mul(DAY_US)?.checked_add((seconds - offset) * 1_000_000 + micros)?;
    // The offset may lead out of the years that have a text.
    let (year, ..) = civil(parsed.div_euclid(DAY_US));
    YEARS.contains(&year).then_some(parsed)
}

/// Days in 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 2000-01-01. Years that begin in March end with their leap day, which makes
/// counting easy.
const MARCH_0000_TO_PG: i64 = 730_425;

/// Year, month and day of a number of days since 2000-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + MARCH_0000_TO_PG;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day_of_month)
}

fn days_since_2000(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day = (153 * month + 2) / 5 + day - 1 + 365 * year + year / 4 - year / 100;
    era * ERA_DAYS + day - MARCH_0000_TO_PG
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
    use alloc::string::ToString;

    #[test]
    fn the_epoch_is_the_year_2000() {
        assert_eq!(PgTimestamp::from_unix_micros(UNIX_TO_PG_US).as_micros(), 0);
        assert_eq!(PgTimestamp::from_micros(0).as_unix_micros(), UNIX_TO_PG_US);
        assert_eq!(PgTimestamp::from_unix_micros(i64::MIN).as_micros(), i64::MIN);
    }

    #[test]
    fn text_round_trips_over_leap_days_and_far_years() {
        for (text, micros) in [
            ("2000-01-01T00:00:00.000000Z", 0),
            ("1970-01-01T00:00:00.000000Z", -UNIX_TO_PG_US),
            ("1999-12-31T23:59:59.999999Z", -1),
            ("2004-02-29T12:00:00.000000Z", 1520 * DAY_US + DAY_US / 2),
            ("2100-03-01T00:00:00.000000Z", 36_584 * DAY_US),
            ("2026-11-22T08:50:11.123456Z", 9_822 * DAY_US + 31_811_123_456),
        ] {
            assert_eq!(text.parse(), Ok(PgTimestamp::from_micros(micros)), "{text}");
            assert_eq!(PgTimestamp::from_micros(micros).to_string(), text);
        }
        for days in (-1_000_000..1_000_000).step_by(997) {
            let (year, month, day) = civil(days);
            assert_eq!(days_since_2000(year, month, day), days);
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(PgTimestamp::from_micros(extreme).to_string().ends_with('Z'));
        }
        let far = "294276-12-31T23:59:59.999999Z";
        assert_eq!(far.parse::<PgTimestamp>().unwrap().to_string(), far);
    }

    #[test]
    fn a_servers_text_with_any_time_zone_is_the_same_moment() {
        let moment: PgTimestamp = "2026-11-22T08:50:11.120000Z".parse().unwrap();
        for text in [
            "2026-11-22 08:50:11.12+00",
            "2026-11-22 10:50:11.12+02",
            "2026-11-22 14:20:11.12+05:30",
            "2026-11-22 03:50:11.12-05",
            "2026-11-21 23:30:11.12-09:20",
            "2026-11-22 09:09:32.12+00:19:21",
            "2026-11-22T08:50:11.12Z",
            "2026-11-22 08:50:11.12Z",
        ] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        assert_eq!("2000-01-01 00:00:00+00".parse(), Ok(PgTimestamp::from_micros(0)));
        assert_eq!("2000-01-01T01:00:00+02:00".parse(), Ok(PgTimestamp::from_micros(-3_600_000_000)));
    }

    #[test]
    fn text_of_another_form_is_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T08:50:11.123456",
            "2026-11-22 08:50:11",
            "2026-11-22T08:50:11.1234567Z",
            "2026-11-22T08:50:11.Z",
            "2026-11-22T08:50:11.+1Z",
            "2026-11-22T08:50:11Zx",
            "2026-11-22T08:50:11+",
            "2026-11-22T08:50:11+2",
            "2026-11-22T08:50:11+16",
            "2026-11-22T08:50:11+02:60",
            "2026-11-22T08:50:11+02:00:00:00",
            "2026-11-22T08:50:11+02+02",
            "2026-11-22 08:50:11+00 BC",
            "22/11/2026 08:50:11.123456 UTC",
            "Sun Nov 22 08:50:11.123456 2026 UTC",
            // The offset leads out of the years that have a text.
            "294276-12-31T23:59:59-15",
            "0000-01-01T00:00:00+15",
            "2026-02-30T08:50:11.123456Z",
            "2026-13-01T08:50:11.123456Z",
            "2026-00-01T08:50:11.123456Z",
            "2026-11-22T24:50:11.123456Z",
            "+026-11-22T08:50:11.123456Z",
            "-2026-11-22T08:50:11.123456Z",
            "infinity",
        ] {
            assert_eq!(text.parse::<PgTimestamp>(), Err(ParseTimestampError(())), "{text:?}");
        }
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
