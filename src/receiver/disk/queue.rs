//! WAL between the stream and the disk.

use core::time::Duration;
use std::vec::Vec;

use tokio::time::Instant;

use super::{DiskThread, Written};
use crate::archive::ArchiveError;
use crate::client::Error;
use crate::receiver::{ReceiveError, ReceiverOptions};
use crate::replication::{WalArrival, WalStream};
use crate::storage::{AlignedBuffer, BLOCK_LEN};
use crate::types::Lsn;
use crate::wal::{WalChecker, WalDamage, WalSegment};

/// The least that may gather, which is what a walsender sends at once.
const MIN_BATCH: usize = 128 * 1024;
/// Bytes that are read together with a message's header are appended even where the batch is full.
const READ_AHEAD: usize = 8 * 1024;
/// How long WAL gathers if the server does not wait for it: a job for each message costs more in switching threads
/// than in writing.
const GATHER_TIME: Duration = Duration::from_millis(10);
/// How long a full disk is left alone before the next attempt.
const SPACE_RETRY: Duration = Duration::from_secs(5);

/// At most one job writes; what arrives meanwhile gathers for the next one, so that with a slow disk each job
/// has more to do and not the stream more jobs.
pub(crate) struct WriteQueue {
    /// None after an error.
    disk: Option<DiskThread>,
    batch: AlignedBuffer,
    /// How many bytes gather for one job. Once they have, the stream is not read any more and the server has to
    /// wait.
    batch_len: usize,
    /// The buffer of the batch before, to be used again.
    used_buffer: AlignedBuffer,
    /// The first byte of this stream.
    start: Lsn,
    received: Lsn,
    /// Sees every byte before it is written.
    checker: Option<WalChecker>,
    /// What the checker found.
    is_damaged: bool,
    written: Lsn,
    flushed: Lsn,
    proven: Lsn,
    synchronous: bool,
    reports_flush: bool,
    /// The server asked for a status that is to be sent once everything received is stored.
    reply_wanted: bool,
    /// The position to be reported as flushed has moved since it was last sent.
    flush_moved: bool,
    /// When the batch, unless it is empty, has gathered for long enough.
    gathered_at: Instant,
    /// The disk was full: no job before this.
    retry_at: Option<Instant>,
    /// Whether the last job found space.
    had_space: bool,
}

impl WriteQueue {
    /// Writing begins at `start`, the start of a segment.
    pub(crate) fn new(
        disk: DiskThread,
        checker: Option<WalChecker>,
        start: Lsn,
        options: &ReceiverOptions,
    ) -> Self {
        Self {
            disk: Some(disk),
            batch: AlignedBuffer::default(),
            batch_len: (options.buffer / 2).max(MIN_BATCH),
            used_buffer: AlignedBuffer::default(),
            start,
            received: start,
            // A record that reaches into the first segment may be under way.
            proven: checker.as_ref().map_or(start, WalChecker::checked_up_to),
            checker,
            is_damaged: false,
            // What comes before the first byte is the archive's durable past.
            written: start,
            flushed: start,
            synchronous: options.synchronous,
            reports_flush: options.reports_flush(),
            reply_wanted: false,
            flush_moved: false,
            gathered_at: Instant::now(),
            retry_at: None,
            had_space: true,
        }
    }

    /// Everything before this is durable and was found right.
    pub(crate) fn safe(&self) -> Lsn {
        self.flushed.min(self.proven)
    }

    /// Everything before this has come.
    pub(crate) fn received(&self) -> Lsn {
        self.received
    }

