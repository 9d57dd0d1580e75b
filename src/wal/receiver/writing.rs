//! WAL between the stream and the disk.

use core::pin::Pin;
use core::time::Duration;
use std::boxed::Box;
use std::vec::Vec;

use tokio::time::{Instant, sleep_until};

use super::disk::{Batch, Disk, Done};
use super::{ReceiveError, ReceiverOptions};
use crate::error::Error;
use crate::replication::WalStream;
use crate::types::Lsn;
use crate::wal::{ArchiveError, WalSegment};

/// How much gathers for one job. When no other message fits, the stream is not read any more and the server has to
/// wait.
const BATCH_BYTES: usize = 256 * 1024;
/// What a walsender sends at once.
const MESSAGE_BYTES: usize = 128 * 1024;
/// How long it gathers if nobody waits for it: a job for each message costs more in switching threads than in
/// writing.
const GATHER_TIME: Duration = Duration::from_millis(10);
/// How long to wait for space.
const SPACE_RETRY: Duration = Duration::from_secs(5);

type Job = Pin<Box<dyn Future<Output = Result<Done, ReceiveError>> + Send>>;

/// At most one job writes; what arrives meanwhile gathers for the next one, so that with a slow disk each job
/// has more to do and not the stream more jobs.
pub(super) struct Writing {
    /// Here while no job runs.
    disk: Option<Disk>,
    job: Option<Job>,
    batch: Batch,
    /// The memory of the batch before, to be used again.
    spare: Vec<u8>,
    /// The first byte of this stream.
    start: Lsn,
    received: Lsn,
    written: Lsn,
    flushed: Lsn,
    proven: Lsn,
    synchronous: bool,
    reports_flush: bool,
    /// The server waits to hear that we have everything.
    reply_wanted: bool,
    /// The position to be reported as flushed has moved since it was last sent.
    flush_moved: bool,
    /// When the batch, unless it is empty, has gathered for long enough.
    gathered_at: Instant,
    /// The disk was full: no job before this.
    retry_at: Option<Instant>,
}

impl Writing {
    pub(super) fn new(disk: Disk, start: Lsn, options: &ReceiverOptions) -> Self {
        Self {
            proven: disk.proven(),
            disk: Some(disk),
            job: None,
            batch: Batch { start, data: Vec::new() },
            spare: Vec::new(),
            start,
            received: start,
            // What comes before the first byte is the archive's durable past.
            written: start,
            flushed: start,
            synchronous: options.synchronous,
            reports_flush: options.reports_flush(),
            reply_wanted: false,
            flush_moved: false,
            gathered_at: Instant::now(),
            retry_at: None,
        }
    }

    /// Everything before this is durable and was found right.
    pub(super) fn safe(&self) -> Lsn {
        self.flushed.min(self.proven)
    }

    /// Everything before this has come.
    pub(super) fn received(&self) -> Lsn {
        self.received
    }

    /// Everything before this is in a file.
    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    pub(super) fn has_room(&self) -> bool {
        self.batch.data.len() + MESSAGE_BYTES <= BATCH_BYTES
    }

    /// Adds WAL that begins where the last ended; the stream has checked that it does.
    pub(super) fn append(&mut self, start: Lsn, data: &[u8]) {
        if self.batch.data.is_empty() {
            self.batch.start = start;
            self.gathered_at = Instant::now() + GATHER_TIME;
            // Memory that nothing is written to is none.
            self.batch.data.reserve_exact(BATCH_BYTES);
        }
        self.batch.data.extend_from_slice(data);
        self.received = Lsn::new(start.get().saturating_add(data.len() as u64));
    }

    /// The server asks how far we are. It was told what we knew; if there is more to come it will be told again.
    pub(super) fn want_reply(&mut self) {
        self.reply_wanted = !self.is_caught_up();
    }

    fn is_caught_up(&self) -> bool {
        self.written == self.received && (!self.reports_flush || self.flushed == self.received)
    }

