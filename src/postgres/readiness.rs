use std::prelude::v1::*;

use super::rows::{owned, present};
use crate::client::{ColumnError, Row};

/// The facts that decide whether a role can receive WAL from a server and take backups of it, besides those
/// in [`PostgresStatus`](super::PostgresStatus).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// The role that the session acts as, whose privileges count; quoted where SQL needs that.
    pub role: String,
    /// The role that logged in, to which `pg_hba.conf` and the attribute `REPLICATION` apply; quoted likewise.
    pub login_role: String,
    /// The client's address as the server sees it; `None` over a Unix socket.
    pub client_addr: Option<String>,
    /// How the server stores new passwords: `scram-sha-256` or `md5`; before 10 `on` or `off`.
    pub password_encryption: String,
    /// Whether the role that logged in has the attribute `REPLICATION`, or is a superuser.
    pub may_replicate: bool,
    /// How many WAL senders run.
    pub wal_senders: u32,
    /// How many replication slots exist, of any kind.
    pub slots: u32,
    /// The milliseconds of silence after which the server gives up a receiver; 0 for never.
    pub wal_sender_timeout_ms: Option<u64>,
    /// `archive_mode`: `off`, `on` or `always`.
    pub archive_mode: String,
    /// How close the object's [slot](super::PostgreSQLConnection::slot_name) is to being lost; `None` if the object
    /// has no slot, or the server has none of that name or is older than 13.
    pub slot: Option<SlotAvailability>,
}

/// How close a replication slot is to being lost (servers from 13 on).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotAvailability {
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` for a slot that keeps no WAL.
    pub wal_status: Option<String>,
    /// How many bytes can be written before the slot may lose WAL; `None` without a limit in
    /// `max_slot_wal_keep_size`. Negative for a slot that may lose WAL at any time.
    pub safe_wal_size: Option<i64>,
}

impl Readiness {
    pub(super) fn read(row: Row<'_>, slot: Option<SlotAvailability>) -> Result<Self, ColumnError> {
        Ok(Self {
            role: present(row, "role")?,
            login_role: present(row, "login_role")?,
            client_addr: owned(row, "client_addr")?,
            password_encryption: present(row, "password_encryption")?,
            may_replicate: row.optional_text("may_replicate")? == Some("t"),
            wal_senders: row.parse("wal_senders")?,
            slots: row.parse("slots")?,
            wal_sender_timeout_ms: row.optional("wal_sender_timeout_ms")?,
            archive_mode: present(row, "archive_mode")?,
            slot,
        })
    }
}

impl SlotAvailability {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self { wal_status: owned(row, "wal_status")?, safe_wal_size: row.optional("safe_wal_size")? })
    }
}
