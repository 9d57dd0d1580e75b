//! What an archive has by name, while other processes write into it and move files away.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::prelude::v1::*;
use std::thread::sleep;
use std::time::Instant;

use super::super::file_name::stem_of;
use super::super::missing::{MissingWal, Segments, add, missing};
use super::super::scan::{cluster_of, is_segment_name, segment_names};
use super::super::{
    Archive, ArchiveError, ArchiveFileName, ArchiveProblem, ArchiveState, SegmentFile, Unreadable,
};
use super::histories::read_histories;
use crate::compression::Compression;
use crate::storage::{Directory, Entry, target_of};
use crate::types::{Lsn, TimelineId, WalSegmentSize, WithCauses, text_of};
use crate::wal::{TimelineHistory, WalSegment};

/// How often an archive is listed again that changes.
const MAX_LISTINGS: usize = 32;

/// How long the state file may be behind the segments: a receiver writes it every second.
const STATE_DELAY: Duration = Duration::from_secs(2);
const STATE_INTERVAL: Duration = Duration::from_millis(100);

/// The files of an archive, and what is missing.
pub(super) struct Stock {
    pub(super) state: Option<ArchiveState>,
    pub(super) segments: Segments,
    pub(super) histories: BTreeMap<TimelineId, TimelineHistory>,
    pub(super) missing: Vec<MissingWal>,
    pub(super) lost_end: Option<ArchiveProblem>,
    /// What is wrong with histories, the state file and names.
    pub(super) problems: Vec<ArchiveProblem>,
}

impl Stock {
    /// Takes stock until two looks agree: a file that is renamed while the directory is read may be in no list.
    pub(super) fn take(archive: &Archive) -> Result<Self, ArchiveError> {
        let begin = Instant::now();
        let mut stock = Self::look(archive)?;
        for _ in 0..MAX_LISTINGS {
            let again = Self::look(archive)?;
            let is_same = stock.missing == again.missing && stock.lost_end == again.lost_end;
            stock = again;
            if is_same && stock.lost_end.is_none() {
                break;
            }
            // The newest segment may be complete and moved away, while the state file still tells of it.
            if is_same && begin.elapsed() >= STATE_DELAY {
                break;
            }
            if is_same {
                sleep(STATE_INTERVAL);
            }
        }
        Ok(stock)
    }

    fn look(archive: &Archive) -> Result<Self, ArchiveError> {
        let mut problems = Vec::new();
        let state = match archive.read_state() {
            Ok(state) => state,
            Err(ArchiveError::State { line, .. }) => {
                problems.push(ArchiveProblem::State { line });
                None
            }
            Err(error) => {
                problems.push(unreadable(ArchiveState::FILE_NAME, None, &error));
                None
            }
        };
        let names = Names::list(archive)?;
        let histories = read_histories(archive, &names.histories, &mut problems);
        let mut timelines: Vec<TimelineId> = names.segments.keys().map(|(timeline, _)| *timeline).collect();
        timelines.dedup();
        let has_history =
            |timeline: &TimelineId| *timeline == TimelineId::FIRST || names.histories.contains(timeline);
        timelines.retain(|timeline| !has_history(timeline));
        problems.extend(timelines.into_iter().map(ArchiveProblem::NoHistory));
        names.check_unknown(archive, &mut problems);
        let missing = missing(&names.segments, &histories);
        let lost_end = state.as_ref().and_then(|state| lost_end(state, &names.segments));
        Ok(Self { state, segments: names.segments, histories, missing, lost_end, problems })
    }
}

/// What the archive has not although the state file says that it was durable. Segments may be moved away from the old
/// end, and the state file may be behind.
fn lost_end(state: &ArchiveState, segments: &Segments) -> Option<ArchiveProblem> {
    let newest = state.resume_at();
    let start = match segments.values().max() {
        Some(last) if last.segment.number() >= newest.number() => return None,
        Some(last) => last.end(),
        // All complete segments were moved away, but nobody moves one that is in progress.
        None => newest.start(),
    };
    let lost = ArchiveProblem::LostEnd { segment: newest, start, end: state.flushed };
    (start < state.flushed).then_some(lost)
}