    /// Whether the server should hear the positions now rather than at the next regular status: it waits for
    /// them, or may let older WAL go.
    pub(super) fn has_news(&mut self) -> bool {
        let answers = self.reply_wanted && self.is_caught_up();
        self.reply_wanted &= !answers;
        let flush_moved = core::mem::take(&mut self.flush_moved);
        answers || (flush_moved && self.reports_flush)
    }

    pub(super) fn report(&self, stream: &mut WalStream) -> Result<(), Error> {
        // A record that began before the stream is no reason to take back what may have been acknowledged.
        let flushed = Some(self.safe()).filter(|&safe| self.reports_flush && safe >= self.start);
        stream.report(self.written, flushed.unwrap_or(Lsn::INVALID))
    }

    /// Begins a job if there is something to do and nothing in the way.
    pub(super) fn start_job(&mut self) {
        if self.can_start() {
            self.begin(self.wants_sync());
        }
    }

    /// Whether there is something to do and nothing in the way.
    pub(super) fn can_start(&self) -> bool {
        self.retry_at.is_none() && self.disk.is_some() && self.has_work(self.wants_sync())
    }

    /// When a job is worth it, where [`Writing::can_start`]; `None` for at once.
    pub(super) fn gathers_until(&self) -> Option<Instant> {
        (!self.wants_sync() && self.has_room()).then_some(self.gathered_at)
    }

    fn wants_sync(&self) -> bool {
        self.synchronous || (self.reply_wanted && self.reports_flush)
    }

    fn has_work(&self, sync: bool) -> bool {
        !self.batch.data.is_empty() || (sync && self.flushed < self.written)
    }

    fn begin(&mut self, sync: bool) {
        if !self.has_work(sync) {
            return;
        }
        if let Some(disk) = self.disk.take() {
            let next = Batch { start: self.received, data: core::mem::take(&mut self.spare) };
            let batch = core::mem::replace(&mut self.batch, next);
            self.job = Some(Box::pin(disk.write(batch, sync)));
        }
    }

    /// The result of the running job; without one, waits until a full disk is worth another try, or for ever.
    ///
    /// Cancel-safe.
    pub(super) async fn job_done(&mut self) -> Result<Done, ReceiveError> {
        if let Some(at) = self.retry_at {
            sleep_until(at).await;
            self.retry_at = None;
            self.start_job();
        }
        match &mut self.job {
            Some(job) => {
                let done = job.await;
                self.job = None;
                done
            }
            None => core::future::pending().await,
        }
    }

    /// Takes over what a job did, and gives what kept it from doing more.
    pub(super) fn take_over(&mut self, done: Done) -> Option<ArchiveError> {
        let Done { disk, mut batch, written, flushed, proven, out_of_space, .. } = done;
        self.disk = Some(disk);
        let safe_before = self.safe();
        (self.written, self.flushed, self.proven) = (written, flushed, proven);
        self.flush_moved |= self.safe() > safe_before;
        if batch.data.is_empty() {
            self.spare = batch.data;
        } else {
            // What could not be written comes before what has gathered since.
            batch.data.extend_from_slice(&self.batch.data);
            self.batch = batch;
        }
        out_of_space
    }

    /// Begins no job for a while, and says for how long.
    pub(super) fn wait_for_space(&mut self) -> Duration {
        self.retry_at = Some(Instant::now() + SPACE_RETRY);
        SPACE_RETRY
    }

    /// The result of the running job, or else of one more that writes everything and makes it durable; `None`
    /// when there is nothing left to do. What finds no space is given up: it was not acknowledged.
    pub(super) async fn last_job(&mut self) -> Result<Option<Done>, ReceiveError> {
        if self.job.is_none() {
            self.begin(true);
        }
        let Some(job) = &mut self.job else { return Ok(None) };
        let done = job.await;
        self.job = None;
        let mut done = done?;
        if done.out_of_space.is_some() {
            done.batch.data.clear();
            self.batch.data.clear();
        }
        Ok(Some(done))
    }

    /// Leaves the segment in progress as a partial file, and says which it is.
    pub(super) async fn close(self) -> Result<Option<WalSegment>, ReceiveError> {
        match self.disk {
            Some(disk) => disk.close().await,
            None => Ok(None),
        }
    }
}
