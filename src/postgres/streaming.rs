use std::format;
use std::prelude::v1::*;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::PostgresError;
use super::postgresql::{PostgreSQL, sealed, sorted};
use super::reconnecting::Reconnecting;
use super::status::StatusError;
use crate::client::Error;
use crate::conninfo::{Config, ConnInfo, Environment};
use crate::replication::{IdentifySystem, PhysicalSlot, ReplicationConnection};
use crate::types::{Lsn, SqlState, SystemId, TimelineId};

/// A connection with the replication protocol, to identify the cluster and to create and drop slots.
///
/// The class changes the connection string. It sets `replication=true` and the database `replication`, so
/// that the password file's line for `replication` counts, and only without one the line for the given
/// database. It also puts `DateStyle` in front of the caller's `options`.
#[derive(Debug)]
pub struct StreamingConnection {
    reconnecting: Reconnecting<ReplicationConnection>,
    remembered: Mutex<Option<Arc<StreamingStatus>>>,
}

/// The status of a server, as [`StreamingConnection`] reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamingStatus {
    /// Why the server gave no answer.
    pub connection_error: Option<StatusError>,
    /// Whether the server's version is supported; `None` if the server cannot be reached.
    pub version_supported: Option<bool>,
    /// Whether the server's version can stream WAL; `None` if the server cannot be reached.
    pub streaming_supported: Option<bool>,
    /// Whether a WAL sender answers; false, for example, if a connection pooler is in between.
    pub streaming: Option<bool>,
    /// The system identifier of the cluster.
    pub streaming_systemid: Option<SystemId>,
    /// The server's current timeline.
    pub timeline: Option<TimelineId>,
    /// The end of the WAL that a primary has flushed, or that a standby has received or replayed and flushed.
    pub xlogpos: Option<Lsn>,
}

impl StreamingConnection {
    /// An object without a connection yet; the environment is that of the process.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`] if the connection string cannot be read.
    pub fn new(conninfo: &str) -> Result<Self, PostgresError> {
        Self::with_environment(&conninfo.parse()?, Environment::from_process())
    }

    /// As [`new`](Self::new), with parameters and environment of the caller's choice.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_environment(given: &ConnInfo, environment: Environment) -> Result<Self, PostgresError> {
        let mut parameters = given.clone();
        let options = match given.get("options").unwrap_or_default() {
            "" => "-cdatestyle=iso".to_string(),
            options => format!("-cdatestyle=iso {options}"),
        };
        for (keyword, value) in
            [("dbname", "replication"), ("replication", "true"), ("options", options.as_str())]
        {
            parameters.set(keyword, value)?;
        }
        let parameters = sorted(&parameters);
        let (effective, given) = (parameters.clone(), given.clone());
        let make_config = move || Ok(config(&effective, &given, &environment)?);
        let reconnecting =
            Reconnecting::new("StreamingConnection", parameters.encode(), parameters, make_config);
        Ok(Self { reconnecting, remembered: Mutex::new(None) })
    }

    /// Creates a physical slot, which keeps WAL from the first position that a receiver confirms.
    ///
    /// # Errors
    /// [`PostgresError::DuplicateReplicationSlot`], [`PostgresError::ReplicationSlotsFull`], a name that no
    /// slot may have, or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be created all the same; the next call waits for the end of the command.
    pub async fn create_physical_repslot(&self, name: &str) -> Result<(), PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        match connection.create_physical_slot(name, PhysicalSlot::default()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.sqlstate() {
                Some(SqlState::DUPLICATE_OBJECT) => PostgresError::DuplicateReplicationSlot(error),
                Some(SqlState::CONFIGURATION_LIMIT_EXCEEDED) => PostgresError::ReplicationSlotsFull(error),
                _ => PostgresError::failed("CREATE_REPLICATION_SLOT", error),
            }),
        }
    }

    /// Drops a slot, without waiting until it is free.
    ///
    /// # Errors
    /// [`PostgresError::InvalidReplicationSlot`], [`PostgresError::ReplicationSlotInUse`], or a loss of the
    /// connection.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be dropped all the same; the next call waits for the end of the command.
    pub async fn drop_repslot(&self, name: &str) -> Result<(), PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        connection.drop_slot(name, false).await.map_err(|error| match error.sqlstate() {
            Some(SqlState::UNDEFINED_OBJECT) => PostgresError::InvalidReplicationSlot(error),
            Some(SqlState::OBJECT_IN_USE) => PostgresError::ReplicationSlotInUse(error),
            _ => PostgresError::failed("DROP_REPLICATION_SLOT", error),
        })
    }

    /// Runs `IDENTIFY_SYSTEM`. If the connection turns out to be lost, runs it once more on a new one.
    async fn identify_system(&self) -> Result<IdentifySystem, PostgresError> {
        let mut connection = self.reconnecting.connect().await?;
        match connection.identify_system().await {
            Err(error) if connection.may_repeat(&error) => {}
            result => return result.map_err(|error| PostgresError::failed("IDENTIFY_SYSTEM", error)),
        }
        drop(connection);
        let mut connection = self.reconnecting.connect().await?;
        let result = connection.identify_system().await;
        result.map_err(|error| PostgresError::failed("IDENTIFY_SYSTEM", error))
    }

    async fn gather_status(&self, status: &mut StreamingStatus) -> Result<(), PostgresError> {
        let is_supported = self.is_minimal_postgres_version().await?;
        status.version_supported = Some(is_supported);
        status.streaming_supported = Some(is_supported);
        if !is_supported {
            return Ok(());
        }
        let system = match self.identify_system().await {
            Err(PostgresError::Failed { source: Error::Server(error), .. }) => {
                // The peer speaks the protocol but is not a WAL sender.
                status.streaming = Some(false);
                log::debug!("IDENTIFY_SYSTEM: {error}");
                return Ok(());
            }
            result => result?,
        };
        status.streaming = Some(true);
        status.streaming_systemid = Some(system.system_id);
        status.timeline = Some(system.timeline);
        status.xlogpos = Some(system.xlog_pos);
        Ok(())
    }
}

