use core::fmt;
use std::prelude::v1::*;

use super::segment_file::{PARTIAL, SegmentFile};
use crate::compression::Compression;
use crate::storage::TEMPORARY;
use crate::types::{TimelineId, WalSegmentSize};
use crate::wal::{WalSegment, parse_hex};

/// What a name in an archive directory stands for.
///
/// The forms are those of PostgreSQL and pg_receivewal: the compression comes before `.partial`. Printing
/// gives the name back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFileName {
    /// A segment, complete or partial.
    Segment(SegmentFile),
    /// `<timeline>.history`, also compressed.
    History {
        /// The timeline whose ancestors it lists.
        timeline: TimelineId,
        /// How its bytes are stored.
        compression: Compression,
    },
    /// `<segment>.<offset>.backup`: what a server's archiver stores about a base backup.
    BackupHistory {
        /// The segment in which the backup began.
        segment: WalSegment,
        /// Where in that segment, in bytes.
        offset: u32,
    },
}

impl ArchiveFileName {
    /// What `name` stands for in an archive with segments of `size`; `None` for every other name.
    #[must_use]
    pub fn parse(name: &str, size: WalSegmentSize) -> Option<Self> {
        if let Some(file) = SegmentFile::parse(name, size) {
            return Some(Self::Segment(file));
        }
        let (base, compression) = Compression::split_suffix(name);
        if let Some(timeline) = base.strip_suffix(HISTORY) {
            let timeline = TimelineId::new(parse_hex(timeline)?)?;
            return Some(Self::History { timeline, compression });
        }
        let (segment, offset) = name.strip_suffix(".backup")?.split_once('.')?;
        let segment = WalSegment::parse(segment, size)?;
        let offset = parse_hex(offset).filter(|&offset| offset < size.bytes())?;
        Some(Self::BackupHistory { segment, offset })
    }

    /// Whether `name` is that of a file in the making, `*.tmp`, which readers of an archive pass over.
    #[must_use]
    pub fn is_temporary(name: &str) -> bool {
        name.ends_with(TEMPORARY)
    }
}

impl fmt::Display for ArchiveFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Segment(file) => file.fmt(f),
            Self::History { timeline, compression } => {
                write!(f, "{:08X}{HISTORY}{}", timeline.get(), compression.suffix())
            }
            Self::BackupHistory { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

/// How the file of this name is stored, whatever it holds.
pub(crate) fn compression_of(name: &str) -> Compression {
    Compression::split_suffix(name.strip_suffix(PARTIAL).unwrap_or(name)).1
}

/// The name of the segment or history that the name begins with.
pub(super) fn stem_of(name: &[u8]) -> Option<String> {
    let is_hex = |digits: &[u8]| digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let segment = name.get(..WalSegment::NAME_LEN).filter(|digits| is_hex(digits));
    let history = name.get(..16).filter(|name| is_hex(&name[..8]) && name.ends_with(b".history"));
    segment.or(history).map(|stem| String::from_utf8_lossy(stem).into_owned())
}

/// Ends the name of a timeline's history.
const HISTORY: &str = ".history";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<ArchiveFileName> {
        ArchiveFileName::parse(name, WalSegmentSize::DEFAULT)
    }

    #[test]
    fn every_form_round_trips() {
        for name in [
            "0000000100000016000000B3",
            "0000000100000016000000B3.partial",
            "0000000100000016000000B3.gz",
            "0000000100000016000000B3.gz.partial",
            "0000000100000016000000B3.lz4",
            "0000000100000016000000B3.lz4.partial",
            "0000000100000016000000B3.zst",
            "0000000100000016000000B3.zst.partial",
            "0000000100000016000000B3.00000028.backup",
            "00000002.history",
            "00000002.history.gz",
        ] {
            assert_eq!(parse(name).map(|file| file.to_string()).as_deref(), Some(name));
        }
    }

    #[test]
    fn other_names_stand_for_nothing() {
        for name in [
            "",
            ".",
            ".gz",
            ".partial",
            "0000000100000016000000B3.partial.gz",
            "0000000100000016000000B3.gz.lz4",
            "0000000100000016000000B3.bz2",
            "0000000100000016000000B3.backup",
            "0000000100000016000000B3.01000000.backup",
            "0000000100000016000000B3.00000028.backup.gz",
            "0000000100000016000000B3.tmp",
            "00000002.history.partial",
            "00000000.history",
            "2.history",
            "0000000200000000.history",
        ] {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_file_in_the_making_ends_in_tmp() {
        assert!(ArchiveFileName::is_temporary("00000002.history.tmp"));
        assert!(!ArchiveFileName::is_temporary("00000002.history"));
    }
}
