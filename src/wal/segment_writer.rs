use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::directory::{Entry, io_error};
use super::preallocate::preallocate;
use super::{Archive, ArchiveError, ArchiveFileName, Compression, WalSegment};
use crate::types::Lsn;

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
    file: Arc<SegmentFile>,
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
        let name = file_name(segment, true);
        let path = archive.directory().path_of(&name);
        if segment.size() != archive.segment_size() {
            return Err(ArchiveError::OtherSegmentSize { path });
        }
        let handle = archive.directory().create_file(&name, archive.file_mode())?;
        preallocate(&handle, segment.size().bytes().into())
            .map_err(|source| io_error("allocate", path.clone(), source))?;
        let file = Arc::new(SegmentFile { handle, path, failed: AtomicBool::new(false) });
        file.sync(File::sync_all)?;
        archive.directory().sync()?;
        Ok(Self { archive: archive.clone(), segment, file, offset: 0 })
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
    /// # Errors
    /// [`ArchiveError::Misplaced`] if `start` is not [`SegmentWriter::position`]; nothing is written then.
    pub fn write(&mut self, start: Lsn, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let (expected, actual) = (self.position(), start);
        if actual != expected {
            return Err(ArchiveError::Misplaced { path: self.file.path.clone(), expected, actual });
        }
        let len = self.remaining().min(bytes.len().try_into().unwrap_or(u32::MAX));
        let taken = len as usize;
        let bytes = bytes.get(..taken).unwrap_or(bytes);
        self.file
            .handle
            .write_all_at(bytes, self.offset.into())
            .map_err(|source| io_error("write", self.file.path.clone(), source))?;
        self.offset += len;
        Ok(taken)
    }

    /// Makes what is written durable and returns the position up to which it is.
    ///
    /// # Errors
    /// [`ArchiveError::Fsync`], and then always again.
    pub fn sync(&self) -> Result<Lsn, ArchiveError> {
        self.sync_handle().sync()
    }

    /// A handle that makes what is written up to now durable, for another thread, beside further writing.
    #[must_use]
    pub fn sync_handle(&self) -> SegmentSync {
        SegmentSync { file: Arc::clone(&self.file), position: self.position() }
    }

    /// Gives the segment its final name, durably, and returns its end.
    ///
    /// A file that has that name already is replaced if it holds the same bytes, or has not the size of a
    /// segment, so that [`Archive::end`] passed it over.
    ///
    /// # Errors
    /// [`ArchiveError::Incomplete`] before it is full; [`ArchiveError::Conflict`] if the archive has the
    /// segment with other bytes. The partial file stays.
    pub fn finish(self) -> Result<Lsn, ArchiveError> {
        if !self.is_full() {
            return Err(ArchiveError::Incomplete { path: self.file.path.clone(), end: self.position() });
        }
        self.file.sync(File::sync_all)?;
        let directory = self.archive.directory();
        let name = file_name(self.segment, false);
        if let Some(Entry::File(len)) = directory.entry(&name)?
            && len == u64::from(self.segment.size().bytes())
            && !self.file.has_content_of(&directory.open_file(&name)?, len)?
        {
            return Err(ArchiveError::Conflict { path: directory.path_of(&name) });
        }
        directory.rename(&file_name(self.segment, true), &name)?;
        Ok(self.segment.end())
    }

    /// Stops in the middle: makes what is written durable, keeps the partial file at its full size, and returns
    /// the position up to which it is filled.
    ///
    /// # Errors
    /// [`ArchiveError::Fsync`].
    pub fn close(self) -> Result<Lsn, ArchiveError> {
        self.sync()
    }
}

/// Makes the bytes of a segment durable that were written when it was made; see
/// [`SegmentWriter::sync_handle`].
#[derive(Debug)]
pub struct SegmentSync {
    file: Arc<SegmentFile>,
    position: Lsn,
}

impl SegmentSync {
    /// Blocks until the bytes are durable, and returns the position of the last one + 1.
    ///
    /// # Errors
    /// [`ArchiveError::Fsync`], and then always again for that segment.
    pub fn sync(self) -> Result<Lsn, ArchiveError> {
        self.file.sync(File::sync_data).map(|()| self.position)
    }
}

#[derive(Debug)]
struct SegmentFile {
    handle: File,
    path: PathBuf,
    /// Set by the first failed sync: the kernel reports it once, and calls the lost pages clean afterwards.
    failed: AtomicBool,
}

impl SegmentFile {
    fn sync(&self, sync: impl FnOnce(&File) -> std::io::Result<()>) -> Result<(), ArchiveError> {
        let path = || self.path.clone();
        if self.failed.load(Ordering::Acquire) {
            return Err(ArchiveError::Fsync { path: path(), source: None });
        }
        sync(&self.handle).map_err(|source| {
            self.failed.store(true, Ordering::Release);
            ArchiveError::Fsync { path: path(), source: Some(source) }
        })
    }

    /// Whether both files hold the same `len` bytes.
    fn has_content_of(&self, other: &File, len: u64) -> Result<bool, ArchiveError> {
        let (mut ours, mut theirs) = ([0; COMPARE_LEN], [0; COMPARE_LEN]);
        for at in (0..len).step_by(COMPARE_LEN) {
            self.handle
                .read_exact_at(&mut ours, at)
                .and_then(|()| other.read_exact_at(&mut theirs, at))
                .map_err(|source| io_error("read", self.path.clone(), source))?;
            if ours != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Bytes that are compared at a time; divides every segment size.
const COMPARE_LEN: usize = 8 << 10;

fn file_name(segment: WalSegment, partial: bool) -> String {
    ArchiveFileName::Segment { segment, compression: Compression::None, partial }.to_string()
}