impl sealed::Object for StreamingConnection {
    type Connection = ReplicationConnection;
    type RemoteStatus = StreamingStatus;

    fn reconnecting(&self) -> &Reconnecting<ReplicationConnection> {
        &self.reconnecting
    }

    fn remembered(&self) -> &Mutex<Option<Arc<StreamingStatus>>> {
        &self.remembered
    }
}

impl PostgreSQL for StreamingConnection {
    const CHECK_QUERY: &'static str = "IDENTIFY_SYSTEM";

    async fn fetch_remote_status(&self) -> StreamingStatus {
        let mut status = StreamingStatus::default();
        if let Err(error) = self.gather_status(&mut status).await {
            let connection_error = Some(StatusError::of(&error));
            status = StreamingStatus { connection_error, ..StreamingStatus::default() };
        }
        status
    }
}

/// The typed parameters. A host without a password for `replication` gets the password file's one for the
/// given database.
fn config(
    effective: &ConnInfo,
    given: &ConnInfo,
    environment: &Environment,
) -> Result<Config, crate::conninfo::ConnInfoError> {
    let mut config = effective.resolve(environment)?.config()?;
    if config.hosts.iter().any(|host| host.password.is_none()) {
        let other: Vec<_> = given.resolve(environment)?.config()?.hosts;
        for (host, other) in config.hosts.iter_mut().zip(other) {
            if host.password.is_none() {
                (host.password, host.password_entry) = (other.password, other.password_entry);
            }
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective_conninfo(conninfo: &str) -> String {
        StreamingConnection::new(conninfo).unwrap().conninfo().to_string()
    }

    #[test]
    fn the_connection_string_asks_for_physical_replication() {
        assert_eq!(
            effective_conninfo("host=/s port=5496 user=u dbname=x"),
            "dbname=replication host=/s options=-cdatestyle=iso port=5496 replication=true user=u"
        );
        assert_eq!(
            effective_conninfo("postgresql://u@h/x?options=-cwork_mem%3D1MB"),
            "dbname=replication host=h options='-cdatestyle=iso -cwork_mem=1MB' replication=true user=u"
        );
        assert!(matches!(StreamingConnection::new("host"), Err(PostgresError::Conninfo(_))));
    }

    #[test]
    fn the_password_file_is_searched_for_replication_and_then_for_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgpass");
        let password = |lines: &str| {
            std::fs::write(&file, lines).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, mode).unwrap();
            let given: ConnInfo =
                format!("host=h user=u dbname=x passfile={}", file.display()).parse().unwrap();
            let mut effective = given.clone();
            effective.set("dbname", "replication").unwrap();
            let config = config(&effective, &given, &Environment::empty()).unwrap();
            config.hosts[0].password.as_ref().map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned())
        };
        assert_eq!(
            password("h:*:x:u:of x\nh:*:replication:u:of replication\n"),
            Some("of replication".into())
        );
        assert_eq!(password("h:*:x:u:of x\n"), Some("of x".into()));
        assert_eq!(password("h:*:y:u:of y\n"), None);
    }

    #[test]
    fn the_application_name_is_added_only_where_the_string_has_none() {
        let connection = StreamingConnection::new("host=h").unwrap();
        assert_eq!(
            connection.get_connection_string(Some("a b")),
            "dbname=replication host=h options=-cdatestyle=iso replication=true application_name='a b'"
        );
        let named = StreamingConnection::new("host=h application_name=x").unwrap();
        assert_eq!(named.get_connection_string(Some("y")), named.conninfo());
    }
}
