//! Compresses segments that are complete, on a thread of its own.
//!
//! There is no queue: what is to be done lies in the directory. So a thread that is slower than the stream, that
//! failed, or that was stopped in the middle has lost nothing, and needs no more memory.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::archive::io_error;
use crate::archive::{Archive, ArchiveError, ArchiveLock, SegmentFile};
use crate::compression::Compress;
use crate::wal::WalSegment;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long the thread may take to notice that it is to stop.
const STOP_TIMEOUT: Duration = Duration::from_millis(300);
/// Failures that wait to be told; further ones are of the same kind.
const FAILURES: usize = 4;

/// Compresses the complete segments of an archive; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Compressor {
    limit: CompressLimit,
    /// Closed by the thread when it ends.
    failures: mpsc::Receiver<CompressFailure>,
}

/// A segment that could not be compressed, and stays as it is for now.
#[derive(Debug)]
pub(crate) struct CompressFailure {
    pub(crate) error: ArchiveError,
    pub(crate) retry_in: Duration,
}

/// Tells the thread how far it may go.
#[derive(Clone, Debug)]
pub(crate) struct CompressLimit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Segments up to this one are complete and will not be taken back.
    up_to: Mutex<Option<WalSegment>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Compressor {
    /// Begins to compress the plain segments that are newer than the newest compressed one, as far as
    /// [`CompressLimit::allow_up_to`] lets it. The archive stays locked until the thread has ended.
    pub(crate) fn start(
        archive: Archive,
        lock: Option<Arc<ArchiveLock>>,
        compress: Compress,
    ) -> Result<Self, ArchiveError> {
        let limit = CompressLimit(Arc::default());
        let (failed, failures) = mpsc::channel(FAILURES);
        let (path, shared) = (archive.path().to_path_buf(), Arc::clone(&limit.0));
        let run = move || {
            let _lock = lock;
            Thread { archive, compress, shared: &shared, done: None }.run(&failed);
        };
        std::thread::Builder::new()
            .name("compress".into())
            .spawn(run)
            .map_err(|source| io_error("start a thread to compress the segments of", path, source))?;
        Ok(Self { limit, failures })
    }

    pub(crate) fn limit(&self) -> CompressLimit {
        self.limit.clone()
    }

    /// The next failure; never if there are no more.
    ///
    /// Cancel-safe.
    pub(crate) async fn failure(&mut self) -> CompressFailure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => core::future::pending().await,
        }
    }

    /// Ends the thread. A segment that it is busy with stays plain. If it hangs on a disk it is left behind.
    pub(crate) async fn stop(mut self) {
        self.limit.stop();
        let _ = timeout(STOP_TIMEOUT, async { while self.failures.recv().await.is_some() {} }).await;
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.limit.stop();
    }
}

impl CompressLimit {
    /// Lets everything up to `segment` be compressed.
    pub(crate) fn allow_up_to(&self, segment: WalSegment) {
        let mut up_to = self.0.lock();
        *up_to = (*up_to).max(Some(segment));
        self.0.changed.notify_all();
    }

    fn stop(&self) {
        // With the lock, or it could come between the thread's look at it and its sleep.
        let _guard = self.0.lock();
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// A thread that panicked does not keep the others from ending.
    fn lock(&self) -> MutexGuard<'_, Option<WalSegment>> {
        self.up_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until more than up to `done` is allowed; `None` once it is time to stop.
    fn wait_for_more(&self, done: Option<WalSegment>) -> Option<WalSegment> {
        let wait = self.changed.wait_while(self.lock(), |up_to| *up_to <= done && !self.is_stopped());
        let up_to = *wait.unwrap_or_else(PoisonError::into_inner);
        up_to.filter(|_| !self.is_stopped())
    }

    /// Waits that long, or until it is time to stop.
    fn sleep(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |_| !self.is_stopped()));
    }
}

struct Thread<'a> {
    archive: Archive,
    compress: Compress,
    shared: &'a Shared,
    /// Segments up to this one are dealt with.
    done: Option<WalSegment>,
}

impl Thread<'_> {
    fn run(mut self, failed: &mpsc::Sender<CompressFailure>) {
        while let Some(up_to) = self.shared.wait_for_more(self.done) {
            match self.compress_up_to(up_to) {
                Ok(()) => {}
                Err(error) => {
                    let _ = failed.try_send(CompressFailure { error, retry_in: RETRY });
                    self.shared.sleep(RETRY);
                }
            }
        }
    }

    fn compress_up_to(&mut self, up_to: WalSegment) -> Result<(), ArchiveError> {
        for segment in self.waiting(up_to)? {
            if self.shared.is_stopped() {
                return Ok(());
            }
            let result = self.archive.compress(segment, self.compress, &self.shared.stop);
            // Trying again would not help, and the next ones are not to wait for somebody to look at it.
            if matches!(result, Ok(_) | Err(ArchiveError::Conflict { .. })) {
                self.done = Some(segment);
            }
            result?;
        }
        self.done = Some(up_to);
        Ok(())
    }

    /// The plain segments that are to be compressed, the oldest first. In the beginning this includes the newest
    /// compressed one: a crash may have left its plain file beside it.
    fn waiting(&self, up_to: WalSegment) -> Result<Vec<WalSegment>, ArchiveError> {
        let (mut plain, mut compressed) = (Vec::new(), None);
        let size = self.archive.segment_size();
        self.archive.directory().for_each_name(|name| {
            match SegmentFile::parse(name, size).filter(|file| !file.is_partial) {
                Some(file) if file.is_compressed() => compressed = compressed.max(Some(file.segment)),
                Some(file) => plain.push(file.segment),
                None => {}
            }
        })?;
        plain.retain(|segment| {
            let is_next = match self.done {
                Some(done) => *segment > done,
                None => Some(*segment) >= compressed,
            };
            is_next && *segment <= up_to
        });
        plain.sort();
        Ok(plain)
    }
}
