use core::str::FromStr;
use std::format;
use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::postgresql::PostgreSQL;
use super::privileges::Privilege;
use super::reconnecting::Sql;
use super::replication_stats::{self, ClientType, ReplicationStats};
use super::rows::{ArchiverStats, ConfigurationFiles, ReplicationSlot, Tablespace, XlogInfo, present};
use super::{sql, standby_names};
use crate::client::Error;
use crate::client::{ColumnError, ColumnErrorKind, ResultSet, Row};
use crate::types::{Lsn, ServerVersion, SystemId};

/// Questions to the server.
///
/// Each member fails with [`PostgresError::Connection`] or [`PostgresError::ReconnectForbidden`] if there is
/// no connection, and with [`PostgresError::Failed`] if the server refuses. The sections "Errors" list only
/// further errors.
impl PostgreSQLConnection {
    /// Whether the server is a standby.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn is_in_recovery(&self) -> Result<bool, PostgresError> {
        self.value("pg_is_in_recovery", &|_| sql::IS_IN_RECOVERY.into()).await
    }

    /// Whether the role is a superuser.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn is_superuser(&self) -> Result<bool, PostgresError> {
        self.value("asking for the role", &|_| sql::IS_SUPERUSER.into()).await
    }

    /// Whether the role may take backups: monitoring, start, stop, switch WAL, create restore points. See
    /// [`backup_privileges`](super::backup_privileges).
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn has_backup_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", &sql::has_backup_privileges).await
    }

    /// Whether the role may run `CHECKPOINT`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn has_checkpoint_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", &sql::has_checkpoint_privileges).await
    }

    /// Whether the role may see all settings and statistics.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn has_monitoring_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", &sql::has_monitoring_privileges).await
    }

    /// The server's current position in its WAL.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn current_xlog_info(&self) -> Result<XlogInfo, PostgresError> {
        self.read_row("asking for the position", &sql::current_xlog_info, &[], XlogInfo::read).await
    }

    /// [`XlogInfo::file_name`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn current_xlog_file_name(&self) -> Result<Option<String>, PostgresError> {
        Ok(self.current_xlog_info().await?.file_name)
    }

    /// [`XlogInfo::location`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn current_xlog_location(&self) -> Result<Option<Lsn>, PostgresError> {
        Ok(self.current_xlog_info().await?.location)
    }

    /// The size of a WAL segment in bytes.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn xlog_segment_size(&self) -> Result<u64, PostgresError> {
        self.value("asking for a setting", &sql::xlog_segment_size).await
    }

    /// The seconds after which the server ends a segment by itself; 0 for never.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn archive_timeout(&self) -> Result<u64, PostgresError> {
        let setting = |_| format!("coalesce({}, '0')", sql::number_setting("archive_timeout"));
        self.value("asking for a setting", &setting).await
    }

    /// The seconds between two checkpoints.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn checkpoint_timeout(&self) -> Result<u64, PostgresError> {
        self.value("asking for a setting", &|_| sql::number_setting("checkpoint_timeout")).await
    }

    /// The size of all tablespaces in bytes; `None` for a role without backup privileges.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn current_size(&self) -> Result<Option<u64>, PostgresError> {
        self.optional_value("asking for the size", &sql::current_size).await
    }

    /// A setting as `SHOW` prints it: `16MB`, `5min`, `on`. Bytes that are not UTF-8 are written as
    /// [`text_of`](crate::types::text_of) says, as in every text of these classes.
    ///
    /// # Errors
    /// 42704 if the setting does not exist, 42501 if the role may not see it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_setting(&self, name: &str) -> Result<String, PostgresError> {
        let sql = |_| sql::GET_SETTING.to_string();
        self.read_row("SHOW", &sql, &[Some(name)], |row| present(row, "value")).await
    }

    /// As [`get_setting`](Self::get_setting), in the server's own bytes: for a path.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_setting_bytes(&self, name: &str) -> Result<Vec<u8>, PostgresError> {
        let sql = |_| sql::scalar(&sql::bytes("pg_catalog.current_setting($1::pg_catalog.text)"));
        self.read_row("SHOW", &sql, &[Some(name)], |row| row.bytea("value")).await
    }

    /// The system identifier.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_systemid(&self) -> Result<SystemId, PostgresError> {
        self.value("pg_control_system", &|_| sql::SYSTEM_ID.into()).await
    }

    /// The tablespaces outside of the data directory.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_tablespaces(&self) -> Result<Vec<Tablespace>, PostgresError> {
        let what = "asking for tablespaces";
        let set = self.reconnecting.read(what, &|_| sql::TABLESPACES.into(), &[]).await?;
        readable(what, set.rows().map(Tablespace::read).collect())
    }

    /// The configuration files. Once the server has listed some, the object remembers them.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_configuration_files(&self) -> Result<ConfigurationFiles, PostgresError> {
        let mut kept = self.configuration_files.lock().await;
        if *kept != ConfigurationFiles::default() {
            return Ok(kept.clone());
        }
        let what = "asking for the configuration files";
        let set = self.reconnecting.read(what, &|_| sql::CONFIGURATION_FILES.into(), &[]).await?;
        let mut files = ConfigurationFiles::default();
        for row in set.rows() {
            let pair = row.text("key").and_then(|key| Ok((key, present(row, "value")?)));
            let (key, value) = readable(what, pair)?;
            files.insert(key, &value);
        }
        kept.clone_from(&files);
        Ok(files)
    }

    /// The statistics of the archiver.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_archiver_stats(&self) -> Result<ArchiverStats, PostgresError> {
        self.read_row("asking for the archiver", &|_| sql::archiver_stats(), &[], ArchiverStats::read).await
    }

    /// A physical slot; `None` if no physical slot has that name.
    ///
    /// # Errors
    /// [`PostgresError::UnsupportedFeature`] before 9.4.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_replication_slot(&self, name: &str) -> Result<Option<ReplicationSlot>, PostgresError> {
        self.require_version(90_400, "9.4").await?;
        let what = "asking for the slot";
        let set = self.reconnecting.read(what, &|_| sql::REPLICATION_SLOT.into(), &[Some(name)]).await?;
        readable(what, set.row(0).map(ReplicationSlot::read).transpose())
    }

    /// The replication clients, the synchronous ones first.
    ///
    /// # Errors
    /// [`PostgresError::BackupFunctionsAccessRequired`] without monitoring privileges.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_replication_stats(
        &self,
        clients: ClientType,
    ) -> Result<Vec<ReplicationStats>, PostgresError> {
        let what = "asking for replication clients";
        let version = self.server_version().await?;
        let set =
            self.reconnecting.read(what, &|version| sql::replication_stats(version, clients), &[]).await?;
        readable(what, replication_stats::read(&set, version))?.ok_or_else(|| self.access_required())
    }

    /// The names in `synchronous_standby_names`, `*` among them; none if the setting is empty.
    ///
    /// # Errors
    /// [`PostgresError::UnsupportedFeature`] before 9.1.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn get_synchronous_standby_names(&self) -> Result<Vec<String>, PostgresError> {
        self.require_version(90_100, "9.1").await?;
        Ok(standby_names::parse(&self.get_setting("synchronous_standby_names").await?))
    }

    /// Which of these privileges the role lacks; none for a superuser.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn missing_privileges(
        &self,
        privileges: Vec<Privilege>,
    ) -> Result<Vec<Privilege>, PostgresError> {
        if privileges.is_empty() {
            return Ok(privileges);
        }
        let columns = |_| sql::each_privilege(&privileges);
        let read = |row: Row<'_>| {
            let mut missing = Vec::new();
            for (index, privilege) in privileges.iter().enumerate() {
                if row.text(index)? != "t" {
                    missing.push(privilege.clone());
                }
            }
            Ok(missing)
        };
        self.read_row("asking for privileges", &columns, &[], read).await
    }

    async fn require_version(&self, num: u32, version: &'static str) -> Result<(), PostgresError> {
        if self.server_version().await? < ServerVersion::from_num(num) {
            return Err(PostgresError::UnsupportedFeature(version));
        }
        Ok(())
    }

    /// Runs a statement and reads its only row.
    async fn read_row<T>(
        &self,
        what: &'static str,
        sql: Sql<'_>,
        params: &[Option<&str>],
        read: impl FnOnce(Row<'_>) -> Result<T, ColumnError>,
    ) -> Result<T, PostgresError> {
        let set = self.reconnecting.read(what, sql, params).await?;
        readable(what, only_row(&set).and_then(read))
    }

    /// The value of an expression that may be NULL.
    async fn optional_value<T: FromStr>(
        &self,
        what: &'static str,
        expression: Sql<'_>,
    ) -> Result<Option<T>, PostgresError> {
        // As text, so that a boolean is `true` or `false`.
        let sql = |version| sql::scalar(&format!("({})::pg_catalog.text", expression(version)));
        self.read_row(what, &sql, &[], |row| row.optional("value")).await
    }

    /// The value of an expression.
    async fn value<T: FromStr>(&self, what: &'static str, expression: Sql<'_>) -> Result<T, PostgresError> {
        let value = self.optional_value(what, expression).await?;
        value.ok_or_else(|| PostgresError::failed(what, null("value").into()))
    }
}

fn null(column: &str) -> ColumnError {
    ColumnError { column: column.into(), kind: ColumnErrorKind::Null }
}

/// The row of a statement that returns exactly one.
pub(super) fn only_row(set: &ResultSet) -> Result<Row<'_>, ColumnError> {
    set.row(0).ok_or_else(|| null("0"))
}

/// The value read from an answer, or an error that names the answer `what`, which could not be read.
pub(super) fn readable<T>(what: &'static str, read: Result<T, ColumnError>) -> Result<T, PostgresError> {
    read.map_err(|error| PostgresError::failed(what, Error::Column(error)))
}
