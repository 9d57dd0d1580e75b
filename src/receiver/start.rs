//! Where a connection begins to receive, and whether it may.

use alloc::sync::Arc;
use std::string::ToString as _;

use super::on_disk;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, ResumeReason};
use crate::archive::{Archive, ArchiveError, ArchiveFileName, ArchiveState};
use crate::client::Error;
use crate::compression::Compression;
use crate::replication::{IdentifySystem, ReplicationConnection};
use crate::storage::StorageError;
use crate::types::{Lsn, ServerVersion, SqlState, TimelineId};
use crate::wal::{TimelineHistory, WalSegment};

/// Servers flush whole pages of WAL but for the last record. After a crash one may be behind what it had sent of a
/// record that it never finished, by less than a page.
const PAGE_BYTES: u64 = 8192;

/// Where to begin.
pub(super) struct Plan {
    pub(super) archive: Archive,
    pub(super) system: IdentifySystem,
    /// The first segment to receive.
    pub(super) first: WalSegment,
    /// Why that one.
    pub(super) reason: ResumeReason,
    /// What the state file said.
    pub(super) state: Option<ArchiveState>,
}

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Checks that this server continues the archive, and finds the segment to begin with.
    pub(super) async fn prepare(
        &mut self,
        connection: &mut ReplicationConnection,
    ) -> Result<Plan, ReceiveError> {
        let system = connection.identify_system().await?;
        let version = connection.server_version()?;
        (self.on_event)(ReceiverEvent::Connected {
            server: connection.connection().server(),
            version,
            system_id: system.system_id,
            timeline: system.timeline,
        });
        if let Some(archive) = self.system_id.filter(|archive| *archive != system.system_id) {
            return Err(Refusal::OtherCluster { archive, server: system.system_id }.into());
        }
        self.system_id = Some(system.system_id);
        self.server_position = system.xlog_pos;
        self.from_standby = is_standby(connection).await?;
        let archive = self.open_archive(connection).await?;
        let mut end = {
            let archive = archive.clone();
            on_disk(move || archive.end()).await?
        };
        for warning in &end.warnings {
            (self.on_event)(ReceiverEvent::ArchiveWarning(warning));
        }
        let state = self.read_state(&archive, &system).await?;
        if let Some(state) = &state {
            end.broken.retain(|segment| !state.has_accepted_without(*segment));
            self.has_reached(state.timeline, state.flushed);
        }
        if let Some(newest) = end.newest {
            let archive = archive.clone();
            let found = on_disk(move || archive.system_id(newest)).await?;
            if let Some(archive) = found.filter(|archive| *archive != system.system_id) {
                return Err(Refusal::OtherCluster { archive, server: system.system_id }.into());
            }
        }
        // Where the newest segments are gone, the state tells.
        let by_files = end.resume_at().map(|next| (end.newest.map(ResumeReason::Archive), next));
        let by_state = state
            .as_ref()
            .map(|state| (Some(ResumeReason::State(state.flushed)), end.before_broken(state.resume_at())));
        let newer = by_files.into_iter().chain(by_state).reduce(|a, b| if b.1 > a.1 { b } else { a });
        let newer = newer.map(|(reason, next)| {
            let reason = reason.filter(|_| !end.broken.contains(&next));
            (reason.unwrap_or(ResumeReason::Broken(next)), next)
        });
        let (reason, first) = match newer {
            Some((reason, next)) if self.gap.is_none() => {
                self.check_continues(connection, &system, next, state.as_ref()).await?;
                (reason, next)
            }
            _ => self.first_segment(connection, &system, archive.segment_size()).await?,
        };
        Ok(Plan { archive, system, first, reason, state })
    }

    /// Opens and locks the archive on the first connection: only a server knows the segment size.
    async fn open_archive(
        &mut self,
        connection: &mut ReplicationConnection,
    ) -> Result<Archive, ReceiveError> {
        if let Some((archive, _)) = &self.archive {
            return Ok(archive.clone());
        }
        let segment_size = connection.wal_segment_size().await?;
        // Servers from 11 on say whether the group may read their files.
        let group_access = connection.server_version()? >= ServerVersion::release(11)
            && connection.show("data_directory_mode").await?.ends_with("750");
        let directory = self.options.directory.clone();
        let (lock, archive) = on_disk(move || {
            let archive = Archive::open(&directory, segment_size)?.with_group_access(group_access);
            Ok((archive.lock(), archive))
        })
        .await?;
        let lock = match lock {
            Ok(lock) => Some(Arc::new(lock)),
            // Some network file systems have none. To keep WAL there is better than not to.
            Err(error @ ArchiveError::Storage(StorageError::LockUnsupported { .. })) => {
                (self.on_event)(ReceiverEvent::NotLocked(&error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.archive = Some((archive.clone(), lock));
        Ok(archive)
    }

    /// Whether the server's history goes through the place where the archive ends.
    async fn check_continues(
        &mut self,
        connection: &mut ReplicationConnection,
        system: &IdentifySystem,
        next: WalSegment,
        state: Option<&ArchiveState>,
    ) -> Result<(), ReceiveError> {
        let (timeline, mut position) = (next.timeline(), next.start());
        if timeline == system.timeline {
            if let Some(state) = state.filter(|state| state.resume_at() == next) {
                position = position.max(Lsn::new(state.flushed.get() / PAGE_BYTES * PAGE_BYTES));
            }
            // A standby may lag behind what was received from another server, and catch up.
            if position > system.xlog_pos && !self.from_standby {
                return Err(
                    Refusal::ArchiveAhead { next: position, timeline, server: system.xlog_pos }.into()
                );
            }
            return Ok(());
        }
        // Nor may it have heard of the promotion of the server that we received from meanwhile; it says so itself.
        if self.from_standby && timeline > system.timeline && self.bytes > 0 {
            return Ok(());
        }
        let history = self.server_history(connection, system.timeline).await?;
        if !history.contains(timeline, position) {
            let (switchpoint, server_timeline) = (history.switchpoint_of(timeline), system.timeline);
            return Err(Refusal::OffHistory { next: position, timeline, server_timeline, switchpoint }.into());
        }
        Ok(())
    }

    pub(super) async fn server_history(
        &self,
        connection: &mut ReplicationConnection,
        timeline: TimelineId,
    ) -> Result<TimelineHistory, ReceiveError> {
        if timeline == TimelineId::FIRST {
            return Ok(TimelineHistory::first());
        }
        parse_history(timeline, &connection.timeline_history(timeline).await?.content)
    }

    /// Stores the history of a timeline before its first byte. One that is here already has to be the server's:
    /// two servers may have begun the same timeline at different places.
    pub(super) async fn store_history(
        &mut self,
        connection: &mut ReplicationConnection,
        archive: &Archive,
        timeline: TimelineId,
    ) -> Result<(), ReceiveError> {
        if timeline == TimelineId::FIRST {
            return Ok(());
        }
        let here = {
            let archive = archive.clone();
            on_disk(move || archive.has_history(timeline)).await?
        };
        let file = match connection.timeline_history(timeline).await {
            // It was removed there: the archive is where it is kept.
            Err(error) if here && error.sqlstate() == Some(SqlState::UNDEFINED_FILE) => return Ok(()),
            file => file?,
        };
        let expected = ArchiveFileName::History { timeline, compression: Compression::None }.to_string();
        if file.filename != expected {
            return Err(Refusal::HistoryName { expected, got: file.filename }.into());
        }
        // What is stored is not fetched again.
        parse_history(timeline, &file.content)?;
        let archive = archive.clone();
        on_disk(move || archive.write_history(timeline, &file.content)).await?;
        if !here {
            (self.on_event)(ReceiverEvent::HistoryStored(timeline));
        }
        Ok(())
    }
}

fn parse_history(timeline: TimelineId, content: &[u8]) -> Result<TimelineHistory, ReceiveError> {
    TimelineHistory::parse(timeline, content)
        .map_err(|error| Error::Unexpected { expected: "a timeline history", got: error.to_string() }.into())
}

/// Servers before 14 do not report it; there a session that is read-only tells.
async fn is_standby(connection: &mut ReplicationConnection) -> Result<bool, Error> {
    if let Some(value) = connection.connection().parameters().get("in_hot_standby") {
        return Ok(value == "on");
    }
    Ok(connection.show("transaction_read_only").await? == "on")
}

/// Says what an error of the server means for the archive.
pub(super) fn explain(
    error: Error,
    next: Lsn,
    timeline: TimelineId,
    server: Lsn,
    slot: Option<&str>,
) -> ReceiveError {
    let Some(said) = error.server_error() else { return error.into() };
    let message = said.message.clone();
    match (said.sqlstate, slot) {
        (SqlState::UNDEFINED_FILE, _) => Refusal::Gap { next, timeline, server, message }.into(),
        // "can no longer access replication slot", from 18 on; or it is a logical one, as the message tells.
        (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, Some(slot)) => {
            Refusal::SlotLost { slot: slot.into(), message: Some(message) }.into()
        }
        _ => error.into(),
    }
}
