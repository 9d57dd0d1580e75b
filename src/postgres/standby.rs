use core::ops::Deref;
use core::time::Duration;
use std::boxed::Box;
use std::string::String;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::connection::{ConnectionOptions, PostgreSQLConnection};
use super::error::PostgresError;
use super::postgresql::{PostgreSQL, sealed};
use super::reconnecting::Reconnecting;
use super::rows::{ExclusiveBackup, StoppedBackup};
use super::status::PostgresStatus;
use crate::client::Connection;
use crate::conninfo::ConnInfo;

/// A connection to a standby, and another to its primary, on which WAL can be switched.
///
/// All members of [`PostgreSQLConnection`] act on the standby, except the ones below.
#[derive(Debug)]
pub struct StandbyPostgreSQLConnection {
    standby: PostgreSQLConnection,
    primary: PostgreSQLConnection,
    primary_conninfo: ConnInfo,
    options: StandbyOptions,
}

/// The options of a [`StandbyPostgreSQLConnection`], besides its two connection strings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandbyOptions {
    /// The options of the connection to the standby. The connection to the primary has the same application
    /// name and environment.
    pub standby: ConnectionOptions,
    /// If all switches were in vain, the time after the last one until the primary is asked for a checkpoint,
    /// which writes WAL. Zero, the default, for never.
    pub primary_checkpoint_timeout: Duration,
    /// How often WAL is switched while the stop of a backup waits; by default 10.
    pub times: u32,
    /// The time between two switches. After the last switch the stop gets this time once more, and again as
    /// long as the standby still archives; by default 10 s.
    pub wait: Duration,
}

impl Default for StandbyOptions {
    fn default() -> Self {
        Self {
            standby: ConnectionOptions::default(),
            primary_checkpoint_timeout: Duration::ZERO,
            times: 10,
            wait: Duration::from_secs(10),
        }
    }
}

/// How long a stop may take before WAL is switched for it. Most stops need no switch.
const FIRST_SWITCH_AFTER: Duration = Duration::from_secs(1);
/// The shortest limit on the primary's silence.
const MIN_SILENCE: Duration = Duration::from_secs(5);
/// The name of the restore point that is written to the new segment of an idle primary, so that the standby
/// sees the old segment end.
const RESTORE_POINT: &str = "end of a backup of a standby";

impl StandbyPostgreSQLConnection {
    /// An object without connections yet.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`] if a connection string cannot be read.
    pub fn new(conninfo: &str, primary_conninfo: &str) -> Result<Self, PostgresError> {
        Self::with_options(conninfo.parse()?, primary_conninfo.parse()?, StandbyOptions::default())
    }

    /// As [`new`](Self::new), with parsed parameters and with options.
    ///
    /// # Errors
    /// [`PostgresError::AppName`] if the application name contains a zero byte.
    pub fn with_options(
        conninfo: ConnInfo,
        primary_conninfo: ConnInfo,
        options: StandbyOptions,
    ) -> Result<Self, PostgresError> {
        let class = "StandbyPostgreSQLConnection";
        let primary = primary_connection(&primary_conninfo, &options)?;
        let standby =
            PostgreSQLConnection::build(class, conninfo.encode(), conninfo, options.standby.clone())?;
        Ok(Self { standby, primary, primary_conninfo, options })
    }

    /// The connection to the primary.
    #[must_use]
    pub fn primary(&self) -> &PostgreSQLConnection {
        &self.primary
    }

    /// Switches WAL on the primary.
    ///
    /// # Errors
    /// The errors of [`PostgreSQLConnection::switch_wal`] on the primary.
    ///
    /// # Cancel safety
    /// If the future is dropped, the segment may be ended all the same; the next call waits for the end of the statement.
    pub async fn switch_wal(&self) -> Result<Option<String>, PostgresError> {
        self.primary.switch_wal().await
    }

    /// Stops the concurrent backup of the standby, and makes the primary write the WAL that the standby waits
    /// for.
    ///
    /// # Errors
    /// As [`PostgreSQLConnection::stop_concurrent_backup`]. [`PostgresError::StopTimeout`] if the WAL does
    /// not come, although it was switched as often as the options say and the standby archives nothing more.
    /// [`PostgresError::Standby`] if WAL could not be switched, with the reason. After these two the
    /// standby's connection is closed and the backup is lost.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may stop the backup all the same, and the contents of `backup_label` are lost: the
    /// copy is no backup.
    pub async fn stop_concurrent_backup(&self) -> Result<StoppedBackup, PostgresError> {
        self.stop(self.standby.stop_concurrent_backup()).await
    }

    /// Stops an exclusive backup. No standby has one, so the server refuses.
    ///
    /// # Errors
    /// As [`PostgreSQLConnection::stop_exclusive_backup`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may stop the backup all the same; the next call waits for the end of the
    /// statement.
    pub async fn stop_exclusive_backup(&self) -> Result<ExclusiveBackup, PostgresError> {
        self.stop(self.standby.stop_exclusive_backup()).await
    }

