use std::format;
use std::string::{String, ToString as _};

use crate::client::{Connection, Error, SessionLimits, quote_literal};
use crate::conninfo::{Config, Replication};
use crate::types::{Lsn, ServerVersion};

/// Every cluster has this database, unless its owner dropped it.
const DATABASE: &str = "postgres";
/// The first release with `wal_status`.
const WAL_STATUS: ServerVersion = ServerVersion::release(13);

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotBySql {
    /// The oldest WAL that the slot keeps; `None` if it keeps none.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost` (servers from 13 on).
    pub wal_status: Option<String>,
    /// Whether it is a logical slot, which gives no WAL.
    pub is_logical: bool,
}

impl SlotBySql {
    /// Whether the server has removed WAL that the slot was to keep.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }

    /// Reads a slot over an ordinary connection of its own, to the database `postgres` with everything else
    /// as in `config`; `None` if there is no such slot. `version` is the server's.
    ///
    /// Use this instead of [`read_slot`](super::ReplicationConnection::read_slot) where the replication
    /// protocol does not say enough: servers before 15 have no `READ_REPLICATION_SLOT`, and servers 15 to 17
    /// answer the same for a lost slot as for a new one.
    ///
    /// # Errors
    /// If the connection fails, or the server reports an error.
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub async fn read(config: &Config, slot: &str, version: ServerVersion) -> Result<Option<Self>, Error> {
        let mut config = config.clone();
        config.replication = Replication::None;
        config.dbname = DATABASE.into();
        let mut connection = Connection::connect(&config).await?;
        connection.set_limits(SessionLimits::CONTROL);
        let sets = connection.simple_query(&query(slot, version)).await?;
        connection.close().await?;
        let Some(row) = sets.first().and_then(|set| set.row(0)) else { return Ok(None) };
        let wal_status = row.optional_text("wal_status")?.map(str::to_string);
        let is_logical = row.optional_text("slot_type")? == Some("logical");
        Ok(Some(Self { restart_lsn: row.optional("restart_lsn")?, wal_status, is_logical }))
    }
}

/// How many replication connections a server admits, by its setting `max_wal_senders`, over an ordinary connection to the
/// database `postgres` with everything else as in `config`. With 0, no replication connection succeeds before the server is
/// restarted with another setting.
///
/// # Errors
/// If the connection fails, or the server reports an error.
///
/// # Cancel safety
/// If the future is dropped the connection is closed.
pub async fn max_wal_senders(config: &Config) -> Result<u32, Error> {
    let mut config = config.clone();
    config.replication = Replication::None;
    config.dbname = DATABASE.into();
    let mut connection = Connection::connect(&config).await?;
    connection.set_limits(SessionLimits::CONTROL);
    let sets = connection.simple_query("SHOW max_wal_senders").await?;
    connection.close().await?;
    let row = sets.first().and_then(|set| set.row(0));
    let unexpected = || Error::Unexpected { expected: "a setting", got: "no row".into() };
    Ok(row.ok_or_else(unexpected)?.parse(0)?)
}

fn query(slot: &str, version: ServerVersion) -> String {
    let wal_status = if version >= WAL_STATUS { "wal_status" } else { "NULL AS wal_status" };
    format!(
        "SELECT slot_type, restart_lsn, {wal_status} FROM pg_catalog.pg_replication_slots \
         WHERE slot_name OPERATOR(pg_catalog.=) {}",
        quote_literal(slot)
    )
}
