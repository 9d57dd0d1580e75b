use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::prelude::v1::*;
use std::sync::Arc;

use super::scan::{CompareError, ReadAt, first_difference};
use super::{Archive, ArchiveError, SegmentFile};
use crate::archive::io_error;
use crate::compression::Compression;
use crate::storage::StorageError;
use crate::storage::{DirectWriter, Entry, FileStatus, FsyncTimes, preallocate};
use crate::types::Lsn;
use crate::wal::WalSegment;

/// A segment that is being received: `<segment>.partial`, from its start.
///
/// The file has its full size, and its name is durable, before the first byte is written; so neither a full
/// disk nor a crash leaves a file that has to be mended, and [`SegmentWriter::finish`] has only data to sync.
/// All calls block.
///
/// An error of [`SegmentWriter::write`] leaves the writer as it was: the same bytes may be offered again, for
/// example when space is back. After an fsync failure every later sync fails too; see
/// [`ArchiveError::is_fsync_failure`].
#[derive(Debug)]
pub struct SegmentWriter {
    archive: Archive,
    segment: WalSegment,
    file: PartialFile,
    direct: DirectWriter,
    /// Bytes written, from the segment's start.
    offset: u32,
}

impl SegmentWriter {
    /// Begins `segment`, or begins it again if its partial file exists.
    ///
    /// A partial file of any size is taken over: it keeps its bytes, since some may have been acknowledged,
    /// until the same bytes overwrite them, and is brought to the full size.
    ///
    /// # Errors
    /// If the file cannot be made, given its full size and synced. Without space it keeps the size that it had.
    pub fn open(archive: &Archive, segment: WalSegment) -> Result<Self, ArchiveError> {
        let name = SegmentFile::partial(segment).to_string();
        let path = archive.directory().path_of(&name);
        if segment.size() != archive.segment_size() {
            return Err(ArchiveError::OtherSegmentSize { path });
        }
        archive.check_not_foreign(SegmentFile::partial(segment))?;
        let handle = archive.directory().open_or_create(&name, archive.file_mode())?;
        preallocate(&handle, segment.size().bytes().into(), archive.fill())
            .map_err(|source| io_error("allocate", path.clone(), source))?;
        let fsyncs = Arc::clone(archive.fsyncs());
        let opened = FileStatus::of(&handle).map_err(|source| io_error("look up", path.clone(), source))?;
        let file = PartialFile { handle, path, opened, failed: AtomicBool::new(false), fsyncs };
        file.sync(File::sync_all)?;
        archive.directory().sync()?;
        let direct = DirectWriter::new(&file.handle);
        Ok(Self { archive: archive.clone(), segment, file, direct, offset: 0 })
    }

    /// As [`SegmentWriter::open`], unless less than `min_free` bytes would be left of the file system.
    ///
    /// # Errors
    /// [`ArchiveError::LowSpace`], before a file is made; those of [`SegmentWriter::open`].
    pub fn open_leaving(archive: &Archive, segment: WalSegment, min_free: u64) -> Result<Self, ArchiveError> {
        let size = u64::from(segment.size().bytes());
        let directory = archive.directory();
        let taken = match directory.entry(&SegmentFile::partial(segment).to_string())? {
            Some(Entry::File(len)) => len.min(size),
            _ => 0,
        };
        let (free, needed) = (directory.free_bytes()?, min_free.saturating_add(size - taken));
        if free < needed {
            return Err(ArchiveError::LowSpace { path: directory.path().into(), free, needed });
        }
        Self::open(archive, segment)
    }

