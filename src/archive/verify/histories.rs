//! Reads the timeline histories of an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::prelude::v1::*;

use super::super::{Archive, ArchiveError, ArchiveFileName, ArchiveProblem, Unreadable};
use super::stock::unreadable;
use crate::compression::Compression;
use crate::storage::Entry;
use crate::types::TimelineId;
use crate::wal::{TimelineHistory, WalSegment};

/// The histories of these timelines, as far as they can be read.
pub(super) fn read_histories(
    archive: &Archive,
    timelines: &BTreeSet<TimelineId>,
    problems: &mut Vec<ArchiveProblem>,
) -> BTreeMap<TimelineId, TimelineHistory> {
    let mut histories = BTreeMap::new();
    for &timeline in timelines {
        for compression in Compression::ALL {
            let name = ArchiveFileName::History { timeline, compression }.to_string();
            match read(archive, timeline, &name) {
                Ok(Some(history)) => drop(histories.entry(timeline).or_insert(history)),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
    }
    histories
}

/// The history in the file of this name; `None` if it is not there.
fn read(
    archive: &Archive,
    timeline: TimelineId,
    name: &str,
) -> Result<Option<TimelineHistory>, ArchiveProblem> {
    let problem = |reason| ArchiveProblem::Unreadable { name: name.into(), segment: None, reason };
    match archive.directory().entry(name) {
        Ok(None) => return Ok(None),
        Ok(Some(Entry::File(_))) => {}
        Ok(Some(Entry::Other)) => return Err(problem(Unreadable::NotAFile)),
        Ok(Some(Entry::BrokenLink)) => return Err(problem(Unreadable::BrokenLink)),
        Err(error) => return Err(unreadable(name, None, &error.into())),
    }
    let mut reader = match archive.open_segment(name) {
        Ok(reader) => reader,
        // Another process moved it away.
        Err(ArchiveError::Storage(error)) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(unreadable(name, None, &error)),
    };
    let mut bytes = Vec::new();
    if let Err(error) = reader.read_to_end(&mut bytes) {
        return Err(not_read(name, None, &reader.error(error)));
    }
    match TimelineHistory::parse(timeline, &bytes) {
        Ok(history) => Ok(Some(history)),
        Err(error) => Err(ArchiveProblem::History { timeline, error }),
    }
}

/// The problem that a file is which cannot be read to its end.
pub(super) fn not_read(name: &str, segment: Option<WalSegment>, error: &ArchiveError) -> ArchiveProblem {
    match error {
        ArchiveError::Decompress { source, .. } => {
            ArchiveProblem::Compressed { name: name.into(), segment, reason: reason_of(source) }
        }
        error => unreadable(name, segment, error),
    }
}

fn reason_of(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".into(),
        _ => source.to_string(),
    }
}
