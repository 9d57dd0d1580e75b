use std::prelude::v1::*;

use super::connection::PostgreSQLConnection;
use super::error::PostgresError;
use super::read::readable;
use super::rows::owned;
use super::sql;
use crate::client::{ColumnError, Row};
use crate::types::Lsn;

/// A replication client of any kind, as its WAL sender reports it: a row of `pg_stat_replication`, and how
/// far the client is behind.
///
/// A role without monitoring privileges sees of other roles' clients only `pid`, `usename` and
/// `application_name`; everything else is `None`. [`ReplicationStats`](super::ReplicationStats) is Barman's
/// view of the same clients, which such a role is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalSender {
    /// The process of the WAL sender.
    pub pid: i32,
    /// The client's role.
    pub usename: Option<String>,
    /// The client's application name.
    pub application_name: Option<String>,
    /// The client's address, without a mask; `None` over a Unix socket.
    pub client_addr: Option<String>,
    /// The client's port; -1 over a Unix socket.
    pub client_port: Option<i32>,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: Option<String>,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: Option<String>,
    /// How far WAL was sent to the client.
    pub sent_lsn: Option<Lsn>,
    /// How far the client has written WAL.
    pub write_lsn: Option<Lsn>,
    /// How far WAL is durable on the client.
    pub flush_lsn: Option<Lsn>,
    /// How far the client has replayed; `None` for a client that only receives.
    pub replay_lsn: Option<Lsn>,
    /// How many bytes of WAL a primary has written, or a standby received, beyond `sent_lsn`.
    pub sent_lag_bytes: Option<i64>,
    /// How many bytes of WAL a primary has written, or a standby received, beyond `flush_lsn`.
    pub flush_lag_bytes: Option<i64>,
    /// Seconds since the client connected, by the server's clock; negative if the clock was set back.
    pub age_s: Option<i64>,
    /// The slot that the client uses, if any.
    pub slot_name: Option<String>,
}

impl PostgreSQLConnection {
    /// All replication clients, by application name and process. Unlike
    /// [`get_replication_stats`](Self::get_replication_stats) this needs no privilege.
    ///
    /// # Errors
    /// [`PostgresError::Connection`], or [`PostgresError::Failed`] if the server refuses.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statement goes on in the server; the next call waits for its end.
    pub async fn wal_senders(&self) -> Result<Vec<WalSender>, PostgresError> {
        let what = "asking for replication clients";
        let set = self.reconnecting.read(what, &sql::wal_senders, &[]).await?;
        readable(what, set.rows().map(WalSender::read).collect())
    }
}

impl WalSender {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            pid: row.parse("pid")?,
            usename: owned(row, "usename")?,
            application_name: owned(row, "application_name")?,
            client_addr: owned(row, "client_addr")?,
            client_port: row.optional("client_port")?,
            state: owned(row, "state")?,
            sync_state: owned(row, "sync_state")?,
            sent_lsn: row.optional("sent_lsn")?,
            write_lsn: row.optional("write_lsn")?,
            flush_lsn: row.optional("flush_lsn")?,
            replay_lsn: row.optional("replay_lsn")?,
            sent_lag_bytes: row.optional("sent_lag_bytes")?,
            flush_lag_bytes: row.optional("flush_lag_bytes")?,
            age_s: row.optional("age_s")?,
            slot_name: owned(row, "slot_name")?,
        })
    }
}
