//! WAL on its way into the files of the archive.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | `Disk`: the segment in progress, and what follows once it is complete; its calls block |
//! | `thread` | the thread on which they do |
//! | `queue` | `WriteQueue`: what has come and is not written yet; it decides when a job begins |
//! | `next_segment` | the next segment's file, filled with zeros ahead of time |
//! | `tail` | what an earlier stream left of the first segment: the server has to send the same again |
//! | `compressor` | the thread that compresses complete segments |

mod compressor;
mod next_segment;
mod queue;
mod tail;
mod thread;

use core::time::Duration;
use std::prelude::v1::*;
use std::time::Instant;

use super::ReceiveError;
use crate::archive::{Archive, ArchiveError, ArchiveState, SegmentWriter};
use crate::storage::{AlignedBuffer, Fill};
use crate::types::{Lsn, TimelineId};
use crate::wal::WalSegment;
use next_segment::NextSegmentFile;

pub(super) use compressor::{CompressFailure, CompressLimit, Compressor};
pub(super) use queue::WriteQueue;
pub(super) use tail::AcknowledgedTail;
pub(super) use thread::DiskThread;

/// How far the state file may be behind while segments are completed. To write it for each one would cost a
/// slow disk as much as the segment.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// The files that are being written.
#[derive(Debug)]
pub(crate) struct Disk {
    archive: Archive,
    timeline: TimelineId,
    /// The segment in progress; none before the first byte.
    writer: Option<SegmentWriter>,
    /// The next one's file, if it is made ahead.
    next: Option<NextSegmentFile>,
    /// Everything before this was found right.
    proven: Lsn,
    /// Segments that were completed while a record that reaches into them is not.
    unproven: Vec<WalSegment>,
    /// Complete segments that end before this are damaged, and may be replaced.
    replace_before: Lsn,
    /// Up to where each of them was found right.
    kept: Vec<(WalSegment, Lsn)>,
    /// What an earlier stream has left of the first segment.
    tail: Option<AcknowledgedTail>,
    /// Where segments are compressed once they are proven.
    compress_limit: Option<CompressLimit>,
    written: Lsn,
    flushed: Lsn,
    finished: Vec<WalSegment>,
    /// Bytes of the file system that are not to be used.
    min_free: u64,
    /// What the state file is to say, if there is one, and when it last did.
    state: Option<(ArchiveState, Instant)>,
}

/// What a [`DiskThread`] works on: a [`Disk`], unless a test wants one that fails. Its calls block.
pub(crate) trait Files: Send {
    /// Writes a batch, and with `sync` makes it durable. Everything before `proven` was found right.
    fn write(&mut self, batch: AlignedBuffer, proven: Lsn, sync: bool) -> Result<Written, ReceiveError>;

    /// Ends in the middle of a segment, which stays as a partial file. Which one, if there is one.
    ///
    /// If what follows `is_damaged`, the segments since the last record that was found right are not complete after
    /// all.
    fn close(self: Box<Self>, is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError>;
}

/// Makes what a [`DiskThread`] works on of a stream's [`Disk`].
pub(crate) type MakeFiles = Box<dyn Fn(Disk) -> Box<dyn Files> + Send + Sync>;

/// What was done with a batch. It comes back for its memory, or with what could not be written yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) batch: AlignedBuffer,
    /// Everything before this is in a file.
    pub(crate) written: Lsn,
    /// Everything before this is durable.
    pub(crate) flushed: Lsn,
    /// Everything before this was found right, as we were told.
    pub(crate) proven: Lsn,
    /// Segments that were completed.
    pub(crate) finished: Vec<WalSegment>,
    /// What kept the batch from being written as a whole; it can be tried again.
    pub(crate) out_of_space: Option<ArchiveError>,
}

impl Disk {
    /// Writing begins with `first`, from its start. Everything before `proven` was found right.
    pub(crate) fn new(
        archive: Archive,
        first: WalSegment,
        proven: Lsn,
        compress_limit: Option<CompressLimit>,
        min_free: u64,
        state: Option<ArchiveState>,
    ) -> Self {
        let (timeline, start) = (first.timeline(), first.start());
        // The archive's last segment waits for the end of its last record as well.
        if proven >= start
            && let (Some(limit), Some(complete)) = (&compress_limit, first.previous())
        {
            limit.allow_up_to(complete);
        }
        Self {
            archive,
            timeline,
            writer: None,
            next: None,
            proven,
            unproven: Vec::new(),
            replace_before: Lsn::INVALID,
            kept: Vec::new(),
            tail: None,
            compress_limit,
            // What comes before the first segment is the archive's durable past.
            written: start,
            flushed: start,
            finished: Vec::new(),
            min_free,
            state: state.map(|state| (state, Instant::now())),
        }
    }

    /// Complete segments that end before `position` are damaged: what comes now takes their place, if it is the same up
    /// to where each of them was found right.
    pub(crate) fn replacing_before(self, position: Lsn, kept: Vec<(WalSegment, Lsn)>) -> Self {
        Self { replace_before: position, kept, ..self }
    }

    /// What is there of the first segment has to come again.
    pub(crate) fn with_tail(self, tail: Option<AcknowledgedTail>) -> Self {
        Self { tail, ..self }
    }

