use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::prelude::v1::*;

use super::scan::check_file;
use super::{AcceptedGap, Archive, ArchiveError, ArchiveProblem, SegmentFile, SegmentRun, Verification};
use crate::storage::Entry;
use crate::types::{Lsn, TimelineId, WalSegmentSize};
use crate::wal::{TimelineHistory, WalChecker, WalDamage, WalSegment};

/// Verifies an archive: names, sizes, holes, timeline histories, and every page and record.
///
/// The segment size is that of the segments themselves. Compressed files are decompressed on the way. Nothing is
/// changed. All calls block, for as long as it takes to read every segment once.
///
/// # Errors
/// If the directory or a file cannot be read. What is wrong with the content is in the result.
pub fn verify(path: &Path) -> Result<Verification, ArchiveError> {
    let Some(archive) = Archive::discover(path)? else { return Ok(Verification::default()) };
    let mut verifier = Verifier {
        gaps: archive.read_state()?.map_or_else(Vec::new, |state| state.gaps),
        segment_size: archive.segment_size(),
        archive,
        complete: BTreeMap::new(),
        partial: BTreeMap::new(),
        histories: BTreeMap::new(),
        found: Verification::default(),
    };
    verifier.list()?;
    verifier.read_histories()?;
    verifier.check_segments()?;
    Ok(verifier.found)
}

struct Verifier {
    archive: Archive,
    segment_size: WalSegmentSize,
    /// By timeline and number. Of a segment that is stored twice the plain file counts.
    complete: BTreeMap<(TimelineId, u64), SegmentFile>,
    partial: BTreeMap<(TimelineId, u64), SegmentFile>,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    gaps: Vec<AcceptedGap>,
    found: Verification,
}

impl Verifier {
    fn list(&mut self) -> Result<(), ArchiveError> {
        self.archive.directory().for_each_name(|name| {
            let Some(file) = SegmentFile::parse(name, self.segment_size) else { return };
            let files = if file.is_partial { &mut self.partial } else { &mut self.complete };
            let counted = files.entry((file.segment.timeline(), file.segment.number())).or_insert(file);
            *counted = file.max(*counted);
        })?;
        let compressed = self.complete.values().filter(|file| file.is_compressed());
        self.found.compressed = compressed.count() as u64;
        Ok(())
    }

    fn read_histories(&mut self) -> Result<(), ArchiveError> {
        let timelines: BTreeSet<TimelineId> = self.complete.keys().map(|segment| segment.0).collect();
        for timeline in timelines.into_iter().filter(|timeline| *timeline != TimelineId::FIRST) {
            let problem = match self.archive.read_history(timeline) {
                Ok(Some(history)) => {
                    self.histories.insert(timeline, history);
                    continue;
                }
                Ok(None) => ArchiveProblem::NoHistory(timeline),
                Err(ArchiveError::History { source: error, .. }) => {
                    ArchiveProblem::History { timeline, error }
                }
                Err(error) => not_decompressed(error)?,
            };
            self.found.problems.push(problem);
        }
        Ok(())
    }

    fn check_segments(&mut self) -> Result<(), ArchiveError> {
        let mut run: Option<(SegmentRun, WalChecker)> = None;
        let files: Vec<SegmentFile> = self.complete.values().copied().collect();
        for file in files {
            let segment = file.segment;
            run = match run.take() {
                Some((run, checker)) if run.last.next() == Some(segment) => {
                    Some((SegmentRun { last: segment, ..run }, checker))
                }
                before => {
                    self.begin_run(before.as_ref().map(|(run, _)| run.last), segment);
                    if let Some((run, checker)) = before {
                        self.end_run(run, checker)?;
                    }
                    Some((
                        SegmentRun { first: segment, last: segment, partial_end: None },
                        self.checker(segment),
                    ))
                }
            };
            if let Some((_, checker)) = &mut run {
                self.check(file, checker)?;
            }
        }
        if let Some((run, checker)) = run {
            self.end_run(run, checker)?;
        }
        Ok(())
    }

