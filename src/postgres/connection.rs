use core::sync::atomic::{AtomicBool, Ordering};
use std::prelude::v1::*;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::PostgresError;
use super::name_map::NameMap;
use super::postgresql::{PostgreSQL, sealed};
use super::reconnecting::Reconnecting;
use super::replication_stats::ClientType;
use super::rows::ConfigurationFiles;
use super::status::PostgresStatus;
use crate::client::Connection;
use crate::conninfo::{ConnInfo, Environment};

/// An ordinary connection to a server, for its status and for control over WAL and backups.
///
/// Each member is one round trip, unless its documentation says "no round trip". What the server refuses to
/// tell is an error with the reason, not an absent value.
#[derive(Debug)]
pub struct PostgreSQLConnection {
    pub(super) reconnecting: Reconnecting<Connection>,
    remembered: Mutex<Option<Arc<PostgresStatus>>>,
    pub(super) configuration_files: Mutex<ConfigurationFiles>,
    immediate_checkpoint: AtomicBool,
    slot_name: Option<String>,
    application_name: String,
}

/// The options of a [`PostgreSQLConnection`], besides its connection string.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Whether the checkpoint at the start of a backup is done as fast as possible; by default false.
    pub immediate_checkpoint: bool,
    /// The physical slot that [`fetch_remote_status`](PostgreSQL::fetch_remote_status) reports.
    pub slot_name: Option<String>,
    /// The session's `application_name`, unless the connection string has one; by default `barman`.
    pub application_name: String,
    /// The environment that defaults of the connection string come from; by default that of the process.
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
    /// Replication clients that replay WAL, which are standbys: see
    /// [`get_replication_stats`](Self::get_replication_stats).
    pub const STANDBY: ClientType = ClientType::Standby;
    /// Replication clients that only receive WAL.
    pub const WALSTREAMER: ClientType = ClientType::WalStreamer;
    /// All replication clients.
    pub const ANY_STREAMING_CLIENT: ClientType = ClientType::AnyStreamingClient;
    /// The statement that a heartbeat sends.
    pub const HEARTBEAT_QUERY: &'static str = "SELECT 1";

    /// An object without a connection yet.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`] if the connection string cannot be read.
    pub fn new(conninfo: &str) -> Result<Self, PostgresError> {
        let parameters = conninfo.parse()?;
        Self::build("PostgreSQLConnection", conninfo.into(), parameters, ConnectionOptions::default())
    }

    /// As [`new`](Self::new), with parsed parameters and with options.
    ///
    /// # Errors
    /// [`PostgresError::AppName`] if the application name contains a zero byte.
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
        let make_config = move || Ok(effective.resolve(&environment)?.config()?);
        Ok(Self {
            reconnecting: Reconnecting::new(class, conninfo, parameters, make_config),
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

    /// Sets whether the checkpoints of backups that start from now on are done as fast as possible.
    pub fn set_immediate_checkpoint(&self, immediate: bool) {
        self.immediate_checkpoint.store(immediate, Ordering::Relaxed);
    }

    /// The slot that the status reports.
    #[must_use]
    pub fn slot_name(&self) -> Option<&str> {
        self.slot_name.as_deref()
    }

    /// The session's `application_name`, unless the connection string has one.
    #[must_use]
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// The names that the server's version uses. No round trip; the newest names if the server cannot be
    /// reached.
    ///
    /// # Cancel safety
    /// If the future is dropped, a connection that is being made is given up.
    pub async fn name_map(&self) -> NameMap {
        self.server_version().await.map_or_else(|_| NameMap::newest(), NameMap::new)
    }

    /// Asks the server for a sign of life over the existing connection. Never makes a connection.
    ///
    /// # Errors
    /// [`PostgresError::NoConnection`] if there is none, or the error that ended it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call waits for the end of the statement.
    pub async fn send_heartbeat_query(&self) -> Result<(), PostgresError> {
        let mut connection = self.reconnecting.existing().await?;
        let answer = connection.simple_query(Self::HEARTBEAT_QUERY).await;
        answer.map(drop).map_err(|error| PostgresError::failed("the heartbeat", error))
    }
}

impl sealed::Object for PostgreSQLConnection {
    type Connection = Connection;
    type RemoteStatus = PostgresStatus;

    fn reconnecting(&self) -> &Reconnecting<Connection> {
        &self.reconnecting
    }

    fn remembered(&self) -> &Mutex<Option<Arc<PostgresStatus>>> {
        &self.remembered
    }
}

impl PostgreSQL for PostgreSQLConnection {
    const CHECK_QUERY: &'static str = "SELECT 1";

    async fn fetch_remote_status(&self) -> PostgresStatus {
        self.fetch_status().await
    }
}
