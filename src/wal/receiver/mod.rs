//! The WAL receiver: from a server's stream into an archive, for as long as wanted.
//!
//! One task reads the stream and keeps the connection alive; files are written by jobs on another thread, one
//! at a time, so that a slow disk delays acknowledgements and nothing else. What arrives meanwhile gathers
//! into the next job.

mod checking;
mod compressor;
mod disk;
mod error;
mod progress;
mod resume;
mod slot;
mod start;
mod state;
mod stream;
mod writing;

use core::time::Duration;
use std::path::PathBuf;
use std::string::{String, ToString as _};
use std::sync::Arc;

use tokio::sync::watch;

use start::Begin;

pub use error::{ReceiveError, Refusal};
pub use progress::{ReceiverFigures, ReceiverProgress, ReceiverState};
pub use resume::{ResumePoint, ResumeReason};

use super::{
    AcceptedGap, Archive, ArchiveError, ArchiveLock, ArchiveState, ArchiveWarning, Compress, WalDamage,
    WalSegment,
};
use crate::client::Connector;
use crate::conninfo::{Config, Replication};
use crate::error::Error;
use crate::net::random;
use crate::replication::ReplicationConnection;
use crate::types::{Lsn, ServerVersion, SystemId, TimelineId};
use compressor::Compressor;

/// What to receive, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The archive's directory, which must exist.
    pub directory: PathBuf,
    /// The slot that keeps the WAL on the server until it is durable here.
    pub slot: Option<String>,
    /// Stop once everything up to here is received.
    pub end_position: Option<Lsn>,
    /// How often the server is told where we are even if it does not ask; `None` for never.
    pub status_interval: Option<Duration>,
    /// Make every run of WAL durable and report it at once, as a synchronous standby has to.
    pub synchronous: bool,
    /// Whether a lost connection is an error instead of being made again.
    pub no_loop: bool,
    /// Check every page and record before it is stored. WAL of servers other than 10 to 18 is not checked.
    pub check_wal: bool,
    /// How long the server may be silent. At half this time it is asked for a sign of life. `None` for ever.
    pub receive_timeout: Option<Duration>,
    /// Keep a state file in the archive: see [`ArchiveState`]. What expects a directory of `pg_receivewal` may
    /// not expect it.
    pub state_file: bool,
    /// If the server does not have the next WAL any more, go on with what it has, and note the gap in the state
    /// file.
    pub accept_gap: bool,
    /// How many bytes of the archive's file system have to stay free: with less, no segment is begun.
    pub min_free: u64,
    /// How long the server may be silent before it is asked for a sign of life, if that is to be sooner than at
    /// half the receive timeout: for who has to know earlier that the connection is alive, such as a watchdog.
    pub ask_after: Option<Duration>,
    /// Compress segments after they are complete. The segment in progress is plain, and nothing waits for it.
    pub compress: Option<Compress>,
}

impl ReceiverOptions {
    /// The defaults: no slot, no end, a status every 10 s, a silence of at most 60 s, every record checked,
    /// connecting again, a state file, no gap accepted, no space kept free, no compression.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            slot: None,
            end_position: None,
            status_interval: Some(Duration::from_secs(10)),
            synchronous: false,
            no_loop: false,
            check_wal: true,
            receive_timeout: Some(Duration::from_secs(60)),
            state_file: true,
            accept_gap: false,
            min_free: 0,
            ask_after: None,
            compress: None,
        }
    }

    /// Whether flushed positions are reported. Without a slot nobody waits for them, and a receiver that
    /// reports them could count as a synchronous standby unasked.
    fn reports_flush(&self) -> bool {
        self.slot.is_some() || self.synchronous
    }
}

