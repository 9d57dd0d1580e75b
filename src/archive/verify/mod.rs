//! Verifies an archive, also while a receiver writes into it and other processes move segments away.

mod histories;
mod stock;

use std::io::{self, Read};
use std::path::Path;
use std::prelude::v1::*;

use self::histories::not_read;
use self::stock::{Stock, is_within, segment_size, unreadable};
use super::owner::compressed_by;
use super::scan::{READ_LEN, check_file, read_full};
use super::{
    AcceptedGap, Archive, ArchiveError, ArchiveProblem, SegmentFile, SegmentReader, SegmentRun, Unreadable,
    Verification, VerifyProgress,
};
use crate::storage::Entry;
use crate::types::{Lsn, WalSegmentSize};
use crate::wal::{SegmentIdentity, TimelineHistory, WalChecker, WalDamage, WalSegment};

/// Verifies an archive: names, sizes, holes, timeline histories, the state file, and every page and record.
///
/// The segment size is that of the segments themselves. Compressed files are decompressed on the way. Nothing is
/// changed. All calls block, for as long as it takes to read every segment once. Meanwhile a receiver may write into
/// the archive, and another process may move complete segments away.
///
/// # Errors
/// If the directory cannot be read. What is wrong with its files is in the result.
pub fn verify(path: &Path) -> Result<Verification, ArchiveError> {
    verify_with(path, &mut |_| {})
}

/// As [`verify`], and calls `progress` before each segment.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_with(
    path: &Path,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<Verification, ArchiveError> {
    let segment_size = segment_size(path)?;
    let archive = Archive::open(path, segment_size)?;
    let stock = Stock::take(&archive)?;
    let mut verifier = Verifier { archive, segment_size, stock, found: Verification::default() };
    verifier.note_missing();
    verifier.check_segments(progress);
    verifier.check_cluster();
    Ok(verifier.found)
}

struct Verifier {
    archive: Archive,
    segment_size: WalSegmentSize,
    stock: Stock,
    found: Verification,
}

/// A file that was opened, or why not.
enum Opened {
    File(SegmentFile, SegmentReader, u64),
    /// Another process moved it away.
    Gone,
    Problem(ArchiveProblem),
}

impl Verifier {
    /// Records the WAL that is missing, and what stock-taking has found wrong.
    fn note_missing(&mut self) {
        self.found.problems.append(&mut self.stock.problems);
        let gaps = self.stock.state.as_ref().map_or_else(Vec::new, |state| state.gaps.clone());
        let mut is_seen: Vec<AcceptedGap> = Vec::new();
        let missing = self
            .stock
            .missing
            .iter()
            .map(|missing| (missing.start(), missing.end(), ArchiveProblem::Gap(*missing)));
        let lost_end = self.stock.lost_end.take().map(|lost| (lost.range(), lost));
        let lost_end = lost_end.and_then(|((start, end), lost)| Some((start?, end?, lost)));
        for (start, end, problem) in missing.chain(lost_end) {
            match gaps.iter().find(|gap| gap.explains(start, end, self.segment_size)) {
                // The gap itself is told below.
                Some(_) if matches!(problem, ArchiveProblem::LostEnd { .. }) => {}
                Some(gap) => {
                    is_seen.push(*gap);
                    self.found.accepted.push((problem, *gap));
                }
                None => self.found.problems.push(problem),
            }
        }
        // A gap that ends where nothing has come yet, or whose partial segment still lies there.
        let oldest = self.stock.segments.values().map(|file| file.segment.start()).min();
        let is_of_archive = |gap: &&AcceptedGap| oldest.is_none_or(|oldest| oldest < gap.to);
        for gap in gaps.iter().filter(|gap| !is_seen.contains(gap)).filter(is_of_archive) {
            let problem = ArchiveProblem::AcceptedGap { start: gap.from, end: gap.to };
            self.found.accepted.push((problem, *gap));
        }
        let is_about_nothing = self.stock.segments.is_empty()
            && self.found.problems.is_empty()
            && self.found.accepted.is_empty();
        if is_about_nothing {
            self.found.problems.push(ArchiveProblem::Empty);
        }
    }

    fn check_segments(&mut self, progress: &mut dyn FnMut(VerifyProgress)) {
        let mut run: Option<(SegmentRun, WalChecker)> = None;
        let files: Vec<SegmentFile> = self.stock.segments.values().copied().collect();
        for (done, file) in (0..).zip(&files) {
            let segment = file.segment;
            progress(VerifyProgress { done, total: files.len() as u64, segment });
            let (mut now, mut checker) = match run.take() {
                Some((run, checker)) if run.partial.is_none() && run.last.next() == Some(segment) => {
                    (SegmentRun { last: segment, ..run }, checker)
                }
                before => {
                    self.end_run(before);
                    let run = SegmentRun {
                        first: segment,
                        last: segment,
                        segments: 0,
                        partial: None,
                        partial_end: None,
                    };
                    (run, self.checker(segment))
                }
            };
            if file.is_partial {
                self.check_partial(*file, &mut checker, &mut now);
            } else {
                self.check_complete(*file, &mut checker, &mut now);
            }
            run = Some((now, checker));
        }
        self.end_run(run);
    }