    /// Switches WAL on the primary, over a separate connection, until `done` is ready. The first switch comes
    /// after one second (or `wait`, if that is less), and then up to `times` in all with `wait` between them.
    /// A primary that has written nothing has nothing to switch, so the first round also writes a restore
    /// point. After the last round and `primary_checkpoint_timeout` (if it is not zero) follow a checkpoint
    /// and a last switch.
    ///
    /// # Errors
    /// The primary's first error, which ends the switching.
    ///
    /// # Cancel safety
    /// Dropping the future ends the switching.
    pub async fn switch_wal_in_background(
        &self,
        done: impl Future<Output = ()>,
        times: u32,
        wait: Duration,
    ) -> Result<(), PostgresError> {
        let primary = primary_connection(&self.primary_conninfo, &self.options)?;
        primary.set_timeout(Some(wait.max(MIN_SILENCE)));
        let result = tokio::select! {
            biased;
            () = done => Ok(()),
            result = self.switch_rounds(&primary, times, wait) => result,
        };
        primary.close().await;
        result
    }

    async fn switch_rounds(
        &self,
        primary: &PostgreSQLConnection,
        times: u32,
        wait: Duration,
    ) -> Result<(), PostgresError> {
        sleep(FIRST_SWITCH_AFTER.min(wait)).await;
        for round in 0..times {
            primary.switch_wal().await?;
            if round == 0 {
                primary.create_restore_point(RESTORE_POINT).await?;
            }
            sleep(wait).await;
        }
        let patience = self.options.primary_checkpoint_timeout;
        if !patience.is_zero() {
            log::warn!("WAL was switched {times} times; a checkpoint of the primary follows in {patience:?}");
            sleep(patience).await;
            primary.checkpoint().await?;
            primary.switch_wal().await?;
        }
        Ok(())
    }

    async fn stop<T>(
        &self,
        stop: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let StandbyOptions { times, wait, .. } = self.options;
        let started = tokio::time::Instant::now();
        // If there is no connection, the stop itself returns the reason.
        let cancel = self.standby.connect().await.ok().and_then(|connection| connection.cancel_token());
        let mut stop = Box::pin(stop);
        let switching = self.switch_wal_in_background(core::future::pending(), times, wait);
        let switched = tokio::select! {
            biased;
            stopped = &mut stop => return stopped,
            switched = switching => switched,
        };
        // The switches did not end the stop. As long as the standby archives, the stop makes progress and is
        // waited for.
        let mut archived = self.archived_count(wait).await;
        loop {
            if let Ok(stopped) = timeout(wait, &mut stop).await {
                return stopped;
            }
            let before = core::mem::replace(&mut archived, self.archived_count(wait).await);
            if archived.is_none() || archived == before {
                break;
            }
        }
        // The server is still waiting in the stop: cancel it.
        if let Some(cancel) = cancel
            && let Err(error) = cancel.cancel().await
        {
            log::debug!("cancelling the stop of a backup: {error}");
        }
        // The stop may have succeeded just before it was cancelled.
        if let Ok(Ok(stopped)) = timeout(wait, &mut stop).await {
            return Ok(stopped);
        }
        drop(stop);
        self.standby.close().await;
        let source = PostgresError::StopTimeout(started.elapsed());
        Err(match switched {
            Ok(()) => source,
            Err(primary) => PostgresError::Standby { source: Box::new(source), primary: Box::new(primary) },
        })
    }

    /// How many files the standby has archived, asked over a separate connection.
    async fn archived_count(&self, limit: Duration) -> Option<u64> {
        let parameters = self.conn_parameters().clone();
        let watch = PostgreSQLConnection::with_options(parameters, self.options.standby.clone()).ok()?;
        let archived = timeout(limit, watch.get_archiver_stats()).await.ok()?.ok()?.archived_count;
        watch.close().await;
        Some(archived)
    }
}

fn primary_connection(
    conninfo: &ConnInfo,
    options: &StandbyOptions,
) -> Result<PostgreSQLConnection, PostgresError> {
    let ConnectionOptions { application_name, environment, .. } = options.standby.clone();
    let options = ConnectionOptions { application_name, environment, ..ConnectionOptions::default() };
    PostgreSQLConnection::with_options(conninfo.clone(), options)
}

impl Deref for StandbyPostgreSQLConnection {
    type Target = PostgreSQLConnection;

    fn deref(&self) -> &PostgreSQLConnection {
        &self.standby
    }
}

impl sealed::Object for StandbyPostgreSQLConnection {
    type Connection = Connection;
    type RemoteStatus = PostgresStatus;

    fn reconnecting(&self) -> &Reconnecting<Connection> {
        self.standby.reconnecting()
    }

    fn remembered(&self) -> &Mutex<Option<Arc<PostgresStatus>>> {
        self.standby.remembered()
    }
}

impl PostgreSQL for StandbyPostgreSQLConnection {
    const CHECK_QUERY: &'static str = PostgreSQLConnection::CHECK_QUERY;

    async fn fetch_remote_status(&self) -> PostgresStatus {
        self.standby.fetch_remote_status().await
    }

    /// Closes the connection to the standby, then the connection to the primary.
    async fn close(&self) {
        self.standby.close().await;
        self.primary.close().await;
    }
}
