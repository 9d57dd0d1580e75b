use core::fmt;
use std::prelude::v1::*;

use super::{MissingWal, SegmentFile};
use crate::compression::Compression;
use crate::types::{Lsn, SystemId, TimelineId};
use crate::wal::{HistoryError, WalDamage, WalSegment, parse_hex};

/// Something wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// There is no WAL in the directory.
    Empty,
    /// WAL is missing between two files.
    Gap(MissingWal),
    /// The state file says that this WAL was accepted as missing, and the archive has nothing yet behind it.
    AcceptedGap {
        /// The first missing byte.
        start: Lsn,
        /// The last missing byte + 1.
        end: Lsn,
    },
    /// The state file says that WAL was durable, and the archive ends before it.
    LostEnd {
        /// The segment that was the newest one.
        segment: WalSegment,
        /// Where the archive ends.
        start: Lsn,
        /// Up to where it was durable.
        end: Lsn,
    },
    /// A file has the name of a complete segment and another size, in bytes.
    Size {
        /// The file.
        file: SegmentFile,
        /// Its size, decompressed.
        actual: u64,
        /// How its bytes are compressed although its name does not say so.
        compressed: Option<Compression>,
    },
    /// A partial segment ends before what was durable, as the state file says.
    Short {
        /// The file.
        file: SegmentFile,
        /// Where it ends.
        end: Lsn,
        /// Up to where its WAL was durable.
        durable: Lsn,
    },
    /// A compressed file is damaged or cut off, or holds more than it should.
    Compressed {
        /// Its name.
        name: String,
        /// The segment; none if it is a history.
        segment: Option<WalSegment>,
        /// What the decompression said.
        reason: String,
    },
    /// A segment's bytes are not what a server wrote.
    Damage {
        /// The file in which it was noticed; it may begin in an earlier one.
        file: SegmentFile,
        /// What and where.
        damage: WalDamage,
        /// Up to where the WAL of a partial segment was durable, as the state file says.
        durable: Option<Lsn>,
    },
    /// The name is that of a segment or history, or begins so, and the file cannot be read.
    Unreadable {
        /// Its name.
        name: String,
        /// The segment; none if it is a history, or of another size.
        segment: Option<WalSegment>,
        /// What is in the way.
        reason: Unreadable,
    },
    /// A timeline has segments but no history file.
    NoHistory(TimelineId),
    /// A history file is damaged.
    History {
        /// Its timeline.
        timeline: TimelineId,
        /// What is wrong.
        error: HistoryError,
    },
    /// The state file cannot be understood.
    State {
        /// The line, from 1, at which it is not what was written there.
        line: usize,
    },
    /// The state file is of another cluster than the segments.
    OtherCluster {
        /// The segments' cluster.
        segments: SystemId,
        /// The state file's.
        state: SystemId,
    },
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is a directory, socket, ...
    NotAFile,
    /// It is a symbolic link to something that is not there, for example on a disk that is not mounted.
    BrokenLink,
    /// Its name goes on in an unknown way: another compression, or a copy in the making.
    UnknownForm,
    /// It is named as a segment of a cluster with segments of another size.
    OtherSegmentSize,
    /// The system refuses it, with this answer.
    Refused(String),
}

impl ArchiveProblem {
    /// A word for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Gap(_) | Self::AcceptedGap { .. } => "gap",
            Self::LostEnd { .. } => "lost_end",
            Self::Size { .. } => "size",
            Self::Short { .. } => "short",
            Self::Compressed { .. } => "compression",
            Self::Damage { .. } => "damage",
            Self::Unreadable { reason, .. } => match reason {
                Unreadable::NotAFile => "not_a_file",
                Unreadable::BrokenLink => "broken_link",
                Unreadable::UnknownForm => "unknown_form",
                Unreadable::OtherSegmentSize => "other_segment_size",
                Unreadable::Refused(_) => "unreadable",
            },
            Self::NoHistory(_) => "no_history",
            Self::History { .. } => "history",
            Self::State { .. } => "state",
            Self::OtherCluster { .. } => "other_cluster",
        }
    }

    /// The name of the file that it is about, if it is about one that is there.
    #[must_use]
    pub fn file(&self) -> Option<String> {
        match self {
            Self::Size { file, .. } | Self::Short { file, .. } | Self::Damage { file, .. } => {
                Some(file.to_string())
            }
            Self::Compressed { name, .. } | Self::Unreadable { name, .. } => Some(name.clone()),
            Self::State { .. } | Self::OtherCluster { .. } => Some(super::ArchiveState::FILE_NAME.into()),
            Self::Empty
            | Self::Gap(_)
            | Self::AcceptedGap { .. }
            | Self::LostEnd { .. }
            | Self::NoHistory(_)
            | Self::History { .. } => None,
        }
    }

    /// The segment that it is about: of several that are missing, the first.
    #[must_use]
    pub fn segment(&self) -> Option<WalSegment> {
        match self {
            Self::Gap(missing) => {
                let after = missing.after;
                if after.is_partial { Some(after.segment) } else { after.segment.next() }
            }
            Self::LostEnd { segment, start, .. } => {
                Some(WalSegment::containing(*start, segment.timeline(), segment.size()))
            }
            Self::Size { file, .. } | Self::Short { file, .. } | Self::Damage { file, .. } => {
                Some(file.segment)
            }
            Self::Compressed { segment, .. } | Self::Unreadable { segment, .. } => *segment,
            Self::Empty
            | Self::AcceptedGap { .. }
            | Self::NoHistory(_)
            | Self::History { .. }
            | Self::State { .. }
            | Self::OtherCluster { .. } => None,
        }
    }

    /// The timeline that it is about; of a gap between two, the one that lacks WAL.
    #[must_use]
    pub fn timeline(&self) -> Option<TimelineId> {
        match self {
            Self::NoHistory(timeline) | Self::History { timeline, .. } => Some(*timeline),
            // Names of segments and histories begin with it.
            Self::Compressed { name, .. } | Self::Unreadable { name, .. } => {
                TimelineId::new(parse_hex(name.get(..8)?)?)
            }
            _ => self.segment().map(WalSegment::timeline),
        }
    }

    /// The first byte in question, and the last one + 1, as far as they are known.
    #[must_use]
    pub fn range(&self) -> (Option<Lsn>, Option<Lsn>) {
        match self {
            Self::Gap(missing) => (Some(missing.start()), Some(missing.end())),
            Self::AcceptedGap { start, end } | Self::LostEnd { start, end, .. } => (Some(*start), Some(*end)),
            Self::Size { file, .. } => (Some(file.segment.start()), Some(file.segment.end())),
            Self::Short { end, durable, .. } => (Some(*end), Some(*durable)),
            Self::Damage { damage, durable, .. } => (Some(damage.lsn), *durable),
            _ => (self.segment().map(WalSegment::start), self.segment().map(WalSegment::end)),
        }
    }
}

