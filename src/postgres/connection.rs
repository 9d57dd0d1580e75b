use core::sync::atomic::{AtomicBool, Ordering};
use std::format;
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

/// An ordinary connection to a server: its status, and control over WAL and backups.
///
/// Each member is one round trip, or none where that is said. What the server does not want to tell is an
/// error with its reason, not an absent value.
#[derive(Debug)]
pub struct PostgreSQLConnection {
    pub(super) reconnecting: Reconnecting<Connection>,
    remembered: Mutex<Option<Arc<PostgresStatus>>>,
    pub(super) configuration_files: Mutex<ConfigurationFiles>,
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
        let mut connection = self.reconnecting.existing().await?;
        let answer = connection.simple_query(Self::HEARTBEAT_QUERY).await;
        answer.map(drop).map_err(|error| PostgresError::failed("the heartbeat", error))
    }
}

/// Everything in these classes is qualified; this is for what cannot be, such as operators.
const SAFE_SEARCH_PATH: &str = "-csearch_path=";

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
