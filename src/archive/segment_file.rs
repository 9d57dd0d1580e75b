use core::cmp::{Ordering, Reverse};
use core::fmt;

use crate::compression::Compression;
use crate::types::{Lsn, WalSegmentSize};
use crate::wal::WalSegment;

/// A file of a segment: `<segment>`, `<segment>.partial`, `<segment>.gz`, `<segment>.gz.partial`, ...
///
/// Ordered from the oldest to the newest: by segment; of one segment, a complete file is greater than a partial one,
/// and the plain file greater than a compressed one. So the greatest file of a segment is the one to read.
///
/// ```
/// use tapster::archive::SegmentFile;
/// use tapster::types::WalSegmentSize;
///
/// let file = SegmentFile::parse("0000000100000016000000B3.gz.partial", WalSegmentSize::DEFAULT).unwrap();
/// assert!(file.is_partial);
/// assert_eq!(SegmentFile::plain(file.segment).to_string(), "0000000100000016000000B3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Which segment.
    pub segment: WalSegment,
    /// How its bytes are stored.
    pub compression: Compression,
    /// Whether the segment is still being received, or was never completed.
    pub is_partial: bool,
}

impl SegmentFile {
    /// The complete segment, not compressed.
    #[must_use]
    pub const fn plain(segment: WalSegment) -> Self {
        Self::complete(segment, Compression::None)
    }

    /// The segment in progress, not compressed.
    #[must_use]
    pub const fn partial(segment: WalSegment) -> Self {
        Self { segment, compression: Compression::None, is_partial: true }
    }

    /// The complete segment, stored this way.
    #[must_use]
    pub const fn complete(segment: WalSegment, compression: Compression) -> Self {
        Self { segment, compression, is_partial: false }
    }

    /// The file with this name in an archive with segments of `size`; `None` for every other name.
    #[must_use]
    pub fn parse(name: &str, size: WalSegmentSize) -> Option<Self> {
        let (base, is_partial) = match name.strip_suffix(PARTIAL) {
            Some(base) => (base, true),
            None => (name, false),
        };
        let (base, compression) = Compression::split_suffix(base);
        Some(Self { segment: WalSegment::parse(base, size)?, compression, is_partial })
    }

    /// Every complete file that the segment may be stored in, in the order in which they are looked for: plain first.
    pub(crate) fn all_complete(segment: WalSegment) -> impl Iterator<Item = Self> {
        Compression::ALL.into_iter().map(move |compression| Self::complete(segment, compression))
    }

    /// Every complete file with the segment compressed.
    pub(crate) fn all_compressed(segment: WalSegment) -> impl Iterator<Item = Self> {
        Compression::COMPRESSING.into_iter().map(move |compression| Self::complete(segment, compression))
    }

    /// The position after the last byte that the file surely holds: the segment's end, or for a partial file, which
    /// is received again, its start.
    #[must_use]
    pub fn end(&self) -> Lsn {
        if self.is_partial { self.segment.start() } else { self.segment.end() }
    }

    /// Whether its bytes are compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compression != Compression::None
    }
}

/// The file name.
impl fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, compression, is_partial } = self;
        write!(f, "{segment}{}{}", compression.suffix(), if *is_partial { PARTIAL } else { "" })
    }
}

impl Ord for SegmentFile {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |file: &Self| (file.segment, !file.is_partial, Reverse(file.compression));
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for SegmentFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ends the name of a segment that is not complete.
pub(super) const PARTIAL: &str = ".partial";

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    const NAME: &str = "0000000100000016000000B3";

    fn parse(name: &str) -> Option<SegmentFile> {
        SegmentFile::parse(name, WalSegmentSize::DEFAULT)
    }

    #[test]
    fn each_file_has_its_name() {
        let segment = parse(NAME).unwrap().segment;
        for (file, suffix) in [
            (SegmentFile::plain(segment), ""),
            (SegmentFile::partial(segment), ".partial"),
            (SegmentFile::complete(segment, Compression::Gzip), ".gz"),
            (SegmentFile { segment, compression: Compression::Gzip, is_partial: true }, ".gz.partial"),
            (SegmentFile::complete(segment, Compression::Lz4), ".lz4"),
            (SegmentFile { segment, compression: Compression::Lz4, is_partial: true }, ".lz4.partial"),
            (SegmentFile::complete(segment, Compression::Zstd), ".zst"),
            (SegmentFile { segment, compression: Compression::Zstd, is_partial: true }, ".zst.partial"),
        ] {
            let name = std::format!("{NAME}{suffix}");
            assert_eq!(file.to_string(), name);
            assert_eq!(parse(&name), Some(file));
        }
    }

    #[test]
    fn other_names_are_of_no_segment() {
        for suffix in [".partial.gz", ".gz.lz4", ".bz2", ".tmp", ".partial.tmp", ".partial.partial", "."] {
            assert_eq!(parse(&std::format!("{NAME}{suffix}")), None, "{suffix}");
        }
        for name in ["", ".partial", ".gz", ".gz.partial", "00000002.history", &NAME[1..]] {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn newer_more_complete_and_less_compressed_files_are_greater() {
        let ascending = [
            "000000010000000000000005.partial",
            "000000010000000000000005.zst",
            "000000010000000000000005.lz4",
            "000000010000000000000005.gz",
            "000000010000000000000005",
            "000000020000000000000005.partial",
            "000000020000000000000005",
            "000000010000000000000006.gz.partial",
            "000000010000000000000006.partial",
        ];
        let mut files: Vec<SegmentFile> = ascending.iter().rev().filter_map(|name| parse(name)).collect();
        files.sort();
        assert_eq!(files.iter().map(ToString::to_string).collect::<Vec<_>>(), ascending);
    }

    #[test]
    fn a_partial_file_holds_nothing_for_sure() {
        let segment = parse(NAME).unwrap().segment;
        assert_eq!(SegmentFile::plain(segment).end(), segment.end());
        assert_eq!(SegmentFile::partial(segment).end(), segment.start());
    }
}