    /// Records the WAL that is missing before `first`, which does not follow `before`.
    fn begin_run(&mut self, before: Option<WalSegment>, first: WalSegment) {
        match before.filter(|before| before.timeline() == first.timeline()) {
            Some(after) => {
                self.missing(after.end(), first.start(), ArchiveProblem::Hole { after, before: first });
            }
            // The archive itself may begin anywhere, also in the middle of a timeline.
            None if before.is_none() => {}
            None => {
                let parent =
                    self.histories.get(&first.timeline()).and_then(|history| history.entries().last());
                if let Some(switchpoint) = parent.map(|parent| parent.switchpoint)
                    && switchpoint < first.start()
                {
                    let missing_from = before.map_or(switchpoint, WalSegment::end);
                    self.missing(
                        missing_from,
                        first.start(),
                        ArchiveProblem::LateStart { first, switchpoint },
                    );
                }
            }
        }
    }

    /// Records missing WAL, as accepted if the state file has it as an accepted gap.
    fn missing(&mut self, from: Lsn, to: Lsn, problem: ArchiveProblem) {
        match self.gaps.iter().find(|gap| gap.explains(from, to, self.segment_size)) {
            Some(gap) => self.found.accepted.push((problem, *gap)),
            None => self.found.problems.push(problem),
        }
    }

    fn end_run(&mut self, mut run: SegmentRun, mut checker: WalChecker) -> Result<(), ArchiveError> {
        let next = run.last.next().and_then(|next| self.partial.get(&(next.timeline(), next.number())));
        if let Some(file) = next {
            // A partial segment ends anywhere: what follows its last record is not damage.
            if let Err(error) = self.check_file(&file.to_string(), &mut checker) {
                not_decompressed(error)?;
            }
            run.partial_end = Some(checker.last_record_end());
        }
        self.found.runs.push(run);
        Ok(())
    }

    fn checker(&self, first: WalSegment) -> WalChecker {
        let timeline = first.timeline();
        let checker = WalChecker::new(self.segment_size, self.found.system_id, timeline, first.start());
        match self.histories.get(&timeline).and_then(TimelineHistory::began_at) {
            Some(switchpoint) => checker.with_switchpoint(switchpoint),
            None => checker,
        }
    }

    /// Checks a complete segment; behind damage, the check begins anew with the next one.
    fn check(&mut self, file: SegmentFile, checker: &mut WalChecker) -> Result<(), ArchiveError> {
        let (segment, name) = (file.segment, file.to_string());
        let expected = u64::from(self.segment_size.bytes());
        let problem = match self.archive.directory().entry(&name)? {
            Some(Entry::File(actual)) if !file.is_compressed() && actual != expected => {
                Some(ArchiveProblem::Size { segment, actual })
            }
            Some(Entry::File(_)) => match self.check_file(&name, checker) {
                Ok(Ok(actual)) => (actual != expected).then_some(ArchiveProblem::Size { segment, actual }),
                Ok(Err(damage)) => Some(ArchiveProblem::Damage { segment, damage }),
                Err(error) => Some(not_decompressed(error)?),
            },
            Some(Entry::Other | Entry::BrokenLink) => Some(ArchiveProblem::Size { segment, actual: 0 }),
            // Another process already moved the segment away.
            None => None,
        };
        self.found.system_id = self.found.system_id.or_else(|| checker.system_id());
        if let Some(problem) = problem {
            self.found.problems.push(problem);
        }
        if checker.position() != segment.end()
            && let Some(next) = segment.next()
        {
            *checker = self.checker(next);
        }
        Ok(())
    }

    /// Checks a file's content: how many bytes it had, or the damage at which the check ended.
    fn check_file(
        &self,
        name: &str,
        checker: &mut WalChecker,
    ) -> Result<Result<u64, WalDamage>, ArchiveError> {
        let mut file = self.archive.open_segment(name)?;
        check_file(&mut file, checker).map_err(|source| file.error(source))
    }
}

/// The problem that a compressed file is, if the error is about that.
fn not_decompressed(error: ArchiveError) -> Result<ArchiveProblem, ArchiveError> {
    let ArchiveError::Decompress { path, source } = error else { return Err(error) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ArchiveProblem::Compressed { name, reason: source.to_string() })
}
