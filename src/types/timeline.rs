use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

/// A timeline: one line of history of a cluster. The first is 1; each promotion begins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(NonZeroU32);

impl TimelineId {
    /// The timeline of a new cluster. It has no history file.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The timeline `id`, or `None` for 0, which no timeline has.
    #[must_use]
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number of this timeline, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a timeline: a decimal number from 1 to 4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTimelineError(());

impl fmt::Display for ParseTimelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a timeline: expected a number from 1 to 4294967295")
    }
}

impl core::error::Error for ParseTimelineError {}

impl FromStr for TimelineId {
    type Err = ParseTimelineError;

    fn from_str(text: &str) -> Result<Self, ParseTimelineError> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseTimelineError(()));
        }
        text.parse().map(Self).map_err(|_| ParseTimelineError(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_signs_and_overflow_are_refused() {
        assert_eq!("1".parse(), Ok(TimelineId::FIRST));
        assert_eq!("4294967295".parse::<TimelineId>().map(TimelineId::get), Ok(u32::MAX));
        for text in ["", "0", "+1", "-1", "4294967296", "1 ", "x"] {
            assert_eq!(text.parse::<TimelineId>(), Err(ParseTimelineError(())), "{text:?}");
        }
    }
}
