use core::cmp::Ordering;
use core::fmt;

use crate::types::{Lsn, TimelineId, WalSegmentSize};

/// One WAL segment: a timeline and a number, in a log whose segments have one size.
///
/// Its file name is 24 upper-case hexadecimal digits: timeline, number / n and number % n, where n is
/// [`WalSegmentSize::segments_per_log`]. Number 0 has a name but is never a real segment: a cluster's log
/// begins with number 1.
///
/// Segments of one cluster are ordered by number and then by timeline, which is the order in which an archive
/// receives them.
///
/// ```
/// use tapster::types::{Lsn, TimelineId, WalSegmentSize};
/// use tapster::wal::WalSegment;
/// let lsn: Lsn = "16/B374D848".parse()?;
/// let segment = WalSegment::containing(lsn, TimelineId::FIRST, WalSegmentSize::DEFAULT);
/// assert_eq!(segment.to_string(), "0000000100000016000000B3");
/// assert_eq!(segment.start().to_string(), "16/B3000000");
/// # Ok::<(), tapster::types::ParseLsnError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WalSegment {
    timeline: TimelineId,
    /// At most [`last_number`], so that `number * size` is a position.
    number: u64,
    size: WalSegmentSize,
}

impl WalSegment {
    /// Characters in the name of a segment file, without suffixes.
    pub const NAME_LEN: usize = 24;

    /// Segment `number` of `timeline`, or `None` past the end of the 64-bit log.
    #[must_use]
    pub fn new(timeline: TimelineId, number: u64, size: WalSegmentSize) -> Option<Self> {
        (number <= last_number(size)).then_some(Self { timeline, number, size })
    }

    /// The segment that holds the byte at `lsn`.
    ///
    /// An end position (last byte + 1) on a boundary gives the segment that begins there.
    #[must_use]
    pub fn containing(lsn: Lsn, timeline: TimelineId, size: WalSegmentSize) -> Self {
        Self { timeline, number: lsn.get() / u64::from(size.bytes()), size }
    }

    /// The segment with this file name, which has no suffix; `None` if it is not one of a log with segments
    /// of `size`. Lower-case digits, timeline 0 and a third part out of range are refused.
    #[must_use]
    pub fn parse(name: &str, size: WalSegmentSize) -> Option<Self> {
        let (timeline, number) = name.split_at_checked(8)?;
        let (log, segment) = number.split_at_checked(8)?;
        let timeline = TimelineId::new(parse_hex(timeline)?)?;
        let (log, segment) = (parse_hex(log)?, parse_hex(segment)?);
        if segment >= size.segments_per_log() {
            return None;
        }
        Self::new(timeline, u64::from(log) * u64::from(size.segments_per_log()) + u64::from(segment), size)
    }

    /// The timeline that its bytes belong to.
    #[must_use]
    pub const fn timeline(self) -> TimelineId {
        self.timeline
    }

    /// Its number: the segments before it in the log.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// Its size, that of every segment of the cluster.
    #[must_use]
    pub const fn size(self) -> WalSegmentSize {
        self.size
    }

    /// The position of its first byte.
    #[must_use]
    pub fn start(self) -> Lsn {
        Lsn::new(self.number * u64::from(self.size.bytes()))
    }

    /// The position of its last byte + 1; for the very last segment of the 64-bit log, whose end is no
    /// position any more, that of its last byte.
    #[must_use]
    pub fn end(self) -> Lsn {
        Lsn::new(self.start().get().saturating_add(u64::from(self.size.bytes())))
    }

    /// The following segment of the same timeline, or `None` at the end of the 64-bit log.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.timeline, self.number + 1, self.size)
    }

    /// The segment before it on the same timeline, or `None` for number 0.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        Self::new(self.timeline, self.number.checked_sub(1)?, self.size)
    }
}

/// The file name.
impl fmt::Display for WalSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_log = u64::from(self.size.segments_per_log());
        let (log, segment) = (self.number / per_log, self.number % per_log);
        write!(f, "{:08X}{log:08X}{segment:08X}", self.timeline.get())
    }
}

impl Ord for WalSegment {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |segment: &Self| (segment.number, segment.timeline, segment.size);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for WalSegment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number of the last segment of a 64-bit log.
fn last_number(size: WalSegmentSize) -> u64 {
    u64::MAX / u64::from(size.bytes())
}

/// The value of exactly eight upper-case hexadecimal digits.
pub(crate) fn parse_hex(digits: &str) -> Option<u32> {
    let strict = digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    u32::from_str_radix(digits, 16).ok().filter(|_| strict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn size(mib: u32) -> WalSegmentSize {
        WalSegmentSize::new(mib << 20).unwrap()
    }

    #[test]
    fn names_round_trip_for_every_size() {
        for (mib, name, start) in [
            (16, "0000000100000016000000B3", "16/B3000000"),
            (16, "FFFFFFFFFFFFFFFF000000FF", "FFFFFFFF/FF000000"),
            (1, "000000020000000000000FFF", "0/FFF00000"),
            (1024, "000000010000000500000003", "5/C0000000"),
        ] {
            let segment = WalSegment::parse(name, size(mib)).unwrap();
            assert_eq!((segment.to_string(), segment.start().to_string()), (name.into(), start.into()));
            assert_eq!(WalSegment::containing(segment.start(), segment.timeline(), size(mib)), segment);
        }
    }

    #[test]
    fn names_of_another_form_are_refused() {
        for name in [
            "",
            "0000000100000016000000B",
            "0000000100000016000000B30",
            "0000000100000016000000b3",
            "000000000000001600000001",
            "000000010000001600000100",
            "+0000001000000160000000B",
            "0000000100000016000000é",
            "0000000100000016000000B3.partial",
        ] {
            assert_eq!(WalSegment::parse(name, size(16)), None, "{name:?}");
        }
    }

    #[test]
    fn neighbours_end_with_the_log_and_nothing_overflows() {
        for mib in [1, 16, 1024] {
            let last = WalSegment::containing(Lsn::new(u64::MAX), TimelineId::FIRST, size(mib));
            assert_eq!((last.next(), last.end()), (None, Lsn::new(u64::MAX)));
            assert_eq!(WalSegment::parse(&last.to_string(), size(mib)), Some(last));
            let before = last.previous().unwrap();
            assert_eq!((before.next(), before.end()), (Some(last), last.start()));
        }
        assert_eq!(WalSegment::new(TimelineId::FIRST, u64::MAX, size(1)), None);
        assert_eq!(WalSegment::new(TimelineId::FIRST, 0, size(1)).unwrap().previous(), None);
    }

    #[test]
    fn an_archive_is_ordered_by_number_before_timeline() {
        let segment = |name| WalSegment::parse(name, size(16)).unwrap();
        let first = segment("000000010000000000000005");
        assert!(segment("000000020000000000000005") > first);
        assert!(segment("000000020000000000000004") < first);
    }
}