    fn end_run(&mut self, run: Option<(SegmentRun, WalChecker)>) {
        let Some((mut run, _)) = run else { return };
        // The partial segment is told apart.
        if let Some(partial) = run.partial.filter(|_| run.segments > 0) {
            run.last = partial.segment.previous().unwrap_or(run.last);
        }
        if run.segments > 0 || run.partial.is_some() {
            self.found.runs.push(run);
        }
    }

    fn checker(&self, first: WalSegment) -> WalChecker {
        let timeline = first.timeline();
        let checker = WalChecker::new(self.segment_size, self.found.system_id, timeline, first.start());
        match self.stock.histories.get(&timeline).and_then(TimelineHistory::began_at) {
            Some(switchpoint) => checker.with_switchpoint(switchpoint),
            None => checker,
        }
    }

    /// Checks a complete segment; behind damage, the check begins anew with the next one.
    fn check_complete(&mut self, file: SegmentFile, checker: &mut WalChecker, run: &mut SegmentRun) {
        let segment = file.segment;
        match self.open_complete(segment) {
            Opened::File(file, reader, stored) => {
                run.segments += 1;
                self.found.compressed += u64::from(file.is_compressed());
                self.check_content(file, reader, stored, checker);
            }
            Opened::Problem(problem) => {
                run.segments += 1;
                self.found.problems.push(problem);
            }
            Opened::Gone if run.segments == 0 => {
                self.found.moved_away += 1;
                run.first = segment.next().unwrap_or(segment);
            }
            Opened::Gone => self.found.moved_away += 1,
        }
        self.found.system_id = self.found.system_id.or_else(|| checker.system_id());
        if checker.position() != segment.end()
            && let Some(next) = segment.next()
        {
            *checker = self.checker(next);
        }
    }

    fn check_content(
        &mut self,
        file: SegmentFile,
        mut reader: SegmentReader,
        stored: u64,
        checker: &mut WalChecker,
    ) {
        let expected = u64::from(self.segment_size.bytes());
        let size = |actual| ArchiveProblem::Size { file, actual, compressed: None };
        let problem = if !file.is_compressed() && stored != expected {
            let opened = self.archive.directory().open_file(&file.to_string());
            let compressed = opened.ok().and_then(|mut file| compressed_by(&mut file).ok().flatten());
            Some(ArchiveProblem::Size { file, actual: stored, compressed })
        } else {
            match check_file(&mut reader, checker) {
                Ok(Ok(actual)) => (actual != expected).then(|| size(actual)),
                Ok(Err(damage)) => Some(ArchiveProblem::Damage { file, damage, durable: None }),
                Err(error) => Some(not_read(&file.to_string(), Some(file.segment), &reader.error(error))),
            }
        };
        self.found.problems.extend(problem);
    }

    /// Opens the complete segment in whatever form it is stored now: it may be compressed meanwhile.
    fn open_complete(&self, segment: WalSegment) -> Opened {
        let mut problem = None;
        // Plain first: a segment is removed only after its compressed form has its name.
        for file in SegmentFile::all_complete(segment) {
            match self.open(file) {
                Opened::Problem(found) => problem = problem.or(Some(found)),
                Opened::Gone => {}
                opened @ Opened::File(..) => return opened,
            }
        }
        problem.map_or(Opened::Gone, Opened::Problem)
    }

    fn open(&self, file: SegmentFile) -> Opened {
        let name = file.to_string();
        let segment = Some(file.segment);
        let problem =
            |reason| Opened::Problem(ArchiveProblem::Unreadable { name: name.clone(), segment, reason });
        let stored = match self.archive.directory().entry(&name) {
            Ok(None) => return Opened::Gone,
            Ok(Some(Entry::File(len))) => len,
            Ok(Some(Entry::Other)) => return problem(Unreadable::NotAFile),
            Ok(Some(Entry::BrokenLink)) => return problem(Unreadable::BrokenLink),
            Err(error) => return Opened::Problem(unreadable(&name, segment, &error.into())),
        };
        match self.archive.open_segment(&name) {
            Ok(reader) => Opened::File(file, reader, stored),
            Err(ArchiveError::Storage(error)) if error.is_not_found() => Opened::Gone,
            Err(error) => Opened::Problem(unreadable(&name, segment, &error)),
        }
    }

    /// Checks a partial segment. It ends anywhere, and what follows its last record is no damage; but what was
    /// durable has to be right.
    fn check_partial(&mut self, file: SegmentFile, checker: &mut WalChecker, run: &mut SegmentRun) {
        let (mut reader, stored) = match self.open(file) {
            Opened::File(_, reader, stored) => (reader, stored),
            // A receiver completed it, and a compressor and other processes may have gone on with it.
            Opened::Gone => return self.check_complete(SegmentFile::plain(file.segment), checker, run),
            Opened::Problem(problem) => return self.found.problems.push(problem),
        };
        run.partial = Some(file);
        let state = self.stock.state.as_ref();
        let durable = state.filter(|state| state.timeline == file.segment.timeline());
        let durable = durable.map(|state| state.flushed).filter(|flushed| is_within(*flushed, file));
        let (end, problem) = check_partial_content(file, &mut reader, stored, checker, durable);
        run.partial_end = Some(end);
        self.found.problems.extend(problem);
        self.found.system_id = self.found.system_id.or_else(|| checker.system_id());
    }

