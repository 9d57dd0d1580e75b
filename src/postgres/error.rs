use core::fmt;
use core::time::Duration;
use std::prelude::v1::*;

use crate::client::Error;
use crate::conninfo::ConnInfoError;
use crate::types::{Advice, SqlState, WithCauses};

/// Why a member of the classes gave no answer.
///
/// There is a variant for every exception of Barman's module, and [`class`](Self::class) gives its name there.
/// `Display` tells this layer's part, [`source`](core::error::Error::source) the next one.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// The connection string cannot be read, or something that it refers to is not there.
    Conninfo(ConnInfoError),
    /// No connection could be made, or the one there was is lost.
    Connection(Error),
    /// The connection was lost, and making another was not allowed: see
    /// [`set_allow_reconnect`](super::PostgreSQL::set_allow_reconnect).
    ReconnectForbidden {
        /// What became of the connection.
        reason: String,
    },
    /// The application name cannot be told to the server.
    AppName(ConnInfoError),
    /// The keep-alive found that the connection is lost.
    ConnectionLost {
        /// How long ago the last heartbeat was answered, or the watch began.
        silent: Duration,
        /// What the heartbeat met.
        source: Box<Self>,
    },
    /// Only a superuser may do this. No member raises it today; it is here because Barman has it.
    SuperuserRequired,
    /// The role lacks what taking backups needs: see
    /// [`has_backup_privileges`](super::PostgreSQLConnection::has_backup_privileges).
    BackupFunctionsAccessRequired {
        /// The user of the connection string, if it names one.
        user: Option<String>,
    },
    /// The role may not run `CHECKPOINT`.
    CheckpointPrivilegesRequired,
    /// A standby writes no WAL of its own.
    IsInRecovery,
    /// The server is older than this version, which brought the feature.
    UnsupportedFeature(&'static str),
    /// The server has this version or a later one, which took the feature away.
    ObsoleteFeature(&'static str),
    /// There is a slot of that name already.
    DuplicateReplicationSlot(Error),
    /// `max_replication_slots` is reached.
    ReplicationSlotsFull(Error),
    /// There is no slot of that name.
    InvalidReplicationSlot(Error),
    /// Somebody uses the slot.
    ReplicationSlotInUse(Error),
    /// A command failed.
    Failed {
        /// What was tried, by the server's name for it.
        what: &'static str,
        /// What the server, or the connection, said.
        source: Error,
    },
    /// A heartbeat needs a connection, and there is none.
    NoConnection,
    /// Stopping a backup of a standby failed or took too long, and so did switching WAL on its primary.
    Standby {
        /// What became of the backup.
        source: Box<Self>,
        /// What became of the switch.
        primary: Box<Self>,
    },
    /// The stop of a backup waits for WAL that did not come in time.
    StopTimeout(Duration),
}

impl PostgresError {
    /// The name of Barman's exception for this.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Conninfo(_) => "ConninfoException",
            Self::Connection(_) | Self::ReconnectForbidden { .. } | Self::NoConnection => {
                "PostgresConnectionError"
            }
            Self::AppName(_) => "PostgresAppNameError",
            Self::ConnectionLost { .. } => "PostgresConnectionLost",
            Self::SuperuserRequired => "PostgresSuperuserRequired",
            Self::BackupFunctionsAccessRequired { .. } => "BackupFunctionsAccessRequired",
            Self::CheckpointPrivilegesRequired => "PostgresCheckpointPrivilegesRequired",
            Self::IsInRecovery => "PostgresIsInRecovery",
            Self::UnsupportedFeature(_) => "PostgresUnsupportedFeature",
            Self::ObsoleteFeature(_) => "PostgresObsoleteFeature",
            Self::DuplicateReplicationSlot(_) => "PostgresDuplicateReplicationSlot",
            Self::ReplicationSlotsFull(_) => "PostgresReplicationSlotsFull",
            Self::InvalidReplicationSlot(_) => "PostgresInvalidReplicationSlot",
            Self::ReplicationSlotInUse(_) => "PostgresReplicationSlotInUse",
            Self::Failed { .. } | Self::Standby { .. } | Self::StopTimeout(_) => "PostgresException",
        }
    }

    /// The error of the connection or the server in it.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Connection(error)
            | Self::DuplicateReplicationSlot(error)
            | Self::ReplicationSlotsFull(error)
            | Self::InvalidReplicationSlot(error)
            | Self::ReplicationSlotInUse(error)
            | Self::Failed { source: error, .. } => Some(error),
            Self::ConnectionLost { source, .. } | Self::Standby { source, .. } => source.error(),
            _ => None,
        }
    }

    /// What the server gave as SQLSTATE.
    #[must_use]
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.error().and_then(Error::sqlstate)
    }

    /// What can be done about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::BackupFunctionsAccessRequired { .. } => Some(Advice::GrantBackupPrivileges),
            Self::Connection(error) | Self::Failed { source: error, .. } => error.advice(),
            _ => None,
        }
    }

    /// Whether there is no connection any more, or there never was one.
    #[must_use]
    pub fn is_connection_lost(&self) -> bool {
        match self {
            Self::ReconnectForbidden { .. } | Self::ConnectionLost { .. } | Self::NoConnection => true,
            _ => self.error().is_some_and(Error::is_connection_lost),
        }
    }

    /// Whether a role or a password is what stands in the way.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::BackupFunctionsAccessRequired { .. }
            | Self::CheckpointPrivilegesRequired
            | Self::SuperuserRequired => true,
            _ => self.error().is_some_and(Error::is_authentication),
        }
    }

    /// The error of a command that is called `what`.
    pub(super) fn failed(what: &'static str, source: Error) -> Self {
        match source {
            source if source.is_connection_lost() => Self::Connection(source),
            source => Self::Failed { what, source },
        }
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conninfo(error) => error.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::ReconnectForbidden { reason } => {
                write!(f, "the connection was lost, and reconnecting is not allowed: {reason}")
            }
            Self::AppName(_) => f.write_str("the application name cannot be told to the server"),
            Self::ConnectionLost { silent, .. } => {
                write!(
                    f,
                    "the keep-alive lost the connection, {:.1} s after its last answer",
                    silent.as_secs_f64()
                )
            }
            Self::SuperuserRequired => f.write_str("a superuser is required"),
            Self::BackupFunctionsAccessRequired { user } => {
                let user = user.as_deref().unwrap_or("the connection's role");
                write!(f, "{user} lacks privileges that backups need")
            }
            Self::CheckpointPrivilegesRequired => {
                f.write_str("CHECKPOINT needs a superuser, or from PostgreSQL 15 on the role pg_checkpoint")
            }
            Self::IsInRecovery => f.write_str("the server is a standby"),
            Self::UnsupportedFeature(since) => write!(f, "this needs PostgreSQL {since}"),
            Self::ObsoleteFeature(gone) => write!(f, "PostgreSQL {gone} and later do not have this any more"),
            Self::DuplicateReplicationSlot(_) => f.write_str("there is a slot of that name already"),
            Self::ReplicationSlotsFull(_) => f.write_str("all replication slots are in use"),
            Self::InvalidReplicationSlot(_) => f.write_str("there is no slot of that name"),
            Self::ReplicationSlotInUse(_) => f.write_str("the slot is in use"),
            Self::Failed { what, .. } => write!(f, "{what} failed"),
            Self::NoConnection => f.write_str("there is no connection"),
            Self::Standby { primary, .. } => {
                let primary = WithCauses(primary.as_ref());
                write!(f, "the backup of the standby could not be stopped; on the primary: {primary}")
            }
            Self::StopTimeout(after) => {
                write!(
                    f,
                    "the server still waited after {:.1} s for the end of the backup's WAL to be archived",
                    after.as_secs_f64()
                )
            }
        }
    }
}

impl core::error::Error for PostgresError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Connection(error) => error.source(),
            Self::AppName(error) => Some(error),
            Self::ConnectionLost { source, .. } | Self::Standby { source, .. } => Some(source.as_ref()),
            Self::DuplicateReplicationSlot(error)
            | Self::ReplicationSlotsFull(error)
            | Self::InvalidReplicationSlot(error)
            | Self::ReplicationSlotInUse(error)
            | Self::Failed { source: error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<ConnInfoError> for PostgresError {
    fn from(error: ConnInfoError) -> Self {
        Self::Conninfo(error)
    }
}
