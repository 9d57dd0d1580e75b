use std::format;
use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::name_map::NameMap;
use super::read::{only_row, readable};
use super::rows::{ExclusiveBackup, StartedBackup, StoppedBackup};
use super::sql;
use crate::client::{ColumnError, Row};
use crate::codec::TransactionStatus;
use crate::types::ServerVersion;

/// The first release without exclusive backups.
const NO_EXCLUSIVE_BACKUPS: ServerVersion = ServerVersion::release(15);

/// Low-level backups: the caller copies the files between start and stop.
///
/// Start and stop of a concurrent backup are of one session. From the start on the object makes no other
/// connection, whatever [`allow_reconnect`](super::PostgreSQL::allow_reconnect) says, until the backup is stopped
/// or the object closed; if the session ends, the server forgets the backup. [`PostgresKeepAlive`] finds that out
/// early.
///
/// [`PostgresKeepAlive`]: super::PostgresKeepAlive
impl PostgreSQLConnection {
    /// Starts a concurrent backup, and waits for its checkpoint. The session is not ended for idling meanwhile
    /// (servers from 14 on).
    ///
    /// # Errors
    /// The server's: no privilege, a label of more than 1024 bytes, a backup that this session has started
    /// already; or the connection's.
    pub async fn start_concurrent_backup(&self, label: &str) -> Result<StartedBackup, PostgresError> {
        let fast = format!("{}", self.immediate_checkpoint());
        let params = [Some(label), Some(fast.as_str())];
        let started = self
            .backup_call("pg_backup_start", sql::start_concurrent_backup, &params, StartedBackup::read)
            .await?;
        self.reconnecting.set_in_backup(true);
        Ok(started)
    }

    /// Stops the concurrent backup that this session has started. Where WAL is archived, the server waits until
    /// what the backup needs has been archived, for any time.
    ///
    /// # Errors
    /// [`PostgresError::ReconnectForbidden`] if the session is lost, and with it the backup; the server's, for
    /// example if there is no backup or the standby was promoted meanwhile.
    pub async fn stop_concurrent_backup(&self) -> Result<StoppedBackup, PostgresError> {
        let stopped =
            self.backup_call("pg_backup_stop", sql::stop_concurrent_backup, &[], StoppedBackup::read).await?;
        self.reconnecting.set_in_backup(false);
        Ok(stopped)
    }

    /// Starts an exclusive backup (servers before 15, primaries only). It outlives the session, and a crash
    /// meanwhile needs somebody to remove `backup_label`: concurrent backups are better.
    ///
    /// # Errors
    /// [`PostgresError::ObsoleteFeature`] from 15 on; the server's, or the connection's.
    pub async fn start_exclusive_backup(&self, label: &str) -> Result<ExclusiveBackup, PostgresError> {
        let fast = format!("{}", self.immediate_checkpoint());
        let params = [Some(label), Some(fast.as_str())];
        self.exclusive_call("pg_backup_start", sql::start_exclusive_backup, &params).await
    }

    /// Stops the exclusive backup (servers before 15).
    ///
    /// # Errors
    /// [`PostgresError::ObsoleteFeature`] from 15 on; the server's, or the connection's.
    pub async fn stop_exclusive_backup(&self) -> Result<ExclusiveBackup, PostgresError> {
        self.exclusive_call("pg_backup_stop", sql::stop_exclusive_backup, &[]).await
    }

    async fn exclusive_call(
        &self,
        function: &'static str,
        sql: fn(ServerVersion) -> String,
        params: &[Option<&str>],
    ) -> Result<ExclusiveBackup, PostgresError> {
        use super::postgresql::PostgreSQL as _;
        if self.server_version().await? >= NO_EXCLUSIVE_BACKUPS {
            return Err(PostgresError::ObsoleteFeature("15"));
        }
        self.backup_call(function, sql, params, ExclusiveBackup::read).await
    }

    /// Runs a statement that is not to be repeated, and tells a failure by the server's name of the function.
    async fn backup_call<T>(
        &self,
        function: &'static str,
        sql: fn(ServerVersion) -> String,
        params: &[Option<&str>],
        read: fn(Row<'_>) -> Result<T, ColumnError>,
    ) -> Result<T, PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        connection.set_read_timeout(None);
        // In a transaction of the caller's the session would idle in it for as long as the backup takes.
        if connection.transaction_status() != TransactionStatus::Idle {
            let rolled_back = connection.simple_query("ROLLBACK").await;
            rolled_back.map_err(|error| PostgresError::failed("ROLLBACK", error))?;
        }
        let version = connection.server_version().map_err(PostgresError::Connection)?;
        let what = NameMap::new(version).name(function);
        let set = connection.query_params(&sql(version), params).await;
        let set = set.map_err(|source| PostgresError::Failed { what, source })?;
        readable(what, only_row(&set).and_then(read))
    }
}
