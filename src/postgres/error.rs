use core::fmt;
use core::time::Duration;
use std::prelude::v1::*;

use crate::client::Error;
use crate::conninfo::ConnInfoError;
use crate::types::{Advice, SqlState, WithCauses};

/// Why a member of the classes failed.
///
/// Every exception of Barman's module has a variant; [`class`](Self::class) returns the exception's name.
/// `Display` describes only this layer; [`source`](core::error::Error::source) returns the next one.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// The connection string cannot be read, or refers to something that does not exist.
    Conninfo(ConnInfoError),
    /// No connection could be made, or the existing one is lost.
    Connection(Error),
    /// The connection was lost, and another one is not allowed: see
    /// [`set_allow_reconnect`](super::PostgreSQL::set_allow_reconnect).
    ReconnectForbidden {
        /// Why the connection was lost.
        reason: String,
    },
    /// The application name cannot be sent to the server.
    AppName(ConnInfoError),
    /// The keep-alive noticed that the connection is lost.
    ConnectionLost {
        /// How long ago the server answered the last heartbeat, or the keep-alive began.
        silent: Duration,
        /// The error of the heartbeat.
        source: Box<Self>,
    },
    /// Only a superuser may do this. No member returns this error today; the variant exists because Barman
    /// has the exception.
    SuperuserRequired,
    /// The role lacks privileges that backups need: see
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
    /// The server has this version or a later one; this version removed the feature.
    ObsoleteFeature(&'static str),
    /// A slot of that name already exists.
    DuplicateReplicationSlot(Error),
    /// `max_replication_slots` is reached.
    ReplicationSlotsFull(Error),
    /// No slot of that name exists.
    InvalidReplicationSlot(Error),
    /// Another session uses the slot.
    ReplicationSlotInUse(Error),
    /// A command failed.
    Failed {
        /// The command or function, by the server's name for it.
        what: &'static str,
        /// The error of the server or of the connection.
        source: Error,
    },
    /// The object has no connection, which a heartbeat needs.
    NoConnection,
    /// Stopping a backup of a standby failed or took too long, and so did switching WAL on its primary.
    Standby {
        /// Why the backup could not be stopped.
        source: Box<Self>,
        /// Why WAL could not be switched.
        primary: Box<Self>,
    },
    /// The stop of a backup waited for WAL, which did not come in time.
    StopTimeout(Duration),
}

impl PostgresError {
    /// The name of Barman's exception for this error.
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

    /// The error of the connection or the server that this error contains.
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

    /// The SQLSTATE that the server sent.
    #[must_use]
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.error().and_then(Error::sqlstate)
    }

    /// What the user can do about this error, if that is known.
    #[must_use]
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::BackupFunctionsAccessRequired { .. } => Some(Advice::GrantBackupPrivileges),
            Self::Connection(error) | Self::Failed { source: error, .. } => error.advice(),
            _ => None,
        }
    }

    /// Whether the object has no connection: it was lost or never made.
    #[must_use]
    pub fn is_connection_lost(&self) -> bool {
        match self {
            Self::ReconnectForbidden { .. } | Self::ConnectionLost { .. } | Self::NoConnection => true,
            _ => self.error().is_some_and(Error::is_connection_lost),
        }
    }

    /// Whether the cause is a role, a privilege or a password.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        match self {
            Self::BackupFunctionsAccessRequired { .. }
            | Self::CheckpointPrivilegesRequired
            | Self::SuperuserRequired => true,
            _ => self.error().is_some_and(Error::is_authentication),
        }
    }

    /// The error of the command `what`.
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
            Self::AppName(_) => f.write_str("the application name cannot be sent to the server"),
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
