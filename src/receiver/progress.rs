//! What a receiver is doing and how far it is, for other tasks and threads.

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::storage::{FsyncFigures, FsyncTimes};
use crate::types::{Lsn, PgTimestamp, TimelineId, WalSegmentSize};
use crate::wal::WalSegment;

/// What a receiver is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiverState {
    /// The receiver connects, finds out where to begin, or waits for the stream's first message.
    Connecting,
    /// The stream is alive: WAL or a keepalive has come since the stream began.
    Streaming,
    /// The stream is alive, but the file system has no space for the received WAL.
    OutOfSpace,
    /// The connection was lost, or could not be made again; another attempt follows.
    Disconnected,
    /// The receiver has ended, or was not run yet.
    Idle,
}

impl ReceiverState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Connecting, Self::Streaming, Self::OutOfSpace, Self::Disconnected, Self::Idle];

    /// The state in one or two words of lower case, joined by `_`: `out_of_space`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::OutOfSpace => "out_of_space",
            Self::Disconnected => "disconnected",
            Self::Idle => "idle",
        }
    }
}

/// The figures of a receiver while it runs. See [`Receiver::progress`](super::Receiver::progress).
///
/// The receiver stores each figure when it changes, without a lock and without waiting. Reading the figures,
/// however often, does not slow the receiver. Figures are read one after another, so they may be of neighbouring
/// moments.
#[derive(Debug)]
pub struct ReceiverProgress {
    /// The start of the times below, which are in microseconds since then; 0 means never.
    epoch: Instant,
    state: watch::Sender<ReceiverState>,
    timeline: AtomicU32,
    segment_size: AtomicU32,
    received: AtomicU64,
    written: AtomicU64,
    flushed: AtomicU64,
    flushed_at: AtomicU64,
    server_end: AtomicU64,
    server_time: AtomicI64,
    message_at: AtomicU64,
    level_at: AtomicU64,
    waits_for_disk: AtomicBool,
    bytes: AtomicU64,
    segments: AtomicU64,
    connections: AtomicU64,
    losses: AtomicU64,
    damages: AtomicU64,
    fsyncs: Arc<FsyncTimes>,
}

/// The figures of a receiver at one moment.
///
/// Positions are those of the last byte + 1, and invalid (zero) until they are known.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceiverFigures {
    /// What the receiver is doing.
    pub state: ReceiverState,
    /// The timeline that is received.
    pub timeline: Option<TimelineId>,
    /// The segment that the next byte belongs to.
    pub segment: Option<WalSegment>,
    /// Everything before this was received.
    pub received: Lsn,
    /// Everything before this is in a file.
    pub written: Lsn,
    /// Everything before this is durable and, unless the check is switched off, was checked.
    pub flushed: Lsn,
    /// How long ago `flushed` moved.
    pub since_flushed: Option<Duration>,
    /// The server's own end of WAL, as of its last message.
    pub server_end: Lsn,
    /// The server's clock at its last message.
    pub server_time: Option<PgTimestamp>,
    /// How long ago the last message came.
    pub since_message: Option<Duration>,
    /// How long ago the archive's files last had all WAL that the server had announced; zero while they have it.
    pub behind: Duration,
    /// Whether the receiver does not read the stream now, because the disk has to catch up first.
    pub waits_for_disk: bool,
    /// Bytes of WAL received.
    pub bytes: u64,
    /// Segments completed.
    pub segments: u64,
    /// Connections made, the first included.
    pub connections: u64,
    /// Connections lost, and attempts to connect again that failed.
    pub losses: u64,
    /// How many times damaged WAL came.
    pub damages: u64,
    /// How long it took to make WAL durable.
    pub fsyncs: FsyncFigures,
}

impl ReceiverFigures {
    /// Bytes that the server has and the archive's files do not. Bytes that the server has written since its last
    /// message are not counted.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.server_end.saturating_sub(self.written)
    }

    /// Bytes that the server has and that are not durable in the archive.
    #[must_use]
    pub fn flush_lag_bytes(&self) -> u64 {
        self.server_end.saturating_sub(self.flushed)
    }
}

