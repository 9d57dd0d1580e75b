use core::cmp::Reverse;
use core::fmt;
use std::os::unix::fs::FileExt;
use std::prelude::v1::*;

use super::scan::is_segment_name;
use super::{Archive, ArchiveError, SegmentFile};
use crate::archive::io_error;
use crate::compression::Compression;
use crate::storage::Entry;
use crate::wal::WalSegment;

/// Where an archive ends; see [`Archive::end`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveEnd {
    /// The file of the newest segment; none in an empty archive.
    pub newest: Option<SegmentFile>,
    /// Files that are not what their names say, by name. They were passed over.
    pub warnings: Vec<ArchiveWarning>,
    /// Segments that the archive has by name only, in order: every complete file of them is among the warnings.
    pub broken: Vec<WalSegment>,
}

impl ArchiveEnd {
    /// The segment to receive next, from its start: the newest one if it is partial, else the one after it, unless
    /// [those before it](Self::before_broken) come first. `None` if the archive is empty.
    #[must_use]
    pub fn resume_at(&self) -> Option<WalSegment> {
        let next = match self.newest {
            Some(newest) if newest.is_partial => Some(newest.segment),
            Some(newest) => newest.segment.next(),
            None => self.broken.last()?.next(),
        };
        next.map(|next| self.before_broken(next))
    }

    /// The first of the broken segments that end where `next` begins, or `next` if there are none: to go on behind
    /// them would make a hole for ever.
    #[must_use]
    pub fn before_broken(&self, next: WalSegment) -> WalSegment {
        let newest_first = self.broken.iter().rev();
        newest_first.fold(next, |next, broken| if broken.next() == Some(next) { *broken } else { next })
    }
}

/// A file that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveWarning {
    /// Its name in the archive.
    pub name: String,
    /// What is wrong.
    pub kind: WarningKind,
}

/// What is wrong with a file in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// It has the name of a complete segment and another size, uncompressed.
    Size {
        /// Its size, uncompressed, in bytes.
        actual: u64,
    },
    /// It has the name of a complete compressed segment, and is damaged or holds more than a segment.
    Damaged,
    /// It has the name of a segment and is a directory, a socket, a symbolic link that leads nowhere, ...
    NotAFile,
    /// It is named as a segment of a cluster with smaller segments.
    OtherSegmentSize,
}

impl fmt::Display for ArchiveWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment file \"{}\" ", self.name)?;
        match self.kind {
            WarningKind::Size { actual } => write!(f, "has incorrect size {actual}, skipping"),
            WarningKind::Damaged => f.write_str("is no compressed segment, skipping"),
            WarningKind::NotAFile => f.write_str("is not a file, skipping"),
            WarningKind::OtherSegmentSize => {
                f.write_str("is of a cluster with another segment size, skipping")
            }
        }
    }
}

