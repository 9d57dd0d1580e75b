//! The server of a backup: a primary, or a standby whose primary helps.

use core::future::pending;
use core::pin::pin;

use super::super::awaited::AwaitedArchive;
use super::super::connection::{Target, seconds};
use super::super::failure::Failure;
use super::super::output;
use super::Args;
use tapster::conninfo::ConnInfo;
use tapster::postgres::{
    PostgreSQL as _, PostgreSQLConnection, PostgresError, StandbyOptions, StandbyPostgreSQLConnection,
    StoppedBackup,
};
use tapster::wal::WalSegment;

/// The server that is backed up, or a standby with its primary.
pub(super) enum Server {
    Plain(PostgreSQLConnection),
    Standby(Box<StandbyPostgreSQLConnection>),
}

impl Server {
    pub(super) fn postgres(&self) -> &PostgreSQLConnection {
        match self {
            Self::Plain(postgres) => postgres,
            Self::Standby(standby) => standby,
        }
    }

    pub(super) async fn stop(&self) -> Result<StoppedBackup, PostgresError> {
        match self {
            Self::Plain(postgres) => postgres.stop_concurrent_backup().await,
            Self::Standby(standby) => standby.stop_concurrent_backup().await,
        }
    }

    /// Stops without a wait for the server's archiving.
    pub(super) async fn stop_at_once(&self) -> Result<StoppedBackup, PostgresError> {
        self.postgres().stop_concurrent_backup_at_once().await
    }

    /// Waits for the segment in the archive. The primary of a standby switches WAL meanwhile.
    pub(super) async fn wait_for(
        &self,
        archive: &AwaitedArchive,
        segment: WalSegment,
    ) -> Result<(), Failure> {
        let Self::Standby(standby) = self else { return archive.wait_for(segment).await };
        let StandbyOptions { times, wait, .. } = StandbyOptions::default();
        let mut waited = pin!(archive.wait_for(segment));
        let switched = tokio::select! {
            biased;
            waited = &mut waited => return waited,
            switched = standby.switch_wal_in_background(pending(), times, wait) => switched,
        };
        // If the primary cannot be made to switch, the segment may still come.
        if let Err(error) = switched {
            output::note(&format!("could not switch WAL on the primary: {}", Failure::from(error).text()));
        }
        waited.await
    }

    /// Cancels a start or a stop that is still running: the server would go on waiting without its client.
    pub(super) async fn cancel(&self) {
        let postgres = self.postgres();
        // Without a connection there is nothing to cancel.
        if postgres.has_connection().await
            && let Ok(connection) = postgres.connect().await
            && let Some(token) = connection.cancel_token()
        {
            // A server that can no longer be reached will end the session by itself.
            let _ = token.cancel().await;
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Plain(postgres) => postgres.close().await,
            Self::Standby(standby) => standby.close().await,
        }
    }
}

pub(super) async fn connect(args: &Args, target: &mut Target) -> Result<Server, Failure> {
    let Some(primary) = &args.primary else {
        return Ok(Server::Plain(target.connect_postgres(None).await?.postgres));
    };
    let primary = ConnInfo::from_dbname_argument(primary)?;
    // This connection only finds out whether a password has to be asked for; the session is made below.
    target.connect_postgres(None).await?.postgres.close().await;
    let mut options = StandbyOptions::default();
    options.standby.application_name = target.application_name()?;
    options.standby.environment = target.environment().clone();
    options.primary_checkpoint_timeout = seconds(args.primary_checkpoint_timeout).unwrap_or_default();
    let conninfo = target.conninfo().clone();
    let standby = StandbyPostgreSQLConnection::with_options(conninfo, primary, options)?;
    standby.set_timeout(target.timeout());
    Ok(Server::Standby(Box::new(standby)))
}
