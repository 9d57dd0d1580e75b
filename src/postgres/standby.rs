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

/// A connection to a standby, with another one to its primary, where WAL can be switched.
///
/// All members of [`PostgreSQLConnection`] are those of the standby, except the ones below.
#[derive(Debug)]
pub struct StandbyPostgreSQLConnection {
    standby: PostgreSQLConnection,
    primary: PostgreSQLConnection,
    primary_conninfo: ConnInfo,
    options: StandbyOptions,
}

/// What a [`StandbyPostgreSQLConnection`] is made with, beside its two connection strings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandbyOptions {
    /// Those of the connection to the standby; the one to the primary has the application name and the
    /// environment of it.
    pub standby: ConnectionOptions,
    /// How long after the last switch in vain the primary is asked for a checkpoint, which writes WAL; zero, the
    /// default, for never.
    pub primary_checkpoint_timeout: Duration,
    /// How often WAL is switched while the stop of a backup waits; 10 unless told.
    pub times: u32,
    /// The time between two switches, and that for which the stop is waited for after the last, again and again
    /// while the standby archives; 10 s unless told.
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

/// How long a stop may take before WAL is switched for it: most need no switch.
const FIRST: Duration = Duration::from_secs(1);
/// How long the primary may be silent at least.
const SILENCE: Duration = Duration::from_secs(5);
/// What is written to the new segment of an idle primary, so that the standby sees the old one end.
const RESTORE_POINT: &str = "end of a backup of a standby";

impl StandbyPostgreSQLConnection {
    /// An object without connections yet.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`] if a connection string cannot be read.
    pub fn new(conninfo: &str, primary_conninfo: &str) -> Result<Self, PostgresError> {
        Self::with_options(conninfo.parse()?, primary_conninfo.parse()?, StandbyOptions::default())
    }

    /// As [`new`](Self::new), with everything said.
    ///
    /// # Errors
    /// [`PostgresError::AppName`] if the name holds a zero byte.
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
    /// As [`PostgreSQLConnection::switch_wal`], of the primary.
    pub async fn switch_wal(&self) -> Result<Option<String>, PostgresError> {
        self.primary.switch_wal().await
    }

    /// Stops the concurrent backup of the standby, and has the primary write what the standby waits for.
    ///
    /// # Errors
    /// As [`PostgreSQLConnection::stop_concurrent_backup`]. [`PostgresError::StopTimeout`] if WAL does not come
    /// although it was switched as often as the options say and the standby archives nothing more, and
    /// [`PostgresError::Standby`] with the reason if it could not be switched; then the standby's connection is
    /// closed and the backup is lost.
    pub async fn stop_concurrent_backup(&self) -> Result<StoppedBackup, PostgresError> {
        self.stop(self.standby.stop_concurrent_backup()).await
    }

    /// Stops an exclusive backup, which no standby has: the error is the server's.
    ///
    /// # Errors
    /// As [`PostgreSQLConnection::stop_exclusive_backup`].
    pub async fn stop_exclusive_backup(&self) -> Result<ExclusiveBackup, PostgresError> {
        self.stop(self.standby.stop_exclusive_backup()).await
    }

    /// Switches WAL on the primary over a connection of its own until `done` is: after one second (or `wait`, if
    /// that is less), and then up to `times` times with `wait` between. A primary that has written nothing has
    /// nothing to switch, so the first round also writes a restore point; when all rounds are over, and
    /// `primary_checkpoint_timeout` as well, there is a checkpoint and a last switch.
    ///
    /// # Errors
    /// The first that the primary gives, which ends this.
    ///
    /// # Cancel safety
    /// Nothing goes on when the future is dropped.
    pub async fn switch_wal_in_background(
        &self,
        done: impl Future<Output = ()>,
        times: u32,
        wait: Duration,
    ) -> Result<(), PostgresError> {
        let primary = primary_connection(&self.primary_conninfo, &self.options)?;
        primary.set_timeout(Some(wait.max(SILENCE)));
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
        sleep(FIRST.min(wait)).await;
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
        // Without a connection the stop itself tells why.
        let cancel = self.standby.connect().await.ok().and_then(|connection| connection.cancel_token());
        let mut stop = Box::pin(stop);
        let switching = self.switch_wal_in_background(core::future::pending(), times, wait);
        let switched = tokio::select! {
            biased;
            stopped = &mut stop => return stopped,
            switched = switching => switched,
        };
        // The switch was not needed, or not enough: as long as the standby archives, the stop goes on as well.
        let mut archived = self.archived(wait).await;
        loop {
            if let Ok(stopped) = timeout(wait, &mut stop).await {
                return stopped;
            }
            let before = core::mem::replace(&mut archived, self.archived(wait).await);
            if archived.is_none() || archived == before {
                break;
            }
        }
        // The session still waits in the server.
        if let Some(cancel) = cancel
            && let Err(error) = cancel.cancel().await
        {
            log::debug!("cancelling the stop of a backup: {error}");
        }
        // It may have come to its end just now.
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

    /// How many files the standby has archived, over a connection of its own.
    async fn archived(&self, limit: Duration) -> Option<u64> {
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

    /// Closes the connection to the standby, and then that to the primary.
    async fn close(&self) {
        self.standby.close().await;
        self.primary.close().await;
    }
}
