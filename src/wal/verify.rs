use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use std::io::{self, Read};
use std::path::Path;

use super::check::{SEGMENT_HEADER_LEN, segment_header};
use super::directory::{Directory, Entry, io_error};
use super::{
    AcceptedGap, ArchiveError, ArchiveFileName, ArchiveState, Compression, HistoryError, TimelineHistory,
    WalChecker, WalDamage, WalSegment,
};
use crate::types::{Lsn, SystemId, TimelineId, WalSegmentSize};

/// What was found in an archive; see [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The cluster, as the first segment tells.
    pub system_id: Option<SystemId>,
    /// Runs of segments without a hole, by timeline and position.
    pub runs: Vec<SegmentRun>,
    /// What is wrong.
    pub problems: Vec<ArchiveProblem>,
    /// What is missing as the state file says that somebody knows.
    pub accepted: Vec<(ArchiveProblem, AcceptedGap)>,
    /// Files that were not looked into because they are compressed.
    pub compressed: u64,
}

/// Segments of one timeline that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentRun {
    /// The first complete segment.
    pub first: WalSegment,
    /// The last complete segment.
    pub last: WalSegment,
    /// How far a partial segment behind it is filled with whole records.
    pub partial_end: Option<Lsn>,
}

/// Something wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// Segments are missing between these two.
    Hole {
        /// The last one before.
        after: WalSegment,
        /// The first one behind.
        before: WalSegment,
    },
    /// A file has the name of a complete segment and another size, in bytes.
    Size {
        /// The segment.
        segment: WalSegment,
        /// Its size.
        actual: u64,
    },
    /// A segment's bytes are not what a server wrote.
    Damage {
        /// The segment in which it was noticed; it may begin in an earlier one.
        segment: WalSegment,
        /// What and where.
        damage: WalDamage,
    },
    /// A timeline has segments but no history file.
    NoHistory(TimelineId),
    /// A history file cannot be read.
    History {
        /// Its timeline.
        timeline: TimelineId,
        /// What is wrong.
        error: HistoryError,
    },
    /// A timeline's first segment is not the one in which it branched off.
    LateStart {
        /// The first segment here.
        first: WalSegment,
        /// Where the timeline begins.
        switchpoint: Lsn,
    },
}

impl fmt::Display for ArchiveProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { after, before } => {
                let missing = before.number() - after.number() - 1;
                write!(f, "hole: {missing} segments missing between {after} and {before}")
            }
            Self::Size { segment, actual } => {
                write!(f, "{segment} has {actual} bytes instead of {}", segment.size().bytes())
            }
            Self::Damage { segment, damage } => write!(f, "{segment} is damaged: {damage}"),
            Self::NoHistory(timeline) => write!(f, "timeline {timeline} has segments but no history file"),
            Self::History { timeline, error } => {
                write!(f, "the history of timeline {timeline} is damaged: {error}")
            }
            Self::LateStart { first, switchpoint } => {
                write!(
                    f,
                    "timeline {} began at {switchpoint}, before its first segment {first}",
                    first.timeline()
                )
            }
        }
    }
}

/// Verifies an archive: names, sizes, holes, timeline histories, and every page and record.
///
/// The segment size is that of the segments themselves. Nothing is changed. All calls block, for as long as it
/// takes to read every segment once.
///
/// # Errors
/// If the directory or a file cannot be read. What is wrong with the content is in the result.
pub fn verify(path: &Path) -> Result<Verification, ArchiveError> {
    let directory = Directory::open(path)?;
    let Some(segment_size) = segment_size(&directory)? else { return Ok(Verification::default()) };
    let mut verifier = Verifier {
        segment_size,
        complete: BTreeSet::new(),
        partial: BTreeSet::new(),
        histories: BTreeMap::new(),
        gaps: ArchiveState::read(&directory)?.map_or_else(Vec::new, |state| state.gaps),
        directory,
        found: Verification::default(),
    };
    verifier.list()?;
    verifier.read_histories()?;
    verifier.check_segments()?;
    Ok(verifier.found)
}

/// The segment size that the first readable segment tells of itself.
fn segment_size(directory: &Directory) -> Result<Option<WalSegmentSize>, ArchiveError> {
    let mut names = Vec::new();
    directory.for_each_name(|name| {
        // The length of a name does not depend on the size of the segment.
        let base = name.strip_suffix(".partial").unwrap_or(name);
        if base.len() == 24 && base.bytes().all(|b| b.is_ascii_hexdigit()) {
            names.push(name.to_string());
        }
    })?;
    names.sort();
    for name in names {
        let mut header = [0; SEGMENT_HEADER_LEN];
        match directory.open_file(&name)?.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(source) => return Err(io_error("read", directory.path_of(&name), source)),
        }
        if let Some(size) = segment_header(&header).and_then(|(_, size)| WalSegmentSize::new(size).ok()) {
            return Ok(Some(size));
        }
    }
    Ok(None)
}

struct Verifier {
    directory: Directory,
    segment_size: WalSegmentSize,
    complete: BTreeSet<(TimelineId, u64)>,
    partial: BTreeSet<(TimelineId, u64)>,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    gaps: Vec<AcceptedGap>,
    found: Verification,
}

