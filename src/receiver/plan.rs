//! What a connection finds out before its stream, and the choice of the first segment to receive.

use std::prelude::v1::*;

use super::{Refusal, ResumeReason};
use crate::archive::{Archive, ArchiveEnd, ArchiveState};
use crate::replication::IdentifySystem;
use crate::types::{Lsn, ServerVersion, TimelineId, WalSegmentSize};
use crate::wal::{TimelineHistory, WalChecker, WalSegment};

/// Servers flush whole pages of WAL but for the last record. After a crash, a server may be less than a page behind
/// what it had sent of a record that it never finished.
const PAGE_BYTES: u64 = 8192;

/// Everything that one connection has found out before its stream. The next connection makes a new one.
pub(super) struct Plan {
    pub(super) archive: Archive,
    pub(super) server: Server,
    /// The first segment to receive.
    pub(super) first: WalSegment,
    /// Why that segment.
    pub(super) reason: ResumeReason,
    /// The content of the state file. Once the start is noted, the new content.
    pub(super) state: Option<ArchiveState>,
    /// The first byte of a gap that was accepted for this connection.
    pub(super) gap: Option<Lsn>,
    /// Complete segments that end before this are damaged, and are replaced.
    pub(super) replace_before: Lsn,
    /// Of those, up to where each was found right: the server has to send the same again.
    pub(super) proven: Vec<(WalSegment, Lsn)>,
    /// The checker at the start of `first`, if the archive has the segment before `first`.
    pub(super) checker: Option<WalChecker>,
}

/// The server as it was when the connection began.
pub(super) struct Server {
    pub(super) system: IdentifySystem,
    pub(super) version: ServerVersion,
    pub(super) is_standby: bool,
}

/// The facts that decide where to start, as far as they are known.
pub(super) struct StartFacts<'a> {
    end: ArchiveEnd,
    state: Option<&'a ArchiveState>,
    server: &'a Server,
    segment_size: WalSegmentSize,
    /// The first byte of a gap that was accepted.
    gap: Option<Lsn>,
    /// Whether this run has received WAL from an earlier connection.
    has_received: bool,
    /// The end of the WAL that this run knows to be durable, whatever has become of its files.
    reached: Option<(TimelineId, Lsn)>,
    /// The history of the server's timeline, once it was asked for.
    pub(super) history: Option<TimelineHistory>,
    /// Once read, the position and timeline of the oldest WAL that the slot keeps; the inner `None` if it keeps none.
    pub(super) slot: Option<Option<(Lsn, TimelineId)>>,
}

/// Where to start, or the fact that has to be known first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    At(ResumeReason, WalSegment),
    /// Ask the server for the history of its timeline.
    AskHistory,
    /// Ask the server for the oldest WAL that the slot keeps.
    AskSlot,
}

impl<'a> StartFacts<'a> {
    pub(super) fn new(
        mut end: ArchiveEnd,
        state: Option<&'a ArchiveState>,
        server: &'a Server,
        segment_size: WalSegmentSize,
        gap: Option<Lsn>,
        has_received: bool,
        reached: Option<(TimelineId, Lsn)>,
    ) -> Self {
        if let Some(state) = state {
            end.broken.retain(|segment| !state.has_accepted_without(*segment));
        }
        Self { end, state, server, segment_size, gap, has_received, reached, history: None, slot: None }
    }
}

/// Chooses the start: the archive's end, or for an empty archive or an accepted gap, a place where the server has WAL.
///
/// # Errors
/// If the server does not continue the archive.
pub(super) fn choose_start(facts: &StartFacts<'_>) -> Result<Start, Refusal> {
    match end_of_archive(facts) {
        Some((reason, next)) if facts.gap.is_none() => {
            Ok(if check_continues(facts, next)? { Start::At(reason, next) } else { Start::AskHistory })
        }
        _ => Ok(start_of_server(facts)),
    }
}

