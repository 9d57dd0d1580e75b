//! Where a connection begins to receive, and whether it may.

use std::string::ToString as _;
use std::time::SystemTime;

use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, on_disk};
use crate::error::Error;
use crate::replication::{IdentifySystem, ReplicationConnection};
use crate::types::{Lsn, ServerVersion, SqlState, TimelineId};
use crate::wal::{
    AcceptedGap, Archive, ArchiveEnd, ArchiveFileName, ArchiveState, Compression, TimelineHistory, WalSegment,
};

/// Servers flush whole pages of WAL but for the last record. After a crash one may be behind what it had sent of a
/// record that it never finished, by less than a page.
const PAGE_BYTES: u64 = 8192;

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
        let state = self.read_state(&archive, &system).await?;
        if let Some(newest) = end.newest {
            let archive = archive.clone();
            let found = on_disk(move || archive.system_id(newest)).await?;
            if let Some(archive) = found.filter(|archive| *archive != system.system_id) {
                return Err(Refusal::OtherCluster { archive, server: system.system_id }.into());
            }
        }
        let first = match self.next_segment(&end, state.as_ref()) {
            Some(next) if self.gap.is_none() => {
                self.check_continues(connection, &system, next, state.as_ref()).await?;
                next
            }
            _ => self.first_segment(connection, &system, &archive).await?,
        };
        self.update_state(&archive, &system, state, first, end.newest.is_some()).await?;
        Ok((archive, first))
    }

    /// What the state file says, which must not be of another archive.
    async fn read_state(
        &self,
        archive: &Archive,
        system: &IdentifySystem,
    ) -> Result<Option<ArchiveState>, ReceiveError> {
        if !self.options.state_file {
            return Ok(None);
        }
        let size = archive.segment_size();
        let archive = archive.clone();
        let state = on_disk(move || archive.read_state()).await?;
        match &state {
            Some(state) if state.system_id != system.system_id => {
                Err(Refusal::OtherCluster { archive: state.system_id, server: system.system_id }.into())
            }
            Some(state) if state.segment_size != size => {
                Err(Refusal::OtherSegmentSize { archive: state.segment_size, server: size }.into())
            }
            _ => Ok(state),
        }
    }

    /// The segment that continues the archive, by its files, or by its state where they are gone; `None` for an
    /// archive that never had one.
    fn next_segment(&mut self, end: &ArchiveEnd, state: Option<&ArchiveState>) -> Option<WalSegment> {
        let (files, state) =
            (end.resume_at(), state.filter(|state| Some(state.resume_at()) > end.resume_at()));
        let Some(&ArchiveState { flushed, timeline, .. }) = state else { return files };
        (self.on_event)(ReceiverEvent::Resumed { flushed, timeline });
        state.map(ArchiveState::resume_at)
    }

    /// Notes in the state file where the archive goes on, and the gap before it if there is one. An archive that
    /// has no WAL yet has no state either.
    async fn update_state(
        &mut self,
        archive: &Archive,
        system: &IdentifySystem,
        before: Option<ArchiveState>,
        first: WalSegment,
        has_files: bool,
    ) -> Result<(), ReceiveError> {
        if !self.options.state_file {
            return Ok(());
        }
        let mut state = before.clone().unwrap_or_else(|| ArchiveState {
            system_id: system.system_id,
            segment_size: archive.segment_size(),
            timeline: first.timeline(),
            flushed: first.start(),
            gaps: std::vec::Vec::new(),
        });
        let gap = self.gap.take();
        if let Some(missing_from) = gap {
            let (from, to) = (missing_from.max(state.flushed), first.start());
            if from < to {
                let gap = AcceptedGap { from, to, accepted_at: SystemTime::now().into() };
                state.gaps.push(gap);
                (self.on_event)(ReceiverEvent::GapAccepted(gap));
            }
        }
        if state.resume_at() < first {
            (state.timeline, state.flushed) = (first.timeline(), first.start());
        }
        self.state = Some(state.clone());
        if before.as_ref() == Some(&state) || (before.is_none() && !has_files) {
            return Ok(());
        }
        let archive = archive.clone();
        match on_disk(move || archive.write_state(&state)).await {
            // The files tell it as well, but for a gap.
            Err(ReceiveError::Archive(error)) if error.is_out_of_space() && gap.is_none() => Ok(()),
            result => result,
        }
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

    /// Where an empty archive begins, or one behind a gap: at what the slot keeps, else at the server's current
    /// segment.
    async fn first_segment(
        &mut self,
        connection: &mut ReplicationConnection,
        system: &IdentifySystem,
        archive: &Archive,
    ) -> Result<WalSegment, ReceiveError> {
        let segment = |(lsn, timeline)| WalSegment::containing(lsn, timeline, archive.segment_size());
        let current = segment((system.xlog_pos, system.timeline));
        let kept = self.slot_position(connection, system).await?.map(segment);
        Ok(kept.filter(|kept| self.gap.is_none_or(|gap| kept.start() > gap)).unwrap_or(current))
    }

    /// Where the WAL begins that the slot keeps, and its timeline.
    async fn slot_position(
        &mut self,
        connection: &mut ReplicationConnection,
        system: &IdentifySystem,
    ) -> Result<Option<(Lsn, TimelineId)>, ReceiveError> {
        let Some(slot) = self.options.slot.clone() else { return Ok(None) };
        let version = connection.server_version()?;
        if version >= ServerVersion::release(15) {
            // A slot that does not exist is told by START_REPLICATION, in the server's words.
            let Some(position) = connection.read_slot(&slot).await? else { return Ok(None) };
            if let Some(lsn) = position.restart_lsn {
                return Ok(Some((lsn, position.restart_timeline.unwrap_or(system.timeline))));
            }
            // From 18 on START_REPLICATION refuses a slot that is lost.
            if version >= ServerVersion::release(18) {
                return Ok(None);
            }
        }
        let Some(lsn) = self.ask_for_slot(&slot, version).await? else { return Ok(None) };
        let history = self.server_history(connection, system.timeline).await?;
        Ok(Some((lsn, history.timeline_of(lsn))))
    }

    /// Whether the server's history goes through the place where the archive ends.
    async fn check_continues(
        &self,
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