    /// Everything before this is in a file.
    pub(crate) fn written(&self) -> Lsn {
        self.written
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many bytes more may gather, which end where a block of the file does.
    fn room(&self) -> usize {
        let in_block = (self.batch.start().get() % BLOCK_LEN as u64) as usize;
        (self.batch_len - in_block).saturating_sub(self.batch.len())
    }

    /// The running job, and the room for what comes next: both are waited for at the same time.
    pub(crate) fn job_and_room(&mut self) -> (Job<'_>, Room<'_>) {
        if self.batch.is_empty() {
            // Untouched pages are never backed by the kernel, so to reserve too much is free.
            self.batch.begin(self.received, self.batch_len + READ_AHEAD);
        }
        let room = self.room();
        (Job(&mut self.disk), Room { memory: self.batch.memory(), bytes: room })
    }

    /// Checks what has come to the [`Room`], and says how many bytes that is. The stream has checked that they follow
    /// those before.
    ///
    /// # Errors
    /// If they are damaged. Nothing of them is written then.
    pub(crate) fn take_arrived(&mut self) -> Result<usize, WalDamage> {
        // What was taken before ends at `received`.
        let before = self.received.saturating_sub(self.batch.start()) as usize;
        let len = self.batch.len().saturating_sub(before);
        if before == 0 {
            self.gathered_at = Instant::now() + GATHER_TIME;
        }
        // Here the bytes are in the processor's cache, and their records begin at words of memory.
        if let Some(checker) = &mut self.checker {
            let new = self.batch.bytes().get(before..).unwrap_or_default();
            if let Err(damage) = checker.check(self.received, new) {
                self.batch.truncate(before);
                self.is_damaged = true;
                return Err(damage);
            }
        }
        self.received = Lsn::new(self.received.get().saturating_add(len as u64));
        Ok(len)
    }

    /// Everything before this has come and was found right: not a record of which the end is still to come.
    fn checked(&self) -> Lsn {
        self.checker.as_ref().map_or(self.received, WalChecker::checked_up_to)
    }

    /// The server asks how far we are. It was told what we knew; if there is more to come it will be told again.
    pub(crate) fn want_reply(&mut self) {
        self.reply_wanted = !self.is_caught_up();
    }

    fn is_caught_up(&self) -> bool {
        self.written == self.received && (!self.reports_flush || self.flushed == self.received)
    }

    /// Whether the server should hear the positions now rather than at the next regular status: it waits for
    /// them, or may let older WAL go.
    pub(crate) fn has_news(&mut self) -> bool {
        let answers = self.reply_wanted && self.is_caught_up();
        self.reply_wanted &= !answers;
        let flush_moved = core::mem::take(&mut self.flush_moved);
        answers || (flush_moved && self.reports_flush)
    }

    pub(crate) fn report(&self, stream: &mut WalStream) -> Result<(), Error> {
        // A record that began before the stream is no reason to take back what may have been acknowledged.
        let flushed = Some(self.safe()).filter(|&safe| self.reports_flush && safe >= self.start);
        stream.report(self.written, flushed.unwrap_or(Lsn::INVALID))
    }

    /// Begins a job if there is something to do and nothing in the way.
    pub(crate) fn start_job(&mut self) {
        if self.can_start() {
            self.begin(self.wants_sync());
        }
    }

    /// Whether there is something to do and nothing in the way.
    pub(crate) fn can_start(&self) -> bool {
        self.retry_at.is_none() && !self.is_busy() && self.has_work(self.wants_sync())
    }

    /// When a job is worth it, where [`WriteQueue::can_start`]; `None` for at once.
    pub(crate) fn gathers_until(&self) -> Option<Instant> {
        (!self.wants_sync() && self.has_room()).then_some(self.gathered_at)
    }

    fn wants_sync(&self) -> bool {
        self.synchronous || (self.reply_wanted && self.reports_flush)
    }

    fn has_work(&self, sync: bool) -> bool {
        !self.batch.is_empty() || (sync && self.flushed < self.written)
    }

    fn begin(&mut self, sync: bool) {
        if !self.has_work(sync) {
            return;
        }
        let checked = self.checked();
        if let Some(disk) = self.disk.as_mut().filter(|disk| !disk.is_busy()) {
            let batch = core::mem::replace(&mut self.batch, core::mem::take(&mut self.used_buffer));
            disk.write(batch, checked, sync);
        }
    }

    fn is_busy(&self) -> bool {
        self.disk.as_ref().is_none_or(DiskThread::is_busy)
    }

    /// When there may be space again, if there was none.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Looks for space again.
    pub(crate) fn retry(&mut self) {
        self.retry_at = None;
        self.start_job();
    }

    /// Takes over what a job did, and gives what kept it from doing more.
    pub(crate) fn take_over(&mut self, done: Written) -> Option<ArchiveError> {
        let Written { mut batch, written, flushed, proven, out_of_space, .. } = done;
        let safe_before = self.safe();
        (self.written, self.flushed, self.proven) = (written, flushed, proven);
        self.flush_moved |= self.safe() > safe_before;
        self.had_space |= out_of_space.is_none();
        if batch.is_empty() {
            self.used_buffer = batch;
        } else {
            // What could not be written comes before what has gathered since.
            batch.push(self.batch.bytes());
            self.batch = batch;
        }
        out_of_space
    }

    /// Begins no job for a while, and says for how long; `None` if that was tried already. A server that shuts down
    /// waits for everybody who is connected, and would for ever if all space is gone.
    pub(crate) fn wait_for_space(&mut self) -> Option<Duration> {
        if !core::mem::replace(&mut self.had_space, false) {
            return None;
        }
        self.retry_at = Some(Instant::now() + SPACE_RETRY);
        Some(SPACE_RETRY)
    }

    /// The result of the running job, or else of one more that writes everything and makes it durable; `None`
    /// when there is nothing left to do. What finds no space is given up: it was not acknowledged.
    pub(crate) async fn last_job(&mut self) -> Result<Option<Written>, ReceiveError> {
        if !self.is_busy() {
            self.begin(true);
        }
        if !self.disk.as_ref().is_some_and(DiskThread::is_busy) {
            return Ok(None);
        }
        let mut done = Job(&mut self.disk).result().await?;
        if done.out_of_space.is_some() {
            done.batch.clear();
            self.batch.clear();
        }
        Ok(Some(done))
    }

    /// Leaves the segment in progress as a partial file, and says which it is.
    pub(crate) async fn close(self) -> Result<Option<WalSegment>, ReceiveError> {
        match self.disk {
            Some(disk) => disk.close(self.is_damaged).await,
            None => Ok(None),
        }
    }
}

/// The job that is running, if one is.
pub(crate) struct Job<'a>(&'a mut Option<DiskThread>);

impl Job<'_> {
    /// The result of the running job; without one, waits for ever. After an error there is nothing to write with.
    ///
    /// Cancel-safe.
    pub(crate) async fn result(self) -> Result<Written, ReceiveError> {
        let done = match self.0 {
            Some(disk) => disk.done().await,
            None => core::future::pending().await,
        };
        done.inspect_err(|_| *self.0 = None)
    }
}

/// The memory for what comes next.
pub(crate) struct Room<'a> {
    memory: &'a mut Vec<u8>,
    bytes: usize,
}

impl Room<'_> {
    /// Reads the next message, and appends WAL to the batch. While the batch is full, only sends status updates.
    ///
    /// Cancel-safe.
    pub(crate) async fn receive(self, stream: &mut WalStream) -> Result<Option<WalArrival>, Error> {
        match self.bytes {
            0 => match stream.keep_alive().await? {},
            bytes => stream.next_into(self.memory, bytes).await,
        }
    }
}
