use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::name_map::NameMap;
use super::postgresql::PostgreSQL;
use super::read::{only_row, readable};
use super::rows::owned;
use super::sql;
use crate::client::{Error, ResultSet, Row};
use crate::types::{Lsn, SqlState};

/// Commands to the server.
///
/// Each member fails with [`PostgresError::Connection`] or [`PostgresError::ReconnectForbidden`] if there is
/// no connection, and with [`PostgresError::Failed`] if the server refuses. The sections "Errors" list only
/// further errors.
impl PostgreSQLConnection {
    /// Writes a restore point and returns its position.
    ///
    /// # Errors
    /// [`PostgresError::IsInRecovery`] on a standby; 22023 for a name of 64 bytes or more.
    ///
    /// # Cancel safety
    /// If the future is dropped, the restore point may be written all the same; the next call waits for the end of the
    /// statement.
    pub async fn create_restore_point(&self, name: &str) -> Result<Lsn, PostgresError> {
        let what = "pg_create_restore_point";
        let mut connection = self.reconnecting.connect().await?;
        let set = connection.query_params(&sql::create_restore_point(), &[Some(name)]).await;
        let set = set.map_err(|error| PostgresError::failed(what, error))?;
        let position = readable(what, only_row(&set).and_then(|row| row.optional("value")))?;
        position.ok_or(PostgresError::IsInRecovery)
    }

    /// Makes a primary write a checkpoint, or a standby a restart point, and waits for it.
    ///
    /// # Errors
    /// [`PostgresError::CheckpointPrivilegesRequired`] if the role may not.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server goes on with the checkpoint; the next call waits for its end.
    pub async fn checkpoint(&self) -> Result<(), PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        connection.set_read_timeout(None);
        match connection.simple_query("CHECKPOINT").await {
            Ok(sets) if sets.iter().map(ResultSet::tag).eq(["CHECKPOINT"]) => Ok(()),
            Ok(_) => {
                let (expected, got) = ("the end of a checkpoint", "another answer".into());
                Err(PostgresError::failed("CHECKPOINT", Error::Unexpected { expected, got }))
            }
            Err(error) if error.sqlstate() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(PostgresError::CheckpointPrivilegesRequired)
            }
            Err(error) => Err(PostgresError::failed("CHECKPOINT", error)),
        }
    }

    /// Ends the current WAL segment and returns its name; `None` if nothing was written to the segment yet.
    ///
    /// # Errors
    /// [`PostgresError::BackupFunctionsAccessRequired`] without backup privileges,
    /// [`PostgresError::IsInRecovery`] on a standby.
    ///
    /// # Cancel safety
    /// If the future is dropped, the segment may be ended all the same; the next call waits for the end of the statement.
    pub async fn switch_wal(&self) -> Result<Option<String>, PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        let version = connection.server_version().map_err(PostgresError::Connection)?;
        let what = NameMap::new(version).name("pg_switch_wal");
        let set = match connection.query_params(&sql::switch_wal(version), &[]).await {
            // The server checks the privilege before the statement itself can.
            Err(error) if error.sqlstate() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                return Err(self.access_required());
            }
            result => result.map_err(|error| PostgresError::failed(what, error))?,
        };
        let read = |row: Row<'_>| {
            let names = (owned(row, "before")?, owned(row, "after")?);
            Ok((row.parse("allowed")?, row.parse("recovers")?, names))
        };
        match readable(what, only_row(&set).and_then(read))? {
            (false, ..) => Err(self.access_required()),
            (_, true, _) => Err(PostgresError::IsInRecovery),
            (_, _, (before, after)) => Ok(before.filter(|before| Some(before) < after.as_ref())),
        }
    }

    pub(super) fn access_required(&self) -> PostgresError {
        let user = self.conn_parameters().get("user").map(str::to_string);
        PostgresError::BackupFunctionsAccessRequired { user }
    }
}
