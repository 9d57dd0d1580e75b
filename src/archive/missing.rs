//! What is missing in an archive, by the names of its files and its timeline histories.

use std::collections::BTreeMap;
use std::prelude::v1::*;

use super::SegmentFile;
use crate::types::{Lsn, TimelineId};
use crate::wal::{TimelineHistory, WalSegment};

/// The file of each segment, by timeline and number: a complete one if there is one, else a partial one.
pub(super) type Segments = BTreeMap<(TimelineId, u64), SegmentFile>;

/// Takes the file into account: of several of one segment, the greatest counts.
pub(super) fn add(segments: &mut Segments, file: SegmentFile) {
    let counted = segments.entry((file.segment.timeline(), file.segment.number())).or_insert(file);
    *counted = file.max(*counted);
}

/// WAL that no file of the archive holds, between two that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingWal {
    /// The file before. If it is partial, its own segment is missing too: nothing completes it.
    pub after: SegmentFile,
    /// The file behind.
    pub before: SegmentFile,
    /// Where the timeline of the file behind began, if the file before is of an earlier one.
    pub switchpoint: Option<Lsn>,
}

impl MissingWal {
    /// The first missing byte.
    #[must_use]
    pub fn start(&self) -> Lsn {
        self.after.end()
    }

    /// The last missing byte + 1.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.before.segment.start()
    }

    /// How many segments are missing.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.before.segment.number() - first_after(self.after)
    }
}

/// Everything that is missing, by timeline and position. An archive may begin anywhere.
pub(super) fn missing(
    segments: &Segments,
    histories: &BTreeMap<TimelineId, TimelineHistory>,
) -> Vec<MissingWal> {
    let mut by_timeline: BTreeMap<TimelineId, Vec<SegmentFile>> = BTreeMap::new();
    for (&(timeline, _), &file) in segments {
        by_timeline.entry(timeline).or_default().push(file);
    }
    for files in by_timeline.values_mut() {
        // A partial file in the middle, which nobody completed, closes no hole.
        let (first, last) = (files.first().copied(), files.last().copied());
        files.retain(|file| !file.is_partial || Some(*file) == first || Some(*file) == last);
    }
    let mut missing = Vec::new();
    for (timeline, files) in &by_timeline {
        let first = files.first().copied();
        if let Some((before, history)) = first.zip(histories.get(timeline))
            && let Some(after) = last_of_ancestors(history, before.segment, &by_timeline)
        {
            // A segment that is partial on the parent is whole on its child, which begins with a copy of it.
            missing.push(MissingWal { after, before, switchpoint: history.began_at() });
        }
        let pairs = files.iter().zip(files.iter().skip(1));
        missing.extend(pairs.map(|(&after, &before)| MissingWal { after, before, switchpoint: None }));
    }
    missing.retain(|missing| missing.start() < missing.end());
    missing
}

/// The last file before the timeline's first one, on the ancestors of the timeline and up to where each was left.
fn last_of_ancestors(
    history: &TimelineHistory,
    first: WalSegment,
    by_timeline: &BTreeMap<TimelineId, Vec<SegmentFile>>,
) -> Option<SegmentFile> {
    let of_ancestor = |parent: TimelineId| {
        let switchpoint = history.switchpoint_of(parent)?;
        let is_before = |file: &&SegmentFile| {
            file.segment.start() < switchpoint && file.segment.number() <= first.number()
        };
        by_timeline.get(&parent)?.iter().rfind(is_before).copied()
    };
    history.entries().iter().filter_map(|entry| of_ancestor(entry.parent)).max()
}

