use core::fmt;
use std::prelude::v1::*;

use super::AcceptedGap;
use crate::types::{Lsn, SystemId, TimelineId};
use crate::wal::{HistoryError, WalDamage, WalSegment};

/// What was found in an archive; see [`verify`](super::verify()).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The cluster that the first segment names.
    pub system_id: Option<SystemId>,
    /// Runs of segments without a hole, by timeline and position.
    pub runs: Vec<SegmentRun>,
    /// What is wrong.
    pub problems: Vec<ArchiveProblem>,
    /// WAL that is missing and was accepted as missing, by the state file.
    pub accepted: Vec<(ArchiveProblem, AcceptedGap)>,
    /// How many of the complete segments are compressed.
    pub compressed: u64,
}

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
        /// Its size, decompressed.
        actual: u64,
    },
    /// A compressed file is damaged or cut off, or holds more than it should.
    Compressed {
        /// Its name.
        name: String,
        /// What the decompression said.
        reason: String,
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
            Self::Compressed { name, reason } => write!(f, "{name} cannot be decompressed: {reason}"),
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
