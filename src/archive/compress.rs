use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::prelude::v1::*;
use std::vec;

use super::scan::{CompareError, READ_LEN, ReadAt, first_difference};
use super::{Archive, ArchiveError, SegmentFile, SegmentReader};
use crate::archive::io_error;
use crate::compression::{Compress, Compression, Encoder};
use crate::storage::{Entry, NewFile};
use crate::wal::WalSegment;

impl Archive {
    /// Replaces a complete plain segment by a compressed one, and says whether it did: not if the segment is gone
    /// because another process moved it away, nor once `stop` is true.
    ///
    /// The plain file is removed when the compressed one has been read back, is the same, and is durable. So at
    /// every moment, also after a crash, one of the two is here and complete.
    ///
    /// # Errors
    /// If a file cannot be read, written or synced. The plain segment stays, and it may be tried again.
    /// [`ArchiveError::Conflict`] if the segment is here with other content, compressed.
    pub fn compress(
        &self,
        segment: WalSegment,
        compress: Compress,
        stop: &AtomicBool,
    ) -> Result<bool, ArchiveError> {
        let directory = self.directory();
        let plain = SegmentFile::plain(segment).to_string();
        if compress.method == Compression::None || directory.entry(&plain)?.is_none() {
            return Ok(false);
        }
        let content = directory.open_file(&plain)?;
        self.check_compressed(segment, &content)?;
        let name = SegmentFile::complete(segment, compress.method).to_string();
        let new = directory.new_file(&name, self.file_mode())?;
        if !self.write_compressed(&content, compress, &new, stop)? {
            return Ok(false);
        }
        new.sync()?;
        // Another process may have moved the segment away meanwhile. It must not find the segment a second time.
        if directory.entry(&plain)?.is_none() {
            return Ok(false);
        }
        new.publish()?;
        directory.sync()?;
        directory.remove(&plain)?;
        directory.sync()?;
        Ok(true)
    }

    /// Whether `plain` may become this segment: what is here of it compressed holds the same bytes, or no whole
    /// segment, so that [`Archive::end`] passed it over.
    ///
    /// # Errors
    /// [`ArchiveError::Conflict`] otherwise.
    pub(crate) fn check_compressed(&self, segment: WalSegment, plain: &File) -> Result<(), ArchiveError> {
        for file in SegmentFile::all_compressed(segment) {
            let name = file.to_string();
            if let Some(Entry::File(_)) = self.directory().entry(&name)?
                && self.compare(self.open_segment(&name)?, plain)? == Comparison::Differs
            {
                return Err(ArchiveError::Conflict { path: self.directory().path_of(&name) });
            }
        }
        Ok(())
    }

    /// Writes a compressed copy and reads it back. False if `stop` became true.
    fn write_compressed(
        &self,
        plain: &File,
        compress: Compress,
        new: &NewFile<'_>,
        stop: &AtomicBool,
    ) -> Result<bool, ArchiveError> {
        let err = |source| io_error("write", new.path(), source);
        let len = u64::from(self.segment_size().bytes());
        let mut encoder = Encoder::new(new.file(), compress, len).map_err(err)?;
        let mut chunk = vec![0; READ_LEN];
        for at in (0..len).step_by(READ_LEN) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.read_at(plain, &mut chunk, at)?;
            encoder.write_all(&chunk).map_err(err)?;
        }
        let mut written = encoder.finish().and_then(File::try_clone).map_err(err)?;
        written.rewind().map_err(err)?;
        let written = SegmentReader::new(written, new.path(), compress.method, len);
        match self.compare(written, plain)? {
            Comparison::Same => Ok(true),
            Comparison::Differs | Comparison::NoSegment => Err(ArchiveError::Decompress {
                path: new.path(),
                source: io::Error::new(io::ErrorKind::InvalidData, "it does not hold what was written to it"),
            }),
        }
    }

    fn compare(&self, mut compressed: SegmentReader, plain: &File) -> Result<Comparison, ArchiveError> {
        let mut plain = ReadAt { file: plain, at: 0 }.take(self.segment_size().bytes().into());
        let difference = first_difference(&mut plain, &mut compressed);
        let to_end = match difference {
            Ok(None) => return Ok(Comparison::Same),
            // A file that is damaged further on, or has another size, is no segment, whatever it holds.
            Ok(Some(_)) => compressed.skip_to_end().map(|_| ()),
            Err(CompareError::Theirs(source)) => Err(compressed.error(source)),
            Err(CompareError::Ours(source)) => return Err(self.unreadable(source)),
        };
        match to_end {
            Ok(()) if compressed.is_at_limit() => Ok(Comparison::Differs),
            Ok(()) | Err(ArchiveError::Decompress { .. }) => Ok(Comparison::NoSegment),
            Err(error) => Err(error),
        }
    }

    fn unreadable(&self, source: io::Error) -> ArchiveError {
        io_error("read a segment in", self.path().into(), source)
    }

    fn read_at(&self, plain: &File, buffer: &mut [u8], at: u64) -> Result<(), ArchiveError> {
        plain.read_exact_at(buffer, at).map_err(|source| self.unreadable(source))
    }
}

