//! Finds the oldest WAL that a slot keeps.
//!
//! Some servers report this position over an ordinary connection only: see [`SlotBySql`].

use super::plan::Server;
use super::start::server_history;
use super::within;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal};
use crate::replication::{PhysicalSlot, ReplicationConnection, SlotBySql, SlotPosition};
use crate::types::{Lsn, ServerVersion, SqlState, TimelineId};

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
            let Some(position) = read_slot(connection, &slot).await? else { return Ok(None) };
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

    /// Refuses a slot that is logical or lost, as far as the server tells. Once there is WAL in the archive, nothing
    /// else asks for the slot before the stream, and servers before 18 let a lost slot stream on.
    pub(super) async fn check_slot(
        &mut self,
        connection: &mut ReplicationConnection,
        version: ServerVersion,
    ) -> Result<(), ReceiveError> {
        let Some(slot) = self.options.slot.clone() else { return Ok(()) };
        if version >= ServerVersion::release(15) {
            match read_slot(connection, &slot).await? {
                // A slot that has never been used keeps nothing either; only SQL tells it from a lost one.
                Some(position) if position.restart_lsn.is_none() => {}
                _ => return Ok(()),
            }
        } else if self.archive.as_ref().is_some_and(|open| open.is_slot_known) {
            return Ok(());
        }
        // Receiving does not depend on the session of SQL.
        if self.ask_by_sql(&slot, version).await?.is_ok()
            && let Some(open) = &mut self.archive
        {
            open.is_slot_known = true;
        }
        Ok(())
    }

    /// Creates the slot on a server that does not have it. A failure is not reported: the next connection finds the
    /// slot missing again.
    pub(super) async fn create_slot(&mut self) {
        let Some(slot) = self.options.slot.clone() else { return };
        let limit = self.options.receive_timeout;
        let created = within(limit, "creating the slot", async {
            let mut connection = self.connect().await?;
            let options = PhysicalSlot { temporary: false, reserve_wal: true };
            connection.create_physical_slot(&slot, options).await?;
            Ok(connection.close().await?)
        });
        if created.await.is_ok() {
            (self.on_event)(ReceiverEvent::SlotCreated { slot: &slot });
        }
    }

    /// Reads the position of the oldest WAL that the slot keeps in an SQL session. `None` if the slot keeps no WAL,
    /// or if the SQL session fails: receiving does not depend on that session.
    async fn ask_for_slot(
        &mut self,
        slot: &str,
        version: ServerVersion,
    ) -> Result<Option<Lsn>, ReceiveError> {
        match self.ask_by_sql(slot, version).await? {
            // START_REPLICATION refuses a slot that does not exist, in the server's words.
            Ok(found) => Ok(found.and_then(|found| found.restart_lsn)),
            Err(error) => {
                (self.on_event)(ReceiverEvent::SlotUnknown { slot, error: &error });
                Ok(None)
            }
        }
    }

    /// Reads the slot in an SQL session. The outer error refuses a slot that is logical or lost, the inner one is that of
    /// the session.
    async fn ask_by_sql(
        &self,
        slot: &str,
        version: ServerVersion,
    ) -> Result<Result<Option<SlotBySql>, ReceiveError>, Refusal> {
        let config = self.connector.config();
        let asked = async { Ok(SlotBySql::read(config, slot, version).await?) };
        let asked = within(self.options.receive_timeout, "asking for the slot", asked).await;
        match asked {
            Ok(Some(found)) if found.is_logical => Err(Refusal::SlotIsLogical { slot: slot.into() }),
            Ok(Some(found)) if found.is_lost() => Err(Refusal::SlotLost { slot: slot.into(), message: None }),
            asked => Ok(asked),
        }
    }
}

/// `READ_REPLICATION_SLOT` (servers from 15 on); `None` if there is no such slot.
async fn read_slot(
    connection: &mut ReplicationConnection,
    slot: &str,
) -> Result<Option<SlotPosition>, ReceiveError> {
    connection.read_slot(slot).await.map_err(|error| match error.sqlstate() {
        Some(SqlState::FEATURE_NOT_SUPPORTED) => Refusal::SlotIsLogical { slot: slot.into() }.into(),
        _ => error.into(),
    })
}
