use super::test_support::{Log, PAGE, SEGMENT, SYSTEM_ID, segment_size};
use super::{WalChecker, WalDamage, WalDamageKind};
use crate::types::{Lsn, SystemId, TimelineId};

fn checker(log: &Log) -> WalChecker {
    checker_of_timeline(log, log.timeline)
}

fn checker_of_timeline(log: &Log, timeline: u32) -> WalChecker {
    let timeline = TimelineId::new(timeline).unwrap();
    WalChecker::new(segment_size(), Some(SYSTEM_ID), timeline, log.start())
}

/// Checks a log, as a whole and in small pieces.
fn check(log: &Log) -> Result<(), WalDamage> {
    let whole = checker(log).check(log.start(), &log.bytes);
    let mut checker = checker(log);
    let (head, tail) = log.bytes.split_at(log.bytes.len().min(8 * PAGE));
    let mut pieces = head.chunks(13).chain(tail.chunks(5003));
    assert_eq!(whole, pieces.try_for_each(|piece| checker.check(checker.position(), piece)));
    whole
}

fn damage(lsn: u64, kind: WalDamageKind) -> Result<(), WalDamage> {
    Err(WalDamage { lsn: Lsn::new(lsn), kind })
}

/// A log with records of many lengths, which end and begin at every place of a page.
fn records() -> Log {
    let mut log = Log::new();
    for len in (0..2 * PAGE).step_by(11).chain(0..40) {
        log.record(len);
    }
    log
}

#[test]
fn healthy_records_pass_however_they_are_split() {
    let log = records();
    for step in [1, 2, 3, 5, 8, 24, 25, 1000, PAGE, 5000, log.bytes.len()] {
        let mut checker = checker(&log);
        for piece in log.bytes.chunks(step) {
            assert_eq!(checker.check(checker.position(), piece), Ok(()), "{step}");
        }
        assert_eq!(checker.position().get(), log.position());
        assert_eq!(checker.checked_up_to(), checker.position());
        assert!(log.position() - checker.last_record_end().get() < 8, "but for padding");
    }
}

#[test]
fn what_is_checked_ends_before_a_record_or_page_header_under_way() {
    let mut log = Log::new();
    let first = log.record(100);
    log.fill_to(0);
    log.record(100);
    let start = log.start().get();
    // A page header, a record and its padding; a page without, and the next header.
    let wholes = [start, first.get(), first.get() + 124, first.get() + 128, start + PAGE as u64];
    let mut checker = checker(&log);
    for (byte, at) in log.bytes[..PAGE + 23].iter().zip(start..) {
        let whole = wholes.into_iter().rfind(|&whole| whole <= at).unwrap();
        let padding = (first.get() + 124..first.get() + 128).contains(&at);
        assert_eq!(checker.checked_up_to().get(), if padding { at } else { whole }, "{at}");
        checker.check(Lsn::new(at), &[*byte]).unwrap();
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let mut log = records();
    let flipped_to = log.bytes.len();
    // So that a changed length comes to light too.
    for _ in 0..100 {
        log.record(100);
    }
    let mut healthy = checker(&log);
    for (page, bytes) in log.bytes[..flipped_to].chunks(PAGE).enumerate().step_by(37) {
        let (page, lsn) = (page * PAGE, Lsn::new(log.start().get() + (page * PAGE) as u64));
        let checked = healthy.position().saturating_sub(log.start()) as usize;
        healthy.check(healthy.position(), &log.bytes[checked..page]).unwrap();
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            // That full-page images may be removed is known from nothing else; nor is it at the start that a
            // record before it was cut off.
            if (at, bit) == (2, 2) || (page, at, bit) == (0, 2, 3) {
                continue;
            }
            let mut flipped = log.bytes[page..].to_vec();
            flipped.truncate(5 * PAGE);
            flipped[at] ^= 1 << bit;
            assert!(healthy.clone().check(lsn, &flipped).is_err(), "byte {at} bit {bit} of {lsn}");
        }
    }
}

#[test]
fn damage_names_the_record_and_stays() {
    let mut log = Log::new();
    log.record(100);
    let second = log.record(3 * PAGE);
    let end = log.position();
    log.record(100);
    log.bytes[2 * PAGE] ^= 1;
    log.bytes[2 * PAGE] ^= 1;
    log.bytes[2 * PAGE + 500] ^= 1;
    let mut checker = checker(&log);
    let until_its_last_byte = (end - log.start().get()) as usize;
    // The record's last bytes are padding or checked.
    assert_eq!(checker.check(log.start(), &log.bytes[..until_its_last_byte - 8]), Ok(()));
    let expected = Err(WalDamage { lsn: second, kind: WalDamageKind::RecordChecksum });
    assert_eq!(checker.check(checker.position(), &log.bytes[until_its_last_byte - 8..]), expected);
    assert_eq!(checker.check(log.start(), &[]), expected);
    assert_eq!(checker.checked_up_to(), second);
    assert_eq!(checker.last_record_end().get(), log.start().get() + 40 + 124);
}

