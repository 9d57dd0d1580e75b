//! The servers of this process, as observers see them.

use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::about::About;
use tapster::receiver::{ReceiverFigures, ReceiverProgress, ReceiverState};
use tokio::sync::Notify;

/// Every server of this process, for the observers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<Vec<Arc<Entry>>>,
    changed: Notify,
}

/// A server in the registry.
#[derive(Debug)]
pub(super) struct Entry {
    /// The server's name in the file, or else its address.
    label: String,
    about: Arc<Mutex<About>>,
    pub(super) progress: Arc<ReceiverProgress>,
    /// Whether the first connection failed, and is tried again.
    unreachable: AtomicBool,
    /// The exit code with which receiving ended.
    ended: Mutex<Option<u8>>,
}

/// A snapshot of a server.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) label: String,
    pub(super) about: About,
    pub(super) figures: ReceiverFigures,
    pub(super) unreachable: bool,
    /// The exit code, if receiving from this server has ended.
    pub(super) ended: Option<u8>,
}

impl Registry {
    pub(super) fn add(&self, label: String, about: Arc<Mutex<About>>) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            label,
            about,
            progress: Arc::default(),
            unreachable: AtomicBool::new(false),
            ended: Mutex::new(None),
        });
        self.entries().push(Arc::clone(&entry));
        self.changed.notify_one();
        entry
    }

    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        self.entries().retain(|other| !Arc::ptr_eq(other, entry));
        self.changed.notify_one();
    }

    /// Notes that receiving has ended with this exit code.
    pub(super) fn ended(&self, entry: &Entry, code: u8) {
        *lock(&entry.ended) = Some(code);
        self.changed.notify_one();
    }

    /// Notifies [`changed`](Self::changed) of each change of the server's state, for as long as it is awaited.
    pub(super) async fn watch(&self, entry: &Entry) -> Infallible {
        let mut state = entry.progress.state();
        loop {
            match state.changed().await {
                Ok(()) => {
                    if *state.borrow_and_update() == ReceiverState::Streaming {
                        entry.unreachable.store(false, Ordering::Relaxed);
                    }
                    self.changed.notify_one();
                }
                Err(_) => core::future::pending().await,
            }
        }
    }

    /// Notes that the first connection failed.
    pub(super) fn unreachable(&self, entry: &Entry) {
        entry.unreachable.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Returns when a server's state has changed since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A snapshot of all servers.
    pub(super) fn show(&self) -> Vec<Shown> {
        self.entries().iter().map(|entry| entry.show()).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        lock(&self.entries)
    }
}

impl Entry {
    fn show(&self) -> Shown {
        Shown {
            label: self.label.clone(),
            about: lock(&self.about).clone(),
            figures: self.progress.figures(),
            unreachable: self.unreachable.load(Ordering::Relaxed),
            ended: *lock(&self.ended),
        }
    }
}

impl Shown {
    /// The server's state in a word.
    pub(super) fn state(&self) -> &'static str {
        match self.ended {
            Some(0) => "stopped",
            Some(5) => "refused",
            Some(_) => "failed",
            None if self.unreachable => "unreachable",
            None if self.figures.state == ReceiverState::Idle => "starting",
            None => self.figures.state.name(),
        }
    }

    /// Every word of [`state`](Self::state).
    pub(super) const STATES: [&'static str; 9] = [
        "starting",
        "unreachable",
        "connecting",
        "streaming",
        "out_of_space",
        "disconnected",
        "stopped",
        "refused",
        "failed",
    ];

    /// Whether the server is streaming.
    pub(super) fn is_up(&self) -> bool {
        self.ended.is_none() && self.figures.state == ReceiverState::Streaming
    }
}

/// The state and the most important figures: `streaming 0/19EBE08 tli 2 lag 0`.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state().replace('_', " "))?;
        if let Some(timeline) = self.figures.timeline {
            write!(f, " {} tli {timeline} lag {}", self.figures.received, self.figures.lag_bytes())?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
