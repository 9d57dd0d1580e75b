use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::path::Path;
use std::prelude::v1::*;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::{Files, Written};
use crate::archive::io_error;
use crate::archive::{ArchiveError, ArchiveLock};
use crate::receiver::ReceiveError;
use crate::storage::AlignedBuffer;
use crate::types::{Lsn, WalSegmentSize};
use crate::wal::WalSegment;

/// The thread on which a stream's files are written, so that the stream does not wait for the disk.
///
/// It does one thing at a time, and ends after its first error or when this is dropped. A pool of threads would do
/// the same with twice the calls into the kernel to hand a batch over.
///
/// A commit that waits for a sync also waits for two changes of threads: with 8 clients and a quick disk they cost a
/// tenth of the commits. So a synchronous standby writes and syncs small batches itself while syncs are measured to
/// be short.
#[derive(Debug)]
pub(crate) struct DiskThread {
    tasks: Sender<Task>,
    done: mpsc::Receiver<Done>,
    is_busy: bool,
    /// Shared with the thread; one of both works on it at a time.
    files: Arc<Mutex<LockedFiles>>,
    /// Whether short syncs are waited for, and how large the segments are.
    short_syncs_within: Option<WalSegmentSize>,
    /// How many of the last syncs were short, one after the other.
    short_syncs: u32,
    /// What became of a batch that was written without the thread.
    done_here: Option<Done>,
}

/// A sync that takes no longer is short.
const SHORT_SYNC: Duration = Duration::from_millis(2);
/// So many short syncs come before one that is waited for; a long one begins anew.
const SHORT_SYNCS: u32 = 32;
/// The largest batch that is written while the stream waits.
const SHORT_BATCH_BYTES: usize = 64 << 10;

struct LockedFiles {
    /// None after an error, and once they are closed.
    files: Option<Box<dyn Files>>,
    /// Given back after the files are.
    _lock: Option<Arc<ArchiveLock>>,
}

/// What became of a batch.
#[derive(Debug)]
struct Done {
    result: Result<Written, ReceiveError>,
    /// How long that took, if it was synced.
    synced_in: Option<Duration>,
}

impl LockedFiles {
    fn write(&mut self, batch: AlignedBuffer, proven: Lsn, sync: bool) -> Done {
        let begin = Instant::now();
        let result = match &mut self.files {
            Some(files) => files.write(batch, proven, sync),
            None => Err(panicked()),
        };
        if result.is_err() {
            self.files = None;
        }
        Done { result, synced_in: sync.then(|| begin.elapsed()) }
    }
}

impl fmt::Debug for LockedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedFiles").finish_non_exhaustive()
    }
}

enum Task {
    Write { batch: AlignedBuffer, proven: Lsn, sync: bool },
    Close { is_damaged: bool, closed: oneshot::Sender<Result<Option<WalSegment>, ReceiveError>> },
}

impl DiskThread {
    /// Starts the thread. The archive stays locked until it has ended.
    pub(crate) fn start(
        files: Box<dyn Files>,
        path: &Path,
        lock: Option<Arc<ArchiveLock>>,
    ) -> Result<Self, ArchiveError> {
        let (tasks, received) = channel();
        let (sender, done) = mpsc::channel(1);
        let files = Arc::new(Mutex::new(LockedFiles { files: Some(files), _lock: lock }));
        let run = {
            let files = Arc::clone(&files);
            move || run(&files, &received, &sender)
        };
        std::thread::Builder::new()
            .name("write".into())
            .spawn(run)
            .map_err(|source| io_error("start a thread to write into", path.to_path_buf(), source))?;
        let (is_busy, short_syncs_within, short_syncs, done_here) = (false, None, 0, None);
        Ok(Self { tasks, done, is_busy, files, short_syncs_within, short_syncs, done_here })
    }