    /// Leaves everything in the page cache, because the segment is read again soon.
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.direct = DirectWriter::cached();
        self
    }

    /// The segment.
    #[must_use]
    pub const fn segment(&self) -> WalSegment {
        self.segment
    }

    /// Bytes written, from the segment's start.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// The position of the last byte written + 1: where the next one goes.
    #[must_use]
    pub fn position(&self) -> Lsn {
        Lsn::new(self.segment.start().get().saturating_add(self.offset.into()))
    }

    /// Whether all its bytes are written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.remaining() == 0
    }

    /// Bytes to come.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.segment.size().bytes() - self.offset
    }

    /// Writes the bytes that begin at `start`, as many as the segment has room for, and says how many it took.
    /// The others belong to the next segment.
    ///
    /// A long run in memory that is aligned as in the file, to 4 KiB, goes past the page cache on the file systems
    /// where that saves time: ext4 and XFS.
    ///
    /// # Errors
    /// [`ArchiveError::Misplaced`] if `start` is not [`SegmentWriter::position`], [`ArchiveError::Changed`] if the file
    /// has another size now; nothing is written then.
    pub fn write(&mut self, start: Lsn, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let (expected, actual) = (self.position(), start);
        if actual != expected {
            return Err(ArchiveError::Misplaced { path: self.file.path.clone(), expected, actual });
        }
        self.file.check_size()?;
        let len = self.remaining().min(bytes.len().try_into().unwrap_or(u32::MAX));
        let taken = len as usize;
        let bytes = bytes.get(..taken).unwrap_or(bytes);
        self.direct
            .write_all_at(&self.file.handle, bytes, self.offset.into())
            .map_err(|source| io_error("write", self.file.path.clone(), source))?;
        if len == self.remaining() {
            // What follows reads the file into memory of any alignment, which direct reads refuse.
            self.direct
                .leave(&self.file.handle)
                .map_err(|source| io_error("write", self.file.path.clone(), source))?;
        }
        self.offset += len;
        Ok(taken)
    }

    /// Makes what is written durable and returns the position up to which it is.
    ///
    /// # Errors
    /// [`StorageError::Fsync`], and then always again; [`ArchiveError::Changed`] if the name leads elsewhere now.
    pub fn sync(&self) -> Result<Lsn, ArchiveError> {
        self.file.sync(File::sync_data)?;
        self.check_is_there()?;
        Ok(self.position())
    }

    /// Gives the segment its final name, durably, and returns its end.
    ///
    /// A file that has that name already is replaced if it holds the same bytes, nothing but zeros, or a part of the
    /// segment.
    ///
    /// # Errors
    /// [`ArchiveError::Incomplete`] before it is full; [`ArchiveError::Conflict`] if the archive has the
    /// segment with other bytes, plain or compressed; [`ArchiveError::Foreign`] if the file is of another cluster, if
    /// the archive [has one](Archive::of_cluster), or is not known to be of this one. The partial file stays, and without space for the name it can
    /// be tried again.
    pub fn finish(&self) -> Result<Lsn, ArchiveError> {
        self.check_full()?;
        let directory = self.archive.directory();
        let file = SegmentFile::plain(self.segment);
        let name = file.to_string();
        match directory.entry(&name)? {
            Some(Entry::File(len)) if len == u64::from(self.segment.size().bytes()) => {
                if !self.file.has_content_of(&mut directory.open_file(&name)?)? {
                    return Err(ArchiveError::Conflict { path: directory.path_of(&name) });
                }
            }
            _ => self.archive.check_replaceable(file)?,
        }
        self.archive.check_compressed(self.segment, &self.file.handle)?;
        self.publish()
    }

    /// As [`SegmentWriter::finish`] where the archive has the segment already and it is damaged: with whatever bytes from
    /// `proven` on. What comes before that was found right, so it has to be the same.
    ///
    /// # Errors
    /// [`ArchiveError::Conflict`] if it is not; [`ArchiveError::Foreign`] if what is there is not the cluster's;
    /// [`ArchiveError::Incomplete`].
    pub fn replace(&self, proven: Lsn) -> Result<Lsn, ArchiveError> {
        self.check_full()?;
        for damaged in SegmentFile::all_complete(self.segment) {
            self.archive.check_not_foreign(damaged)?;
            self.check_same_before(proven, &damaged.to_string())?;
        }
        let end = self.publish()?;
        for damaged in SegmentFile::all_compressed(self.segment) {
            self.archive.directory().remove(&damaged.to_string())?;
        }
        self.archive.directory().sync()?;
        Ok(end)
    }

    /// Checks that the archive's file of this segment, if there is one, has the same bytes before this position.
    fn check_same_before(&self, proven: Lsn, name: &str) -> Result<(), ArchiveError> {
        let len = proven.saturating_sub(self.segment.start());
        let directory = self.archive.directory();
        if len == 0 || !matches!(directory.entry(name)?, Some(Entry::File(_))) {
            return Ok(());
        }
        let mut theirs = self.archive.open_segment(name)?.take(len);
        match first_difference(&mut ReadAt { file: &self.file.handle, at: 0 }.take(len), &mut theirs) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(ArchiveError::Conflict { path: directory.path_of(name) }),
            Err(CompareError::Ours(source)) => Err(io_error("read", self.file.path.clone(), source)),
            Err(CompareError::Theirs(source)) => Err(theirs.into_inner().error(source)),
        }
    }

    fn check_full(&self) -> Result<(), ArchiveError> {
        match self.is_full() {
            true => Ok(()),
            false => Err(ArchiveError::Incomplete { path: self.file.path.clone(), end: self.position() }),
        }
    }

    /// Checks that the partial file is still the one that was opened, and has its size: another process that removes,
    /// replaces or empties it takes away bytes that count as durable.
    fn check_is_there(&self) -> Result<(), ArchiveError> {
        let status = self.archive.directory().status(&SegmentFile::partial(self.segment).to_string())?;
        match status.filter(|status| status.is_same_file(&self.file.opened)) {
            Some(status) => self.file.check_len(status.len),
            None => Err(ArchiveError::Changed { path: self.file.path.clone() }),
        }
    }

    /// Gives the full segment its name.
    fn publish(&self) -> Result<Lsn, ArchiveError> {
        self.file.sync(File::sync_all)?;
        self.check_is_there()?;
        let directory = self.archive.directory();
        // What pg_receivewal has begun of it, compressed, ends here.
        for compression in [Compression::Gzip, Compression::Lz4] {
            let begun = SegmentFile { segment: self.segment, compression, is_partial: true };
            self.archive.check_not_foreign(begun)?;
            directory.remove(&begun.to_string())?;
        }
        directory.rename(
            &SegmentFile::partial(self.segment).to_string(),
            &SegmentFile::plain(self.segment).to_string(),
        )?;
        Ok(self.segment.end())
    }

    /// Forgets the last `bytes` written, which will be offered again.
    pub fn take_back(&mut self, bytes: usize) {
        self.offset = self.offset.saturating_sub(bytes.try_into().unwrap_or(u32::MAX));
    }

    /// Stops in the middle: makes what is written durable, keeps the partial file at its full size, and returns
    /// the position up to which it is filled.
    ///
    /// # Errors
    /// [`StorageError::Fsync`].
    pub fn close(self) -> Result<Lsn, ArchiveError> {
        self.sync()
    }
}

