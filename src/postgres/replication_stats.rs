use core::time::Duration;
use std::prelude::v1::*;

use super::rows::{flag, lag, owned};
use crate::client::{ColumnError, ResultSet, Row};
use crate::types::{Lsn, PgTimestamp, ServerVersion};

/// Which replication clients to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    /// Those that replay: standbys. Barman's `STANDBY`, 1.
    #[default]
    Standby,
    /// Those that only receive, base backups included. Barman's `WALSTREAMER`, 2.
    WalStreamer,
    /// Both. Barman's `ANY_STREAMING_CLIENT`.
    AnyStreamingClient,
}

/// A replication client: a row of `pg_stat_replication`, with its physical slot and the server's position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicationStats {
    /// The process of its WAL sender.
    pub pid: i32,
    /// Its role's number.
    pub usesysid: Option<u32>,
    /// Its role.
    pub usename: Option<String>,
    /// What it calls itself.
    pub application_name: Option<String>,
    /// Its address, without a mask; `None` over a Unix socket.
    pub client_addr: Option<String>,
    /// Its name, if the server looks names up.
    pub client_hostname: Option<String>,
    /// Its port; -1 over a Unix socket.
    pub client_port: Option<i32>,
    /// When it connected.
    pub backend_start: Option<PgTimestamp>,
    /// What `hot_standby_feedback` told.
    pub backend_xmin: Option<String>,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: Option<String>,
    /// How far WAL was sent to it.
    pub sent_lsn: Option<Lsn>,
    /// How far it has written.
    pub write_lsn: Option<Lsn>,
    /// How far that is durable.
    pub flush_lsn: Option<Lsn>,
    /// How far it has replayed; `None` for one that only receives.
    pub replay_lsn: Option<Lsn>,
    /// How long writing lagged behind (servers from 10 on).
    pub write_lag: Option<Duration>,
    /// How long making it durable lagged behind (servers from 10 on).
    pub flush_lag: Option<Duration>,
    /// How long replaying lagged behind (servers from 10 on).
    pub replay_lag: Option<Duration>,
    /// Its rank among synchronous standbys; 0 for an asynchronous one.
    pub sync_priority: Option<i32>,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: Option<String>,
    /// When it last reported (servers from 12 on).
    pub reply_time: Option<PgTimestamp>,
    /// Its physical slot.
    pub slot_name: Option<String>,
    /// Whether the server is a standby itself.
    pub is_in_recovery: bool,
    /// On a primary its write position, on a standby what it has received.
    pub current_lsn: Option<Lsn>,
}

/// The clients, or `None` if the role may not see them.
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
        is_in_recovery: flag(row, "is_in_recovery")?,
        current_lsn: row.optional("current_lsn")?,
    })
}