impl Verifier {
    fn list(&mut self) -> Result<(), ArchiveError> {
        let mut names = Vec::new();
        self.directory.for_each_name(|name| names.extend(ArchiveFileName::parse(name, self.segment_size)))?;
        for name in names {
            match name {
                ArchiveFileName::Segment { segment, compression: Compression::None, partial } => {
                    let set = if partial { &mut self.partial } else { &mut self.complete };
                    set.insert((segment.timeline(), segment.number()));
                }
                ArchiveFileName::Segment { .. } => self.found.compressed += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn segment(&self, (timeline, number): (TimelineId, u64)) -> Option<WalSegment> {
        WalSegment::new(timeline, number, self.segment_size)
    }

    fn read_histories(&mut self) -> Result<(), ArchiveError> {
        let timelines: BTreeSet<TimelineId> = self.complete.iter().map(|segment| segment.0).collect();
        for timeline in timelines.into_iter().filter(|timeline| *timeline != TimelineId::FIRST) {
            let compression = Compression::None;
            let name = ArchiveFileName::History { timeline, compression }.to_string();
            if self.directory.entry(&name)?.is_none() {
                self.found.problems.push(ArchiveProblem::NoHistory(timeline));
                continue;
            }
            let mut file = Vec::new();
            let limit = TimelineHistory::MAX_LEN as u64 + 1;
            let read = self.directory.open_file(&name)?.take(limit).read_to_end(&mut file);
            read.map_err(|source| io_error("read", self.directory.path_of(&name), source))?;
            match TimelineHistory::parse(timeline, &file) {
                Ok(history) => {
                    self.histories.insert(timeline, history);
                }
                Err(error) => self.found.problems.push(ArchiveProblem::History { timeline, error }),
            }
        }
        Ok(())
    }

    fn check_segments(&mut self) -> Result<(), ArchiveError> {
        let mut run: Option<(SegmentRun, WalChecker)> = None;
        let segments: Vec<WalSegment> = self.complete.iter().filter_map(|&s| self.segment(s)).collect();
        for segment in segments {
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
                self.check(segment, checker)?;
            }
        }
        if let Some((run, checker)) = run {
            self.end_run(run, checker)?;
        }
        Ok(())
    }

    /// Says what is missing before `first`, which does not follow `before`.
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

    /// Takes down what is missing, and whether somebody knows of it.
    fn missing(&mut self, from: Lsn, to: Lsn, problem: ArchiveProblem) {
        match self.gaps.iter().find(|gap| gap.explains(from, to, self.segment_size)) {
            Some(gap) => self.found.accepted.push((problem, *gap)),
            None => self.found.problems.push(problem),
        }
    }

    fn end_run(&mut self, mut run: SegmentRun, mut checker: WalChecker) -> Result<(), ArchiveError> {
        let next = run.last.next().filter(|next| self.partial.contains(&(next.timeline(), next.number())));
        if let Some(next) = next {
            // A partial segment ends anywhere: what follows its last record is not damage.
            let name = std::format!("{next}.partial");
            let _ = self.feed(&name, next.start(), &mut checker)?;
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
    fn check(&mut self, segment: WalSegment, checker: &mut WalChecker) -> Result<(), ArchiveError> {
        let name = segment.to_string();
        let expected = u64::from(self.segment_size.bytes());
        let problem = match self.directory.entry(&name)? {
            Some(Entry::File(actual)) if actual != expected => Some(ArchiveProblem::Size { segment, actual }),
            Some(Entry::File(_)) => self
                .feed(&name, segment.start(), checker)?
                .err()
                .map(|damage| ArchiveProblem::Damage { segment, damage }),
            Some(Entry::Other) => Some(ArchiveProblem::Size { segment, actual: 0 }),
            // Whoever ships finished segments away was faster.
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

    fn feed(
        &self,
        name: &str,
        start: Lsn,
        checker: &mut WalChecker,
    ) -> Result<Result<(), WalDamage>, ArchiveError> {
        let mut file = self.directory.open_file(name)?;
        let mut buffer = vec![0; READ_BYTES];
        let mut position = start;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(io_error("read", self.directory.path_of(name), source)),
            };
            if let Err(damage) = checker.check(position, buffer.get(..read).unwrap_or_default()) {
                return Ok(Err(damage));
            }
            position = checker.position();
        }
    }
}

const READ_BYTES: usize = 256 * 1024;

impl Verification {
    /// Whether nothing is wrong, but for what was accepted.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many complete segments there are.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.runs.iter().map(|run| run.last.number() - run.first.number() + 1).sum()
    }
}

/// A line for people: `timeline 3: FIRST - LAST, 12 segments`.
impl fmt::Display for SegmentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, partial_end } = self;
        let count = last.number() - first.number() + 1;
        let noun = if count == 1 { "segment" } else { "segments" };
        write!(f, "timeline {}: {first} - {last}, {count} {noun}", first.timeline())?;
        match partial_end {
            Some(end) => write!(f, ", and a partial one up to {end}"),
            None => Ok(()),
        }
    }
}