#[derive(Debug)]
struct PartialFile {
    handle: File,
    path: PathBuf,
    /// Once it had its full size.
    opened: FileStatus,
    /// Set by the first failed sync: the kernel reports it once, and calls the lost pages clean afterwards.
    failed: AtomicBool,
    fsyncs: Arc<FsyncTimes>,
}

impl PartialFile {
    fn sync(&self, sync: impl FnOnce(&File) -> std::io::Result<()>) -> Result<(), ArchiveError> {
        let path = || self.path.clone();
        if self.failed.load(Ordering::Acquire) {
            return Err(ArchiveError::Storage(StorageError::Fsync { path: path(), source: None }));
        }
        self.fsyncs.measure(|| sync(&self.handle)).map_err(|source| {
            self.failed.store(true, Ordering::Release);
            ArchiveError::Storage(StorageError::Fsync { path: path(), source: Some(source) })
        })
    }

    fn check_size(&self) -> Result<(), ArchiveError> {
        let status = FileStatus::of(&self.handle);
        self.check_len(status.map_err(|source| io_error("look up", self.path.clone(), source))?.len)
    }

    fn check_len(&self, len: u64) -> Result<(), ArchiveError> {
        match len == self.opened.len {
            true => Ok(()),
            false => Err(ArchiveError::Changed { path: self.path.clone() }),
        }
    }