/// Names in an archive's directory.
struct Names {
    segments: Segments,
    histories: BTreeSet<TimelineId>,
    /// Names that begin as that of a segment or history, and how that goes: with the name before the unknown rest.
    unknown: Vec<(Vec<u8>, String)>,
    /// Names of segments of another size.
    of_other_size: Vec<String>,
}

impl Names {
    fn list(archive: &Archive) -> Result<Self, ArchiveError> {
        let mut names = Self {
            segments: Segments::new(),
            histories: BTreeSet::new(),
            unknown: Vec::new(),
            of_other_size: Vec::new(),
        };
        archive.directory().for_each_raw_name(|raw| {
            let name = core::str::from_utf8(raw).unwrap_or_default();
            match ArchiveFileName::parse(name, archive.segment_size()) {
                Some(ArchiveFileName::Segment(file)) => add(&mut names.segments, file),
                Some(ArchiveFileName::History { timeline, .. }) => drop(names.histories.insert(timeline)),
                Some(ArchiveFileName::BackupHistory { .. }) => {}
                None if is_segment_name(name) => names.of_other_size.push(name.into()),
                None if target_of(name).is_some() => {}
                None => {
                    if let Some(stem) = stem_of(raw)
                        && !is_backup_history(name, archive.segment_size())
                    {
                        names.unknown.push((raw.to_vec(), stem));
                    }
                }
            }
        })?;
        names.unknown.sort();
        names.of_other_size.sort();
        Ok(names)
    }

    /// A file in an unknown form is a problem where it may be the only one of its segment or history.
    fn check_unknown(&self, archive: &Archive, problems: &mut Vec<ArchiveProblem>) {
        for name in &self.of_other_size {
            let reason = Unreadable::OtherSegmentSize;
            problems.push(ArchiveProblem::Unreadable { name: name.clone(), segment: None, reason });
        }
        // What cannot be looked up is there, and is a problem of its own.
        let is_there = |name: &str| archive.directory().entry(name).map_or(true, |entry| entry.is_some());
        for (raw, stem) in &self.unknown {
            let mut forms = Compression::ALL.iter();
            if forms.any(|form| is_there(&std::format!("{stem}{}", form.suffix()))) {
                continue;
            }
            let name = text_of(raw);
            // A name that is not UTF-8 cannot be looked up; the others may be gone by now.
            if name.as_bytes() != raw || is_there(&name) {
                let segment = WalSegment::parse(stem, archive.segment_size());
                let reason = Unreadable::UnknownForm;
                problems.push(ArchiveProblem::Unreadable { name, segment, reason });
            }
        }
    }
}

/// A backup history that somebody compressed.
fn is_backup_history(name: &str, size: WalSegmentSize) -> bool {
    let name = Compression::split_suffix(name).0;
    matches!(ArchiveFileName::parse(name, size), Some(ArchiveFileName::BackupHistory { .. }))
}

/// The size of the archive's segments: as the first one says that can be read, or else the state file, or else the
/// sizes of the files.
pub(super) fn segment_size(path: &std::path::Path) -> Result<WalSegmentSize, ArchiveError> {
    let directory = Directory::open(path)?;
    let names = segment_names(&directory)?;
    if let Some((_, size)) = names.iter().find_map(|name| cluster_of(&directory, name).ok().flatten()) {
        return Ok(size);
    }
    if let Ok(Some(state)) = ArchiveState::read(&directory) {
        return Ok(state.segment_size);
    }
    let of_file = |name: &String| match directory.entry(name) {
        Ok(Some(Entry::File(len))) => WalSegmentSize::new(u32::try_from(len).ok()?).ok(),
        _ => None,
    };
    Ok(names.iter().find_map(of_file).unwrap_or(WalSegmentSize::DEFAULT))
}

/// A file that the system refuses to read.
pub(super) fn unreadable(name: &str, segment: Option<WalSegment>, error: &ArchiveError) -> ArchiveProblem {
    let reason = Unreadable::Refused(std::format!("{}", WithCauses(error)));
    ArchiveProblem::Unreadable { name: name.into(), segment, reason }
}

/// Whether `lsn` lies in the segment of this file, or at its end.
pub(super) fn is_within(lsn: Lsn, file: SegmentFile) -> bool {
    file.segment.start() < lsn && lsn <= file.segment.end()
}
