use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::prelude::v1::*;

use super::file_name::stem_of;
use super::missing::{MissingWal, Segments, add, missing};
use super::scan::{cluster_of, is_segment_name};
use super::{ArchiveError, ArchiveFileName, ArchiveState, SegmentFile, SegmentReader, Unreadable};
use crate::storage::{Directory, Entry};
use crate::types::{SystemId, TimelineId, WalSegmentSize, WithCauses, text_of};
use crate::wal::{TimelineHistory, WalSegment};

/// The contents of an archive, by name and size; see [`list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The cluster and the size of its segments, by the first segment that can be read.
    pub cluster: Option<(SystemId, WalSegmentSize)>,
    /// Oldest first.
    pub timelines: Vec<ListedTimeline>,
    /// All other files but the state file.
    pub others: Vec<ListedOther>,
}

/// A file that is neither a segment nor a history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOther {
    /// Its name. What is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is.
    pub kind: OtherKind,
}

/// What a file is that is neither a segment nor a history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherKind {
    /// What a server's archiver stores about a base backup.
    BackupHistory,
    /// A file in the making, or what a crash has left of one.
    Temporary,
    /// It has the name of a segment or history, and is none that can be read.
    Unreadable(Unreadable),
    /// Nothing of an archive.
    Foreign,
}

/// What an archive has of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedTimeline {
    /// The timeline.
    pub timeline: TimelineId,
    /// The name of its history file, if there is one. Timeline 1 never has one.
    pub history_file: Option<String>,
    /// Its history, if the file can be read.
    pub history: Option<TimelineHistory>,
    /// Files of segments, complete and partial, by position. One segment may be stored in several ways.
    pub segments: Vec<ListedSegment>,
    /// What is missing before its files, and between them.
    pub gaps: Vec<MissingWal>,
}

/// A file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedSegment {
    /// Which file.
    pub file: SegmentFile,
    /// The size of the file.
    pub len_bytes: u64,
}

impl ListedTimeline {
    fn new(timeline: TimelineId) -> Self {
        Self { timeline, history_file: None, history: None, segments: Vec::new(), gaps: Vec::new() }
    }

    /// Runs of complete segments without a hole: the first and the last of each. Between two runs there is a
    /// gap.
    #[must_use]
    pub fn runs(&self) -> Vec<(WalSegment, WalSegment)> {
        let mut runs: Vec<(WalSegment, WalSegment)> = Vec::new();
        for segment in
            self.segments.iter().filter(|listed| !listed.file.is_partial).map(|listed| listed.file.segment)
        {
            match runs.last_mut() {
                Some((_, last)) if *last == segment || last.next() == Some(segment) => *last = segment,
                _ => runs.push((segment, segment)),
            }
        }
        runs
    }

    /// The partial segments.
    pub fn partials(&self) -> impl Iterator<Item = &ListedSegment> {
        self.segments.iter().filter(|listed| listed.file.is_partial)
    }
}