#[test]
fn bytes_that_do_not_follow_are_refused() {
    let log = records();
    for start in [log.start().get() + 1, log.start().get() - 1, 0, u64::MAX] {
        let kind = WalDamageKind::Position { expected: log.start() };
        assert_eq!(checker(&log).check(Lsn::new(start), &log.bytes), damage(start, kind));
    }
}

#[test]
fn a_start_in_the_middle_of_a_record_passes_over_it() {
    let mut log = Log::new();
    log.fill_segment();
    let crossing = log.record(2 * SEGMENT);
    log.record(100);
    let last = log.record(100);
    let start = Lsn::new(log.start().get() + SEGMENT as u64);
    for split in [PAGE, 77, 3 * SEGMENT] {
        let mut checker = WalChecker::new(segment_size(), None, TimelineId::FIRST, start);
        for piece in log.bytes[SEGMENT..].chunks(split) {
            assert_eq!(checker.check(checker.position(), piece), Ok(()));
        }
        assert_eq!(checker.system_id(), Some(SYSTEM_ID));
        assert!(checker.last_record_end() > last);
    }
    let mut flipped = log.clone();
    *flipped.bytes.last_mut().unwrap() ^= 1;
    let mut checker = WalChecker::new(segment_size(), None, TimelineId::FIRST, start);
    assert!(checker.check(start, &flipped.bytes[SEGMENT..]).is_err());
    // Its first half was seen, so its other half is checked.
    let mut flipped = log.clone();
    flipped.bytes[2 * SEGMENT + 100] ^= 1;
    let kind = WalDamageKind::RecordChecksum;
    assert_eq!(check(&flipped), damage(crossing.get(), kind));
}

#[test]
fn bytes_before_the_first_segment_are_passed_over() {
    let mut log = Log::new();
    log.fill_segment();
    log.record(2 * PAGE);
    let start = Lsn::new(log.start().get() + 12_345);
    let mut checker = WalChecker::new(segment_size(), None, TimelineId::FIRST, start);
    log.bytes[12_400] ^= 1;
    for piece in log.bytes[12_345..].chunks(1000) {
        assert_eq!(checker.check(checker.position(), piece), Ok(()));
    }
    assert_eq!(checker.system_id(), Some(SYSTEM_ID));
}

#[test]
fn a_record_of_many_segments_is_checked_piece_by_piece() {
    let mut log = Log::new();
    log.record(5 * SEGMENT);
    log.record(7);
    assert_eq!(check(&log), Ok(()));
    log.bytes[4 * SEGMENT + 99] ^= 0x10;
    assert_eq!(check(&log), damage(log.start().get() + 40, WalDamageKind::RecordChecksum));
}

#[test]
fn the_rest_of_a_segment_after_a_switch_is_empty() {
    // The switch record itself crosses the end of a page, ends at it, or ends before it.
    for offset in [48, 504, PAGE - 24, PAGE - 16, PAGE - 8, 0] {
        for with_headers in [false, true] {
            let mut log = Log::new();
            log.record(100);
            log.fill_to(offset);
            log.switch(with_headers);
            log.record(100);
            assert_eq!(check(&log), Ok(()), "{offset} {with_headers}");
            for at in [SEGMENT - 1, SEGMENT / 2, SEGMENT - PAGE + 7] {
                let mut log = log.clone();
                log.bytes[at] ^= 1;
                assert!(check(&log).is_err(), "{offset} {with_headers} {at}");
            }
        }
    }
}

#[test]
fn a_switch_may_fill_its_segment_exactly() {
    let mut log = Log::new();
    log.fill_segment();
    log.fill_to(PAGE - 24);
    log.switch(false);
    assert_eq!(log.bytes.len(), SEGMENT);
    log.record(100);
    assert_eq!(check(&log), Ok(()));
}

