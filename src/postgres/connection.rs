use core::str::FromStr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::format;
use std::string::{String, ToString as _};
use std::sync::Arc;
use std::vec::Vec;

use tokio::sync::Mutex;

use super::base::{PostgreSQL, sealed};
use super::error::PostgresError;
use super::name_map::NameMap;
use super::privileges::Privilege;
use super::replication_stats::{self, ClientType, ReplicationStats};
use super::rows::{ArchiverStats, ConfigurationFiles, ReplicationSlot, Tablespace, XlogInfo, flag, owned};
use super::session::Session;
use super::status::PostgresStatus;
use super::{sql, standby_names};
use crate::client::{ColumnError, Connection, ResultSet, Row};
use crate::conninfo::{ConnInfo, Environment};
use crate::error::Error;
use crate::types::{Lsn, ServerVersion, SqlState, SystemId};

/// An ordinary connection to a server: its status, and control over WAL and backups.
///
/// Each member is one round trip, or none where that is said. What the server does not want to tell is an
/// error with its reason, not an absent value.
#[derive(Debug)]
pub struct PostgreSQLConnection {
    pub(super) session: Session<Connection>,
    remembered: Mutex<Option<Arc<PostgresStatus>>>,
    configuration_files: Mutex<ConfigurationFiles>,
    immediate_checkpoint: AtomicBool,
    slot_name: Option<String>,
    application_name: String,
}

/// What a [`PostgreSQLConnection`] is made with, beside its connection string.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Whether the checkpoint at the start of a backup is done as fast as possible; false unless told.
    pub immediate_checkpoint: bool,
    /// The physical slot that [`fetch_remote_status`](PostgreSQL::fetch_remote_status) looks at.
    pub slot_name: Option<String>,
    /// What the session is called in the server, unless the connection string says it; `barman` unless told.
    pub application_name: String,
    /// Where defaults come from; the environment of the process unless told.
    pub environment: Environment,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            immediate_checkpoint: false,
            slot_name: None,
            application_name: "barman".into(),
            environment: Environment::from_process(),
        }
    }
}

impl PostgreSQLConnection {
    /// Replication clients that replay: see [`get_replication_stats`](Self::get_replication_stats).
    pub const STANDBY: ClientType = ClientType::Standby;
    /// Replication clients that only receive.
    pub const WALSTREAMER: ClientType = ClientType::WalStreamer;
    /// All replication clients.
    pub const ANY_STREAMING_CLIENT: ClientType = ClientType::AnyStreamingClient;
    /// What a heartbeat asks.
    pub const HEARTBEAT_QUERY: &'static str = "SELECT 1";

    /// An object without a connection yet.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`] if the connection string cannot be read.
    pub fn new(conninfo: &str) -> Result<Self, PostgresError> {
        let parameters = conninfo.parse()?;
        Self::build("PostgreSQLConnection", conninfo.into(), parameters, ConnectionOptions::default())
    }

    /// As [`new`](Self::new), with everything said.
    ///
    /// # Errors
    /// [`PostgresError::AppName`] if the name holds a zero byte.
    pub fn with_options(parameters: ConnInfo, options: ConnectionOptions) -> Result<Self, PostgresError> {
        Self::build("PostgreSQLConnection", parameters.encode(), parameters, options)
    }

    pub(super) fn build(
        class: &'static str,
        conninfo: String,
        parameters: ConnInfo,
        options: ConnectionOptions,
    ) -> Result<Self, PostgresError> {
        let ConnectionOptions { immediate_checkpoint, slot_name, application_name, environment } = options;
        let mut effective = parameters.clone();
        if effective.get("application_name").is_none() {
            effective.set("application_name", application_name.as_str()).map_err(PostgresError::AppName)?;
        }
        let make_config = move || {
            let mut config = effective.resolve(&environment)?.config()?;
            // In front, so that the user's own options have the last word.
            config.options = Some(match config.options.take() {
                Some(options) => format!("{SAFE_SEARCH_PATH} {options}"),
                None => SAFE_SEARCH_PATH.into(),
            });
            Ok(config)
        };
        Ok(Self {
            session: Session::new(class, conninfo, parameters, make_config),
            remembered: Mutex::default(),
            configuration_files: Mutex::default(),
            immediate_checkpoint: AtomicBool::new(immediate_checkpoint),
            slot_name,
            application_name,
        })
    }

    /// Whether the checkpoint at the start of a backup is done as fast as possible.
    #[must_use]
    pub fn immediate_checkpoint(&self) -> bool {
        self.immediate_checkpoint.load(Ordering::Relaxed)
    }