/// Finds the segment after the archive's WAL, also if newer segments were moved away; `None` if it never had WAL.
fn end_of_archive(facts: &StartFacts<'_>) -> Option<(ResumeReason, WalSegment)> {
    let StartFacts { end, state, .. } = facts;
    let by_files = end.resume_at().map(|next| (end.newest.map(ResumeReason::Archive), next));
    // If the newest segments were moved away, the state file has the later end.
    let by_state =
        state.map(|state| (Some(ResumeReason::State(state.flushed)), end.before_broken(state.resume_at())));
    let by_run = facts.reached.map(|(timeline, reached)| {
        let next = WalSegment::containing(reached, timeline, facts.segment_size);
        (Some(ResumeReason::Reached(reached)), end.before_broken(next))
    });
    let newer =
        by_files.into_iter().chain(by_state).chain(by_run).reduce(|a, b| if b.1 > a.1 { b } else { a });
    newer.map(|(reason, next)| {
        let reason = reason.filter(|_| !end.broken.contains(&next));
        (reason.unwrap_or(ResumeReason::Broken(next)), next)
    })
}

/// Checks that the server's history goes through the archive's end. False if the check needs the history and the
/// history was not read yet.
fn check_continues(facts: &StartFacts<'_>, next: WalSegment) -> Result<bool, Refusal> {
    let Server { system, is_standby, .. } = facts.server;
    let (timeline, mut position) = (next.timeline(), next.start());
    if timeline == system.timeline {
        if let Some(state) = facts.state.filter(|state| state.resume_at() == next) {
            position = position.max(Lsn::new(state.flushed.get() / PAGE_BYTES * PAGE_BYTES));
        }
        // A standby may lag behind WAL that was received from another server, and catch up.
        return match position > system.xlog_pos && !is_standby {
            true => Err(Refusal::ArchiveAhead { next: position, timeline, server: system.xlog_pos }),
            false => Ok(true),
        };
    }
    // A standby may not know yet of the promotion that the receiver followed. The standby's own error reports that.
    if *is_standby && timeline > system.timeline && facts.has_received {
        return Ok(true);
    }
    let Some(history) = &facts.history else { return Ok(false) };
    match history.contains(timeline, position) {
        true => Ok(true),
        false => Err(Refusal::OffHistory {
            next: position,
            timeline,
            server_timeline: system.timeline,
            switchpoint: history.switchpoint_of(timeline),
        }),
    }
}

