use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::prelude::v1::*;

use super::scan::{cluster_of, is_segment_name};
use super::{ArchiveError, ArchiveFileName, ArchiveState, SegmentFile, SegmentReader};
use crate::storage::{Directory, Entry};
use crate::types::{SystemId, TimelineId, WalSegmentSize};
use crate::wal::{TimelineHistory, WalSegment};

/// The contents of an archive, by name and size; see [`list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The cluster and the size of its segments, by the first segment that can be read.
    pub cluster: Option<(SystemId, WalSegmentSize)>,
    /// Oldest first.
    pub timelines: Vec<ListedTimeline>,
    /// The names of all other files but the state file.
    pub others: Vec<String>,
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
        Self { timeline, history_file: None, history: None, segments: Vec::new() }
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
    directory.for_each_name(|name| names.push(name.to_string()))?;
    names.sort();
    let cluster = names
        .iter()
        .filter(|name| is_segment_name(name))
        .find_map(|name| cluster_of(&directory, name).ok().flatten());
    let segment_size = cluster.map_or(WalSegmentSize::DEFAULT, |(_, size)| size);
    let mut timelines = BTreeMap::new();
    let mut listing = Listing { cluster, ..Listing::default() };
    for name in names {
        match ArchiveFileName::parse(&name, segment_size) {
            Some(ArchiveFileName::Segment(file)) => {
                // Another process may move finished segments away at any moment.
                let Some(Entry::File(len_bytes)) = directory.entry(&name)? else { continue };
                let timeline = file.segment.timeline();
                let listed = timelines.entry(timeline).or_insert_with(|| ListedTimeline::new(timeline));
                listed.segments.push(ListedSegment { file, len_bytes });
            }
            Some(ArchiveFileName::History { timeline, .. }) => {
                let listed = timelines.entry(timeline).or_insert_with(|| ListedTimeline::new(timeline));
                listed.history = read_history(&directory, &name, timeline);
                listed.history_file = Some(name);
            }
            _ if name == ArchiveState::FILE_NAME => {}
            _ => listing.others.push(name),
        }
    }
    listing.timelines = timelines.into_values().collect();
    Ok(listing)
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
        assert_eq!(listing.others, ["notes"]);
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