/// What a compressed file holds, beside a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Same,
    Differs,
    /// It is damaged, or has another size.
    NoSegment,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::format;
    use std::fs;

    const SIZE: usize = 1 << 20;
    const NAME: &str = "000000010000000000000005";
    static GO_ON: AtomicBool = AtomicBool::new(false);

    struct Fixture {
        dir: tempfile::TempDir,
        archive: Archive,
        segment: WalSegment,
        content: Vec<u8>,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let size = WalSegmentSize::new(SIZE as u32).unwrap();
            let archive = Archive::open(dir.path(), size).unwrap();
            let content: Vec<u8> = (0..SIZE).map(|i| (i / 9 % 251) as u8).collect();
            fs::write(dir.path().join(NAME), &content).unwrap();
            Self { dir, archive, segment: WalSegment::parse(NAME, size).unwrap(), content }
        }

        fn compress(&self, how: &str) -> Result<bool, ArchiveError> {
            self.archive.compress(self.segment, how.parse().unwrap(), &GO_ON)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn content_of(&self, name: &str) -> Vec<u8> {
            let mut content = Vec::new();
            self.archive.open_segment(name).unwrap().read_to_end(&mut content).unwrap();
            content
        }
    }

    #[test]
    fn the_compressed_segment_takes_the_place_of_the_plain_one() {
        for (how, suffix) in [("gzip:9", ".gz"), ("lz4", ".lz4"), ("zstd", ".zst"), ("zstd:-5", ".zst")] {
            let fixture = Fixture::new();
            let name = format!("{NAME}{suffix}");
            // What a crash has left does not matter.
            fs::write(fixture.dir.path().join(format!("{name}.0123456789abcdef.tmp")), b"half").unwrap();
            fixture.archive.remove_left_over().unwrap();
            assert!(fixture.compress(how).unwrap());
            assert_eq!(fixture.names(), [name.as_str()]);
            assert!(fixture.content_of(&name) == fixture.content);
            assert_eq!(fixture.archive.end().unwrap().newest.unwrap().to_string(), name);
        }
    }

    #[test]
    fn none_leaves_the_segment_as_it_is() {
        let fixture = Fixture::new();
        assert!(!fixture.compress("none").unwrap());
        assert_eq!(fixture.names(), [NAME]);
    }

    #[test]
    fn a_segment_that_is_gone_is_no_error() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.dir.path().join(NAME)).unwrap();
        assert!(!fixture.compress("gzip").unwrap());
        assert_eq!(fixture.names(), [""; 0]);
    }

    #[test]
    fn told_to_stop_it_leaves_the_plain_segment_alone() {
        let fixture = Fixture::new();
        let stop = AtomicBool::new(true);
        assert!(!fixture.archive.compress(fixture.segment, "gzip".parse().unwrap(), &stop).unwrap());
        assert_eq!(fixture.names(), [NAME]);
    }

    #[test]
    fn after_a_crash_before_the_plain_one_was_removed_it_is() {
        let fixture = Fixture::new();
        fixture.compress("gzip").unwrap();
        fs::write(fixture.dir.path().join(NAME), &fixture.content).unwrap();
        assert!(fixture.compress("gzip").unwrap());
        assert_eq!(fixture.names(), [format!("{NAME}.gz")]);
    }

    #[test]
    fn a_compressed_segment_with_other_content_is_kept() {
        let fixture = Fixture::new();
        fixture.compress("lz4").unwrap();
        let mut other = fixture.content.clone();
        other[SIZE - 1] ^= 1;
        fs::write(fixture.dir.path().join(NAME), &other).unwrap();
        let error = fixture.compress("gzip").unwrap_err();
        assert!(matches!(&error, ArchiveError::Conflict { path } if path.ends_with(format!("{NAME}.lz4"))));
        assert_eq!(fixture.names(), [NAME.into(), format!("{NAME}.lz4")]);
        assert!(fixture.content_of(&format!("{NAME}.lz4")) == fixture.content);
    }

    #[test]
    fn a_compressed_file_that_is_no_segment_is_replaced() {
        for broken in [&b""[..], b"nonsense"] {
            let fixture = Fixture::new();
            fs::write(fixture.dir.path().join(format!("{NAME}.gz")), broken).unwrap();
            assert!(fixture.compress("gzip").unwrap());
            assert!(fixture.content_of(&format!("{NAME}.gz")) == fixture.content);
        }
    }

    #[test]
    fn a_plain_segment_that_is_too_short_stays() {
        let fixture = Fixture::new();
        fs::write(fixture.dir.path().join(NAME), &fixture.content[1..]).unwrap();
        assert!(fixture.compress("gzip").is_err());
        assert_eq!(fixture.names(), [NAME]);
    }
}