    /// Whether both files hold the same bytes.
    fn has_content_of(&self, other: &mut File) -> Result<bool, ArchiveError> {
        match first_difference(&mut ReadAt { file: &self.handle, at: 0 }, other) {
            Ok(difference) => Ok(difference.is_none()),
            Err(CompareError::Ours(source) | CompareError::Theirs(source)) => {
                Err(io_error("read", self.path.clone(), source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TimelineId, WalSegmentSize};
    use std::fs;
    use std::io;

    const SIZE: usize = 1 << 20;
    const NAME: &str = "000000010000000000000005";

    fn size() -> WalSegmentSize {
        WalSegmentSize::new(1 << 20).unwrap()
    }

    fn segment() -> WalSegment {
        WalSegment::parse(NAME, size()).unwrap()
    }

    struct Fixture {
        dir: tempfile::TempDir,
        archive: Archive,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let archive = Archive::open(dir.path(), size()).unwrap();
            Self { dir, archive }
        }

        fn path(&self, suffix: &str) -> PathBuf {
            self.dir.path().join(NAME.to_string() + suffix)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn open(&self) -> SegmentWriter {
            SegmentWriter::open(&self.archive, segment()).unwrap()
        }

        /// A writer that has taken the whole segment.
        fn filled(&self, bytes: &[u8]) -> SegmentWriter {
            let mut writer = self.open();
            assert_eq!(writer.write(segment().start(), bytes).unwrap(), SIZE);
            writer
        }
    }

    #[test]
    fn a_partial_has_its_full_size_before_the_first_byte() {
        let fixture = Fixture::new();
        let writer = fixture.open();
        assert_eq!(fs::read(fixture.path(".partial")).unwrap(), [0; SIZE]);
        assert_eq!((writer.position(), writer.remaining()), (segment().start(), 1 << 20));
        assert_eq!(writer.close().unwrap(), segment().start());
        assert_eq!(fixture.names(), [std::format!("{NAME}.partial")]);
    }

    #[test]
    fn bytes_of_any_split_make_the_same_segment() {
        let bytes: Vec<u8> = (0..SIZE + 100).map(|i| (i % 251) as u8).collect();
        for step in [1 << 10, 128 << 10, 7777, SIZE + 100] {
            let fixture = Fixture::new();
            let mut writer = fixture.open();
            let mut rest = &bytes[..];
            while !writer.is_full() {
                let taken = writer.write(writer.position(), &rest[..step.min(rest.len())]).unwrap();
                rest = &rest[taken..];
            }
            assert_eq!(rest.len(), 100, "the rest is of the next segment");
            assert_eq!(writer.write(segment().end(), rest).unwrap(), 0);
            assert_eq!(writer.finish().unwrap(), segment().end());
            assert_eq!(fixture.names(), [NAME]);
            assert!(fs::read(fixture.path("")).unwrap() == bytes[..SIZE]);
        }
    }

    #[test]
    fn bytes_for_another_position_are_refused_and_nothing_is_written() {
        let fixture = Fixture::new();
        let mut writer = fixture.open();
        let start = segment().start();
        writer.write(start, b"abc").unwrap();
        for offset in [0, 2, 4] {
            let error = writer.write(start.checked_add(offset).unwrap(), b"x").unwrap_err();
            assert!(matches!(error, ArchiveError::Misplaced { .. }), "{error}");
        }
        assert_eq!(writer.position(), start.checked_add(3).unwrap());
        assert!(fs::read(fixture.path(".partial")).unwrap().starts_with(b"abc\0"));
    }

    #[test]
    fn a_partial_of_any_size_is_taken_over_and_keeps_its_bytes() {
        for len in [0, 5, 458_752, SIZE, SIZE + 9] {
            let fixture = Fixture::new();
            fs::write(fixture.path(".partial"), std::vec![7; len]).unwrap();
            let mut writer = fixture.open();
            writer.write(segment().start(), b"new").unwrap();
            writer.close().unwrap();
            let content = fs::read(fixture.path(".partial")).unwrap();
            let kept = len.clamp(3, SIZE);
            assert_eq!(content.len(), SIZE, "{len}");
            assert!(content.starts_with(b"new") && content[3..kept].iter().all(|&b| b == 7), "{len}");
            assert!(content[kept..].iter().all(|&b| b == 0), "{len}");
        }
    }

    #[test]
    fn a_partial_file_that_is_no_regular_file_is_left_alone() {
        let fixture = Fixture::new();
        let elsewhere = tempfile::tempdir().unwrap();
        let precious = elsewhere.path().join("precious");
        fs::write(&precious, "untouched").unwrap();
        std::os::unix::fs::symlink(&precious, fixture.path(".partial")).unwrap();
        let refuse = || {
            let error = SegmentWriter::open(&fixture.archive, segment()).unwrap_err();
            assert!(matches!(error, ArchiveError::Storage(StorageError::NotAFile { .. })), "{error}");
        };
        refuse();
        assert_eq!(fs::read(&precious).unwrap(), b"untouched");
        fs::remove_file(fixture.path(".partial")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(fixture.path(".partial")).unwrap();
        refuse();
        fs::remove_file(fixture.path(".partial")).unwrap();
        fs::create_dir(fixture.path(".partial")).unwrap();
        refuse();
    }

    #[test]
    fn an_unfinished_segment_gets_no_final_name() {
        let fixture = Fixture::new();
        let mut writer = fixture.open();
        writer.write(segment().start(), &[1; SIZE - 1]).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, ArchiveError::Incomplete { .. }), "{error}");
        assert_eq!(fixture.names(), [std::format!("{NAME}.partial")]);
    }

    #[test]
    fn a_complete_segment_is_never_overwritten_by_other_bytes() {
        let fixture = Fixture::new();
        let mut other = std::vec![1; SIZE];
        other[SIZE - 1] = 2;
        fs::write(fixture.path(""), &other).unwrap();
        let error = fixture.filled(&[1; SIZE]).finish().unwrap_err();
        assert!(matches!(&error, ArchiveError::Conflict { path } if *path == fixture.path("")), "{error}");
        assert!(error.is_refusal());
        assert!(fs::read(fixture.path("")).unwrap() == other);
        assert_eq!(fixture.names().len(), 2);
    }

    #[test]
    fn a_compressed_segment_with_other_bytes_is_a_conflict_and_a_begun_one_ends() {
        let compress = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let fixture = Fixture::new();
        fs::write(fixture.path(".zst"), compress(&[2; SIZE])).unwrap();
        let error = fixture.filled(&[1; SIZE]).finish().unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Conflict { path } if *path == fixture.path(".zst")),
            "{error}"
        );

        fs::write(fixture.path(".zst"), compress(&[1; SIZE])).unwrap();
        fs::write(fixture.path(".gz.partial"), "what came until it was stopped").unwrap();
        fixture.filled(&[1; SIZE]).finish().unwrap();
        assert_eq!(fixture.names(), [NAME.to_string(), std::format!("{NAME}.zst")]);
    }

    #[test]
    fn the_same_segment_again_and_a_file_of_another_size_are_replaced() {
        for existing in [std::vec![1; SIZE], std::vec![2; 17], Vec::new()] {
            let fixture = Fixture::new();
            fs::write(fixture.path(""), existing).unwrap();
            fixture.filled(&[1; SIZE]).finish().unwrap();
            assert_eq!(fixture.names(), [NAME]);
            assert!(fs::read(fixture.path("")).unwrap() == [1; SIZE]);
        }
    }

    #[test]
    fn a_sync_covers_what_was_written() {
        let fixture = Fixture::new();
        let mut writer = fixture.open();
        writer.write(segment().start(), b"abc").unwrap();
        assert_eq!(writer.sync().unwrap(), segment().start().checked_add(3).unwrap());
        writer.write(writer.position(), b"def").unwrap();
        assert_eq!(writer.sync().unwrap(), segment().start().checked_add(6).unwrap());
    }

    /// In the source tree, which is on a disk more often than temporary files are.
    #[test]
    fn a_segment_that_was_written_past_the_cache_is_compared_all_the_same() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let archive = Archive::open(dir.path(), size()).unwrap();
        fs::write(dir.path().join(NAME), [7; SIZE]).unwrap();
        let mut writer = SegmentWriter::open(&archive, segment()).unwrap();
        let mut bytes = crate::storage::AlignedBuffer::default();
        bytes.begin(segment().start(), SIZE);
        bytes.push(&[7; SIZE]);
        assert_eq!(writer.write(segment().start(), bytes.bytes()).unwrap(), SIZE);
        writer.finish().unwrap();
        assert!(fs::read(dir.path().join(NAME)).unwrap() == [7; SIZE]);
    }

