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
/// The same session has to start and stop a concurrent backup; if the session ends, the server forgets the
/// backup. From the start on the object therefore makes no other connection, whatever
/// [`allow_reconnect`](super::PostgreSQL::allow_reconnect) says, until the backup is stopped or the object
/// closed. [`PostgresKeepAlive`] notices the end of the session early.
///
/// [`PostgresKeepAlive`]: super::PostgresKeepAlive
impl PostgreSQLConnection {
    /// Starts a concurrent backup, and waits for its checkpoint. Until the stop, the server does not end the
    /// session for idling (servers from 14 on).
    ///
    /// # Errors
    /// If the connection fails, or the server refuses: no privilege, a label of more than 1024 bytes, a
    /// backup that this session has started already.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may start the backup all the same. Closing the object then ends it.
    pub async fn start_concurrent_backup(&self, label: &str) -> Result<StartedBackup, PostgresError> {
        let fast = format!("{}", self.immediate_checkpoint());
        let params = [Some(label), Some(fast.as_str())];
        let started = self
            .backup_call("pg_backup_start", sql::start_concurrent_backup, &params, StartedBackup::read)
            .await?;
        self.reconnecting.set_in_backup(true);
        Ok(started)
    }

    /// Stops the concurrent backup that this session has started. If the server archives WAL, it waits
    /// without limit until the WAL that the backup needs is archived.
    ///
    /// # Errors
    /// [`PostgresError::ReconnectForbidden`] if the session is lost, and with it the backup; the server's
    /// error, for example if no backup runs or the standby was promoted meanwhile.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may stop the backup all the same, and the contents of `backup_label` are lost: the
    /// copy is no backup.
    pub async fn stop_concurrent_backup(&self) -> Result<StoppedBackup, PostgresError> {
        let stopped =
            self.backup_call("pg_backup_stop", sql::stop_concurrent_backup, &[], StoppedBackup::read).await?;
        self.reconnecting.set_in_backup(false);
        Ok(stopped)
    }

    /// As [`stop_concurrent_backup`](Self::stop_concurrent_backup), but does not wait until WAL is archived (servers
    /// from 10 on; 9.6 always waits). The copy is no backup before all WAL that it needs is in a safe place.
    ///
    /// # Errors
    /// As [`stop_concurrent_backup`](Self::stop_concurrent_backup).
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may stop the backup all the same, and the contents of `backup_label` are lost: the
    /// copy is no backup.
    pub async fn stop_concurrent_backup_at_once(&self) -> Result<StoppedBackup, PostgresError> {
        let sql = sql::stop_concurrent_backup_at_once;
        let stopped = self.backup_call("pg_backup_stop", sql, &[], StoppedBackup::read).await?;
        self.reconnecting.set_in_backup(false);
        Ok(stopped)
    }

    /// Starts an exclusive backup (servers before 15, primaries only). The backup outlives the session, and
    /// after a crash of the server an administrator has to remove `backup_label`: concurrent backups are
    /// better.
    ///
    /// # Errors
    /// [`PostgresError::ObsoleteFeature`] from 15 on; the error of the server or of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may start the backup all the same; the next call waits for the end of the
    /// statement.
    pub async fn start_exclusive_backup(&self, label: &str) -> Result<ExclusiveBackup, PostgresError> {
        let fast = format!("{}", self.immediate_checkpoint());
        let params = [Some(label), Some(fast.as_str())];
        self.exclusive_call("pg_backup_start", sql::start_exclusive_backup, &params).await
    }

    /// Stops the exclusive backup (servers before 15).
    ///
    /// # Errors
    /// [`PostgresError::ObsoleteFeature`] from 15 on; the error of the server or of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may stop the backup all the same; the next call waits for the end of the
    /// statement.
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

    /// Runs a statement once, without repeating it. A failure names the function as the server's version
    /// does.
    async fn backup_call<T>(
        &self,
        function: &'static str,
        sql: fn(ServerVersion) -> String,
        params: &[Option<&str>],
        read: fn(Row<'_>) -> Result<T, ColumnError>,
    ) -> Result<T, PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        connection.set_read_timeout(None);
        // If the caller has left a transaction open, the session would idle in it for as long as the backup
        // takes.
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
