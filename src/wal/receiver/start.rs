//! Where a connection begins to receive, and whether it may.

use std::string::ToString as _;

use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, on_disk};
use crate::error::Error;
use crate::replication::{IdentifySystem, ReplicationConnection};
use crate::types::{Lsn, ServerVersion, SqlState, TimelineId};
use crate::wal::{Archive, ArchiveFileName, Compression, TimelineHistory, WalChecker, WalSegment};

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Checks that this server continues the archive, and finds the segment to begin with.
    pub(super) async fn prepare(
        &mut self,
        connection: &mut ReplicationConnection,
    ) -> Result<(Archive, WalSegment), ReceiveError> {
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
        let archive = self.open_archive(connection).await?;
        let end = {
            let archive = archive.clone();
            on_disk(move || archive.end()).await?
        };
        for warning in &end.warnings {
            (self.on_event)(ReceiverEvent::ArchiveWarning(warning));
        }
        if let Some(newest) = end.newest {
            let archive = archive.clone();
            let found = on_disk(move || archive.system_id(newest)).await?;
            if let Some(archive) = found.filter(|archive| *archive != system.system_id) {
                return Err(Refusal::OtherCluster { archive, server: system.system_id }.into());
            }
        }
        let first = match end.resume_at() {
            Some(next) => {
                self.check_continues(connection, &system, next).await?;
                next
            }
            None => self.first_segment(connection, &system, &archive).await?,
        };
        Ok((archive, first))
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
        let (archive, lock) = on_disk(move || {
            let archive = Archive::open(&directory, segment_size)?.with_group_access(group_access);
            let lock = archive.lock()?;
            Ok((archive, lock))
        })
        .await?;
        self.archive = Some((archive.clone(), lock));
        Ok(archive)
    }

    /// Where an empty archive begins: at what the slot keeps, else at the server's current segment.
    async fn first_segment(
        &self,
        connection: &mut ReplicationConnection,
        system: &IdentifySystem,
        archive: &Archive,
    ) -> Result<WalSegment, ReceiveError> {
        let mut start = (system.xlog_pos, system.timeline);
        if let Some(slot) = &self.options.slot
            && connection.server_version()? >= ServerVersion::release(15)
        {
            // A slot that does not exist is told by START_REPLICATION, in the server's words.
            if let Some(position) = connection.read_slot(slot).await?
                && let Some(restart_lsn) = position.restart_lsn
            {
                start = (restart_lsn, position.restart_timeline.unwrap_or(system.timeline));
            }
        }
        Ok(WalSegment::containing(start.0, start.1, archive.segment_size()))
    }

    /// Whether the server's history goes through the place where the archive ends.
    async fn check_continues(
        &self,
        connection: &mut ReplicationConnection,
        system: &IdentifySystem,
        next: WalSegment,
    ) -> Result<(), ReceiveError> {
        let (timeline, position) = (next.timeline(), next.start());
        if timeline == system.timeline {
            // A standby may lag behind what was received from another server, and catch up.
            if position > system.xlog_pos && !is_standby(connection).await? {
                return Err(
                    Refusal::ArchiveAhead { next: position, timeline, server: system.xlog_pos }.into()
                );
            }
            return Ok(());
        }
        let history = self.server_history(connection, system.timeline).await?;
        if history.contains(timeline, position) {
            return Ok(());
        }
        Err(Refusal::OffHistory {
            next: position,
            timeline,
            server_timeline: system.timeline,
            switchpoint: history.switchpoint_of(timeline),
        }
        .into())
    }

    /// The check of WAL from `first` on, if this server's WAL can be checked.
    pub(super) async fn checker(
        &mut self,
        connection: &ReplicationConnection,
        archive: &Archive,
        first: WalSegment,
    ) -> Result<Option<WalChecker>, ReceiveError> {
        if !self.options.check_wal {
            return Ok(None);
        }
        let version = connection.server_version()?;
        if !(10..=18).contains(&version.major()) {
            (self.on_event)(ReceiverEvent::Unchecked(version));
            return Ok(None);
        }
        let timeline = first.timeline();
        let checker = WalChecker::new(archive.segment_size(), self.system_id, timeline, first.start());
        let archive = archive.clone();
        let history = on_disk(move || archive.read_history(timeline)).await?;
        Ok(Some(match history.and_then(|history| history.began_at()) {
            Some(switchpoint) => checker.with_switchpoint(switchpoint),
            None => checker,
        }))
    }

    async fn server_history(
        &self,
        connection: &mut ReplicationConnection,
        timeline: TimelineId,
    ) -> Result<TimelineHistory, ReceiveError> {
        if timeline == TimelineId::FIRST {
            return Ok(TimelineHistory::first());
        }
        let file = connection.timeline_history(timeline).await?;
        TimelineHistory::parse(timeline, &file.content).map_err(|error| {
            Error::Unexpected { expected: "a timeline history", got: error.to_string() }.into()
        })
    }

    /// Stores the history of a timeline before its first byte, unless it is here already.
    pub(super) async fn store_history(
        &mut self,
        connection: &mut ReplicationConnection,
        archive: &Archive,
        timeline: TimelineId,
    ) -> Result<(), ReceiveError> {
        let here = {
            let archive = archive.clone();
            on_disk(move || archive.has_history(timeline)).await?
        };
        if timeline == TimelineId::FIRST || here {
            return Ok(());
        }
        let file = connection.timeline_history(timeline).await?;
        let expected = ArchiveFileName::History { timeline, compression: Compression::None }.to_string();
        if file.filename != expected {
            return Err(Refusal::HistoryName { expected, got: file.filename }.into());
        }
        let archive = archive.clone();
        on_disk(move || archive.write_history(timeline, &file.content)).await?;
        (self.on_event)(ReceiverEvent::HistoryStored(timeline));
        Ok(())
    }
}

/// Servers before 14 do not report it; there a session that is read-only tells.
async fn is_standby(connection: &mut ReplicationConnection) -> Result<bool, Error> {
    if let Some(value) = connection.connection().parameters().get("in_hot_standby") {
        return Ok(value == "on");
    }
    Ok(connection.show("transaction_read_only").await? == "on")
}

/// Says what an error of the server means for the archive.
pub(super) fn explain(error: Error, next: Lsn, timeline: TimelineId, server: Lsn) -> ReceiveError {
    let message = match error.server_error() {
        Some(said) if said.sqlstate == SqlState::UNDEFINED_FILE => said.message.clone(),
        _ => return error.into(),
    };
    Refusal::Gap { next, timeline, server, message }.into()
}