#[test]
fn a_segment_may_end_in_zeros_after_any_record() {
    for offset in [504, 0] {
        let mut log = Log::new();
        log.record(100);
        log.fill_to(offset);
        let end = log.bytes.len();
        log.bytes.resize(SEGMENT, 0);
        log.record(100);
        assert_eq!(check(&log), Ok(()));
        log.bytes[SEGMENT - 1] = 1;
        assert_eq!(check(&log), damage(log.start().get() + SEGMENT as u64 - 1, WalDamageKind::NotZero));
        log.bytes[end + 4] = 1;
        assert!(check(&log).is_err());
    }
}

#[test]
fn zeros_in_the_middle_of_a_record_or_of_a_segments_first_page_are_damage() {
    let mut log = Log::new();
    log.record(3 * PAGE);
    log.bytes[PAGE..2 * PAGE].fill(0);
    assert_eq!(check(&log), damage(log.start().get() + PAGE as u64, WalDamageKind::Magic { found: 0 }));
    log.bytes.fill(0);
    assert_eq!(check(&log), damage(log.start().get(), WalDamageKind::UnknownMagic { found: 0 }));

    let mut log = Log::new();
    log.switch(false);
    let next = log.position();
    log.bytes.resize(2 * SEGMENT, 0);
    assert_eq!(check(&log), damage(next, WalDamageKind::Magic { found: 0 }));
}

#[test]
fn a_record_cut_off_by_a_crash_passes_if_the_next_page_says_so() {
    for magic in [0xd097, 0xd110] {
        let mut log = Log { magic, ..Log::new() };
        log.record(100);
        for offset in [PAGE - 8, PAGE - 16, PAGE - 24, 504] {
            log.fill_to(offset);
            log.cut_off_record(true);
            log.record(18);
        }
        log.fill_segment();
        log.fill_to(704);
        log.cut_off_record(true);
        log.record(18);
        assert_eq!(check(&log), Ok(()));
    }
}

#[test]
fn a_page_that_speaks_of_a_cut_off_record_has_one_before_it() {
    let mut log = Log::new();
    log.fill_to(0);
    let page = log.position();
    log.page_header(0, 8);
    log.record(18);
    assert_eq!(check(&log), damage(page, WalDamageKind::NothingCutOff));
}

#[test]
fn before_14_a_cut_off_record_may_end_a_segment_without_a_word() {
    for (magic, passes) in [(0xd097, true), (0xd106, true), (0xd10d, false), (0xd118, false)] {
        let mut log = Log { magic, ..Log::new() };
        log.fill_segment();
        log.fill_to(704);
        log.cut_off_record(false);
        // The server has replaced the end of the segment before, which was already received.
        log.previous -= 8;
        log.record(100);
        log.record(100);
        assert_eq!(check(&log).is_ok(), passes, "{magic:X}");
    }
    let mut log = Log { magic: 0xd097, ..Log::new() };
    log.fill_to(704);
    log.cut_off_record(false);
    log.record(100);
    let kind = WalDamageKind::RemainingLength { expected: 3 * PAGE as u32 + 24 - 320, found: 0 };
    assert_eq!(check(&log), damage(log.start().get() + PAGE as u64, kind));
}

/// A timeline 3 that goes on from timeline 2 at the returned position.
fn forked() -> (Log, Lsn) {
    let mut log = Log { timeline: 2, ..Log::new() };
    log.record(3 * PAGE);
    log.fill_to(304);
    let switchpoint = Lsn::new(log.position());
    log.timeline = 3;
    log.record(3 * PAGE);
    (log, switchpoint)
}

#[test]
fn pages_before_a_switchpoint_are_of_earlier_timelines() {
    let (log, switchpoint) = forked();
    assert_eq!(check(&log), Ok(()));
    let with = |switchpoint| checker(&log).with_switchpoint(switchpoint).check(log.start(), &log.bytes);
    assert_eq!(with(switchpoint), Ok(()));
    let page = |n: usize| log.start().get() + (n * PAGE) as u64;
    assert_eq!(with(log.start()), damage(page(1), WalDamageKind::Timeline { found: 2 }));
    assert_eq!(with(Lsn::new(page(7))), damage(page(4), WalDamageKind::Timeline { found: 3 }));
}

#[test]
fn timelines_never_go_back_and_never_beyond_the_streams() {
    let (log, _) = forked();
    let of = |timeline| checker_of_timeline(&log, timeline).check(log.start(), &log.bytes);
    assert_eq!(of(4), Ok(()));
    assert_eq!(of(1), damage(log.start().get(), WalDamageKind::Timeline { found: 2 }));
    assert!(of(2).is_err());
    for timeline in [0, 1] {
        let mut log = log.clone();
        log.bytes[PAGE + 4] = timeline;
        let kind = WalDamageKind::Timeline { found: timeline.into() };
        assert_eq!(check(&log), damage(log.start().get() + PAGE as u64, kind));
    }
}

