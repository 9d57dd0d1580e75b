//! Compares the archive with the server, and finds the segment that a connection receives first.

use alloc::sync::Arc;
use std::boxed::Box;
use std::string::ToString as _;
use std::vec::Vec;

use super::on_disk;
use super::plan::{Plan, Server, Start, StartFacts, choose_start};
use super::{OpenArchive, ReceiveError, Receiver, ReceiverEvent, Refusal, ResumeReason};
use crate::archive::{Archive, ArchiveEnd, ArchiveError, ArchiveFileName, ForeignFile, ForeignKind};
use crate::client::Error;
use crate::compression::Compression;
use crate::replication::ReplicationConnection;
use crate::storage::StorageError;
use crate::types::{Lsn, ServerVersion, SqlState, SystemId, TimelineId, WalSegmentSize};
use crate::wal::{TimelineHistory, WalSegment};

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Checks that this server continues the archive, and finds the segment to start with. `gap` is the first byte
    /// of missing WAL that the user's options accept.
    pub(super) async fn prepare(
        &mut self,
        connection: &mut ReplicationConnection,
        gap: Option<Lsn>,
    ) -> Result<Plan, ReceiveError> {
        let server = self.identify(connection).await?;
        let version = server.version;
        let archive = self.open_archive(connection, server.system.system_id).await?;
        let end = {
            let archive = archive.clone();
            on_disk(move || archive.end()).await?
        };
        for warning in &end.warnings {
            (self.on_event)(ReceiverEvent::ArchiveWarning(warning));
        }
        let state = self.read_state(&archive, &server.system).await?;
        // This run has begun the files itself, for the server of its first connection.
        let is_known = state.is_some() || self.has_streamed;
        let end = check_owner(&archive, end, server.system.system_id, is_known).await?;
        if let Some(state) = &state {
            self.has_reached(state.timeline, state.flushed);
        }
        let (size, has_received) = (archive.segment_size(), self.bytes > 0);
        let broken_until =
            end.broken.last().and_then(|last| last.next()).map_or(Lsn::INVALID, WalSegment::start);
        let mut facts = StartFacts::new(end, state.as_ref(), &server, size, gap, has_received, self.reached);
        let (reason, first) = loop {
            match choose_start(&facts)? {
                Start::At(reason, first) => break (reason, first),
                Start::AskHistory => {
                    facts.history = Some(server_history(connection, server.system.timeline).await?);
                }
                Start::AskSlot => facts.slot = Some(Box::pin(self.slot_position(connection, &server)).await?),
            }
        };
        // The owner of the broken files is known, and what is in them is no whole segment.
        let replace_before =
            if matches!(reason, ResumeReason::Broken(_)) { broken_until } else { Lsn::INVALID };
        if !matches!(reason, ResumeReason::Slot | ResumeReason::Current) {
            Box::pin(self.check_slot(connection, version)).await?;
        }
        let proven = Vec::new();
        let mut plan =
            Plan { archive, server, first, reason, state, gap, replace_before, proven, checker: None };
        self.start_at_damaged(&mut plan).await?;
        Ok(plan)
    }

    /// Reads the server's identity, version and role. Refuses another cluster than that of the first connection.
    async fn identify(&mut self, connection: &mut ReplicationConnection) -> Result<Server, ReceiveError> {
        let system = connection.identify_system().await?;
        let version = connection.server_version()?;
        (self.on_event)(ReceiverEvent::Connected {
            server: connection.connection().server(),
            version,
            system_id: system.system_id,
            timeline: system.timeline,
        });
        if let Some(open) = self.archive.as_ref().filter(|open| open.system_id != system.system_id) {
            let (archive, server) = (open.system_id, system.system_id);
            return Err(Refusal::OtherCluster { archive, server, file: None }.into());
        }
        let is_standby = connection.connection().is_in_recovery(self.connector.config()).await?;
        Ok(Server { system, version, is_standby })
    }

    /// Opens and locks the archive on the first connection: only a server knows the segment size.
    async fn open_archive(
        &mut self,
        connection: &mut ReplicationConnection,
        system_id: SystemId,
    ) -> Result<Archive, ReceiveError> {
        if let Some(open) = &self.archive {
            return Ok(open.archive.clone());
        }
        let segment_size = connection.wal_segment_size().await?;
        // Servers from 11 on report whether the group may read their data directory.
        let group_access = connection.server_version()? >= ServerVersion::release(11)
            && connection.show("data_directory_mode").await?.ends_with("750");
        let directory = self.options.directory.clone();
        let (lock, archive) = on_disk(move || {
            let archive = Archive::open(&directory, segment_size)?
                .of_cluster(system_id)
                .with_group_access(group_access);
            Ok((archive.lock(), archive))
        })
        .await?;
        let lock = match lock {
            Ok(lock) => Some(Arc::new(lock)),
            // Some network file systems have no locks. Receiving without a lock is better than not receiving.
            Err(error @ ArchiveError::Storage(StorageError::LockUnsupported { .. })) => {
                (self.on_event)(ReceiverEvent::NotLocked(&error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.archive = Some(OpenArchive { archive: archive.clone(), lock, system_id, is_slot_known: false });
        Ok(archive)
    }

    /// Stores the history file of a timeline before the timeline's first byte. A history file that the archive
    /// already has must equal the server's: two servers may have begun the same timeline at different places.
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
            // The server removed its history file: the archive's copy is kept.
            Err(error) if here && error.sqlstate() == Some(SqlState::UNDEFINED_FILE) => return Ok(()),
            file => file?,
        };
        let expected = ArchiveFileName::History { timeline, compression: Compression::None }.to_string();
        if file.filename != expected {
            return Err(Refusal::HistoryName { expected, got: file.filename }.into());
        }
        // A history that cannot be parsed must not be stored: the archive would keep it for good.
        parse_history(timeline, &file.content)?;
        let archive = archive.clone();
        on_disk(move || archive.write_history(timeline, &file.content)).await?;
        if !here {
            (self.on_event)(ReceiverEvent::HistoryStored(timeline));
        }
        Ok(())
    }
}

/// Reads the history of the server's timeline.
pub(super) async fn server_history(
    connection: &mut ReplicationConnection,
    timeline: TimelineId,
) -> Result<TimelineHistory, ReceiveError> {
    if timeline == TimelineId::FIRST {
        return Ok(TimelineHistory::first());
    }
    parse_history(timeline, &connection.timeline_history(timeline).await?.content)
}

/// Refuses a server whose WAL would take the place of another cluster's.
async fn check_owner(
    archive: &Archive,
    end: ArchiveEnd,
    server: SystemId,
    is_known: bool,
) -> Result<ArchiveEnd, ReceiveError> {
    let size = archive.segment_size();
    let archive = archive.clone();
    let checked = on_disk(move || archive.check_owner(&end, server, is_known).map(|()| end)).await;
    checked.map_err(|error| match error {
        ReceiveError::Archive(ArchiveError::Foreign(file)) => not_ours(*file, server, size).into(),
        error => error,
    })
}

/// The refusal because of a file that is not the server's.
pub(super) fn not_ours(found: ForeignFile, server: SystemId, size: WalSegmentSize) -> Refusal {
    let file = found.path.clone();
    match found.kind {
        ForeignKind::OtherCluster(archive) => Refusal::OtherCluster { archive, server, file: Some(file) },
        ForeignKind::OtherSegmentSize(archive) => Refusal::OtherSegmentSize { archive, server: size, file },
        _ => Refusal::ForeignFile(found),
    }
}

fn parse_history(timeline: TimelineId, content: &[u8]) -> Result<TimelineHistory, ReceiveError> {
    TimelineHistory::parse(timeline, content)
        .map_err(|error| Error::Unexpected { expected: "a timeline history", got: error.to_string() }.into())
}

/// Turns a server's error into the refusal that it means for the archive, if it means one.
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
        // The server's function that refuses it has one reason to do so before it begins.
        (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, Some(slot))
            if said.routine.as_deref() == Some("StartReplication") =>
        {
            Refusal::SlotIsLogical { slot: slot.into() }.into()
        }
        (SqlState::UNDEFINED_FILE, _) => Refusal::Gap { next, timeline, server, message }.into(),
        // "can no longer access replication slot", from 18 on.
        (SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, Some(slot)) => {
            Refusal::SlotLost { slot: slot.into(), message: Some(message) }.into()
        }
        _ => error.into(),
    }
}