impl ReceiverProgress {
    /// Returns the figures of a receiver that was not run yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            state: watch::Sender::new(ReceiverState::Idle),
            timeline: AtomicU32::new(0),
            segment_size: AtomicU32::new(0),
            received: AtomicU64::new(0),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            flushed_at: AtomicU64::new(0),
            server_end: AtomicU64::new(0),
            server_time: AtomicI64::new(0),
            message_at: AtomicU64::new(0),
            level_at: AtomicU64::new(0),
            waits_for_disk: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            damages: AtomicU64::new(0),
            fsyncs: Arc::default(),
        }
    }

    /// Returns what the receiver is doing now, and a way to wait for changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ReceiverState> {
        self.state.subscribe()
    }

    /// Reads the figures as they are now.
    #[must_use]
    pub fn figures(&self) -> ReceiverFigures {
        let since = |at: &AtomicU64| {
            let at = at.load(Relaxed);
            (at > 0).then(|| self.epoch.elapsed().saturating_sub(Duration::from_micros(at)))
        };
        let lsn = |position: &AtomicU64| Lsn::new(position.load(Relaxed));
        let state = *self.state.borrow();
        let (received, written, server_end) =
            (lsn(&self.received), lsn(&self.written), lsn(&self.server_end));
        let timeline = TimelineId::new(self.timeline.load(Relaxed));
        let size = WalSegmentSize::new(self.segment_size.load(Relaxed)).ok();
        let since_message = since(&self.message_at);
        let is_level = state == ReceiverState::Streaming && written >= server_end;
        ReceiverFigures {
            state,
            timeline,
            segment: timeline
                .zip(size)
                .map(|(timeline, size)| WalSegment::containing(received, timeline, size)),
            received,
            written,
            flushed: lsn(&self.flushed),
            since_flushed: since(&self.flushed_at),
            server_end,
            server_time: since_message.map(|_| PgTimestamp::from_micros(self.server_time.load(Relaxed))),
            since_message,
            behind: since(&self.level_at).filter(|_| !is_level).unwrap_or_default(),
            waits_for_disk: self.waits_for_disk.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            segments: self.segments.load(Relaxed),
            connections: self.connections.load(Relaxed),
            losses: self.losses.load(Relaxed),
            damages: self.damages.load(Relaxed),
            fsyncs: self.fsyncs.figures(),
        }
    }

    pub(super) fn fsyncs(&self) -> &Arc<FsyncTimes> {
        &self.fsyncs
    }

    pub(super) fn enter(&self, state: ReceiverState) {
        // Most calls change nothing, and then no waiting task needs to be woken.
        if *self.state.borrow() != state {
            self.state.send_replace(state);
        }
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Relaxed);
        self.enter(ReceiverState::Disconnected);
    }

    pub(super) fn damaged(&self) {
        self.damages.fetch_add(1, Relaxed);
    }

    /// Sets the positions to the start of this segment, from which its timeline is streamed.
    pub(super) fn begins(&self, first: WalSegment) {
        self.timeline.store(first.timeline().get(), Relaxed);
        self.segment_size.store(first.size().bytes(), Relaxed);
        for position in [&self.received, &self.written, &self.flushed] {
            position.store(first.start().get(), Relaxed);
        }
    }

    /// Notes a message of the stream, and the WAL up to `received` that came with it.
    pub(super) fn heard(&self, bytes: usize, received: Lsn, server_end: Lsn, server_time: PgTimestamp) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.received.store(received.get(), Relaxed);
        self.server_end.store(server_end.get(), Relaxed);
        self.server_time.store(server_time.as_micros(), Relaxed);
        self.message_at.store(self.now(), Relaxed);
        if *self.state.borrow() == ReceiverState::Connecting {
            self.enter(ReceiverState::Streaming);
        }
        self.note_level();
    }

    /// Notes that the file system has space, which ends the state "out of space".
    pub(super) fn has_space(&self) {
        if *self.state.borrow() == ReceiverState::OutOfSpace {
            self.enter(ReceiverState::Streaming);
        }
    }

    /// Counts completed segments.
    pub(super) fn finished(&self, segments: usize) {
        self.segments.fetch_add(segments as u64, Relaxed);
    }

    /// Notes how far WAL is written and durable.
    pub(super) fn stored(&self, written: Lsn, flushed: Lsn) {
        self.written.store(written.get(), Relaxed);
        if self.flushed.swap(flushed.get(), Relaxed) != flushed.get() {
            self.flushed_at.store(self.now(), Relaxed);
        }
        self.note_level();
    }

    pub(super) fn waits_for_disk(&self, waits: bool) {
        self.waits_for_disk.store(waits, Relaxed);
    }

    fn note_level(&self) {
        if self.written.load(Relaxed) >= self.server_end.load(Relaxed) {
            self.level_at.store(self.now(), Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

impl Default for ReceiverProgress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    fn lsn(position: u64) -> Lsn {
        Lsn::new(position)
    }

    fn streaming() -> ReceiverProgress {
        let progress = ReceiverProgress::new();
        let size = WalSegmentSize::new(1 << 20).unwrap();
        progress.enter(ReceiverState::Connecting);
        progress.begins(WalSegment::containing(lsn(0x30_0000), TimelineId::FIRST, size));
        progress
    }

    #[test]
    fn a_stream_lives_from_its_first_message_on() {
        let progress = streaming();
        assert_eq!(progress.figures().state, ReceiverState::Connecting);
        assert_eq!(progress.figures().since_message, None);
        let mut state = progress.state();
        progress.heard(0, lsn(0x30_0000), lsn(0x30_0000), PgTimestamp::from_micros(7));
        assert!(state.has_changed().unwrap());
        assert_eq!(*state.borrow_and_update(), ReceiverState::Streaming);
        progress.heard(5, lsn(0x30_0005), lsn(0x30_0010), PgTimestamp::from_micros(8));
        assert!(!state.has_changed().unwrap(), "only a change wakes a waiting task");
        let figures = progress.figures();
        assert_eq!((figures.received, figures.bytes), (lsn(0x30_0005), 5));
        assert_eq!(figures.server_time, Some(PgTimestamp::from_micros(8)));
        assert_eq!(figures.segment.unwrap().to_string(), "000000010000000000000003");
    }

    #[test]
    fn the_lag_is_what_no_file_has_yet() {
        let progress = streaming();
        progress.heard(0x10, lsn(0x30_0010), lsn(0x30_0040), PgTimestamp::from_micros(0));
        progress.stored(lsn(0x30_0008), lsn(0x30_0000));
        let figures = progress.figures();
        assert_eq!((figures.lag_bytes(), figures.flush_lag_bytes()), (0x38, 0x40));
        assert_eq!(figures.since_flushed, None);
        progress.stored(lsn(0x30_0040), lsn(0x30_0020));
        progress.finished(1);
        let figures = progress.figures();
        assert_eq!((figures.lag_bytes(), figures.flush_lag_bytes(), figures.segments), (0, 0x20, 1));
        assert_eq!(figures.behind, Duration::ZERO);
        assert!(figures.since_flushed.is_some());
    }

    #[test]
    fn without_a_connection_the_lag_grows_with_time() {
        let progress = streaming();
        progress.heard(0, lsn(0x30_0000), lsn(0x30_0000), PgTimestamp::from_micros(0));
        assert_eq!(progress.figures().behind, Duration::ZERO);
        progress.lost();
        std::thread::sleep(Duration::from_millis(2));
        let figures = progress.figures();
        assert_eq!((figures.state, figures.losses), (ReceiverState::Disconnected, 1));
        assert!(figures.behind >= Duration::from_millis(1), "{:?}", figures.behind);
    }
}
