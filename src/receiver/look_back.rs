//! Checks the archive's last complete segments, and starts the check of the WAL that is received next.

use std::string::ToString as _;

use super::on_disk;
use super::plan::Plan;
use super::{ReceiveError, Receiver, ReceiverEvent, Refusal, ResumeReason};
use crate::archive::{Archive, ArchiveError, SegmentFile, check_file};
use crate::types::{Lsn, ServerVersion, SystemId};
use crate::wal::{WalChecker, WalDamage, WalSegment};

/// How many damaged segments are received again. With more, the receiver refuses, and a person has to decide.
const MAX_BROKEN_SEGMENTS: usize = 16;

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Moves the start back to the first of the damaged complete segments at the archive's end, so that they are
    /// received again: no recovery could get past them to the WAL that follows.
    pub(super) async fn start_at_damaged(&mut self, plan: &mut Plan) -> Result<(), ReceiveError> {
        let next = plan.first;
        if !self.can_check(plan.server.version) {
            return Ok(());
        }
        let is_missed =
            |segment| !plan.state.as_ref().is_some_and(|state| state.has_accepted_without(segment));
        for broken in 0.. {
            let Some(before) = plan.first.previous().filter(|before| is_missed(*before)) else { break };
            let (archive, system_id) = (plan.archive.clone(), plan.server.system.system_id);
            let passed = on_disk(move || {
                Ok(check_segment(&archive, before, check_from(&archive, system_id, before)?))
            })
            .await?;
            let (damage, proven) = match (passed, self.damage) {
                (Some(Err(damaged)), _) => damaged,
                // The damage showed only when the record's end came, in the next segment.
                (Some(Ok(checker)), Some((damage, _))) if damage.lsn < before.end() => {
                    (damage, checker.last_record_end())
                }
                (Some(Ok(checker)), _) => {
                    plan.checker = Some(checker);
                    break;
                }
                (None, _) => break,
            };
            let archive = plan.archive.clone();
            on_disk(move || {
                SegmentFile::all_complete(before).try_for_each(|file| archive.check_not_foreign(file))
            })
            .await?;
            if broken == MAX_BROKEN_SEGMENTS {
                return Err(Refusal::ArchiveDamage { segment: before, damage }.into());
            }
            (self.on_event)(ReceiverEvent::ArchiveDamage { segment: before, damage });
            (plan.first, plan.reason) = (before, ResumeReason::Broken(before));
            plan.replace_before = next.start();
            plan.proven.push((before, proven.min(before.end())));
        }
        Ok(())
    }

    /// Returns a checker for the WAL from `first` on, or `None` if this server's WAL cannot be checked.
    pub(super) async fn checker(
        &mut self,
        plan: &mut Plan,
        first: WalSegment,
    ) -> Result<Option<WalChecker>, ReceiveError> {
        if !self.can_check(plan.server.version) {
            if self.options.check_wal {
                (self.on_event)(ReceiverEvent::Unchecked(plan.server.version));
            }
            return Ok(None);
        }
        // The plan's checker fits only the plan's own first segment: a later timeline begins elsewhere.
        if let Some(checker) = plan.checker.take().filter(|_| plan.first == first) {
            return Ok(Some(checker));
        }
        let (archive, system_id) = (plan.archive.clone(), plan.server.system.system_id);
        on_disk(move || {
            // A record that reaches into the first segment can be checked if the archive has its beginning.
            if let Some(before) = first.previous()
                && let Some(Ok(checker)) =
                    check_segment(&archive, before, check_from(&archive, system_id, before)?)
            {
                return Ok(Some(checker));
            }
            check_from(&archive, system_id, first).map(Some)
        })
        .await
    }

    fn can_check(&self, version: ServerVersion) -> bool {
        self.options.check_wal && (10..=18).contains(&version.major())
    }
}

/// Returns a checker that begins with this segment.
fn check_from(
    archive: &Archive,
    system_id: SystemId,
    segment: WalSegment,
) -> Result<WalChecker, ArchiveError> {
    let checker = WalChecker::new(segment.size(), Some(system_id), segment.timeline(), segment.start());
    let switchpoint = archive.read_history(segment.timeline())?.and_then(|history| history.began_at());
    Ok(switchpoint.into_iter().fold(checker, WalChecker::with_switchpoint))
}

/// Checks a segment of the archive. Returns the checker at the segment's end, or the damage and the end of the last record
/// before it that is right. `None` if the segment is not complete, or cannot be read now: receiving goes on without this
/// check.
fn check_segment(
    archive: &Archive,
    segment: WalSegment,
    mut checker: WalChecker,
) -> Option<Result<WalChecker, (WalDamage, Lsn)>> {
    let mut reader =
        SegmentFile::all_complete(segment).find_map(|file| archive.open_segment(&file.to_string()).ok())?;
    if let Err(damage) = check_file(&mut reader, &mut checker).ok()? {
        return Some(Err((damage, checker.last_record_end())));
    }
    (checker.position() == segment.end()).then_some(Ok(checker))
}