/// The number of the first segment that the file does not hold whole.
fn first_after(file: SegmentFile) -> u64 {
    file.segment.number() + u64::from(!file.is_partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::format;

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    /// The gaps between files of these names, with this history of timeline 2 and of timeline 3.
    fn gaps(names: &[&str], histories: &[(u32, &str)]) -> Vec<String> {
        let mut segments = Segments::new();
        for name in names {
            let (timeline, rest) = name.split_once('/').unwrap();
            let (number, suffix) = rest.split_at(2);
            let name = format!("0000000{timeline}00000000000000{number}{suffix}");
            add(&mut segments, SegmentFile::parse(&name, SIZE).unwrap());
        }
        let parse = |&(timeline, text): &(u32, &str)| {
            let timeline = TimelineId::new(timeline).unwrap();
            (timeline, TimelineHistory::parse(timeline, text.as_bytes()).unwrap())
        };
        let histories = histories.iter().map(parse).collect();
        let shown = |gap: MissingWal| format!("{}-{} {}", gap.start(), gap.end(), gap.segments());
        missing(&segments, &histories).into_iter().map(shown).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_hole_is_between_two_files_of_a_timeline() {
        assert_eq!(gaps(&["1/20", "1/21.gz", "1/22.partial"], &[]), NONE);
        assert_eq!(gaps(&["1/20", "1/22.gz"], &[]), ["0/21000000-0/22000000 1"]);
        assert_eq!(gaps(&["1/26", "1/2E.partial"], &[]), ["0/27000000-0/2E000000 7"]);
        assert_eq!(gaps(&["1/26", "1/27.partial", "1/2E.partial"], &[]), ["0/27000000-0/2E000000 7"]);
        assert_eq!(gaps(&["1/27.partial", "1/2E.partial"], &[]), ["0/27000000-0/2E000000 7"]);
        assert_eq!(gaps(&["1/27.partial", "1/28"], &[]), ["0/27000000-0/28000000 1"]);
        assert_eq!(gaps(&["1/27.partial", "1/27", "1/28.lz4.partial"], &[]), NONE);
    }

    #[test]
    fn a_parent_reaches_its_switchpoint_and_a_child_begins_there() {
        let history = [(2, "1\t0/E000100\tno recovery target specified\n")];
        for whole in [
            &["1/0D", "1/0E.partial", "2/0E"][..],
            &["1/0D", "2/0E.partial"],
            &["1/0D", "1/0E", "1/0F", "2/0E"],
            &["1/0E.partial", "2/0E"],
            &["2/0E", "2/0F"],
            &["2/10", "2/11"],
        ] {
            assert_eq!(gaps(whole, &history), NONE, "{whole:?}");
        }
        assert_eq!(gaps(&["1/0A", "2/0E"], &history), ["0/B000000-0/E000000 3"]);
        assert_eq!(gaps(&["1/0A", "1/0E.partial", "2/0E"], &history), ["0/B000000-0/E000000 3"]);
        assert_eq!(gaps(&["1/0D", "2/10"], &history), ["0/E000000-0/10000000 2"]);
        assert_eq!(gaps(&["1/0D", "1/0E.partial", "2/10"], &history), ["0/E000000-0/10000000 2"]);
        // Without a history nothing is known of the two.
        assert_eq!(gaps(&["1/0A", "2/0E"], &[]), NONE);
        let at_boundary = [(2, "1\t0/E000000\treason\n")];
        assert_eq!(gaps(&["1/0D", "2/0E"], &at_boundary), NONE);
        assert_eq!(gaps(&["1/0C", "2/0E"], &at_boundary), ["0/D000000-0/E000000 1"]);
        // What the parent wrote behind the switchpoint belongs to nobody.
        assert_eq!(gaps(&["1/0C", "1/0F", "2/0E"], &at_boundary)[1..], ["0/D000000-0/E000000 1"]);
    }

    #[test]
    fn an_ancestor_further_back_counts_where_the_parent_has_nothing() {
        let histories = [(3, "1\t0/B000100\ta\n2\t0/E000100\tb\n")];
        assert_eq!(gaps(&["1/0A", "3/0E"], &histories), ["0/B000000-0/E000000 3"]);
        assert_eq!(gaps(&["1/0A", "2/0D", "3/0E"], &histories), NONE, "timeline 2 has no history here");
        assert_eq!(gaps(&["3/0E"], &histories), NONE);
    }
}
