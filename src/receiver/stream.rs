//! Streams over one connection, from timeline to timeline.

use core::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::disk::{AcknowledgedTail, CompressFailure, Compressor, Disk, DiskThread, WriteQueue, Written};
use super::plan::Plan;
use super::start::explain;
use super::{ReceiveError, Receiver, ReceiverEvent, ReceiverState, Refusal, Stopped};
use super::{on_disk, stopped, within};
use crate::client::Error;
use crate::deadline::sleep_until;
use crate::replication::{
    NextTimeline, ReplicationConnection, StartPhysical, StartedStream, StreamEnd, WalArrival, WalStream,
};
use crate::storage::Fill;
use crate::types::{Lsn, TimelineId};
use crate::wal::{WalChecker, WalSegment};

/// How long the receiver waits for the server to end the stream.
pub(super) const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the stream of a timeline ended.
enum Ended {
    /// The server has no more WAL on this timeline, or shuts down.
    ByServer,
    /// The receiver was stopped, or the end position is reached.
    Stop,
}

/// What follows a timeline's stream.
#[expect(clippy::large_enum_variant, reason = "only one value exists at a time")]
enum Next {
    Timeline(ReplicationConnection, NextTimeline),
    Stopped(Stopped),
}

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Streams from the plan's first segment on, through every timeline.
    pub(super) async fn follow(
        &mut self,
        mut connection: ReplicationConnection,
        mut plan: Plan,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Stopped, ReceiveError> {
        let patience = self.options.receive_timeout;
        let mut segment = plan.first;
        // The timeline that the last stream was on, and where the server says that the next one left it.
        let mut left: Option<(TimelineId, Lsn)> = None;
        loop {
            let (timeline, start) = (segment.timeline(), segment.start());
            let begin =
                within(patience, "starting replication", self.begin(connection, &mut plan, segment, left));
            let (started, queue) = tokio::select! {
                begun = begin => begun?,
                () = stopped(stop) => return self.stopped_where_the_archive_ends().await,
            };
            let next = match started {
                StartedStream::Streaming(stream) => {
                    self.has_streamed = true;
                    // The next connection goes on here, even if nothing comes of this one.
                    self.has_reached(timeline, start);
                    (self.on_event)(ReceiverEvent::Streaming { start, timeline });
                    match self.stream_timeline(stream, queue, &plan, segment, stop).await? {
                        Next::Stopped(stopped) => return Ok(stopped),
                        Next::Timeline(back, next) => {
                            connection = back;
                            next
                        }
                    }
                }
                StartedStream::EndOfTimeline(back, next) => {
                    check_next(segment, start, next)?;
                    connection = back;
                    next
                }
            };
            let NextTimeline { timeline, switchpoint } = next;
            left = Some((segment.timeline(), switchpoint));
            self.report_branched_behind(segment.timeline(), next);
            (self.on_event)(ReceiverEvent::TimelineSwitched { timeline, switchpoint });
            // Start at the beginning of the segment, so that the new timeline's first file is whole.
            segment = WalSegment::containing(switchpoint, timeline, plan.archive.segment_size());
        }
    }

    /// Notes that everything before `flushed` is durable.
    pub(super) fn has_reached(&mut self, timeline: TimelineId, flushed: Lsn) {
        self.reached = self.reached.max(Some((timeline, flushed)));
    }

    /// Reports the loss if the server's next timeline branches off before the end of the durable WAL.
    fn report_branched_behind(&mut self, timeline: TimelineId, next: NextTimeline) {
        let NextTimeline { timeline: server_timeline, switchpoint } = next;
        if let Some((reached, flushed)) = self.reached
            && reached == timeline
            && flushed > switchpoint
        {
            (self.on_event)(ReceiverEvent::BranchedBehind {
                timeline,
                flushed,
                switchpoint,
                server_timeline,
            });
        }
    }

    /// Stores the history of `segment`'s timeline, then starts the stream at `segment`.
    async fn begin(
        &mut self,
        mut connection: ReplicationConnection,
        plan: &mut Plan,
        segment: WalSegment,
        left: Option<(TimelineId, Lsn)>,
    ) -> Result<(StartedStream, WriteQueue), ReceiveError> {
        let (timeline, start) = (segment.timeline(), segment.start());
        self.progress.begins(segment);
        self.store_history(&mut connection, &plan.archive, timeline).await?;
        if let Some((before, switchpoint)) = left {
            let archive = plan.archive.clone();
            let history = on_disk(move || archive.read_history(timeline)).await?;
            // The history is what a recovery goes by.
            if history.is_none_or(|history| history.switchpoint_of(before) != Some(switchpoint)) {
                let (timeline, received, next) = (before, switchpoint, timeline);
                return Err(Refusal::NextTimeline { timeline, received, next, switchpoint }.into());
            }
        }
        let checker = self.checker(plan, segment).await?;
        let tail = {
            let (archive, checker) = (plan.archive.clone(), checker.clone());
            on_disk(move || match checker {
                Some(checker) => AcknowledgedTail::find(&archive, segment, checker),
                None => Ok(None),
            })
            .await?
        };
        (self.on_event)(ReceiverEvent::Starting { start, timeline });
        let slot = self.options.slot.as_deref();
        let started = start_at(connection, slot, segment, plan.server.system.xlog_pos).await?;
        // A commit waits for each fsync of a synchronous receiver. An fsync of a file filled with zeros is quicker,
        // which is worth writing each segment twice.
        let fill = if self.options.synchronous { Fill::Zeros } else { Fill::Allocate };
        let archive = plan.archive.clone().with_fsyncs(self.progress.fsyncs()).with_fill(fill);
        let compressor = self.compressor.as_ref().map(Compressor::limit);
        let (min_free, state) = (self.options.min_free, plan.state.clone());
        let proven = checker.as_ref().map_or(start, WalChecker::checked_up_to);
        let disk = Disk::new(archive, segment, proven, compressor, min_free, state);
        let disk = disk.replacing_before(plan.replace_before, plan.proven.clone()).with_tail(tail);
        let lock = self.archive.as_ref().and_then(|open| open.lock.clone());
        let mut disk = DiskThread::start((self.make_files)(disk), plan.archive.path(), lock)?;
        if self.options.synchronous {
            disk = disk.waiting_for_short_syncs(segment.size());
        }
        Ok((started, WriteQueue::new(disk, checker, start, &self.options)))
    }

    /// Streams one timeline to its end, or until the receiver stops.
    async fn stream_timeline(
        &mut self,
        mut stream: WalStream,
        mut queue: WriteQueue,
        plan: &Plan,
        first: WalSegment,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Next, ReceiveError> {
        let timeline = first.timeline();
        stream.set_status_interval(self.options.status_interval);
        queue.report(&mut stream)?;
        let ended = self.stream(&mut stream, &mut queue, stop).await;
        // If others have removed the files, closing them fails, and only this run knows what it had reached.
        self.has_reached(timeline, queue.safe());
        // Received WAL is kept, also when the connection is lost.
        let closed = self.close(&mut stream, queue).await;
        if let Ok((flushed, _)) = &closed {
            self.has_reached(timeline, *flushed);
        }
        let ended = ended.map_err(|error| match error {
            ReceiveError::Connection(error) => {
                let server = stream.server_end().max(plan.server.system.xlog_pos);
                explain(error, stream.received(), timeline, server, self.options.slot.as_deref())
            }
            other => other,
        })?;
        let (flushed, partial) = closed?;
        let received = stream.received();
        let finish = timeout(FINISH_TIMEOUT, stream.finish());
        match ended {
            Ended::Stop => {
                // The archive is in order, so the server's answer does not matter.
                let _ = finish.await;
                Ok(Next::Stopped(self.stopped_at(flushed, timeline, partial)))
            }
            Ended::ByServer => {
                let late =
                    Error::Timeout { during: "waiting for the end of the stream", after: FINISH_TIMEOUT };
                match finish.await.map_err(|_| late)?? {
                    StreamEnd::EndOfTimeline(connection, next) => {
                        let size = plan.archive.segment_size();
                        check_next(WalSegment::containing(received, timeline, size), received, next)?;
                        Ok(Next::Timeline(connection, next))
                    }
                    StreamEnd::Stopped(_) | StreamEnd::ServerShutdown => Err(ReceiveError::ServerShutdown),
                }
            }
        }
    }

    /// Moves WAL from the stream to the disk until one of them ends.
    async fn stream(
        &mut self,
        stream: &mut WalStream,
        queue: &mut WriteQueue,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Ended, ReceiveError> {
        let (limit, ask_after) = (self.options.receive_timeout, self.options.ask_after);
        let mut silence = Silence::new(limit, ask_after);
        loop {
            // Check before the first message as well: an idle server may send none.
            if self.options.end_position.is_some_and(|end| stream.received() >= end) {
                return Ok(Ended::Stop);
            }
            let has_room = queue.has_room();
            self.progress.waits_for_disk(!has_room);
            let (can_start, gathers_until) = (queue.can_start(), queue.gathers_until());
            let retry_at = queue.retry_at();
            let (job, room) = queue.job_and_room();
            tokio::select! {
                // The order matters: a job starts only when nothing more can be read without waiting.
                biased;
                () = stopped(stop) => return Ok(Ended::Stop),
                done = job.result() => self.on_job_done(stream, queue, done?).await?,
                () = sleep_until(retry_at) => queue.retry(),
                arrived = room.receive(stream) => {
                    match arrived? {
                        None => return Ok(Ended::ByServer),
                        Some(WalArrival::Data { wal_end, sent_at, .. }) => {
                            let len = queue.take_arrived().map_err(ReceiveError::Damage)?;
                            self.bytes += len as u64;
                            self.progress.heard(len, queue.received(), wal_end, sent_at);
                        }
                        Some(WalArrival::Keepalive(keepalive)) => {
                            self.progress.heard(0, queue.received(), keepalive.wal_end, keepalive.sent_at);
                            if keepalive.reply_requested {
                                queue.want_reply();
                            }
                        }
                    }
                    silence = Silence::new(limit, ask_after);
                }
                () = silence.next_step(), if has_room => match silence.asked {
                    false => {
                        silence.asked = true;
                        stream.request_keepalive().await?;
                    }
                    true => return Err(silence.timeout().into()),
                },
                CompressFailure { error, retry_in } = compress_failure(&mut self.compressor) => {
                    (self.on_event)(ReceiverEvent::NotCompressed { error: &error, retry_in });
                }
                () = sleep_unless_due(gathers_until), if can_start => {
                    queue.start_job();
                    continue;
                }
            }
            if !has_room {
                silence = Silence::new(limit, ask_after);
            }
        }
    }

    /// Applies a job's result, and reports the new positions to the server.
    async fn on_job_done(
        &mut self,
        stream: &mut WalStream,
        queue: &mut WriteQueue,
        done: Written,
    ) -> Result<(), ReceiveError> {
        self.report_finished(&done);
        if let Some(out_of_space) = queue.take_over(done) {
            let Some(retry_in) = queue.wait_for_space().filter(|_| !self.options.no_loop) else {
                return Err(out_of_space.into());
            };
            self.progress.enter(ReceiverState::OutOfSpace);
            (self.on_event)(ReceiverEvent::OutOfSpace { error: &out_of_space, retry_in });
        } else {
            self.progress.has_space();
        }
        self.progress.stored(queue.written(), queue.safe());
        queue.report(stream)?;
        if queue.has_news() {
            stream.send_status().await?;
        }
        Ok(())
    }

    /// Writes the remaining WAL, makes it durable and leaves the segment in progress as a partial file. Returns the
    /// end of the durable WAL, and whether a partial file was left.
    async fn close(
        &mut self,
        stream: &mut WalStream,
        mut queue: WriteQueue,
    ) -> Result<(Lsn, bool), ReceiveError> {
        while let Some(done) = queue.last_job().await? {
            self.report_finished(&done);
            queue.take_over(done);
            self.progress.stored(queue.written(), queue.safe());
        }
        queue.report(stream)?;
        // The status cannot reach the server if the connection is lost or the server is frozen.
        let _ = timeout(FINISH_TIMEOUT, stream.send_status()).await;
        let flushed = queue.safe();
        let begun = queue.written();
        let left = queue.close().await?;
        if let Some(segment) = left.filter(|segment| begun > segment.start()) {
            (self.on_event)(ReceiverEvent::SegmentLeft(segment));
        }
        Ok((flushed, left.is_some()))
    }

    fn report_finished(&mut self, done: &Written) {
        if self.damage.is_some_and(|(damage, _)| done.proven > damage.lsn) {
            self.damage = None;
        }
        self.segments += done.finished.len() as u64;
        self.progress.finished(done.finished.len());
        if let Some(last) = done.finished.last() {
            self.has_reached(last.timeline(), done.flushed.min(done.proven));
        }
        for segment in &done.finished {
            (self.on_event)(ReceiverEvent::SegmentFinished(*segment));
        }
    }
}

/// Starts the stream at a segment.
pub(super) async fn start_at(
    connection: ReplicationConnection,
    slot: Option<&str>,
    segment: WalSegment,
    server: Lsn,
) -> Result<StartedStream, ReceiveError> {
    let (start, timeline) = (segment.start(), segment.timeline());
    let request = StartPhysical { slot: slot.map(Into::into), start, timeline };
    let started = connection.start_physical(&request).await;
    started.map_err(|error| explain(error, start, timeline, server, slot))
}

/// Waits until `time`. Without a time it returns at once: a timer set to now returns up to a millisecond later.
async fn sleep_unless_due(time: Option<Instant>) {
    if time.is_some() {
        sleep_until(time).await;
    }
}

/// Returns the next failure of the compressor. Without a compressor it never returns.
async fn compress_failure(compressor: &mut Option<Compressor>) -> CompressFailure {
    match compressor {
        Some(compressor) => compressor.failure().await,
        None => core::future::pending().await,
    }
}

/// Refuses a next timeline that is not newer, that begins after the end of the received WAL, or that left this one before
/// the segment in progress: WAL of whole segments would be off its history.
fn check_next(in_progress: WalSegment, received: Lsn, next: NextTimeline) -> Result<(), Refusal> {
    let NextTimeline { timeline: server_timeline, switchpoint } = next;
    let timeline = in_progress.timeline();
    if server_timeline <= timeline || switchpoint > received {
        return Err(Refusal::NextTimeline { timeline, received, next: server_timeline, switchpoint });
    }
    // At the end of a segment, that segment is complete, and the next one is in progress.
    if switchpoint < in_progress.start() {
        let switchpoint = Some(switchpoint);
        return Err(Refusal::OffHistory { next: received, timeline, server_timeline, switchpoint });
    }
    Ok(())
}

/// The time since the server's last message.
pub(super) struct Silence {
    limit: Option<Duration>,
    /// The silence after which the receiver requests a keepalive: half of the limit, or less.
    ask_after: Option<Duration>,
    since: Instant,
    /// Whether a keepalive was requested.
    pub(super) asked: bool,
}

impl Silence {
    pub(super) fn new(limit: Option<Duration>, ask_after: Option<Duration>) -> Self {
        let half = limit.map(|limit| limit / 2);
        let ask_after = ask_after.into_iter().chain(half).min();
        Self { limit, ask_after, since: Instant::now(), asked: false }
    }

    /// Returns when a keepalive is to be requested, and once it was requested, when the receiver is to give up.
    pub(super) async fn next_step(&self) {
        let after = if self.asked { self.limit } else { self.ask_after };
        sleep_until(after.map(|after| self.since + after)).await;
    }

    fn timeout(&self) -> Error {
        Error::Timeout { during: "streaming WAL", after: self.limit.unwrap_or_default() }
    }
}
