use alloc::sync::Arc;
use std::path::Path;
use std::prelude::v1::*;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::{mpsc, oneshot};

use super::{Files, Written};
use crate::archive::io_error;
use crate::archive::{ArchiveError, ArchiveLock};
use crate::receiver::ReceiveError;
use crate::storage::AlignedBuffer;
use crate::types::Lsn;
use crate::wal::WalSegment;

/// The thread on which a stream's files are written, so that nobody else waits for the disk.
///
/// It does one thing at a time, and ends after its first error or when this is dropped. A pool of threads would do
/// the same with twice the calls into the kernel to hand a batch over.
#[derive(Debug)]
pub(crate) struct DiskThread {
    tasks: Sender<Task>,
    done: mpsc::Receiver<Result<Written, ReceiveError>>,
    is_busy: bool,
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
        let run = move || {
            let _lock = lock;
            run(files, &received, &sender);
        };
        std::thread::Builder::new()
            .name("write".into())
            .spawn(run)
            .map_err(|source| io_error("start a thread to write into", path.to_path_buf(), source))?;
        Ok(Self { tasks, done, is_busy: false })
    }

    /// Whether a batch is being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins to write a batch, and with `sync` to make it durable. Everything before `proven` was found right. Not
    /// before the batch before is [`DiskThread::done`].
    pub(crate) fn write(&mut self, batch: AlignedBuffer, proven: Lsn, sync: bool) {
        // A thread that has ended is noticed by whoever waits for it.
        let _ = self.tasks.send(Task::Write { batch, proven, sync });
        self.is_busy = true;
    }

    /// What became of the batch that is being written; never without one.
    ///
    /// Cancel-safe.
    pub(crate) async fn done(&mut self) -> Result<Written, ReceiveError> {
        if !self.is_busy {
            return core::future::pending().await;
        }
        let done = self.done.recv().await;
        self.is_busy = false;
        done.unwrap_or_else(|| Err(panicked()))
    }

    /// See [`Files::close`].
    pub(crate) async fn close(self, is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError> {
        let (closed, result) = oneshot::channel();
        let _ = self.tasks.send(Task::Close { is_damaged, closed });
        result.await.unwrap_or_else(|_| Err(panicked()))
    }
}

fn run(
    mut files: Box<dyn Files>,
    tasks: &Receiver<Task>,
    done: &mpsc::Sender<Result<Written, ReceiveError>>,
) {
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Write { batch, proven, sync } => {
                let result = files.write(batch, proven, sync);
                let failed = result.is_err();
                // There is room for the one result that is waited for, unless nobody does any more.
                if done.try_send(result).is_err() || failed {
                    return;
                }
            }
            Task::Close { is_damaged, closed } => {
                let _ = closed.send(files.close(is_damaged));
                return;
            }
        }
    }
}

fn panicked() -> ReceiveError {
    ReceiveError::Internal("the thread that writes has ended".to_string())
}
