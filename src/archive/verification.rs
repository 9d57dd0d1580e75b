use core::fmt;
use std::prelude::v1::*;

use super::{AcceptedGap, ArchiveProblem, SegmentFile};
use crate::types::{Lsn, SystemId};
use crate::wal::WalSegment;

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
    /// How many segments another process moved away before they could be looked at.
    pub moved_away: u64,
}

impl Verification {
    /// Whether nothing is wrong, but for what was accepted.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many complete segments were looked at.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.runs.iter().map(|run| run.segments).sum()
    }

    /// How many partial segments were looked at.
    #[must_use]
    pub fn partials(&self) -> u64 {
        self.runs.iter().filter(|run| run.partial.is_some()).count() as u64
    }
}

/// Segments of one timeline that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentRun {
    /// The first complete segment; if there is none, the partial one.
    pub first: WalSegment,
    /// The last complete segment; if there is none, the partial one.
    pub last: WalSegment,
    /// How many complete segments there are.
    pub segments: u64,
    /// A partial segment behind them, or alone.
    pub partial: Option<SegmentFile>,
    /// How far the partial segment is filled: the position at which its receiver was.
    pub partial_end: Option<Lsn>,
}

/// A line for people: `timeline 3: FIRST - LAST, 12 segments`.
impl fmt::Display for SegmentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, segments, partial, partial_end } = self;
        write!(f, "timeline {}: ", first.timeline())?;
        if *segments > 0 {
            let noun = if *segments == 1 { "segment" } else { "segments" };
            write!(f, "{first} - {last}, {segments} {noun}")?;
        }
        match (partial, partial_end) {
            (Some(_), Some(end)) if *segments > 0 => write!(f, ", and a partial one up to {end}"),
            (Some(partial), Some(end)) => write!(f, "{partial}, up to {end}"),
            _ => Ok(()),
        }
    }
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Segments that were looked at.
    pub done: u64,
    /// Segments in all.
    pub total: u64,
    /// The one that is looked at now.
    pub segment: WalSegment,
}
