//! The WAL receiver: from a server's stream into an archive, for as long as wanted.
//!
//! One task reads the stream and keeps the connection alive; files are written by jobs on another thread, one
//! at a time, so that a slow disk delays acknowledgements and nothing else. WAL that arrives during a job
//! gathers into the next job. A synchronous standby whose disk is measured to be quick writes small jobs itself.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | `Receiver`: one connection after another until the work is done or refused |
//! | `options`, `event`, `error`, `progress` | what a receiver is given, and what it reports |
//! | `plan` | `Plan`: what one connection has found out; the choice of its first segment |
//! | `start` | reads from archive and server what that choice needs; stores timeline histories |
//! | `slot` | finds the oldest WAL that a slot keeps |
//! | `state_file` | the state file, and the note of an accepted gap |
//! | `look_back` | checks the archive's last segments; starts the check of received WAL |
//! | `resume` | finds where a receiver would begin, without receiving |
//! | `stream` | one connection's stream, from timeline to timeline |
//! | `disk` | WAL on its way into files |

mod disk;
mod error;
mod event;
mod look_back;
mod options;
mod plan;
mod progress;
mod resume;
mod retry;
mod slot;
mod start;
mod state_file;
mod stream;

use core::time::Duration;
use std::boxed::Box;
use std::string::ToString as _;
use std::sync::Arc;

use tokio::sync::watch;

use plan::Plan;
use retry::{Retry, Waits};

pub use error::{ReceiveError, Refusal};
pub use event::ReceiverEvent;
pub use options::ReceiverOptions;
pub use progress::{ReceiverFigures, ReceiverProgress, ReceiverState};
pub use resume::{ResumePoint, ResumeReason};

use crate::archive::{Archive, ArchiveError, ArchiveLock};
use crate::client::Connector;
use crate::client::Error;
use crate::compression::Compression;
use crate::conninfo::{Config, Replication};
use crate::deadline;
use crate::random;
use crate::replication::ReplicationConnection;
use crate::types::{Lsn, SystemId, TimelineId};
use crate::wal::{WalDamage, WalSegment};
use disk::{Compressor, MakeFiles};

/// Where a receiver stood when it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Everything before this is durable in the archive.
    pub flushed: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// Segments completed by this run.
    pub segments: u64,
    /// Bytes of WAL received by this run.
    pub bytes: u64,
    /// Whether the last segment is incomplete, and so a partial file.
    pub partial: bool,
}

/// Receives WAL into an archive.
///
/// ```no_run
/// # async fn example(config: tapster::conninfo::Config) -> Result<(), tapster::receiver::ReceiveError> {
/// use tapster::receiver::{Receiver, ReceiverOptions};
///
/// let (stop, stopped) = tokio::sync::watch::channel(false); // `stop.send(true)` ends it
/// let options = ReceiverOptions { slot: Some("tap".into()), ..ReceiverOptions::new("/wal") };
/// let end = Receiver::new(config, options, |event| eprintln!("{event:?}")).run(stopped).await?;
/// println!("everything before {} is safe", end.flushed);
/// # drop(stop);
/// # Ok(())
/// # }
/// ```
pub struct Receiver<F> {
    connector: Connector,
    options: ReceiverOptions,
    on_event: F,
    progress: Arc<ReceiverProgress>,
    /// A newer configuration, for the next connection.
    reconfigured: Option<watch::Receiver<Config>>,
    /// None before the first connection.
    archive: Option<OpenArchive>,
    make_files: MakeFiles,
    compressor: Option<Compressor>,
    /// The end of the WAL known to be durable, on the newest timeline.
    reached: Option<(TimelineId, Lsn)>,
    /// The last damage, until the stream gets past it, and how often damaged WAL was fetched.
    damage: Option<(WalDamage, u32)>,
    /// Whether a stream has begun in this run: everything in the command was right then.
    has_streamed: bool,
    segments: u64,
    bytes: u64,
}

/// The archive that the receiver writes to.
struct OpenArchive {
    archive: Archive,
    /// None if the file system has no locks.
    lock: Option<Arc<ArchiveLock>>,
    /// The cluster of the first connection.
    system_id: SystemId,
    /// Whether SQL was asked for the slot's kind and state.
    is_slot_known: bool,
}

/// How a connection ended, unless by an error.
enum Ended {
    Stopped(Stopped),
    /// The server sent damaged WAL, and may send it right if it is fetched again after this time.
    Damaged(Duration),
}