    /// Says how the checkpoints of backups that are started from now on are done.
    pub fn set_immediate_checkpoint(&self, immediate: bool) {
        self.immediate_checkpoint.store(immediate, Ordering::Relaxed);
    }

    /// The slot that the status looks at.
    #[must_use]
    pub fn slot_name(&self) -> Option<&str> {
        self.slot_name.as_deref()
    }

    /// What the session is called in the server, unless the connection string says it.
    #[must_use]
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// What this server's version calls things. No round trip; the newest names if it cannot be reached.
    pub async fn name_map(&self) -> NameMap {
        self.server_version().await.map_or_else(|_| NameMap::newest(), NameMap::new)
    }

    /// Asks the server for a sign of life over the connection that there is; never makes one.
    ///
    /// # Errors
    /// [`PostgresError::NoConnection`], or what became of the connection.
    pub async fn send_heartbeat_query(&self) -> Result<(), PostgresError> {
        if !self.has_connection().await {
            return Err(PostgresError::NoConnection);
        }
        let mut connection = self.session.held().await?;
        let answer = connection.simple_query(Self::HEARTBEAT_QUERY).await;
        answer.map(drop).map_err(|error| PostgresError::failed("the heartbeat", error))
    }

    /// Whether the server is a standby.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn is_in_recovery(&self) -> Result<bool, PostgresError> {
        self.value("pg_is_in_recovery", |_| sql::IS_IN_RECOVERY.into()).await
    }

    /// Whether the role is a superuser.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn is_superuser(&self) -> Result<bool, PostgresError> {
        self.value("asking for the role", |_| sql::IS_SUPERUSER.into()).await
    }

    /// Whether the role may take backups: monitoring, start, stop, switch WAL, create restore points. See
    /// [`backup_privileges`](super::backup_privileges).
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn has_backup_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", sql::has_backup_privileges).await
    }

    /// Whether the role may run `CHECKPOINT`.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn has_checkpoint_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", sql::has_checkpoint_privileges).await
    }

    /// Whether the role may see all settings and statistics.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn has_monitoring_privileges(&self) -> Result<bool, PostgresError> {
        self.value("asking for privileges", sql::has_monitoring_privileges).await
    }

    /// Where the server is in its WAL.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn current_xlog_info(&self) -> Result<XlogInfo, PostgresError> {
        self.one("asking for the position", sql::current_xlog_info, &[], XlogInfo::read).await
    }

    /// [`XlogInfo::file_name`].
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn current_xlog_file_name(&self) -> Result<Option<String>, PostgresError> {
        Ok(self.current_xlog_info().await?.file_name)
    }

    /// [`XlogInfo::location`].
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn current_xlog_location(&self) -> Result<Option<Lsn>, PostgresError> {
        Ok(self.current_xlog_info().await?.location)
    }

    /// The size of a WAL segment in bytes.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn xlog_segment_size(&self) -> Result<u64, PostgresError> {
        self.value("asking for a setting", sql::xlog_segment_size).await
    }

    /// After how many seconds the server ends a segment by itself; 0 for never.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn archive_timeout(&self) -> Result<u64, PostgresError> {
        let setting = |_| format!("coalesce({}, '0')", sql::number_setting("archive_timeout"));
        self.value("asking for a setting", setting).await
    }

    /// The seconds between two checkpoints.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn checkpoint_timeout(&self) -> Result<u64, PostgresError> {
        self.value("asking for a setting", |_| sql::number_setting("checkpoint_timeout")).await
    }

    /// The size of all tablespaces in bytes; `None` for a role without backup privileges.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn current_size(&self) -> Result<Option<u64>, PostgresError> {
        self.optional_value("asking for the size", sql::current_size).await
    }

    /// A setting as `SHOW` prints it: `16MB`, `5min`, `on`.
    ///
    /// # Errors
    /// 42704 if there is no such setting, 42501 if the role may not see it, or the connection's error.
    pub async fn get_setting(&self, name: &str) -> Result<String, PostgresError> {
        let sql = |_| sql::GET_SETTING.to_string();
        self.one("SHOW", sql, &[Some(name)], |row| row.text("value").map(str::to_string)).await
    }

    /// The system identifier.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn get_systemid(&self) -> Result<SystemId, PostgresError> {
        self.value("pg_control_system", |_| sql::SYSTEM_ID.into()).await
    }

    /// The tablespaces outside of the data directory.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn get_tablespaces(&self) -> Result<Vec<Tablespace>, PostgresError> {
        let what = "asking for tablespaces";
        let set = self.session.read(what, |_| sql::TABLESPACES.into(), &[]).await?;
        readable(what, set.rows().map(Tablespace::read).collect())
    }

    /// Where the configuration is. Kept, once something was seen.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn get_configuration_files(&self) -> Result<ConfigurationFiles, PostgresError> {
        let mut kept = self.configuration_files.lock().await;
        if *kept != ConfigurationFiles::default() {
            return Ok(kept.clone());
        }
        let what = "asking for the configuration files";
        let set = self.session.read(what, |_| sql::CONFIGURATION_FILES.into(), &[]).await?;
        let mut files = ConfigurationFiles::default();
        for row in set.rows() {
            let pair = row.text("key").and_then(|key| Ok((key, row.text("value")?)));
            let (key, value) = readable(what, pair)?;
            files.take(key, value);
        }
        kept.clone_from(&files);
        Ok(files)
    }

    /// What the archiver has done.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn get_archiver_stats(&self) -> Result<ArchiverStats, PostgresError> {
        self.one("asking for the archiver", |_| sql::archiver_stats(), &[], ArchiverStats::read).await
    }

    /// A physical slot; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`PostgresError::UnsupportedFeature`] before 9.4; the connection's, or the server's.
    pub async fn get_replication_slot(&self, name: &str) -> Result<Option<ReplicationSlot>, PostgresError> {
        self.require(90_400, "9.4").await?;
        let what = "asking for the slot";
        let set = self.session.read(what, |_| sql::REPLICATION_SLOT.into(), &[Some(name)]).await?;
        readable(what, set.row(0).map(ReplicationSlot::read).transpose())
    }

    /// The replication clients, the synchronous ones first.
    ///
    /// # Errors
    /// [`PostgresError::BackupFunctionsAccessRequired`] without monitoring privileges; the connection's, or
    /// the server's.
    pub async fn get_replication_stats(
        &self,
        clients: ClientType,
    ) -> Result<Vec<ReplicationStats>, PostgresError> {
        let what = "asking for replication clients";
        let version = self.server_version().await?;
        let set = self.session.read(what, |version| sql::replication_stats(version, clients), &[]).await?;
        readable(what, replication_stats::read(&set, version))?.ok_or_else(|| self.access_required())
    }

    /// The names in `synchronous_standby_names`, `*` among them; none if the setting is empty.
    ///
    /// # Errors
    /// [`PostgresError::UnsupportedFeature`] before 9.1; the connection's, or the server's.
    pub async fn get_synchronous_standby_names(&self) -> Result<Vec<String>, PostgresError> {
        self.require(90_100, "9.1").await?;
        Ok(standby_names::parse(&self.get_setting("synchronous_standby_names").await?))
    }

    /// Writes a restore point, and gives its position.
    ///
    /// # Errors
    /// [`PostgresError::IsInRecovery`] on a standby; 22023 for a name of 64 bytes or more; the connection's,
    /// or the server's.
    pub async fn create_restore_point(&self, name: &str) -> Result<Lsn, PostgresError> {
        let what = "pg_create_restore_point";
        let mut connection = self.session.connect().await?;
        let set = connection.query_params(&sql::create_restore_point(), &[Some(name)]).await;
        let set = set.map_err(|error| PostgresError::failed(what, error))?;
        let position = readable(what, only_row(&set).and_then(|row| row.optional("value")))?;
        position.ok_or(PostgresError::IsInRecovery)
    }

    /// Has the server write a checkpoint, a standby a restart point, and waits for it.
    ///
    /// # Errors
    /// [`PostgresError::CheckpointPrivilegesRequired`]; the connection's, or the server's.
    pub async fn checkpoint(&self) -> Result<(), PostgresError> {
        let mut connection = self.session.connect().await?;
        match connection.simple_query("CHECKPOINT").await {
            Ok(_) => Ok(()),
            Err(error) if error.sqlstate() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(PostgresError::CheckpointPrivilegesRequired)
            }
            Err(error) => Err(PostgresError::failed("CHECKPOINT", error)),
        }
    }

    /// Ends the current WAL segment, and gives its name; `None` if nothing was written to it yet.
    ///
    /// # Errors
    /// [`PostgresError::BackupFunctionsAccessRequired`] without backup privileges,
    /// [`PostgresError::IsInRecovery`] on a standby; the connection's, or the server's.
    pub async fn switch_wal(&self) -> Result<Option<String>, PostgresError> {
        let mut connection = self.session.connect().await?;
        let version = connection.server_version().map_err(PostgresError::Connection)?;
        let what = NameMap::new(version).name("pg_switch_wal");
        let set = match connection.query_params(&sql::switch_wal(version), &[]).await {
            // The server looks at the privilege before the statement looks for it.
            Err(error) if error.sqlstate() == Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
                return Err(self.access_required());
            }
            result => result.map_err(|error| PostgresError::failed(what, error))?,
        };
        let read = |row: Row<'_>| {
            let names = (owned(row, "before")?, owned(row, "after")?);
            Ok((flag(row, "allowed")?, flag(row, "recovers")?, names))
        };
        match readable(what, only_row(&set).and_then(read))? {
            (false, ..) => Err(self.access_required()),
            (_, true, _) => Err(PostgresError::IsInRecovery),
            (_, _, (before, after)) => Ok(before.filter(|before| Some(before) < after.as_ref())),
        }
    }

    /// As [`fetch_remote_status`](PostgreSQL::fetch_remote_status), with further statements in the same round
    /// trip; their results follow in order. There are none if the connection fails.
    pub async fn fetch_remote_status_with(
        &self,
        statements: &[&str],
    ) -> (PostgresStatus, Vec<Result<ResultSet, Error>>) {
        PostgresStatus::fetch(self, statements).await
    }

    /// Which of these privileges the role lacks; none for a superuser.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn missing_privileges(
        &self,
        privileges: Vec<Privilege>,
    ) -> Result<Vec<Privilege>, PostgresError> {
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
        self.one("asking for privileges", columns, &[], read).await
    }

    pub(super) fn access_required(&self) -> PostgresError {
        let user = self.conn_parameters().get("user").map(str::to_string);
        PostgresError::BackupFunctionsAccessRequired { user }
    }

    async fn require(&self, num: u32, version: &'static str) -> Result<(), PostgresError> {
        if self.server_version().await? < ServerVersion::from_num(num) {
            return Err(PostgresError::UnsupportedFeature(version));
        }
        Ok(())
    }

    /// Reads one row.
    async fn one<T>(
        &self,
        what: &'static str,
        sql: impl Fn(ServerVersion) -> String,
        params: &[Option<&str>],
        read: impl FnOnce(Row<'_>) -> Result<T, ColumnError>,
    ) -> Result<T, PostgresError> {
        let set = self.session.read(what, sql, params).await?;
        readable(what, only_row(&set).and_then(read))
    }

    /// Reads the value of an expression that may be NULL.
    async fn optional_value<T: FromStr>(
        &self,
        what: &'static str,
        expression: impl Fn(ServerVersion) -> String,
    ) -> Result<Option<T>, PostgresError> {
        // As text, so that a boolean is `true` or `false`.
        let sql = |version| sql::scalar(&format!("({})::pg_catalog.text", expression(version)));
        self.one(what, sql, &[], |row| row.optional("value")).await
    }

    /// Reads the value of an expression.
    async fn value<T: FromStr>(
        &self,
        what: &'static str,
        expression: impl Fn(ServerVersion) -> String,
    ) -> Result<T, PostgresError> {
        let value = self.optional_value(what, expression).await?;
        value.ok_or_else(|| PostgresError::failed(what, null("value").into()))
    }
}

