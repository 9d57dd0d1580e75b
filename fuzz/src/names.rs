//! Properties of the names of WAL files, and of the arithmetic that they follow.

use tapster::archive::{ArchiveFileName, SegmentFile};
use tapster::types::{Lsn, TimelineId, WalSegmentSize};
use tapster::wal::WalSegment;

/// The input is a segment size, by the number of its zero bits above 20, and either a name or the 12 bytes of
/// a timeline and a position.
pub fn wal_names(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let size = WalSegmentSize::new(1 << (20 + choice % 11)).expect("a power of two in range");
    assert_eq!(size.to_string().parse(), Ok(size));
    if let Ok(text) = core::str::from_utf8(rest) {
        check_name(text, size);
        check_texts(text);
    }
    if let Some((&[a, b, c, d, ref lsn @ ..], _)) = rest.split_first_chunk::<12>() {
        let timeline = TimelineId::new(u32::from_be_bytes([a, b, c, d])).unwrap_or(TimelineId::FIRST);
        let lsn = <[u8; 8]>::try_from(&lsn[..]).expect("the other 8 of 12");
        check_position(Lsn::new(u64::from_be_bytes(lsn)), timeline, size);
    }
}

/// Checks that a file that has this name has no other name.
fn check_name(text: &str, size: WalSegmentSize) {
    let Some(file) = ArchiveFileName::parse(text, size) else {
        assert_eq!(WalSegment::parse(text, size), None);
        return;
    };
    assert_eq!(file.to_string(), text);
    assert!(!ArchiveFileName::is_temporary(text));
    assert!(ArchiveFileName::is_temporary(&format!("{text}.tmp")));
    match file {
        ArchiveFileName::Segment(SegmentFile { segment, .. }) => {
            assert!(text.starts_with(&segment.to_string()));
            check_position(segment.start(), segment.timeline(), size);
        }
        ArchiveFileName::BackupHistory { segment, offset } => {
            assert!(offset < size.bytes());
            check_position(segment.start(), segment.timeline(), size);
        }
        ArchiveFileName::History { .. } => {}
    }
}

/// Checks positions, timelines and sizes as text.
fn check_texts(text: &str) {
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
        assert!(text.len() <= 17);
    }
    if let Ok(timeline) = text.parse::<TimelineId>() {
        assert_eq!(timeline.to_string(), text.trim_start_matches('0'));
    }
    if let Ok(size) = text.parse::<WalSegmentSize>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
}

/// Checks that a segment has one name and one place in the log, and that its neighbours adjoin it.
fn check_position(lsn: Lsn, timeline: TimelineId, size: WalSegmentSize) {
    let segment = WalSegment::containing(lsn, timeline, size);
    assert!(segment.start() <= lsn && lsn <= segment.end());
    assert_eq!(segment.start().get() % u64::from(size.bytes()), 0);
    assert_eq!((segment.timeline(), segment.size()), (timeline, size));
    assert_eq!(WalSegment::new(timeline, segment.number(), size), Some(segment));

    // The documentation's own formula.
    let name = segment.to_string();
    let per_log = u64::from(size.segments_per_log());
    assert_eq!(per_log * u64::from(size.bytes()), 1 << 32);
    let parts = (segment.number() / per_log, segment.number() % per_log);
    assert_eq!(name, format!("{:08X}{:08X}{:08X}", timeline.get(), parts.0, parts.1));
    assert_eq!(name.len(), WalSegment::NAME_LEN);
    assert_eq!(WalSegment::parse(&name, size), Some(segment));

    match segment.next() {
        Some(next) => {
            assert_eq!((next.start(), next.previous()), (segment.end(), Some(segment)));
            assert!(segment < next && segment.to_string() < next.to_string());
            assert_eq!(WalSegment::containing(segment.end(), timeline, size), next);
        }
        None => assert_eq!(segment.end(), Lsn::new(u64::MAX)),
    }
    match segment.previous() {
        Some(previous) => assert_eq!((previous.end(), previous.next()), (segment.start(), Some(segment))),
        None => assert_eq!(segment.number(), 0),
    }
    let other = WalSegment::new(TimelineId::FIRST, segment.number(), size).unwrap();
    assert_eq!(other.start(), segment.start());
}