/// A sentence for people.
impl fmt::Display for ArchiveProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no WAL in the directory; is it the right one, and mounted?"),
            Self::Gap(missing) => display_gap(missing, f),
            Self::AcceptedGap { start, end } => {
                write!(f, "hole: WAL from {start} up to {end} is missing, and nothing has come behind it yet")
            }
            Self::LostEnd { start, end, .. } => write!(
                f,
                "WAL from {start} up to {end} is missing at the end, and was durable as the state file says"
            ),
            Self::Size { file, actual, compressed } => {
                write!(f, "{file} has {actual} bytes instead of {}", file.segment.size().bytes())?;
                match compressed {
                    Some(method) => write!(
                        f,
                        "; it is compressed and its name does not say so, append \"{}\" to the name",
                        method.suffix()
                    ),
                    None => Ok(()),
                }
            }
            Self::Short { file, end, durable } => {
                write!(f, "{file} ends at {end}, and was durable up to {durable} as the state file says")
            }
            Self::Compressed { name, reason, .. } => write!(f, "{name} cannot be decompressed: {reason}"),
            Self::Damage { file, damage, durable } => {
                write!(f, "{file} is damaged: {damage}")?;
                match durable {
                    Some(durable) => {
                        write!(f, "; it was durable up to {durable} as the state file says")
                    }
                    None => Ok(()),
                }
            }
            Self::Unreadable { name, reason, .. } => {
                write!(f, "{name} ")?;
                match reason {
                    Unreadable::NotAFile => f.write_str("is not a file"),
                    Unreadable::BrokenLink => {
                        f.write_str("is a symbolic link to something that is not there")
                    }
                    Unreadable::UnknownForm => {
                        f.write_str("is in a form that cannot be read, or an unfinished copy")
                    }
                    Unreadable::OtherSegmentSize => {
                        f.write_str("is named as a segment of a cluster with segments of another size")
                    }
                    Unreadable::Refused(reason) => write!(f, "cannot be read: {reason}"),
                }
            }
            Self::NoHistory(timeline) => write!(f, "timeline {timeline} has segments but no history file"),
            Self::History { timeline, error } => {
                write!(f, "the history of timeline {timeline} is damaged: {error}")
            }
            Self::State { line } => {
                write!(f, "{}: line {line} cannot be understood", super::ArchiveState::FILE_NAME)
            }
            Self::OtherCluster { segments, state } => write!(
                f,
                "{} is of cluster {state}, and the segments are of cluster {segments}",
                super::ArchiveState::FILE_NAME
            ),
        }
    }
}

fn display_gap(missing: &MissingWal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let MissingWal { after, before, switchpoint } = missing;
    let (timeline, first) = (before.segment.timeline(), before.segment);
    match switchpoint {
        None => write!(f, "hole: {} segments missing between {after} and {before}", missing.segments()),
        Some(switchpoint) if *switchpoint < first.start() => write!(
            f,
            "hole: timeline {timeline} began at {switchpoint}, before its first segment {before}; before that \
             the archive has {after}"
        ),
        Some(switchpoint) => write!(
            f,
            "hole: {} segments missing between {after} and {switchpoint}, where timeline {timeline} began",
            missing.segments()
        ),
    }
}