    /// Waits for syncs that are short where the stream is read, unless the batch begins or completes a segment.
    ///
    /// What delays one of them also delays everything else in the runtime's thread, once: the first long sync sends
    /// the next ones to this thread again.
    pub(crate) fn waiting_for_short_syncs(self, segment_size: WalSegmentSize) -> Self {
        Self { short_syncs_within: Some(segment_size), ..self }
    }

    /// Whether a batch is being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins to write a batch, and with `sync` to make it durable, which is done at once if it is short. Everything
    /// before `proven` was found right. Not before the batch before is [`DiskThread::done`].
    pub(crate) fn write(&mut self, batch: AlignedBuffer, proven: Lsn, sync: bool) {
        self.is_busy = true;
        if sync && self.is_short(&batch) {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            self.done_here = Some(files.write(batch, proven, sync));
            return;
        }
        // A thread that has ended is noticed by whoever waits for it.
        let _ = self.tasks.send(Task::Write { batch, proven, sync });
    }

    /// Whether to write and sync the batch takes too little time to change threads for it: it neither begins nor
    /// completes a segment, and syncs are short.
    fn is_short(&self, batch: &AlignedBuffer) -> bool {
        let Some(segment_size) = self.short_syncs_within else { return false };
        let size = u64::from(segment_size.bytes());
        let in_segment = batch.start().get() % size;
        self.short_syncs >= SHORT_SYNCS
            && batch.len() <= SHORT_BATCH_BYTES
            && in_segment > 0
            && in_segment + (batch.len() as u64) < size
    }

    /// What became of the batch that is being written; never without one.
    ///
    /// Cancel-safe.
    pub(crate) async fn done(&mut self) -> Result<Written, ReceiveError> {
        if !self.is_busy {
            return core::future::pending().await;
        }
        let done = match self.done_here.take() {
            Some(done) => Some(done),
            None => self.done.recv().await,
        };
        self.is_busy = false;
        let Some(Done { result, synced_in }) = done else { return Err(panicked()) };
        if let Some(took) = synced_in {
            self.note_sync(took);
        }
        result
    }

    fn note_sync(&mut self, took: Duration) {
        self.short_syncs = if took <= SHORT_SYNC { self.short_syncs.saturating_add(1) } else { 0 };
    }

