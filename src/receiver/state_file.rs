//! Reads and writes the archive's state file.

use std::prelude::v1::*;
use std::time::SystemTime;

use super::on_disk;
use super::plan::Plan;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, ResumeReason};
use crate::archive::{AcceptedGap, Archive, ArchiveState};
use crate::replication::IdentifySystem;

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Reads the state file. Refuses one of another cluster or segment size.
    pub(super) async fn read_state(
        &self,
        archive: &Archive,
        system: &IdentifySystem,
    ) -> Result<Option<ArchiveState>, ReceiveError> {
        if !self.options.state_file {
            return Ok(None);
        }
        let size = archive.segment_size();
        let file = archive.path().join(ArchiveState::FILE_NAME);
        let archive = archive.clone();
        let state = on_disk(move || archive.read_state()).await?;
        match &state {
            Some(state) if state.system_id != system.system_id => {
                let (archive, server) = (state.system_id, system.system_id);
                Err(Refusal::OtherCluster { archive, server, file: Some(file) }.into())
            }
            Some(state) if state.segment_size != size => {
                Err(Refusal::OtherSegmentSize { archive: state.segment_size.bytes(), server: size, file }
                    .into())
            }
            _ => Ok(state),
        }
    }

    /// Writes to the state file where the archive goes on, if its files do not show that, and an accepted gap before
    /// that place. Reports both as events. An archive that has no WAL yet gets no state file.
    pub(super) async fn note_start(&mut self, plan: &mut Plan) -> Result<(), ReceiveError> {
        let has_received = self.bytes > 0;
        if let ResumeReason::State(flushed) | ResumeReason::Reached(flushed) = plan.reason
            && (plan.state.is_some() || has_received)
        {
            (self.on_event)(ReceiverEvent::Resumed { flushed, timeline: plan.first.timeline() });
        }
        let gap = plan.gap.and_then(|missing_from| {
            // The archive may have a part of the segment in progress, but has nothing of a broken segment.
            let in_progress = plan.state.as_ref().filter(|state| state.resume_at().start() <= missing_from);
            let from = in_progress.map_or(missing_from, |state| state.flushed.max(missing_from));
            let to = plan.first.start();
            (from < to).then(|| AcceptedGap { from, to, accepted_at: SystemTime::now().into() })
        });
        if self.options.state_file {
            write_state(plan, gap, has_received).await?;
        }
        if let Some(gap) = gap {
            (self.on_event)(ReceiverEvent::GapAccepted(gap));
        }
        Ok(())
    }
}

async fn write_state(
    plan: &mut Plan,
    gap: Option<AcceptedGap>,
    has_received: bool,
) -> Result<(), ReceiveError> {
    let Plan { archive, server, first, reason, .. } = &*plan;
    let mut state = plan.state.clone().unwrap_or_else(|| ArchiveState {
        system_id: server.system.system_id,
        segment_size: archive.segment_size(),
        timeline: first.timeline(),
        flushed: match reason {
            ResumeReason::Reached(flushed) => *flushed,
            _ => first.start(),
        },
        gaps: Vec::new(),
    });
    state.gaps.extend(gap);
    if state.resume_at() < *first {
        (state.timeline, state.flushed) = (first.timeline(), first.start());
    }
    let is_new = plan.state.is_none()
        && plan.gap.is_none()
        && match reason {
            ResumeReason::Slot | ResumeReason::Current => true,
            ResumeReason::Reached(_) => !has_received,
            ResumeReason::Archive(_) | ResumeReason::Broken(_) | ResumeReason::State(_) => false,
        };
    let is_changed = plan.state.as_ref() != Some(&state);
    plan.state = Some(state.clone());
    if !is_changed || is_new {
        return Ok(());
    }
    let archive = plan.archive.clone();
    match on_disk(move || archive.write_state(&state)).await {
        // The archive's files show the start as well, so a full disk may go by. A gap must be noted first.
        Err(ReceiveError::Archive(error)) if error.is_out_of_space() && plan.gap.is_none() => Ok(()),
        result => result,
    }
}