/// Everything in these classes is qualified; this is for what cannot be, such as operators.
const SAFE_SEARCH_PATH: &str = "-csearch_path=";

fn null(column: &str) -> ColumnError {
    ColumnError { column: column.into(), kind: crate::client::ColumnErrorKind::Null }
}

/// The first row of a statement that gives one.
pub(super) fn only_row(set: &ResultSet) -> Result<Row<'_>, ColumnError> {
    set.row(0).ok_or_else(|| null("0"))
}

/// What was read of an answer, or an error that tells which answer cannot be read.
pub(super) fn readable<T>(what: &'static str, read: Result<T, ColumnError>) -> Result<T, PostgresError> {
    read.map_err(|error| PostgresError::failed(what, Error::Column(error)))
}

impl sealed::Object for PostgreSQLConnection {
    type Link = Connection;
    type RemoteStatus = PostgresStatus;

    fn session(&self) -> &Session<Connection> {
        &self.session
    }

    fn remembered(&self) -> &Mutex<Option<Arc<PostgresStatus>>> {
        &self.remembered
    }
}

impl PostgreSQL for PostgreSQLConnection {
    const CHECK_QUERY: &'static str = "SELECT 1";

    async fn fetch_remote_status(&self) -> PostgresStatus {
        PostgresStatus::fetch(self, &[]).await.0
    }
}