/// What happens while receiving, for whoever watches. One per change of state, never one per message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiverEvent<'a> {
    /// A server was connected to.
    Connected {
        /// As error messages name it.
        server: &'a str,
        /// Its version.
        version: ServerVersion,
        /// The cluster.
        system_id: SystemId,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// A file of the archive is not what its name says.
    ArchiveWarning(&'a ArchiveWarning),
    /// The newest segments are not here any more; the state file tells where to go on.
    Resumed {
        /// The last byte + 1 that was durable.
        flushed: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// What the slot keeps could not be found out. Receiving begins at the server's current segment.
    SlotUnknown {
        /// The slot.
        slot: &'a str,
        /// Why a session of SQL could not tell.
        error: &'a ReceiveError,
    },
    /// The server does not have this WAL any more, and it was noted that it is missing.
    GapAccepted(AcceptedGap),
    /// A complete segment of the archive is damaged; the check begins behind it.
    ArchiveDamage {
        /// The segment.
        segment: WalSegment,
        /// What is wrong, and where.
        damage: WalDamage,
    },
    /// WAL is requested from here.
    Streaming {
        /// The first byte.
        start: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// A segment is complete, durable and has its final name.
    SegmentFinished(WalSegment),
    /// A segment in progress is left as a partial file: the stream has ended in the middle of it.
    SegmentLeft(WalSegment),
    /// A timeline's history was stored.
    HistoryStored(TimelineId),
    /// The stream goes on on another timeline.
    TimelineSwitched {
        /// The new timeline.
        timeline: TimelineId,
        /// Where it branched off.
        switchpoint: Lsn,
    },
    /// There is no space for more WAL. Nothing is lost; the server keeps it meanwhile if there is a slot.
    OutOfSpace {
        /// What could not be written.
        error: &'a ArchiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A segment could not be compressed. It stays plain, and receiving goes on.
    NotCompressed {
        /// Why.
        error: &'a ArchiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The server sent damaged WAL. Nothing of it was acknowledged; it is fetched once more.
    Damage(WalDamage),
    /// WAL of this server version cannot be checked.
    Unchecked(ServerVersion),
    /// The connection was lost or could not be made again.
    Disconnected {
        /// Why.
        error: &'a ReceiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
}

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
/// # async fn example(config: tapster::conninfo::Config) -> Result<(), tapster::wal::ReceiveError> {
/// use tapster::wal::{Receiver, ReceiverOptions};
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
    archive: Option<(Archive, Arc<ArchiveLock>)>,
    compressor: Option<Compressor>,
    system_id: Option<SystemId>,
    /// What the state file says, or will say.
    state: Option<ArchiveState>,
    /// The first byte of a gap that the next connection is to accept.
    gap: Option<Lsn>,
    /// How many bytes had come when one was last accepted. Without another one there is nothing to go on with.
    gap_accepted_at: Option<u64>,
    /// Where the server was when it was connected to.
    server_position: Lsn,
    /// Damage that was seen and not got past yet.
    damage: Option<WalDamage>,
    segments: u64,
    bytes: u64,
}

/// The first wait after a loss, doubled up to the last one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);

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
            compressor: None,
            system_id: None,
            state: None,
            gap: None,
            gap_accepted_at: None,
            server_position: Lsn::INVALID,
            damage: None,
            segments: 0,
            bytes: 0,
        }
    }

    /// With figures that go on where another receiver's ended.
    #[must_use]
    pub fn with_progress(self, progress: Arc<ReceiverProgress>) -> Self {
        Self { progress, ..self }
    }

    /// With a way to change the configuration while it runs: each connection is made with the newest one. The
    /// kind of session and the `connect_timeout` are as [`new`](Self::new) has them.
    #[must_use]
    pub fn reconfigured_by(self, configs: watch::Receiver<Config>) -> Self {
        Self { reconfigured: Some(configs), ..self }
    }

    /// The figures of this receiver, to be looked at from outside while it runs.
    #[must_use]
    pub fn progress(&self) -> Arc<ReceiverProgress> {
        Arc::clone(&self.progress)
    }

    /// Receives until `stop` becomes true, the end position is reached, or nothing more can be done.
    ///
    /// The first connection has to succeed; a later loss is followed by another attempt, at growing
    /// intervals, unless the options say otherwise. Each attempt begins where the archive ends.
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
        let mut retry = FIRST_RETRY;
        loop {
            let bytes_before = self.bytes;
            let error = match self.receive_once(stop).await {
                Ok(stopped) => return Ok(stopped),
                Err(error) => error,
            };
            // What was damaged on the way may come whole the second time; what is damaged there will not.
            if let ReceiveError::Damage(damage) = error {
                self.progress.damaged();
                if self.damage.replace(damage).is_some() {
                    return Err(Refusal::Damage(damage).into());
                }
                (self.on_event)(ReceiverEvent::Damage(damage));
                continue;
            }
            if let Some(missing_from) = self.acceptable_gap(&error) {
                self.gap = Some(missing_from);
                self.gap_accepted_at = Some(self.bytes);
                continue;
            }
            // Without an archive there never was a working connection.
            if self.options.no_loop || self.archive.is_none() || !error.is_worth_a_retry() {
                return Err(error);
            }
            if self.bytes > bytes_before {
                retry = FIRST_RETRY;
            }
            let retry_in = with_jitter(retry);
            self.progress.lost();
            (self.on_event)(ReceiverEvent::Disconnected { error: &error, retry_in });
            tokio::select! {
                () = tokio::time::sleep(retry_in) => retry = (retry * 2).min(LAST_RETRY),
                () = stopped(stop) => return self.stopped_where_the_archive_ends().await,
            }
        }
    }

    /// One connection, from connecting to its end.
    async fn receive_once(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Stopped, ReceiveError> {
        self.progress.enter(ReceiverState::Connecting);
        let connect = async {
            let mut connection = self.connect().await?;
            let patience = self.options.receive_timeout;
            let prepare = async {
                let begin = self.prepare(&mut connection).await?;
                self.update_state(&begin).await?;
                Ok(begin)
            };
            let begin = within(patience, "asking the server what it has", prepare).await?;
            self.progress.connected();
            Ok::<_, ReceiveError>((connection, begin))
        };
        tokio::select! {
            connected = connect => {
                let (connection, Begin { archive, first, .. }) = connected?;
                self.follow(connection, first, &archive, stop).await
            }
            () = stopped(stop) => self.stopped_where_the_archive_ends().await,
        }
    }

    /// The first byte that is missing, if that is why the work ended, and somebody said that it may be.
    fn acceptable_gap(&self, error: &ReceiveError) -> Option<Lsn> {
        match error {
            ReceiveError::Refused(refusal)
                if self.options.accept_gap && self.gap_accepted_at != Some(self.bytes) =>
            {
                match **refusal {
                    Refusal::Gap { next, .. } => Some(next),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    async fn connect(&mut self) -> Result<ReplicationConnection, Error> {
        if let Some(newer) = &mut self.reconfigured
            && newer.has_changed().unwrap_or_default()
        {
            self.connector = connector(newer.borrow_and_update().clone(), &self.options);
        }
        ReplicationConnection::connect_with(&self.connector).await
    }

    /// The result of being stopped without a stream.
    async fn stopped_where_the_archive_ends(&self) -> Result<Stopped, ReceiveError> {
        let newest = match &self.archive {
            Some((archive, _)) => {
                let archive = archive.clone();
                on_disk(move || archive.end()).await?.newest
            }
            None => None,
        };
        Ok(self.stopped_at(
            newest.map_or(Lsn::INVALID, |newest| newest.end()),
            newest.map_or(TimelineId::FIRST, |newest| newest.segment.timeline()),
            newest.is_some_and(|newest| !newest.complete),
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

/// Connects to receive.
fn connector(mut config: Config, options: &ReceiverOptions) -> Connector {
    config.replication = Replication::Physical;
    config.connect_timeout = config.connect_timeout.or(options.receive_timeout);
    Connector::new(config)
}

/// Returns once the receiver is to stop; never if whoever could say so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        core::future::pending::<()>().await;
    }
}

/// Waits for an answer of the server no longer than it may be silent.
async fn within<T>(
    limit: Option<Duration>,
    phase: &'static str,
    work: impl Future<Output = Result<T, ReceiveError>>,
) -> Result<T, ReceiveError> {
    match limit {
        Some(after) => match tokio::time::timeout(after, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { phase, after }.into()),
        },
        None => work.await,
    }
}

/// Runs work on files, which may block, on a thread where it may.
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

/// Between half and all of the time, so that many receivers of one server do not come back all at once.
fn with_jitter(time: Duration) -> Duration {
    let random = u32::try_from(random::number() % 1000).unwrap_or_default();
    time / 2 + time / 2 * random / 1000
}
