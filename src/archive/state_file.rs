use core::fmt;
use core::str::FromStr;
use std::io::{self, Read};
use std::prelude::v1::*;

use super::{Archive, ArchiveError};
use crate::archive::io_error;
use crate::storage::Directory;
use crate::types::{Lsn, PgTimestamp, SystemId, TimelineId, WalSegmentSize};
use crate::wal::WalSegment;

/// What an archive says of itself beyond its segments: the cluster, how far it once was durable, and which gaps
/// the operator accepted.
///
/// It lies in the archive as `tapster.state`, a text of one fact a line. The segments are what counts; the
/// state is asked for what they cannot tell when they were shipped away or never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveState {
    /// The cluster.
    pub system_id: SystemId,
    /// The size of its segments.
    pub segment_size: WalSegmentSize,
    /// The timeline of `flushed`.
    pub timeline: TimelineId,
    /// The last byte + 1 that was durable when this was written. It may be behind, by the segment in progress
    /// and by those of the last second before a crash, and is never ahead.
    pub flushed: Lsn,
    /// WAL that is missing for good, the oldest first.
    pub gaps: Vec<AcceptedGap>,
}

/// Missing WAL that the operator has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedGap {
    /// The first missing byte.
    pub from: Lsn,
    /// The last missing byte + 1.
    pub to: Lsn,
    /// When it was accepted.
    pub accepted_at: PgTimestamp,
}

impl AcceptedGap {
    /// Whether it is the reason that nothing lies between these positions, the end of a segment and the start of
    /// a later one. What an incomplete segment holds does not count.
    pub(crate) fn explains(&self, missing_from: Lsn, to: Lsn, size: WalSegmentSize) -> bool {
        let first = WalSegment::containing(self.from, TimelineId::FIRST, size).start();
        first <= missing_from && to <= self.to
    }
}

impl ArchiveState {
    /// Its file in an archive.
    pub const FILE_NAME: &str = "tapster.state";

    /// The segment that comes after what was durable, or the one in progress then.
    #[must_use]
    pub fn resume_at(&self) -> WalSegment {
        WalSegment::containing(self.flushed, self.timeline, self.segment_size)
    }

    /// Whether this segment lies in an accepted gap.
    pub fn has_accepted_without(&self, segment: WalSegment) -> bool {
        self.gaps.iter().any(|gap| gap.from <= segment.start() && segment.end() <= gap.to)
    }

    /// The longest file that is read or written, in bytes. The cluster and one position are 200 bytes, and a gap is 60.
    const MAX_LEN: u64 = 1 << 20;
}

impl Archive {
    /// What the archive says of itself; `None` if it has no state file, as one that `pg_receivewal` made.
    ///
    /// # Errors
    /// If the file cannot be read or understood, or is longer than 1 MiB.
    pub fn read_state(&self) -> Result<Option<ArchiveState>, ArchiveError> {
        ArchiveState::read(self.directory())
    }

    /// Replaces the state file; the new one is durable when this returns.
    ///
    /// # Errors
    /// If it cannot be written, or has so many gaps that it could not be read again. The old one stays.
    pub fn write_state(&self, state: &ArchiveState) -> Result<(), ArchiveError> {
        let text = state.to_string();
        if text.len() as u64 > ArchiveState::MAX_LEN {
            let path = self.directory().path_of(ArchiveState::FILE_NAME);
            let too_long =
                io::Error::new(io::ErrorKind::FileTooLarge, "it would have too many gaps to be read");
            return Err(io_error("write", path, too_long));
        }
        Ok(self.directory().replace(ArchiveState::FILE_NAME, text.as_bytes(), self.file_mode())?)
    }
}

/// The text of the file.
impl fmt::Display for ArchiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system_id, segment_size, timeline, flushed, gaps } = self;
        writeln!(f, "# What this archive is, and how far it is durable. Written by tapster receive-wal.")?;
        writeln!(f, "system_identifier {system_id}")?;
        writeln!(f, "wal_segment_size {segment_size}")?;
        writeln!(f, "timeline {timeline}")?;
        writeln!(f, "flushed {flushed}")?;
        for AcceptedGap { from, to, accepted_at } in gaps {
            writeln!(f, "gap {from} {to} {accepted_at}")?;
        }
        Ok(())
    }
}

impl ArchiveState {
    /// As [`Archive::read_state`], where the segment size is not known.
    pub(crate) fn read(directory: &Directory) -> Result<Option<Self>, ArchiveError> {
        if directory.entry(Self::FILE_NAME)?.is_none() {
            return Ok(None);
        }
        let path = || directory.path_of(Self::FILE_NAME);
        let mut bytes = Vec::new();
        // One byte more shows that the file is too long.
        let read = directory.open_file(Self::FILE_NAME)?.take(Self::MAX_LEN + 1).read_to_end(&mut bytes);
        read.map_err(|source| io_error("read", path(), source))?;
        let text = String::from_utf8_lossy(&bytes);
        // A part of it must not be taken for all of it: what is cut off may be an accepted gap.
        let state =
            if bytes.len() as u64 > Self::MAX_LEN { Err(text.lines().count()) } else { Self::parse(&text) };
        state.map(Some).map_err(|line| ArchiveError::State { path: path(), line })
    }