/// Lists an archive. Blocks, and changes nothing. Of segments it reads headers until one tells the segment size, and it
/// reads the histories; [`verify`](super::verify()) reads everything.
///
/// # Errors
/// If the directory cannot be read.
pub fn list(path: &Path) -> Result<Listing, ArchiveError> {
    let directory = Directory::open(path)?;
    let mut names = Vec::new();
    directory.for_each_raw_name(|name| names.push(name.to_vec()))?;
    names.sort();
    let cluster = names
        .iter()
        .filter_map(|name| core::str::from_utf8(name).ok().filter(|name| is_segment_name(name)))
        .find_map(|name| cluster_of(&directory, name).ok().flatten());
    let segment_size = cluster.map_or(WalSegmentSize::DEFAULT, |(_, size)| size);
    let mut timelines = BTreeMap::new();
    let mut listing = Listing { cluster, ..Listing::default() };
    let (mut segments, mut histories) = (Segments::new(), BTreeMap::new());
    for raw in names {
        let name = text_of(&raw);
        let parsed = ArchiveFileName::parse(&name, segment_size);
        let mut len_bytes = 0;
        let kind = match parsed {
            Some(ArchiveFileName::Segment(_) | ArchiveFileName::History { .. }) => {
                match directory.entry(&name) {
                    Ok(Some(Entry::File(len))) => {
                        len_bytes = len;
                        None
                    }
                    // Another process may move finished segments away at any moment.
                    Ok(None) => continue,
                    Ok(Some(Entry::Other)) => Some(OtherKind::Unreadable(Unreadable::NotAFile)),
                    Ok(Some(Entry::BrokenLink)) => Some(OtherKind::Unreadable(Unreadable::BrokenLink)),
                    Err(error) => {
                        let reason = ArchiveError::from(error);
                        let reason = std::format!("{}", WithCauses(&reason));
                        Some(OtherKind::Unreadable(Unreadable::Refused(reason)))
                    }
                }
            }
            Some(ArchiveFileName::BackupHistory { .. }) => Some(OtherKind::BackupHistory),
            None if name == ArchiveState::FILE_NAME => continue,
            None => Some(kind_of(&raw, &name)),
        };
        match (parsed, kind) {
            (_, Some(kind)) => listing.others.push(ListedOther { name, kind }),
            (Some(ArchiveFileName::Segment(file)), None) => {
                add(&mut segments, file);
                let timeline = file.segment.timeline();
                let listed = timelines.entry(timeline).or_insert_with(|| ListedTimeline::new(timeline));
                listed.segments.push(ListedSegment { file, len_bytes });
            }
            (Some(ArchiveFileName::History { timeline, .. }), None) => {
                let listed = timelines.entry(timeline).or_insert_with(|| ListedTimeline::new(timeline));
                listed.history = read_history(&directory, &name, timeline);
                histories.extend(listed.history.clone().map(|history| (timeline, history)));
                listed.history_file = Some(name);
            }
            _ => {}
        }
    }
    for gap in missing(&segments, &histories) {
        if let Some(listed) = timelines.get_mut(&gap.before.segment.timeline()) {
            listed.gaps.push(gap);
        }
    }
    listing.timelines = timelines.into_values().collect();
    Ok(listing)
}

/// What a file is whose name is of no known form.
fn kind_of(raw: &[u8], name: &str) -> OtherKind {
    match name {
        _ if ArchiveFileName::is_temporary(name) => OtherKind::Temporary,
        _ if is_segment_name(name) => OtherKind::Unreadable(Unreadable::OtherSegmentSize),
        _ if stem_of(raw).is_some() => OtherKind::Unreadable(Unreadable::UnknownForm),
        _ => OtherKind::Foreign,
    }
}

/// The history in a file of this name, which pg_receivewal may have compressed.
fn read_history(directory: &Directory, name: &str, timeline: TimelineId) -> Option<TimelineHistory> {
    let mut content = Vec::new();
    let limit = TimelineHistory::MAX_LEN as u64 + 1;
    SegmentReader::open_in(directory, name, limit).ok()?.read_to_end(&mut content).ok()?;
    TimelineHistory::parse(timeline, &content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::panic;

    #[test]
    fn runs_end_at_gaps_and_count_a_segment_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "000000010000000000000003",
            "000000010000000000000004.gz",
            "000000010000000000000004",
            "000000010000000000000007",
            "000000010000000000000008.partial",
            "000000010000000000000008.lz4.partial",
            "notes",
        ] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::write(dir.path().join("00000002.history"), "1\t0/8000100\tno recovery target specified\n")
            .unwrap();
        let listing = list(dir.path()).unwrap();
        let others: Vec<_> = listing.others.iter().map(|other| (&*other.name, &other.kind)).collect();
        assert_eq!(others, [("notes", &OtherKind::Foreign)]);
        let [first, second] = &listing.timelines[..] else { panic!("{listing:?}") };
        let runs: Vec<String> = first.runs().iter().map(|(a, b)| std::format!("{a}-{b}")).collect();
        assert_eq!(
            runs,
            [
                "000000010000000000000003-000000010000000000000004",
                "000000010000000000000007-000000010000000000000007"
            ]
        );
        let partials: Vec<String> = first.partials().map(|listed| listed.file.to_string()).collect();
        assert_eq!(partials, ["000000010000000000000008.lz4.partial", "000000010000000000000008.partial"]);
        assert_eq!((first.history_file.as_deref(), second.segments.len()), (None, 0));
        assert_eq!(
            second.history.as_ref().and_then(TimelineHistory::began_at).unwrap().to_string(),
            "0/8000100"
        );
    }
}