impl Archive {
    /// Where the archive ends, and so where receiving goes on.
    ///
    /// The newest segment has the highest number, then the highest timeline; a complete one counts before a
    /// partial one. Files with the name of a complete segment but another size are passed over with a warning;
    /// compressed files whose size is only known after decompression, only if no newer segment is sound. What this
    /// returns is durable, also if a crash came between a rename and its fsync.
    ///
    /// # Errors
    /// If the directory or a file in it cannot be read or synced.
    pub fn end(&self) -> Result<ArchiveEnd, ArchiveError> {
        let directory = self.directory();
        directory.sync()?;
        let mut candidates = Vec::new();
        let mut warnings = Vec::new();
        directory.for_each_name(|name| match SegmentFile::parse(name, self.segment_size()) {
            // Number 0 is no segment of any cluster.
            Some(file) if file.segment.number() > 0 => candidates.push(file),
            // The numbers in the names of smaller segments are larger.
            None if is_segment_name(name) => {
                warnings.push(ArchiveWarning { name: name.into(), kind: WarningKind::OtherSegmentSize });
            }
            _ => {}
        })?;
        candidates.sort_by_key(|candidate| Reverse(*candidate));
        // All of them are examined, not only the newest, so that every broken one is reported.
        let mut newest: Option<SegmentFile> = None;
        let (mut broken, mut sound) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let name = candidate.to_string();
            // Another process may move finished segments away at any moment.
            let Some(entry) = directory.entry(&name)? else { continue };
            match self.examine(candidate, &entry, newest.is_none())? {
                Some(kind) => {
                    warnings.push(ArchiveWarning { name, kind });
                    broken.push(candidate.segment);
                }
                None => {
                    newest = newest.or(Some(candidate));
                    sound.extend((!candidate.is_partial).then_some(candidate.segment));
                }
            }
        }
        // Newest first until now, and so is `sound`.
        broken.retain(|segment| sound.binary_search_by(|other| segment.cmp(other)).is_err());
        broken.sort();
        broken.dedup();
        if let Some(newest) = newest.filter(|newest| !newest.is_partial) {
            directory.sync_file(&newest.to_string())?;
        }
        warnings.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ArchiveEnd { newest, warnings, broken })
    }

    /// Why the file is not what its name says, if so. What would have to be decompressed for it is taken at its
    /// name, unless it is to be looked at `closely`.
    fn examine(
        &self,
        candidate: SegmentFile,
        entry: &Entry,
        closely: bool,
    ) -> Result<Option<WarningKind>, ArchiveError> {
        let &Entry::File(stored) = entry else { return Ok(Some(WarningKind::NotAFile)) };
        // A partial one is received again from its start, whatever it holds.
        if candidate.is_partial {
            return Ok(None);
        }
        let name = candidate.to_string();
        let expected = u64::from(self.segment_size().bytes());
        let told = match candidate.compression {
            Compression::None => Some(stored),
            // Otherwise something may follow the compressed stream.
            Compression::Gzip if !closely => {
                self.gzip_content_len(&name, stored)?.filter(|&len| len == expected)
            }
            // What a gzip file ends with is the length of its last member only.
            Compression::Gzip | Compression::Lz4 | Compression::Zstd => Some(expected).filter(|_| !closely),
        };
        let actual = match told.map_or_else(|| self.content_len(&name), Ok) {
            Ok(actual) => actual,
            Err(ArchiveError::Decompress { .. }) => return Ok(Some(WarningKind::Damaged)),
            Err(error) => return Err(error),
        };
        Ok((actual != expected).then_some(WarningKind::Size { actual }))
    }

    /// How many bytes a compressed file holds, found by decompressing it.
    fn content_len(&self, name: &str) -> Result<u64, ArchiveError> {
        self.open_segment(name)?.skip_to_end()
    }

    /// The uncompressed size, modulo 4 GiB, that ends a gzip file of `stored` bytes.
    fn gzip_content_len(&self, name: &str, stored: u64) -> Result<Option<u64>, ArchiveError> {
        let Some(at) = stored.checked_sub(4) else { return Ok(None) };
        let mut len = [0; 4];
        let read = self.directory().open_file(name)?.read_exact_at(&mut len, at);
        read.map_err(|source| io_error("read", self.directory().path_of(name), source))?;
        Ok(Some(u32::from_le_bytes(len).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::fs::{self, File};
    use std::io::Write;

    const SIZE: u64 = 1 << 20;

    /// The end of an archive with files of these names and sizes.
    fn end_of(files: &[(&str, u64)]) -> ArchiveEnd {
        let dir = tempfile::tempdir().unwrap();
        for &(name, len) in files {
            File::create(dir.path().join(name)).unwrap().set_len(len).unwrap();
        }
        let size = WalSegmentSize::new(1 << 20).unwrap();
        Archive::open(dir.path(), size).unwrap().end().unwrap()
    }

    fn resume_at(files: &[(&str, u64)]) -> Option<String> {
        let end = end_of(files);
        assert_eq!(end.warnings, []);
        end.resume_at().map(|segment| segment.to_string())
    }

    #[test]
    fn an_archive_without_segments_has_no_end() {
        assert_eq!(resume_at(&[]), None);
        let others = [
            ("00000002.history", 40),
            ("000000010000000000000005.00000028.backup", 300),
            ("000000010000000000000005.tmp", 7),
            ("readme", 1),
            // The first segment of a log is number 1.
            ("000000010000000000000000", SIZE),
        ];
        assert_eq!(resume_at(&others[..4]), None);
        assert_eq!(resume_at(&others), None);
    }

    #[test]
    fn the_highest_number_counts_before_the_highest_timeline() {
        let files = [("000000010000000000000006", SIZE), ("000000020000000000000005", SIZE)];
        assert_eq!(resume_at(&files).as_deref(), Some("000000010000000000000007"));
        let files = [("000000010000000000000006", SIZE), ("000000020000000000000006.partial", SIZE)];
        assert_eq!(resume_at(&files).as_deref(), Some("000000020000000000000006"));
    }

    #[test]
    fn complete_counts_before_partial_and_the_log_number_carries() {
        let files = [("000000010000000000000FFF.partial", SIZE), ("000000010000000000000FFF", SIZE)];
        assert_eq!(resume_at(&files).as_deref(), Some("000000010000000100000000"));
    }

    #[test]
    fn a_partial_of_any_size_is_received_again_from_its_start() {
        for len in [0, 1, 458_752, SIZE, SIZE + 1] {
            let files = [("000000010000000000000005", SIZE), ("000000010000000000000006.partial", len)];
            assert_eq!(resume_at(&files).as_deref(), Some("000000010000000000000006"), "{len}");
        }
        let files = [("000000010000000000000006.gz.partial", 3), ("000000010000000000000005", SIZE)];
        assert_eq!(resume_at(&files).as_deref(), Some("000000010000000000000006"));
    }

    #[test]
    fn complete_files_of_another_size_are_passed_over_and_told() {
        let end = end_of(&[
            ("000000010000000000000005", SIZE),
            ("000000010000000000000006", SIZE - 1),
            ("000000010000000000000007", 0),
            ("000000010000000000000008.gz", 3),
            ("000000010000000000000009.lz4", 0),
        ]);
        assert_eq!(end.newest.unwrap().to_string(), "000000010000000000000005");
        let told: Vec<_> = end.warnings.iter().map(|warning| warning.kind).collect();
        let size = |actual| WarningKind::Size { actual };
        assert_eq!(told, [size(SIZE - 1), size(0), WarningKind::Damaged, size(0)]);
        assert_eq!(
            end.warnings[0].to_string(),
            "segment file \"000000010000000000000006\" has incorrect size 1048575, skipping"
        );
    }

    #[test]
    fn a_directory_and_a_segment_of_another_size_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("000000010000000000000005")).unwrap();
        fs::write(dir.path().join("000000010000000000000100"), "").unwrap();
        let end = Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap().end().unwrap();
        let told: Vec<_> = end.warnings.iter().map(|warning| warning.kind).collect();
        assert_eq!((end.newest, told), (None, [WarningKind::NotAFile, WarningKind::OtherSegmentSize].into()));
    }

    #[test]
    fn the_content_of_a_compressed_segment_has_to_have_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::new(1 << 20).unwrap()).unwrap();
        let (segment, short) = (std::vec![0; 1 << 20], [0; 9]);
        let gzip = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
        let lz4 = |content: &[u8]| {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let newest_after = |name: &str, bytes: Vec<u8>| {
            fs::write(dir.path().join(name), bytes).unwrap();
            archive.end().unwrap().newest.unwrap().to_string()
        };
        let five = "000000010000000000000005.gz";
        assert_eq!(newest_after(five, gzip(&segment)), five);
        assert_eq!(newest_after(five, [gzip(&segment), b"a stale tail".into()].concat()), five);
        // Of several members only the last one's length stands at the end of the file.
        let members = |parts: &[&[u8]]| parts.iter().flat_map(|part| gzip(part)).collect::<Vec<_>>();
        assert_eq!(newest_after(five, members(&[&segment[..300_000], &segment[300_000..], &[]])), five);
        assert_eq!(newest_after("000000010000000000000006.gz", members(&[&short, &segment])), five);
        assert_eq!(newest_after("000000010000000000000006.gz", gzip(&short)), five);
        assert_eq!(newest_after("000000010000000000000006.lz4", lz4(&short)), five);
        assert_eq!(newest_after("000000010000000000000006.zst", zstd(&short)), five);
        assert_eq!(newest_after("000000010000000000000007.zst", b"....".into()), five);
        assert_eq!(archive.end().unwrap().warnings.len(), 4);
        for (name, content) in [
            ("000000010000000000000008.lz4", lz4(&segment)),
            ("000000010000000000000009.zst", zstd(&segment)),
            ("00000001000000000000000A.lz4", [lz4(&segment[..9]), lz4(&segment[9..])].concat()),
            ("00000001000000000000000B.zst", [zstd(&segment[..9]), zstd(&segment[9..])].concat()),
        ] {
            assert_eq!(newest_after(name, content), name);
        }
    }

    #[test]
    fn the_plain_file_counts_of_a_segment_stored_twice() {
        let end = end_of(&[("000000010000000000000005.lz4", 9), ("000000010000000000000005", SIZE)]);
        assert_eq!(end.warnings, []);
        assert_eq!(end.newest.unwrap().compression, Compression::None);
    }
}
