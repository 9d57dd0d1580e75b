use alloc::string::ToString;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::thread::JoinHandle;

use crate::archive::{Archive, ArchiveError, SegmentFile};
use crate::storage::{AlignedBuffer, DirectWriter, Fill, StorageError, preallocate};
use crate::types::Lsn;
use crate::wal::WalSegment;

/// A file of zeros that becomes the partial file of the next segment.
///
/// It is made beside the segment before, by a thread of its own and a little at a time, so that commits do not wait
/// for it: with 16 MiB at once each of them would now and then take 30 ms more.
#[derive(Debug)]
pub(crate) struct NextSegmentFile {
    archive: Archive,
    /// Gone once it has ended.
    thread: Option<JoinHandle<Result<(), ArchiveError>>>,
    stop: Arc<AtomicBool>,
}

/// Its name; whoever watches an archive passes over such names.
const NAME: &str = "tapster.next.tmp";
/// Bytes that are written at a time, for which a commit may have to wait.
const PIECE_LEN: usize = 128 << 10;

impl NextSegmentFile {
    /// Begins to make one, if so many bytes of the file system are free then; `None` if there is no thread for it.
    pub(crate) fn begin(archive: &Archive, min_free: u64) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let make = {
            let (archive, stop) = (archive.clone(), Arc::clone(&stop));
            move || make(&archive, min_free, &stop)
        };
        let thread = std::thread::Builder::new().name("zeros".into()).spawn(make).ok()?;
        Some(Self { archive: archive.clone(), thread: Some(thread), stop })
    }

    /// Removes what a crash has left.
    pub(crate) fn remove_leftover(archive: &Archive) -> Result<(), ArchiveError> {
        Ok(archive.directory().remove(NAME)?)
    }

    /// Gives it to `segment`, unless that has a partial file. Waits until it is made; where that failed, nothing
    /// happens.
    pub(crate) fn rename_for(mut self, segment: WalSegment) -> Result<(), ArchiveError> {
        let made = self.thread.take().is_some_and(|thread| matches!(thread.join(), Ok(Ok(()))));
        let (directory, name) = (self.archive.directory(), SegmentFile::partial(segment).to_string());
        // Others may have removed it.
        match made && directory.entry(NAME)?.is_some() && directory.entry(&name)?.is_none() {
            true => directory.rename(NAME, &name)?,
            false => directory.remove(NAME)?,
        }
        Ok(())
    }
}

impl Drop for NextSegmentFile {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.store(true, Ordering::Relaxed);
        let _ = thread.join();
        // What stays is removed, or used, by who comes next.
        let _ = self.archive.directory().remove(NAME);
    }
}

fn make(archive: &Archive, min_free: u64, stop: &AtomicBool) -> Result<(), ArchiveError> {
    let directory = archive.directory();
    let len = u64::from(archive.segment_size().bytes());
    let needed = min_free.saturating_add(len);
    if min_free > 0
        && let free = directory.free_bytes()?
        && free < needed
    {
        return Err(ArchiveError::LowSpace { path: directory.path().into(), free, needed });
    }
    directory.remove(NAME)?;
    let made = directory.create_new(NAME, archive.file_mode()).and_then(|file| {
        let zeros = || -> io::Result<()> {
            preallocate(&file, len, Fill::Allocate)?;
            let mut writer = DirectWriter::new(&file);
            let mut zeros = AlignedBuffer::default();
            zeros.begin(Lsn::INVALID, PIECE_LEN);
            let memory = zeros.memory();
            memory.resize(memory.len() + PIECE_LEN, 0);
            for at in (0..len).step_by(PIECE_LEN) {
                if stop.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                writer.write_all_at(&file, zeros.bytes(), at)?;
            }
            file.sync_all()
        };
        zeros().map_err(|source| StorageError::io("fill", directory.path_of(NAME), source))
    });
    // It may have taken the space that the log needs.
    Ok(made.inspect_err(|_| drop(directory.remove(NAME)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::fs;

    const SIZE: usize = 1 << 20;
    const PARTIAL: &str = "000000010000000000000005.partial";

    struct Fixture {
        dir: tempfile::TempDir,
        archive: Archive,
        segment: WalSegment,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let size = WalSegmentSize::new(SIZE as u32).unwrap();
            let archive = Archive::open(dir.path(), size).unwrap();
            let segment = WalSegment::parse("000000010000000000000005", size).unwrap();
            Self { dir, archive, segment }
        }

        fn names(&self) -> alloc::vec::Vec<std::ffi::OsString> {
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    #[test]
    fn it_is_a_partial_file_of_zeros_whatever_was_left_of_another() {
        let fixture = Fixture::new();
        fs::write(fixture.dir.path().join(NAME), alloc::vec![7; 2 * SIZE]).unwrap();
        let next = NextSegmentFile::begin(&fixture.archive, 1).unwrap();
        next.rename_for(fixture.segment).unwrap();
        assert_eq!(fixture.names(), [PARTIAL]);
        assert!(fs::read(fixture.dir.path().join(PARTIAL)).unwrap() == alloc::vec![0; SIZE]);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let fixture = Fixture::new();
        let elsewhere = tempfile::tempdir().unwrap();
        let precious = elsewhere.path().join("precious");
        fs::write(&precious, "untouched").unwrap();
        std::os::unix::fs::symlink(&precious, fixture.dir.path().join(NAME)).unwrap();
        NextSegmentFile::begin(&fixture.archive, 0).unwrap().rename_for(fixture.segment).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"untouched");
        assert!(fs::symlink_metadata(fixture.dir.path().join(PARTIAL)).unwrap().is_file());
    }

    #[test]
    fn a_partial_file_that_is_there_stays() {
        let fixture = Fixture::new();
        fs::write(fixture.dir.path().join(PARTIAL), "kept").unwrap();
        NextSegmentFile::begin(&fixture.archive, 0).unwrap().rename_for(fixture.segment).unwrap();
        assert_eq!(fixture.names(), [PARTIAL]);
        assert_eq!(fs::read(fixture.dir.path().join(PARTIAL)).unwrap(), b"kept");
    }

    #[test]
    fn nothing_is_left_of_one_that_is_not_used_or_not_made() {
        let fixture = Fixture::new();
        drop(NextSegmentFile::begin(&fixture.archive, 0).unwrap());
        assert!(fixture.names().is_empty());
        NextSegmentFile::begin(&fixture.archive, u64::MAX).unwrap().rename_for(fixture.segment).unwrap();
        assert!(fixture.names().is_empty());
        fs::write(fixture.dir.path().join(NAME), "").unwrap();
        NextSegmentFile::remove_leftover(&fixture.archive).unwrap();
        assert!(fixture.names().is_empty());
    }

    #[test]
    fn one_that_somebody_removes_is_not_missed() {
        let fixture = Fixture::new();
        let next = NextSegmentFile::begin(&fixture.archive, 0).unwrap();
        while !next.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        fs::remove_file(fixture.dir.path().join(NAME)).unwrap();
        next.rename_for(fixture.segment).unwrap();
        assert!(fixture.names().is_empty());
    }
}
