use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::read::readable;
use super::rows::{owned, present};
use super::sql;
use crate::client::{ColumnError, Row};
use crate::types::Lsn;

/// A replication slot of any kind: a row of `pg_replication_slots`, and how much WAL the slot keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStatus {
    /// The name of the slot.
    pub slot_name: String,
    /// `physical` or `logical`.
    pub slot_type: String,
    /// The output plugin of a logical slot.
    pub plugin: Option<String>,
    /// The database of a logical slot.
    pub database: Option<String>,
    /// Whether a WAL sender uses the slot.
    pub active: bool,
    /// The process that uses the slot.
    pub active_pid: Option<i32>,
    /// The oldest WAL that the slot keeps; `None` if it keeps none.
    pub restart_lsn: Option<Lsn>,
    /// How far the client of a logical slot has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` for a slot that keeps no WAL (servers from 13 on).
    pub wal_status: Option<String>,
    /// How many bytes can be written before the slot may lose WAL; `None` without a limit in
    /// `max_slot_wal_keep_size` (servers from 13 on). Negative for a slot that may lose WAL at any time.
    pub safe_wal_size: Option<i64>,
    /// How many bytes of WAL there are from `restart_lsn` to the position that a primary writes at, or that a
    /// standby has received. Negative on a standby that has not received as far as `restart_lsn`.
    pub retained_bytes: Option<i64>,
}

impl PostgreSQLConnection {
    /// All replication slots, by name.
    ///
    /// # Errors
    /// [`PostgresError::Connection`], or [`PostgresError::Failed`] if the server refuses.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn slots(&self) -> Result<Vec<SlotStatus>, PostgresError> {
        let what = "asking for slots";
        let set = self.reconnecting.read(what, &sql::slots, &[]).await?;
        readable(what, set.rows().map(SlotStatus::read).collect())
    }
}

impl SlotStatus {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            slot_name: present(row, "slot_name")?,
            slot_type: present(row, "slot_type")?,
            plugin: owned(row, "plugin")?,
            database: owned(row, "database")?,
            active: row.parse("active")?,
            active_pid: row.optional("active_pid")?,
            restart_lsn: row.optional("restart_lsn")?,
            confirmed_flush_lsn: row.optional("confirmed_flush_lsn")?,
            wal_status: owned(row, "wal_status")?,
            safe_wal_size: row.optional("safe_wal_size")?,
            retained_bytes: row.optional("retained_bytes")?,
        })
    }
}