    /// Brings the state file up to date if it is older than `interval`. It may be behind, so that it can wait for
    /// space.
    fn update_state_file(&mut self, interval: Duration) -> Result<(), ArchiveError> {
        let flushed = self.flushed.min(self.proven);
        match &mut self.state {
            Some((state, written_at))
                if written_at.elapsed() >= interval
                    && (state.timeline, state.flushed) < (self.timeline, flushed) =>
            {
                (state.timeline, state.flushed) = (self.timeline, flushed);
                *written_at = Instant::now();
                match self.archive.write_state(state) {
                    Err(error) if !error.is_out_of_space() => Err(error),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn write_all(&mut self, batch: &mut AlignedBuffer) -> Result<(), ArchiveError> {
        while !batch.is_empty() {
            let taken = self.write_some(batch.start(), batch.bytes())?;
            batch.advance(taken);
        }
        Ok(())
    }

    /// Writes up to the end of a segment, and if that is reached makes it complete and begins the next one.
    fn write_some(&mut self, start: Lsn, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let segment = WalSegment::containing(start, self.timeline, self.archive.segment_size());
                self.open(segment)?
            }
        };
        let taken = match writer.write(start, bytes) {
            Ok(taken) => taken,
            Err(error) => {
                self.writer = Some(writer);
                return Err(error);
            }
        };
        if !writer.is_full() {
            self.written = writer.position();
            // Early enough for the next segment, and not at all for a server that writes next to nothing.
            if self.archive.fill() == Fill::Zeros
                && self.next.is_none()
                && writer.remaining() < writer.segment().size().bytes() / 2
            {
                self.next = NextSegmentFile::begin(&self.archive, self.min_free);
            }
            self.writer = Some(writer);
            return Ok(taken);
        }
        let segment = writer.segment();
        let replaces = segment.end() <= self.replace_before;
        let kept =
            || self.kept.iter().find(|(of, _)| *of == segment).map_or_else(|| segment.start(), |kept| kept.1);
        self.flushed = match if replaces { writer.replace(kept()) } else { writer.finish() } {
            Ok(end) => end,
            // A name may need space as well. Until there is some, the end of the segment is not written.
            Err(error) => {
                writer.take_back(taken);
                self.writer = Some(writer);
                return Err(error);
            }
        };
        self.written = self.flushed;
        self.finished.push(segment);
        self.unproven.push(segment);
        // The next partial file appears at once: programs that watch the directory take it as the sign that the
        // segment before is complete. If there is no space for it now, its first byte is the next attempt.
        if let Some(next) = segment.next() {
            self.writer = match self.open(next) {
                Ok(writer) => Some(writer),
                Err(error) if error.is_out_of_space() => None,
                Err(error) => return Err(error),
            };
        }
        Ok(taken)
    }

    fn open(&mut self, segment: WalSegment) -> Result<SegmentWriter, ArchiveError> {
        match self.next.take() {
            Some(next) => next.rename_for(segment)?,
            None => NextSegmentFile::remove_leftover(&self.archive)?,
        }
        let writer = match self.min_free {
            // Some file systems report no free space; there only ENOSPC tells.
            0 => SegmentWriter::open(&self.archive, segment),
            min_free => SegmentWriter::open_leaving(&self.archive, segment, min_free),
        }?;
        Ok(if self.compress_limit.is_some() { writer.cached() } else { writer })
    }

    fn sync(&mut self) -> Result<(), ArchiveError> {
        if let Some(writer) = self.writer.as_ref().filter(|_| self.flushed < self.written) {
            self.flushed = writer.sync()?;
        }
        Ok(())
    }
}

impl Files for Disk {
    fn write(&mut self, mut batch: AlignedBuffer, proven: Lsn, sync: bool) -> Result<Written, ReceiveError> {
        if let Some(tail) = &self.tail {
            tail.compare(batch.start(), batch.bytes())?;
        }
        self.proven = proven;
        let result = self.write_all(&mut batch).and_then(|()| if sync { self.sync() } else { Ok(()) });
        let out_of_space = match result {
            Ok(()) => None,
            Err(error) if error.is_out_of_space() => Some(error),
            Err(error) => return Err(error.into()),
        };
        if !self.finished.is_empty() {
            self.update_state_file(STATE_INTERVAL)?;
        }
        let proven_segments = self.unproven.iter().take_while(|segment| segment.end() <= proven).count();
        if let Some(last) = self.unproven.drain(..proven_segments).next_back()
            && let Some(limit) = &self.compress_limit
        {
            limit.allow_up_to(last);
        }
        Ok(Written {
            written: self.written,
            flushed: self.flushed,
            proven,
            finished: core::mem::take(&mut self.finished),
            batch,
            out_of_space,
        })
    }

    fn close(mut self: Box<Self>, is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError> {
        self.sync()?;
        self.update_state_file(Duration::ZERO)?;
        if is_damaged && !self.unproven.is_empty() {
            self.archive.retract(&self.unproven)?;
            return Ok(None);
        }
        Ok(self.writer.as_ref().map(SegmentWriter::segment))
    }
}