/// Chooses the start of an empty archive, or after an accepted gap: the oldest WAL that the slot keeps, else the
/// server's current segment.
fn start_of_server(facts: &StartFacts<'_>) -> Start {
    let Some(slot) = facts.slot else { return Start::AskSlot };
    let segment = |(lsn, timeline)| WalSegment::containing(lsn, timeline, facts.segment_size);
    let system = &facts.server.system;
    match slot.map(segment).filter(|kept| facts.gap.is_none_or(|gap| kept.start() > gap)) {
        Some(kept) => Start::At(ResumeReason::Slot, kept),
        None => Start::At(ResumeReason::Current, segment((system.xlog_pos, system.timeline))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::AcceptedGap;
    use crate::types::{PgTimestamp, SystemId};
    use std::fs::File;

    const SIZE: u32 = 1 << 20;

    fn size() -> WalSegmentSize {
        WalSegmentSize::new(SIZE).unwrap()
    }

    fn timeline(timeline: u32) -> TimelineId {
        TimelineId::new(timeline).unwrap()
    }

    /// The start of a segment.
    fn start_of(number: u64) -> Lsn {
        Lsn::new(number * u64::from(SIZE))
    }

    fn segment(on: u32, number: u64) -> WalSegment {
        WalSegment::containing(start_of(number), timeline(on), size())
    }

    /// Files of 1 MiB are whole segments, and others are broken unless they are partial.
    fn end_with(files: &[(WalSegment, &str, u32)]) -> ArchiveEnd {
        let dir = tempfile::tempdir().unwrap();
        for (segment, suffix, len) in files {
            let file = File::create(dir.path().join(format!("{segment}{suffix}"))).unwrap();
            file.set_len(u64::from(*len)).unwrap();
        }
        Archive::open(dir.path(), size()).unwrap().end().unwrap()
    }

    fn whole(segment: WalSegment) -> (WalSegment, &'static str, u32) {
        (segment, "", SIZE)
    }

    fn partial(segment: WalSegment) -> (WalSegment, &'static str, u32) {
        (segment, ".partial", SIZE)
    }

    fn broken(segment: WalSegment) -> (WalSegment, &'static str, u32) {
        (segment, "", 17)
    }

    /// A primary that is in the middle of this segment.
    fn server(on: u32, number: u64) -> Server {
        let system = IdentifySystem {
            system_id: SystemId::new(7),
            timeline: timeline(on),
            xlog_pos: Lsn::new(start_of(number).get() + 0x1000),
            dbname: None,
        };
        Server { system, version: ServerVersion::release(17), is_standby: false }
    }

    fn standby(on: u32, number: u64) -> Server {
        Server { is_standby: true, ..server(on, number) }
    }

    fn state(on: u32, flushed: Lsn) -> ArchiveState {
        ArchiveState {
            system_id: SystemId::new(7),
            segment_size: size(),
            timeline: timeline(on),
            flushed,
            gaps: Vec::new(),
        }
    }

    fn facts<'a>(
        files: &[(WalSegment, &str, u32)],
        state: Option<&'a ArchiveState>,
        server: &'a Server,
    ) -> StartFacts<'a> {
        StartFacts::new(end_with(files), state, server, size(), None, false, None)
    }

    /// The reason's kind and the segment.
    fn start(facts: &StartFacts<'_>) -> (&'static str, WalSegment) {
        match choose_start(facts).unwrap() {
            Start::At(reason, segment) => match reason {
                ResumeReason::Archive(newest) => {
                    let is_partial = newest.to_string().ends_with(".partial");
                    (if is_partial { "partial" } else { "archive" }, segment)
                }
                ResumeReason::State(_) => ("state", segment),
                ResumeReason::Reached(_) => ("reached", segment),
                ResumeReason::Broken(at) => {
                    assert_eq!(at, segment);
                    ("broken", segment)
                }
                ResumeReason::Slot => ("slot", segment),
                ResumeReason::Current => ("current", segment),
            },
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_archive_starts_where_the_slot_does_or_at_the_current_segment() {
        let server = server(2, 9);
        let mut facts = facts(&[], None, &server);
        assert_eq!(choose_start(&facts), Ok(Start::AskSlot));
        facts.slot = Some(None);
        assert_eq!(start(&facts), ("current", segment(2, 9)));
        facts.slot = Some(Some((Lsn::new(start_of(4).get() + 5), timeline(1))));
        assert_eq!(start(&facts), ("slot", segment(1, 4)));
    }

    #[test]
    fn a_whole_segment_is_followed_and_a_partial_one_is_received_again() {
        let server = server(1, 9);
        assert_eq!(start(&facts(&[whole(segment(1, 5))], None, &server)), ("archive", segment(1, 6)));
        let files = [whole(segment(1, 5)), partial(segment(1, 6))];
        assert_eq!(start(&facts(&files, None, &server)), ("partial", segment(1, 6)));
    }

    #[test]
    fn broken_segments_at_the_end_are_received_again_the_oldest_first() {
        let server = server(1, 9);
        let files = [whole(segment(1, 5)), broken(segment(1, 6)), broken(segment(1, 7))];
        assert_eq!(start(&facts(&files, None, &server)), ("broken", segment(1, 6)));
        assert_eq!(start(&facts(&files[1..], None, &server)), ("broken", segment(1, 6)));
        // A broken segment that whole segments follow is left for a person to inspect.
        let files = [broken(segment(1, 4)), whole(segment(1, 5)), whole(segment(1, 6))];
        assert_eq!(start(&facts(&files, None, &server)), ("archive", segment(1, 7)));
    }

    #[test]
    fn a_broken_segment_within_an_accepted_gap_is_not_received_again() {
        let server = server(1, 9);
        let gap =
            AcceptedGap { from: start_of(5), to: start_of(7), accepted_at: PgTimestamp::from_micros(0) };
        let state = ArchiveState { gaps: vec![gap], ..state(1, start_of(7)) };
        let files = [broken(segment(1, 6))];
        assert_eq!(start(&facts(&files, Some(&state), &server)), ("state", segment(1, 7)));
    }

    #[test]
    fn the_state_file_counts_where_newer_segments_were_shipped_away() {
        let server = server(1, 9);
        let shipped = state(1, Lsn::new(start_of(8).get() + 0x10));
        assert_eq!(start(&facts(&[], Some(&shipped), &server)), ("state", segment(1, 8)));
        assert_eq!(start(&facts(&[whole(segment(1, 5))], Some(&shipped), &server)), ("state", segment(1, 8)));
        // If the archive has segments as new as the state file, the segments decide.
        assert_eq!(
            start(&facts(&[whole(segment(1, 7))], Some(&shipped), &server)),
            ("archive", segment(1, 8))
        );
        let files = [broken(segment(1, 7))];
        assert_eq!(start(&facts(&files, Some(&shipped), &server)), ("broken", segment(1, 7)));
    }

    #[test]
    fn what_this_run_has_received_counts_where_its_files_are_gone() {
        let server = server(1, 9);
        let mut facts = facts(&[], None, &server);
        facts.reached = Some((timeline(1), Lsn::new(start_of(5).get() + 0x10)));
        assert_eq!(start(&facts), ("reached", segment(1, 5)));
        facts.reached = Some((timeline(1), start_of(6)));
        assert_eq!(start(&facts), ("reached", segment(1, 6)));
        facts.end = end_with(&[whole(segment(1, 5))]);
        assert_eq!(start(&facts), ("archive", segment(1, 6)));
        facts.end = end_with(&[whole(segment(1, 4))]);
        assert_eq!(start(&facts), ("reached", segment(1, 6)));
    }

    #[test]
    fn a_server_that_is_behind_the_archive_is_refused() {
        let server = server(1, 9);
        assert_eq!(start(&facts(&[whole(segment(1, 8))], None, &server)), ("archive", segment(1, 9)));
        let ahead =
            |next| Refusal::ArchiveAhead { next, timeline: timeline(1), server: server.system.xlog_pos };
        let refused = choose_start(&facts(&[whole(segment(1, 9))], None, &server));
        assert_eq!(refused, Err(ahead(start_of(10))));
        // Within a segment the state file decides, less the page that a server may lose in a crash.
        let partial = [partial(segment(1, 9))];
        let lost = state(1, Lsn::new(start_of(9).get() + 0x1fff));
        assert_eq!(start(&facts(&partial, Some(&lost), &server)), ("partial", segment(1, 9)));
        let flushed = state(1, Lsn::new(start_of(9).get() + 0x2000));
        let refused = choose_start(&facts(&partial, Some(&flushed), &server));
        assert_eq!(refused, Err(ahead(flushed.flushed)));
    }

    #[test]
    fn a_standby_may_be_behind_and_catch_up() {
        let server = standby(1, 3);
        assert_eq!(start(&facts(&[whole(segment(1, 8))], None, &server)), ("archive", segment(1, 9)));
        // A standby may also lag behind a promotion that this run followed, but not behind one unknown to this run.
        let mut facts = facts(&[whole(segment(2, 8))], None, &server);
        assert_eq!(choose_start(&facts), Ok(Start::AskHistory));
        facts.has_received = true;
        assert_eq!(start(&facts), ("archive", segment(2, 9)));
    }

    #[test]
    fn an_archive_of_an_ancestor_goes_on_up_to_the_switchpoint_and_no_further() {
        let server = server(3, 9);
        let history = |text: &str| Some(TimelineHistory::parse(timeline(3), text.as_bytes()).unwrap());
        let mut facts = facts(&[whole(segment(1, 5))], None, &server);
        assert_eq!(choose_start(&facts), Ok(Start::AskHistory));
        facts.history = history("1\t0/600000\tpromoted\n2\t0/700000\tpromoted\n");
        assert_eq!(start(&facts), ("archive", segment(1, 6)));
        let off = |switchpoint| Refusal::OffHistory {
            next: start_of(6),
            timeline: timeline(1),
            server_timeline: timeline(3),
            switchpoint,
        };
        facts.history = history("1\t0/5FFFF8\tpromoted\n");
        assert_eq!(choose_start(&facts), Err(off(Some(Lsn::new(0x5F_FFF8)))));
        facts.history = history("2\t0/700000\tpromoted\n");
        assert_eq!(choose_start(&facts), Err(off(None)));
    }

    #[test]
    fn behind_an_accepted_gap_the_slot_counts_only_beyond_its_beginning() {
        let server = server(1, 9);
        let mut facts = facts(&[whole(segment(1, 3))], None, &server);
        facts.gap = Some(start_of(4));
        assert_eq!(choose_start(&facts), Ok(Start::AskSlot));
        facts.slot = Some(Some((start_of(6), timeline(1))));
        assert_eq!(start(&facts), ("slot", segment(1, 6)));
        // The slot claims to keep WAL that the server has just reported as missing.
        facts.slot = Some(Some((start_of(4), timeline(1))));
        assert_eq!(start(&facts), ("current", segment(1, 9)));
        facts.slot = Some(None);
        assert_eq!(start(&facts), ("current", segment(1, 9)));
    }
}
