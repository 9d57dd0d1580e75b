//! Where the WAL begins that a slot keeps.
//!
//! Some of it only SQL tells: replication connections of servers before 15 do not tell a slot's position, and those
//! of 15 to 17 say the same of a lost slot as of a new one.

use std::format;
use std::string::String;

use super::plan::Server;
use super::start::server_history;
use super::within;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal};
use crate::client::Error;
use crate::client::{Connection, quote_literal};
use crate::conninfo::{Config, Replication};
use crate::replication::ReplicationConnection;
use crate::types::{Lsn, ServerVersion, TimelineId};

/// Every cluster has it, but for those whose owner dropped it.
const DATABASE: &str = "postgres";

/// What `pg_replication_slots` says.
#[derive(Default)]
struct Slot {
    restart_lsn: Option<Lsn>,
    /// From 13 on.
    wal_status: Option<String>,
}

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Where the WAL begins that the slot keeps, and its timeline.
    pub(super) async fn slot_position(
        &mut self,
        connection: &mut ReplicationConnection,
        server: &Server,
    ) -> Result<Option<(Lsn, TimelineId)>, ReceiveError> {
        let Some(slot) = self.options.slot.clone() else { return Ok(None) };
        let Server { system, version, .. } = server;
        if *version >= ServerVersion::release(15) {
            // A slot that does not exist is told by START_REPLICATION, in the server's words.
            let Some(position) = connection.read_slot(&slot).await? else { return Ok(None) };
            if let Some(lsn) = position.restart_lsn {
                return Ok(Some((lsn, position.restart_timeline.unwrap_or(system.timeline))));
            }
            // From 18 on START_REPLICATION refuses a slot that is lost.
            if *version >= ServerVersion::release(18) {
                return Ok(None);
            }
        }
        let Some(lsn) = self.ask_for_slot(&slot, *version).await? else { return Ok(None) };
        let history = server_history(connection, system.timeline).await?;
        Ok(Some((lsn, history.timeline_of(lsn))))
    }

    /// Where the WAL begins that the slot keeps, by a session of SQL; `None` if it keeps none, or if there can be
    /// no such session, on which receiving does not depend.
    async fn ask_for_slot(
        &mut self,
        slot: &str,
        version: ServerVersion,
    ) -> Result<Option<Lsn>, ReceiveError> {
        let mut config = self.connector.config().clone();
        config.replication = Replication::None;
        config.dbname = DATABASE.into();
        let limit = self.options.receive_timeout;
        let asked = within(limit, "asking for the slot", async { Ok(query(&config, slot, version).await?) });
        match asked.await {
            Ok(Slot { wal_status: Some(status), .. }) if status == "lost" => {
                Err(Refusal::SlotLost { slot: slot.into(), message: None }.into())
            }
            Ok(Slot { restart_lsn, .. }) => Ok(restart_lsn),
            Err(error) => {
                (self.on_event)(ReceiverEvent::SlotUnknown { slot, error: &error });
                Ok(None)
            }
        }
    }
}

async fn query(config: &Config, slot: &str, version: ServerVersion) -> Result<Slot, Error> {
    let wal_status = if version >= ServerVersion::release(13) { "wal_status" } else { "NULL" };
    let query = format!(
        "SELECT restart_lsn, {wal_status} FROM pg_catalog.pg_replication_slots \
         WHERE slot_name OPERATOR(pg_catalog.=) {}",
        quote_literal(slot)
    );
    let mut connection = Connection::connect(config).await?;
    let sets = connection.simple_query(&query).await?;
    connection.close().await?;
    // One that does not exist is told by START_REPLICATION, in the server's words.
    let Some(row) = sets.first().and_then(|set| set.row(0)) else { return Ok(Slot::default()) };
    Ok(Slot { restart_lsn: row.optional(0)?, wal_status: row.optional_text(1)?.map(Into::into) })
}