    /// See [`Files::close`].
    pub(crate) async fn close(self, is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError> {
        let (closed, result) = oneshot::channel();
        let _ = self.tasks.send(Task::Close { is_damaged, closed });
        result.await.unwrap_or_else(|_| Err(panicked()))
    }
}

fn run(files: &Mutex<LockedFiles>, tasks: &Receiver<Task>, done: &mpsc::Sender<Done>) {
    while let Ok(task) = tasks.recv() {
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        match task {
            Task::Write { batch, proven, sync } => {
                let result = files.write(batch, proven, sync);
                let failed = result.result.is_err();
                drop(files);
                // There is room for the one result that is waited for, unless nobody does any more.
                if done.try_send(result).is_err() || failed {
                    return;
                }
            }
            Task::Close { is_damaged, closed } => {
                let result =
                    files.files.take().map_or_else(|| Err(panicked()), |files| files.close(is_damaged));
                let _ = closed.send(result);
                return;
            }
        }
    }
}

fn panicked() -> ReceiveError {
    ReceiveError::Internal("the thread that writes has ended".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    /// Knows which thread has written last; fails when it is told to.
    #[derive(Clone, Default)]
    struct Watched {
        written_by: Arc<Mutex<Option<ThreadId>>>,
        fails: Arc<Mutex<bool>>,
    }

    impl Files for Watched {
        fn write(&mut self, batch: AlignedBuffer, proven: Lsn, _sync: bool) -> Result<Written, ReceiveError> {
            *self.written_by.lock().unwrap() = Some(std::thread::current().id());
            if *self.fails.lock().unwrap() {
                return Err(ReceiveError::ServerShutdown);
            }
            let written = batch.start();
            Ok(Written { batch, written, flushed: written, proven, finished: vec![], out_of_space: None })
        }

        fn close(self: Box<Self>, _is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError> {
            Ok(None)
        }
    }

    const SIZE: u64 = 1 << 20;

    /// With as many short syncs behind it as it takes.
    fn quick() -> (Watched, DiskThread) {
        let files = Watched::default();
        let disk = DiskThread::start(Box::new(files.clone()), Path::new("/"), None).unwrap();
        let mut disk = disk.waiting_for_short_syncs(WalSegmentSize::new(SIZE as u32).unwrap());
        disk.short_syncs = SHORT_SYNCS;
        (files, disk)
    }

    fn batch(in_segment: u64, len: usize) -> AlignedBuffer {
        let mut batch = AlignedBuffer::default();
        batch.begin(Lsn::new(5 * SIZE + in_segment), len);
        batch.push(&vec![7; len]);
        batch
    }

    async fn is_written_here(
        (files, mut disk): (Watched, DiskThread),
        batch: AlignedBuffer,
        sync: bool,
    ) -> bool {
        disk.write(batch, Lsn::INVALID, sync);
        assert!(disk.is_busy());
        disk.done().await.unwrap();
        assert!(!disk.is_busy());
        assert_eq!(disk.close(false).await.unwrap(), None);
        let by = files.written_by.lock().unwrap().take();
        by.unwrap() == std::thread::current().id()
    }

    #[tokio::test]
    async fn a_small_batch_in_the_middle_of_a_segment_is_synced_without_the_thread() {
        for (in_segment, len) in [(1, 1), (SIZE / 2, SHORT_BATCH_BYTES), (SIZE - 9, 8)] {
            assert!(is_written_here(quick(), batch(in_segment, len), true).await, "{in_segment} {len}");
        }
    }

    #[tokio::test]
    async fn what_may_take_long_goes_to_the_thread() {
        let size = WalSegmentSize::new(SIZE as u32).unwrap();
        for (in_segment, len) in [(0, 8), (SIZE - 8, 8), (SIZE - 8, 9), (8, SHORT_BATCH_BYTES + 1)] {
            assert!(!is_written_here(quick(), batch(in_segment, len), true).await, "{in_segment} {len}");
        }
        assert!(!is_written_here(quick(), batch(8, 8), false).await, "nobody waits for it");
        let (files, mut disk) = quick();
        disk.note_sync(SHORT_SYNC + Duration::from_micros(1));
        assert!(!is_written_here((files, disk), batch(8, 8), true).await, "the last sync was long");
        let (files, mut disk) = quick();
        disk.short_syncs_within = None;
        assert!(!is_written_here((files, disk), batch(8, 8), true).await, "it is not wanted");
        let (files, disk) = quick();
        let disk = DiskThread { short_syncs: 0, ..disk }.waiting_for_short_syncs(size);
        assert!(!is_written_here((files, disk), batch(8, 8), true).await, "nothing was measured");
    }

    #[test]
    fn short_syncs_count_and_a_long_one_begins_anew() {
        let (_, mut disk) = quick();
        disk.note_sync(SHORT_SYNC * 2);
        for _ in 1..SHORT_SYNCS {
            disk.note_sync(SHORT_SYNC);
        }
        assert!(!disk.is_short(&batch(8, 8)));
        disk.note_sync(Duration::ZERO);
        assert!(disk.is_short(&batch(8, 8)));
    }

    #[tokio::test]
    async fn after_an_error_nothing_is_written_any_more() {
        let (files, mut disk) = quick();
        *files.fails.lock().unwrap() = true;
        disk.write(batch(8, 8), Lsn::INVALID, true);
        assert!(matches!(disk.done().await, Err(ReceiveError::ServerShutdown)));
        *files.fails.lock().unwrap() = false;
        disk.write(batch(0, 8), Lsn::INVALID, true);
        assert!(matches!(disk.done().await, Err(ReceiveError::Internal(_))));
        assert!(matches!(disk.close(false).await, Err(ReceiveError::Internal(_))));
    }
}
