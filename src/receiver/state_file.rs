//! What is kept in the archive's state file.

use std::time::SystemTime;
use std::vec::Vec;

use super::on_disk;
use super::start::Plan;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, ResumeReason};
use crate::archive::{AcceptedGap, Archive, ArchiveState};
use crate::replication::IdentifySystem;

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// What the state file says, which must not be of another archive.
    pub(super) async fn read_state(
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

    /// Tells, and notes in the state file, where the archive goes on if that is not plain from its files, and the gap
    /// before it if there is one. An archive that has no WAL yet has no state either.
    pub(super) async fn update_state(&mut self, plan: &Plan) -> Result<(), ReceiveError> {
        let Plan { first, reason, state: before, .. } = plan;
        if let ResumeReason::State(flushed) = *reason {
            (self.on_event)(ReceiverEvent::Resumed { flushed, timeline: first.timeline() });
        }
        let gap = self.gap.and_then(|missing_from| {
            // Of the segment in progress something may be here; of one that is broken there is nothing.
            let in_progress = before.as_ref().filter(|state| state.resume_at().start() <= missing_from);
            let from = in_progress.map_or(missing_from, |state| state.flushed.max(missing_from));
            let to = first.start();
            (from < to).then(|| AcceptedGap { from, to, accepted_at: SystemTime::now().into() })
        });
        if self.options.state_file {
            self.write_state(plan, gap).await?;
        }
        // Once: after the next loss the archive has to be continued again.
        self.gap = None;
        if let Some(gap) = gap {
            (self.on_event)(ReceiverEvent::GapAccepted(gap));
        }
        Ok(())
    }

    async fn write_state(&mut self, plan: &Plan, gap: Option<AcceptedGap>) -> Result<(), ReceiveError> {
        let Plan { archive, system, first, reason, state: before } = plan;
        let mut state = before.clone().unwrap_or_else(|| ArchiveState {
            system_id: system.system_id,
            segment_size: archive.segment_size(),
            timeline: first.timeline(),
            flushed: first.start(),
            gaps: Vec::new(),
        });
        state.gaps.extend(gap);
        if state.resume_at() < *first {
            (state.timeline, state.flushed) = (first.timeline(), first.start());
        }
        self.state = Some(state.clone());
        let is_new = before.is_none()
            && self.gap.is_none()
            && !matches!(reason, ResumeReason::Archive(_) | ResumeReason::Broken(_));
        if before.as_ref() == Some(&state) || is_new {
            return Ok(());
        }
        let archive = archive.clone();
        match on_disk(move || archive.write_state(&state)).await {
            // The files tell it as well, but for a gap, which waits for its note.
            Err(ReceiveError::Archive(error)) if error.is_out_of_space() && self.gap.is_none() => Ok(()),
            result => result,
        }
    }
}
