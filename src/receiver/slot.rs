//! Finds the oldest WAL that a slot keeps.
//!
//! Some servers report this position over an ordinary connection only: see [`SlotBySql`].

use super::plan::Server;
use super::start::server_history;
use super::within;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal};
use crate::replication::{ReplicationConnection, SlotBySql};
use crate::types::{Lsn, ServerVersion, TimelineId};

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Reads the position and timeline of the oldest WAL that the slot keeps.
    pub(super) async fn slot_position(
        &mut self,
        connection: &mut ReplicationConnection,
        server: &Server,
    ) -> Result<Option<(Lsn, TimelineId)>, ReceiveError> {
        let Some(slot) = self.options.slot.clone() else { return Ok(None) };
        let Server { system, version, .. } = server;
        if *version >= ServerVersion::release(15) {
            // START_REPLICATION refuses a slot that does not exist, in the server's words.
            let Some(position) = connection.read_slot(&slot).await? else { return Ok(None) };
            if let Some(lsn) = position.restart_lsn {
                return Ok(Some((lsn, position.restart_timeline.unwrap_or(system.timeline))));
            }
            // From 18 on START_REPLICATION refuses a lost slot, so that this code need not.
            if *version >= ServerVersion::release(18) {
                return Ok(None);
            }
        }
        let Some(lsn) = self.ask_for_slot(&slot, *version).await? else { return Ok(None) };
        let history = server_history(connection, system.timeline).await?;
        Ok(Some((lsn, history.timeline_of(lsn))))
    }

    /// Reads the position of the oldest WAL that the slot keeps in an SQL session. `None` if the slot keeps no WAL,
    /// or if the SQL session fails: receiving does not depend on that session.
    async fn ask_for_slot(
        &mut self,
        slot: &str,
        version: ServerVersion,
    ) -> Result<Option<Lsn>, ReceiveError> {
        let limit = self.options.receive_timeout;
        let config = self.connector.config();
        let asked =
            within(limit, "asking for the slot", async { Ok(SlotBySql::read(config, slot, version).await?) });
        // START_REPLICATION refuses a slot that does not exist, in the server's words.
        match asked.await.map(Option::unwrap_or_default) {
            Ok(SlotBySql { wal_status: Some(status), .. }) if status == "lost" => {
                Err(Refusal::SlotLost { slot: slot.into(), message: None }.into())
            }
            Ok(SlotBySql { restart_lsn, .. }) => Ok(restart_lsn),
            Err(error) => {
                (self.on_event)(ReceiverEvent::SlotUnknown { slot, error: &error });
                Ok(None)
            }
        }
    }
}