#[test]
fn other_clusters_and_formats_are_told_by_the_first_page() {
    let log = records();
    let size = segment_size();
    let new = |system_id, size| {
        WalChecker::new(size, system_id, TimelineId::FIRST, log.start()).check(log.start(), &log.bytes)
    };
    let start = log.start().get();
    let other = SystemId::new(1);
    let kind = WalDamageKind::SystemId { expected: other, found: SYSTEM_ID };
    assert_eq!(new(Some(other), size), damage(start, kind));
    assert_eq!(new(None, size), Ok(()));

    let with = |at: usize, bytes: &[u8]| {
        let mut log = log.clone();
        log.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        check(&log)
    };
    assert_eq!(with(0, &[0xd1, 0x10]), damage(start, WalDamageKind::UnknownMagic { found: 0x10d1 }));
    assert_eq!(with(32, &[0, 0, 0, 1]), damage(start, WalDamageKind::SegmentSize { found: 16 << 20 }));
    for found in [0_u32, 512, 3000, 128 << 10] {
        assert_eq!(with(36, &found.to_le_bytes()), damage(start, WalDamageKind::PageSize { found }));
    }
    let page = start + PAGE as u64;
    assert_eq!(with(PAGE, &[0x0d]), damage(page, WalDamageKind::Magic { found: 0xd10d }));
    assert_eq!(with(PAGE + 8, &[1]), damage(page, WalDamageKind::PageAddress { found: Lsn::new(page + 1) }));
}

#[test]
fn a_page_cannot_both_continue_a_record_and_have_lost_it() {
    let mut log = Log::new();
    log.record(2 * PAGE);
    log.bytes[PAGE + 2] |= 8;
    assert_eq!(check(&log), damage(log.start().get() + PAGE as u64, WalDamageKind::PageFlags { found: 9 }));
}

#[test]
fn a_record_is_at_least_as_long_as_its_header() {
    for found in [1, 8, 23] {
        let mut log = Log::new();
        let record = log.record(100);
        log.bytes[40] = found;
        assert_eq!(check(&log), damage(record.get(), WalDamageKind::RecordLength { found: found.into() }));
    }
}

#[test]
fn the_first_record_points_back_to_somewhere() {
    let first = Log::new().start().get() + 40;
    for (previous, passes) in [(0, true), (first - 24, true), (first, false), (u64::MAX, false)] {
        let mut log = Log { previous, ..Log::new() };
        log.record(10);
        assert_eq!(check(&log).is_ok(), passes, "{previous}");
    }
}

#[test]
fn the_next_segment_may_not_be_of_another_cluster() {
    let mut log = Log::new();
    log.switch(false);
    let next = log.position();
    log.record(8);
    let found = SystemId::new(SYSTEM_ID.get() + 1);
    log.bytes[SEGMENT + 24..SEGMENT + 32].copy_from_slice(&found.get().to_le_bytes());
    let mut checker = WalChecker::new(segment_size(), None, TimelineId::FIRST, log.start());
    let kind = WalDamageKind::SystemId { expected: SYSTEM_ID, found };
    assert_eq!(checker.check(log.start(), &log.bytes), damage(next, kind));
}

#[test]
fn a_record_that_was_left_out_is_missed_by_its_successor() {
    let mut log = Log::new();
    let first = log.record(100);
    let at = log.bytes.len();
    let left_out = log.record(96);
    log.record(100);
    log.bytes.drain(at..at + 120);
    let kind = WalDamageKind::PreviousRecord { expected: Some(first), found: left_out };
    assert_eq!(check(&log), damage(left_out.get(), kind));
}

#[test]
fn arbitrary_bytes_and_positions_do_no_harm() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (seed >> 33) as usize
    };
    let (log, _) = forked();
    for _ in 0..2000 {
        let mut bytes = log.bytes.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        let mut checker = checker(&log);
        for piece in bytes.chunks(1 + random() % 3000) {
            let _ = checker.check(checker.position(), piece);
        }
    }
    for start in [u64::MAX, u64::MAX - 5, u64::MAX - (SEGMENT as u64) + 1] {
        let mut checker = WalChecker::new(segment_size(), None, TimelineId::FIRST, Lsn::new(start));
        let _ = checker.check(Lsn::new(start), &log.bytes);
    }
}