    /// Reads the text of the file. An error is the line, from 1, that is not what it should be; or the one after
    /// the last, if one is missing.
    fn parse(text: &str) -> Result<Self, usize> {
        let (mut system_id, mut segment_size, mut timeline, mut flushed) = (None, None, None, None);
        let mut gaps = Vec::new();
        let mut line = 0;
        for content in text.lines() {
            line += 1;
            let words: Vec<&str> = content.split_whitespace().collect();
            let understood = match words[..] {
                [] | ["#", ..] => true,
                ["system_identifier", id] => set(&mut system_id, id),
                ["wal_segment_size", size] => set(&mut segment_size, size),
                ["timeline", id] => set(&mut timeline, id),
                ["flushed", lsn] => set(&mut flushed, lsn),
                ["gap", from, to, at] => match (from.parse(), to.parse(), at.parse()) {
                    (Ok(from), Ok(to), Ok(accepted_at)) => {
                        gaps.push(AcceptedGap { from, to, accepted_at });
                        true
                    }
                    _ => false,
                },
                // A line that only a later version understands may matter.
                _ => false,
            };
            if !understood {
                return Err(line);
            }
        }
        match (system_id, segment_size, timeline, flushed) {
            (Some(system_id), Some(segment_size), Some(timeline), Some(flushed)) => {
                Ok(Self { system_id, segment_size, timeline, flushed, gaps })
            }
            _ => Err(line + 1),
        }
    }
}

/// Takes a fact that must come once.
fn set<T: FromStr>(fact: &mut Option<T>, text: &str) -> bool {
    fact.is_none() && text.parse().is_ok_and(|value| fact.replace(value).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::panic;

    fn state() -> ArchiveState {
        ArchiveState {
            system_id: SystemId::new(7_710_915_963_472_273_421),
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: TimelineId::new(3).unwrap(),
            flushed: Lsn::new(0x1_0012_3456),
            gaps: Vec::new(),
        }
    }

    fn gap(from: u64, to: u64) -> AcceptedGap {
        AcceptedGap { from: Lsn::new(from), to: Lsn::new(to), accepted_at: PgTimestamp::from_micros(1) }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap();
        assert_eq!(archive.read_state().unwrap(), None);
        let mut state = state();
        for _ in 0..3 {
            archive.write_state(&state).unwrap();
            assert_eq!(archive.read_state().unwrap().as_ref(), Some(&state));
            state.gaps.push(gap(0x700_0000, 0x1400_0000));
            state.flushed = Lsn::new(state.flushed.get() / 2);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_position_at_the_end_of_a_segment_is_followed_by_the_next_one() {
        let mut state = state();
        assert_eq!(state.resume_at().to_string(), "000000030000000100000001");
        state.flushed = state.resume_at().start();
        assert_eq!(state.resume_at().to_string(), "000000030000000100000001");
    }

    #[test]
    fn a_file_that_is_not_understood_as_a_whole_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap();
        let text = state().to_string();
        let twice = text.clone() + "timeline 3\n";
        for (damaged, at) in [
            ("", 1),
            (text.split_once("flushed").unwrap().0, 5),
            (text.replace("1/", "1-").as_str(), 5),
            (text.replace("timeline 3", "timeline 0").as_str(), 4),
            (text.replace("flushed 1/123456\n", "").as_str(), 5),
            (twice.as_str(), 6),
            ((text.clone() + "gap 0/1 0/2\n").as_str(), 6),
            ((text.clone() + "colour green\n").as_str(), 6),
        ] {
            fs::write(dir.path().join(ArchiveState::FILE_NAME), damaged).unwrap();
            match archive.read_state() {
                Err(ArchiveError::State { line, .. }) if line == at => {}
                other => panic!("{damaged:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_an_error_and_is_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap();
        let mut state = state();
        state.gaps = (0..17_000).map(|at| gap(at, at + 1)).collect();
        archive.write_state(&state).unwrap();
        assert_eq!(archive.read_state().unwrap().as_ref(), Some(&state));

        // Cut off at the limit, it would be a state with fewer gaps.
        let mut long = state.clone();
        long.gaps.extend(state.gaps.iter().take(8_000));
        let error = archive.write_state(&long).unwrap_err();
        assert!(error.to_string().contains(ArchiveState::FILE_NAME), "{error}");
        assert_eq!(archive.read_state().unwrap().as_ref(), Some(&state));
        let text = long.to_string();
        let line = 1 + text[..=ArchiveState::MAX_LEN as usize].matches('\n').count();
        fs::write(dir.path().join(ArchiveState::FILE_NAME), text).unwrap();
        match archive.read_state() {
            Err(ArchiveError::State { line: told, .. }) => assert_eq!(told, line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_gap_explains_what_lies_within_it_and_the_segment_in_which_it_begins() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let explains = |gap: AcceptedGap, from, to| gap.explains(Lsn::new(from), Lsn::new(to), size);
        assert!(explains(gap(0x70_1234, 0x140_0000), 0x70_0000, 0x140_0000));
        assert!(explains(gap(0x70_0000, 0x140_0000), 0x70_0000, 0x130_0000));
        assert!(!explains(gap(0x70_1234, 0x140_0000), 0x60_0000, 0x140_0000));
        assert!(!explains(gap(0x70_1234, 0x140_0000), 0x70_0000, 0x150_0000));
    }
}