/// How often damaged WAL is fetched before it is refused.
const FETCHES: u32 = 2;
/// How often damaged WAL is fetched from a standby. A standby that has replayed a WAL switch sends the rest of the
/// segment before it has received that rest: it sends what its recycled file held there.
const STANDBY_FETCHES: u32 = 8;

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// A receiver that has not begun. The configuration's kind of session is set to physical replication, and
    /// without a `connect_timeout` the receive timeout counts for connecting too.
    pub fn new(config: Config, options: ReceiverOptions, on_event: F) -> Self {
        Self {
            connector: connector(config, &options),
            options,
            on_event,
            progress: Arc::default(),
            reconfigured: None,
            archive: None,
            make_files: Box::new(|disk| Box::new(disk)),
            compressor: None,
            reached: None,
            damage: None,
            has_streamed: false,
            segments: 0,
            bytes: 0,
        }
    }

    /// Uses figures that go on where another receiver's ended.
    #[must_use]
    pub fn with_progress(self, progress: Arc<ReceiverProgress>) -> Self {
        Self { progress, ..self }
    }

    /// Takes changes of the configuration while the receiver runs: each connection uses the newest one. The
    /// kind of session and the `connect_timeout` are as [`new`](Self::new) has them.
    #[must_use]
    pub fn reconfigured_by(self, configs: watch::Receiver<Config>) -> Self {
        Self { reconfigured: Some(configs), ..self }
    }

    /// The figures of this receiver, which other tasks can read while it runs.
    #[must_use]
    pub fn progress(&self) -> Arc<ReceiverProgress> {
        Arc::clone(&self.progress)
    }

    /// Receives until `stop` becomes true, the end position is reached, or nothing more can be done.
    ///
    /// The first stream has to begin; a later loss is followed by another attempt, at growing
    /// intervals, unless the options say otherwise. A server that refuses the receiver then is tried again too, because
    /// somebody may mend that; see [`ReceiveError::is_worth_a_retry`]. Each attempt begins where the archive ends.
    ///
    /// # Errors
    /// What ends the work: see [`ReceiveError`]. What was received before is in the archive.
    ///
    /// # Cancel safety
    /// If the future is dropped, the archive is as after a crash: nothing that was acknowledged is lost, and
    /// a new receiver goes on from there. To stop in good order, use `stop`.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<Stopped, ReceiveError> {
        let result = self.run_to_the_end(&mut stop).await;
        self.progress.enter(ReceiverState::Idle);
        if let Some(compressor) = self.compressor.take() {
            compressor.stop().await;
        }
        result
    }

    async fn run_to_the_end(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Stopped, ReceiveError> {
        let mut waits = Waits::new();
        // The first byte of a gap that the next connection is to accept.
        let mut gap = None;
        // How many bytes had come when a gap was last accepted. Without one more byte, accepting again would loop.
        let mut gap_accepted_at = None;
        loop {
            let bytes_before = self.bytes;
            let error = match self.receive_once(&mut gap, stop).await {
                Ok(Ended::Stopped(stopped)) => return Ok(stopped),
                Ok(Ended::Damaged(retry_in)) => tokio::select! {
                    () = tokio::time::sleep(retry_in) => continue,
                    () = stopped(stop) => return self.stopped_where_the_archive_ends().await,
                },
                Err(error) => error,
            };
            if let Some(missing_from) = missing_from(&error)
                && self.options.accept_gap
                && gap_accepted_at != Some(self.bytes)
            {
                gap = Some(missing_from);
                gap_accepted_at = Some(self.bytes);
                continue;
            }
            // Without an open archive, no connection has worked yet.
            let retry = retry::after(&error, self.has_streamed);
            if self.options.no_loop || self.archive.is_none() || retry == Retry::Never {
                return Err(error);
            }
            if self.bytes > bytes_before {
                waits = Waits::new();
            }
            let retry_in = with_jitter(waits.next(retry));
            self.progress.lost();
            (self.on_event)(ReceiverEvent::Disconnected { error: &error, retry_in });
            if error.is_missing_slot() && self.options.create_slot {
                // Rare, and as large as connecting: not a part of every run.
                Box::pin(self.create_slot()).await;
            }
            tokio::select! {
                () = tokio::time::sleep(retry_in) => {}
                // A person has changed something: what was refused may be allowed now.
                () = reconfigured(&mut self.reconfigured) => self.reconfigure(),
                () = stopped(stop) => return self.stopped_where_the_archive_ends().await,
            }
        }
    }

    /// Runs one connection from connecting to its end. Accepts the `gap`, and clears it once the state file notes it.
    async fn receive_once(
        &mut self,
        gap: &mut Option<Lsn>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Ended, ReceiveError> {
        self.progress.enter(ReceiverState::Connecting);
        let connect = async {
            let mut connection = self.connect().await?;
            let patience = self.options.receive_timeout;
            let prepare = async {
                let mut plan = self.prepare(&mut connection, *gap).await?;
                let archive = plan.archive.clone();
                on_disk(move || {
                    // A left-over file that cannot be removed does no harm.
                    let _ = archive.remove_left_over();
                    Ok(())
                })
                .await?;
                self.note_start(&mut plan).await?;
                // A gap is accepted once: after the next lost connection, the server must continue the archive.
                *gap = None;
                self.compress_before(&plan)?;
                Ok(plan)
            };
            let plan = within(patience, "asking the server what it has", prepare).await?;
            self.progress.connected();
            Ok::<_, ReceiveError>((connection, plan))
        };
        let (connection, plan) = tokio::select! {
            connected = connect => connected?,
            () = stopped(stop) => return Ok(Ended::Stopped(self.stopped_where_the_archive_ends().await?)),
        };
        let is_standby = plan.server.is_standby;
        match self.follow(connection, plan, stop).await {
            Ok(stopped) => Ok(Ended::Stopped(stopped)),
            // WAL damaged on the way may come whole the second time. WAL damaged on the server will not.
            Err(ReceiveError::Damage(damage)) => {
                let retry_in = self.fetch_again_in(damage, is_standby)?;
                (self.on_event)(ReceiverEvent::Damage { damage, retry_in });
                Ok(Ended::Damaged(retry_in))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the wait before damaged WAL is fetched again. Refuses once it was fetched often enough.
    fn fetch_again_in(&mut self, damage: WalDamage, from_standby: bool) -> Result<Duration, Refusal> {
        self.progress.damaged();
        let fetched = self.damage.map_or(0, |(_, fetched)| fetched) + 1;
        self.damage = Some((damage, fetched));
        let (limit, wait) = match from_standby {
            true => (STANDBY_FETCHES, with_jitter(retry::FIRST * fetched)),
            false => (FETCHES, Duration::ZERO),
        };
        if fetched < limit { Ok(wait) } else { Err(Refusal::Damage(damage)) }
    }

    /// If compression is wanted, starts the compressor and lets it compress the segments before the stream.
    fn compress_before(&mut self, plan: &Plan) -> Result<(), ReceiveError> {
        let Some(compress) = self.options.compress.filter(|wanted| wanted.method != Compression::None) else {
            return Ok(());
        };
        let compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => {
                let lock = self.archive.as_ref().and_then(|open| open.lock.clone());
                Compressor::start(plan.archive.clone(), lock, compress)?
            }
        };
        // The segment just before the stream waits: its last record may end in the stream, and is proven only then.
        if let Some(proven) = plan.first.previous().and_then(WalSegment::previous) {
            compressor.limit().allow_up_to(proven);
        }
        self.compressor = Some(compressor);
        Ok(())
    }

    async fn connect(&mut self) -> Result<ReplicationConnection, Error> {
        let has_changed = |newer: &watch::Receiver<Config>| newer.has_changed().unwrap_or_default();
        if self.reconfigured.as_ref().is_some_and(has_changed) {
            self.reconfigure();
        }
        ReplicationConnection::connect_with(&self.connector).await
    }

    /// Uses the newest configuration from now on.
    fn reconfigure(&mut self) {
        if let Some(newer) = &mut self.reconfigured {
            self.connector = connector(newer.borrow_and_update().clone(), &self.options);
        }
    }

    /// The result of a receiver that is stopped while it has no stream.
    async fn stopped_where_the_archive_ends(&self) -> Result<Stopped, ReceiveError> {
        let newest = match &self.archive {
            Some(open) => {
                let archive = open.archive.clone();
                on_disk(move || archive.end()).await?.newest
            }
            None => None,
        };
        Ok(self.stopped_at(
            newest.map_or(Lsn::INVALID, |newest| newest.end()),
            newest.map_or(TimelineId::FIRST, |newest| newest.segment.timeline()),
            newest.is_some_and(|newest| newest.is_partial),
        ))
    }

    const fn stopped_at(&self, flushed: Lsn, timeline: TimelineId, partial: bool) -> Stopped {
        Stopped { flushed, timeline, segments: self.segments, bytes: self.bytes, partial }
    }
}

impl<F> core::fmt::Debug for Receiver<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receiver").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Prepares a connector for physical replication.
fn connector(mut config: Config, options: &ReceiverOptions) -> Connector {
    config.replication = Replication::Physical;
    config.connect_timeout = config.connect_timeout.or(options.receive_timeout);
    Connector::new(config)
}

/// The first byte that the server does not have any more, if the error is such a gap.
fn missing_from(error: &ReceiveError) -> Option<Lsn> {
    match error {
        ReceiveError::Refused(refusal) => match **refusal {
            Refusal::Gap { next, .. } => Some(next),
            _ => None,
        },
        _ => None,
    }
}

/// Returns once there is a newer configuration. Never returns if there will be none.
async fn reconfigured(configs: &mut Option<watch::Receiver<Config>>) {
    let changed = match configs {
        Some(configs) => configs.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        core::future::pending::<()>().await;
    }
}

/// Returns once `stop` becomes true. Never returns if the sender of `stop` is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        core::future::pending::<()>().await;
    }
}

/// Waits for the server's answer, at most as long as the server may be silent.
async fn within<T>(
    limit: Option<Duration>,
    during: &'static str,
    work: impl Future<Output = Result<T, ReceiveError>>,
) -> Result<T, ReceiveError> {
    match deadline::within(limit, work).await {
        Ok(result) => result,
        Err(after) => Err(Error::Timeout { during, after }.into()),
    }
}

/// Runs file work, which may block, on a thread that may block.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ReceiveError> {
    blocking(move || work().map_err(ReceiveError::Archive)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ReceiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(ReceiveError::Internal(panicked.to_string())),
    }
}

/// Returns between half and all of the time, so that many receivers of one server do not reconnect all at once.
fn with_jitter(time: Duration) -> Duration {
    let random = u32::try_from(random::number() % 1000).unwrap_or_default();
    time / 2 + time / 2 * random / 1000
}

#[cfg(test)]
mod tests;