    /// Whether the state file is about these segments.
    fn check_cluster(&mut self) {
        if let Some((segments, state)) = self.found.system_id.zip(self.stock.state.as_ref())
            && state.system_id != segments
        {
            self.found.problems.push(ArchiveProblem::OtherCluster { segments, state: state.system_id });
        }
    }
}

/// How far a partial segment is filled, and what is wrong with it.
fn check_partial_content(
    file: SegmentFile,
    reader: &mut SegmentReader,
    stored: u64,
    checker: &mut WalChecker,
    durable: Option<Lsn>,
) -> (Lsn, Option<ArchiveProblem>) {
    let start = file.segment.start();
    // What was durable is checked apart from what follows: a record that was on its way then never ends.
    let durable_len = durable.map_or(0, |durable| durable.saturating_sub(start));
    let first = Piece::check(&mut reader.take(durable_len), checker);
    let is_written = first.is_written;
    let problem = match (durable, &first.damage) {
        (None, _) => None,
        (Some(_), Some(damage)) => Some(ArchiveProblem::Damage { file, damage: *damage, durable }),
        (Some(durable), None) if first.error.is_none() && first.len < durable_len => {
            let end = Lsn::new(start.get() + first.len);
            Some(ArchiveProblem::Short { file, end, durable })
        }
        // Zeros are no damage behind the last record, but none was the last one before what was durable.
        (Some(durable), None) if first.error.is_none() && is_zero_before(durable, checker) => {
            Some(ArchiveProblem::Short { file, end: end_of(file, checker), durable })
        }
        (Some(_), None) => None,
    };
    if problem.is_some() {
        return (end_of(file, checker), problem);
    }
    let rest = match first.error {
        Some(_) => first,
        None => Piece::check(reader, checker),
    };
    let len = durable_len + rest.len;
    let problem = match (rest.damage, rest.error) {
        // The file does not begin as its segment does. Zeros mean that nothing was written to it.
        (Some(damage), _) if damage.lsn == start && (is_written || rest.is_written) => {
            Some(ArchiveProblem::Damage { file, damage, durable: None })
        }
        (Some(_), _) => None,
        _ if !file.is_compressed() && stored > file.segment.size().bytes().into() => {
            Some(ArchiveProblem::Size { file, actual: stored, compressed: None })
        }
        // A compressed partial file has no end of its own, but a beginning.
        (None, Some(error)) => {
            let may_break_off = file.is_compressed() && (len > 0 || is_end(&error));
            (!may_break_off).then(|| not_read(&file.to_string(), Some(file.segment), &reader.error(error)))
        }
        (None, None) => None,
    };
    (durable.map_or_else(|| end_of(file, checker), |durable| durable.max(end_of(file, checker))), problem)
}

/// What the check of a part of a partial segment has found.
struct Piece {
    len: u64,
    /// Whether a page header may be there: its bytes are not all zero.
    is_written: bool,
    damage: Option<WalDamage>,
    error: Option<io::Error>,
}

impl Piece {
    /// Checks what `from` has, up to the first damage.
    fn check(from: &mut impl Read, checker: &mut WalChecker) -> Self {
        let mut piece = Self { len: 0, is_written: false, damage: None, error: None };
        let mut buffer = std::vec![0; READ_LEN];
        while piece.damage.is_none() {
            let len = match read_full(from, &mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    piece.error = Some(error);
                    break;
                }
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            if piece.len == 0 {
                piece.is_written = bytes.iter().take(SegmentIdentity::LEN).any(|&byte| byte != 0);
            }
            piece.len += len as u64;
            piece.damage = checker.check(checker.position(), bytes).err();
        }
        piece
    }
}

/// The position at which the receiver of a partial segment was: where the next record would begin.
fn end_of(file: SegmentFile, checker: &WalChecker) -> Lsn {
    let end = checker.last_record_end().get().next_multiple_of(RECORD_ALIGNMENT);
    Lsn::new(end).max(file.segment.start()).min(file.segment.end())
}

/// Whether the log, checked up to `durable`, ended well before: no record is on its way, and no WAL switch has left the
/// rest of the segment empty.
fn is_zero_before(durable: Lsn, checker: &WalChecker) -> bool {
    let is_under_way = checker.checked_up_to() < durable;
    let end = checker.last_record_end().get() + MAX_BETWEEN_RECORDS;
    !is_under_way && checker.is_empty_behind_record() && end < durable.get()
}

/// Records begin at multiples of it.
const RECORD_ALIGNMENT: u64 = 8;

/// Bytes that may be between two records: padding and the header of a page.
const MAX_BETWEEN_RECORDS: u64 = RECORD_ALIGNMENT + SegmentIdentity::LEN as u64;

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}
