use core::time::Duration;
use std::prelude::v1::*;

use super::rows::{lag, owned};
use crate::client::{ColumnError, ResultSet, Row};
use crate::types::{Lsn, PgTimestamp, ServerVersion};

/// Which replication clients to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    /// Clients that replay WAL, which are standbys. Barman's `STANDBY`, 1.
    #[default]
    Standby,
    /// Clients that only receive, base backups included. Barman's `WALSTREAMER`, 2.
    WalStreamer,
    /// Both. Barman's `ANY_STREAMING_CLIENT`.
    AnyStreamingClient,
}

/// A replication client: a row of `pg_stat_replication`, with its physical slot and the server's position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicationStats {
    /// The process of the client's WAL sender.
    pub pid: i32,
    /// The oid of the client's role.
    pub usesysid: Option<u32>,
    /// The client's role.
    pub usename: Option<String>,
    /// The client's application name.
    pub application_name: Option<String>,
    /// The client's address, without a mask; `None` over a Unix socket.
    pub client_addr: Option<String>,
    /// The client's host name, if the server looks names up.
    pub client_hostname: Option<String>,
    /// The client's port; -1 over a Unix socket.
    pub client_port: Option<i32>,
    /// When the client connected.
    pub backend_start: Option<PgTimestamp>,
    /// The `xmin` that the client reported by `hot_standby_feedback`.
    pub backend_xmin: Option<String>,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: Option<String>,
    /// How far WAL was sent to the client.
    pub sent_lsn: Option<Lsn>,
    /// How far the client has written WAL.
    pub write_lsn: Option<Lsn>,
    /// How far WAL is durable on the client.
    pub flush_lsn: Option<Lsn>,
    /// How far the client has replayed; `None` for a client that only receives.
    pub replay_lsn: Option<Lsn>,
    /// How long writing lagged behind (servers from 10 on).
    pub write_lag: Option<Duration>,
    /// How long making it durable lagged behind (servers from 10 on).
    pub flush_lag: Option<Duration>,
    /// How long replaying lagged behind (servers from 10 on).
    pub replay_lag: Option<Duration>,
    /// The client's rank among synchronous standbys; 0 for an asynchronous client.
    pub sync_priority: Option<i32>,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: Option<String>,
    /// When the client last reported (servers from 12 on).
    pub reply_time: Option<PgTimestamp>,
    /// The physical slot that the client uses.
    pub slot_name: Option<String>,
    /// Whether the server is a standby itself.
    pub is_in_recovery: bool,
    /// The position that a primary writes at, or that a standby has received.
    pub current_lsn: Option<Lsn>,
}

/// Reads the clients; `None` if the role may not see them.
pub(super) fn read(
    set: &ResultSet,
    version: ServerVersion,
) -> Result<Option<Vec<ReplicationStats>>, ColumnError> {
    let mut clients = Vec::new();
    for row in set.rows() {
        if row.optional_text("allowed")? != Some("t") {
            return Ok(None);
        }
        if row.get("pid")?.is_some() {
            clients.push(client(row, version)?);
        }
    }
    Ok(Some(clients))
}

fn client(row: Row<'_>, version: ServerVersion) -> Result<ReplicationStats, ColumnError> {
    let lag = |column| if version >= ServerVersion::release(10) { lag(row, column) } else { Ok(None) };
    Ok(ReplicationStats {
        pid: row.parse("pid")?,
        usesysid: row.optional("usesysid")?,
        usename: owned(row, "usename")?,
        application_name: owned(row, "application_name")?,
        client_addr: owned(row, "client_addr")?,
        client_hostname: owned(row, "client_hostname")?,
        client_port: row.optional("client_port")?,
        backend_start: row.optional("backend_start")?,
        backend_xmin: owned(row, "backend_xmin")?,
        state: owned(row, "state")?,
        sent_lsn: row.optional("sent_lsn")?,
        write_lsn: row.optional("write_lsn")?,
        flush_lsn: row.optional("flush_lsn")?,
        replay_lsn: row.optional("replay_lsn")?,
        write_lag: lag("write_lag")?,
        flush_lag: lag("flush_lag")?,
        replay_lag: lag("replay_lag")?,
        sync_priority: row.optional("sync_priority")?,
        sync_state: owned(row, "sync_state")?,
        reply_time: if version >= ServerVersion::release(12) { row.optional("reply_time")? } else { None },
        slot_name: owned(row, "slot_name")?,
        is_in_recovery: row.parse("is_in_recovery")?,
        current_lsn: row.optional("current_lsn")?,
    })
}