    #[test]
    fn after_a_failed_sync_every_later_one_fails() {
        let fixture = Fixture::new();
        let writer = fixture.filled(&[1; SIZE]);
        let failed = writer.file.sync(|_| Err(io::Error::from_raw_os_error(5)));
        assert!(failed.is_err_and(|error| error.is_fsync_failure() && !error.is_out_of_space()));
        assert!(writer.sync().is_err_and(|error| error.is_fsync_failure()));
        assert!(writer.finish().is_err_and(|error| error.is_fsync_failure()));
        assert_eq!(fixture.names(), [std::format!("{NAME}.partial")]);
    }

    #[test]
    fn what_is_to_stay_free_stays_free() {
        let fixture = Fixture::new();
        let open = |min_free| SegmentWriter::open_leaving(&fixture.archive, segment(), min_free);
        let error = open(u64::MAX).unwrap_err();
        assert!(matches!(error, ArchiveError::LowSpace { needed: u64::MAX, .. }), "{error}");
        assert!(error.is_out_of_space());
        assert_eq!(fixture.names().len(), 0);
        open(0).unwrap();
    }

    #[test]
    fn a_segment_of_another_size_is_refused_and_makes_no_file() {
        let fixture = Fixture::new();
        let segment = WalSegment::containing(segment().start(), TimelineId::FIRST, WalSegmentSize::DEFAULT);
        let error = SegmentWriter::open(&fixture.archive, segment).unwrap_err();
        assert!(matches!(error, ArchiveError::OtherSegmentSize { .. }), "{error}");
        assert_eq!(fixture.names().len(), 0);
    }
}
