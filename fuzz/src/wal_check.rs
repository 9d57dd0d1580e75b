//! Properties of the check of WAL.

use tapster::types::{Lsn, SystemId, TimelineId, WalSegmentSize};
use tapster::wal::{SegmentIdentity, WalChecker, WalDamage, WalDamageKind};

use super::bytes::{Bytes, Lengths};
use super::wal_log::{Log, PAGE, SEGMENT, SYSTEM_ID};

/// The input is a mode, a timeline, the lengths of pieces, the bit to change, and either the bytes of WAL from the
/// start of a segment, or a script: a byte for each record, its length in units of 4.
pub fn wal_check(input: &[u8]) {
    // What a stream of any length takes.
    const { assert!(size_of::<WalChecker>() <= 512) };
    let mut input = Bytes(input);
    let (mode, timeline) = (input.u8(), input.u8());
    let (pieces, changed_bit) = (input.u32(), input.u32());
    let timeline = TimelineId::new(timeline.into()).unwrap_or(TimelineId::FIRST);
    let is_script = mode & 1 != 0;
    let mut bytes = if is_script { write(input.0, timeline) } else { input.0.to_vec() };
    if is_script && mode & 8 != 0 {
        // The log ends here, before its page and segment do.
        bytes.resize(bytes.len().next_multiple_of(PAGE) + 100, 0);
    }
    // The bytes tell where they belong, where they are a segment's.
    let identity = bytes.first_chunk().and_then(SegmentIdentity::parse);
    let segment_size = identity.and_then(|identity| identity.size());
    let wal = Wal {
        bytes: &bytes,
        start: identity.map_or(Lsn::new(5 * SEGMENT), |identity| identity.start),
        segment_size: segment_size.unwrap_or(WalSegmentSize::DEFAULT),
        system_id: identity.map(|identity| identity.system_id).filter(|_| mode & 2 == 0),
        timeline,
        switchpoint: mode & 4 != 0,
    };
    let verdict = wal.check(core::iter::repeat(usize::MAX));
    assert_eq!(wal.check(Lengths::new(pieces)), verdict);
    if is_script && !input.is_empty() && !wal.switchpoint {
        assert_eq!(verdict.result, Ok(()), "what was written is right");
        assert_eq!(verdict.system_id, Some(SystemId::new(SYSTEM_ID)));
    }
    if verdict.result.is_ok() && wal.is_every_byte_checked() {
        let bit = changed_bit as usize % (8 * bytes.len()).max(1);
        // Of headers there are few, and each bit of them has its own check.
        let page = 8 * wal.page_size();
        for bit in [bit, bit - bit % page + bit % (8 * SegmentIdentity::LEN)] {
            wal.check_changed(bit);
        }
    }
}

/// A log with a record for each byte of the script; 255 is one that a crash cut off.
fn write(script: &[u8], timeline: TimelineId) -> Vec<u8> {
    let mut log = Log::new(5, timeline.get(), 5 * SEGMENT - 64);
    for (number, &byte) in script.iter().take(100).enumerate() {
        match byte {
            255 => log.cut_off_record(),
            // Some are longer than a page.
            _ => log.record(&vec![number as u8 ^ 0x55; 4 * usize::from(byte) * (1 + number % 3)]),
        }
    }
    log.bytes
}

struct Wal<'a> {
    bytes: &'a [u8],
    start: Lsn,
    segment_size: WalSegmentSize,
    system_id: Option<SystemId>,
    timeline: TimelineId,
    /// Whether the timeline is known to begin here.
    switchpoint: bool,
}

/// What a check says.
#[derive(Debug, PartialEq)]
struct Verdict {
    result: Result<(), WalDamage>,
    last_record_end: Lsn,
    system_id: Option<SystemId>,
    /// Without damage: the position, up to where it is checked, and whether it is empty behind its last record.
    end: Option<(Lsn, Lsn, bool)>,
}

impl Wal<'_> {
    /// Checks the bytes in pieces of these lengths, and how the positions move on the way.
    fn check(&self, lengths: impl Iterator<Item = usize>) -> Verdict {
        let mut checker = WalChecker::new(self.segment_size, self.system_id, self.timeline, self.start);
        if self.switchpoint {
            checker = checker.with_switchpoint(self.start);
        }
        let mut rest = self.bytes;
        let mut result = Ok(());
        let mut positions = [self.start; 3];
        for len in lengths {
            let (piece, later) = rest.split_at(len.min(rest.len()));
            if piece.is_empty() || result.is_err() {
                break;
            }
            let at = checker.position();
            result = checker.check(at, piece);
            let now = [checker.last_record_end(), checker.checked_up_to(), checker.position()];
            assert!(now.iter().zip(&positions).all(|(now, before)| now >= before), "{positions:?} {now:?}");
            assert!(now.is_sorted() || result.is_err(), "{now:?}");
            let end = Lsn::new(at.get().saturating_add(piece.len() as u64));
            match result {
                Ok(()) => assert_eq!(checker.position(), end),
                Err(damage) => self.check_damage(damage, &mut checker, end),
            }
            (rest, positions) = (later, now);
        }
        let [last_record_end, checked_up_to, position] = positions;
        let is_empty = checker.is_empty_behind_record();
        let end = result.is_ok().then_some((position, checked_up_to, is_empty));
        let system_id = checker.system_id();
        if result.is_ok() && position < Lsn::new(u64::MAX) {
            let elsewhere = Lsn::new(position.get() + 1);
            let damage = checker.check(elsewhere, b"x").unwrap_err();
            assert_eq!(damage.kind, WalDamageKind::Position { expected: position });
        }
        Verdict { result, last_record_end, system_id, end }
    }

    /// Checks that damage lies in the bytes up to `end`, behind what was called right, and stays for ever.
    fn check_damage(&self, damage: WalDamage, checker: &mut WalChecker, end: Lsn) {
        assert!(self.start <= damage.lsn && damage.lsn < end, "{damage} before {end}");
        assert!(checker.checked_up_to() <= damage.lsn, "{damage}");
        assert!(damage.to_string().starts_with(&format!("WAL at {}: ", damage.lsn)));
        assert_eq!(checker.check(checker.position(), &[]), Err(damage));
        assert_eq!(checker.check(self.start, self.bytes), Err(damage));
    }

    /// Whether each bit is covered: by the checksum of a record that begins here too, or as part of the only
    /// header that a page can have. The rest of a record from the segment before, and one that a crash cut off, have
    /// no checksum; without its timeline and cluster several headers are possible.
    fn is_every_byte_checked(&self) -> bool {
        let start = self.start.get();
        let is_aligned = start.is_multiple_of(self.segment_size.bytes().into());
        let flags = |page: &[u8]| page.get(2).copied().unwrap_or(0);
        is_aligned
            && self.system_id.is_some()
            && self.timeline == TimelineId::FIRST
            && start.checked_add(self.bytes.len() as u64).is_some()
            && flags(self.bytes) & CONTINUED == 0
            && self.bytes.chunks(self.page_size()).all(|page| flags(page) & OVERWRITES == 0)
    }

    fn page_size(&self) -> usize {
        let size = self.bytes.get(36..40).map(|size| u32::from_le_bytes(size.try_into().expect("4 bytes")));
        size.map_or(PAGE, |size| size as usize).clamp(1 << 10, 64 << 10)
    }

    /// Checks that WAL of which one bit was changed is not called right up to that bit.
    fn check_changed(&self, bit: usize) {
        let mut bytes = self.bytes.to_vec();
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        let in_page = at % self.page_size();
        // The first page may be of another version, and each page may tell that its full-page images can be removed.
        if at < 2 || at >= bytes.len() || (in_page, mask) == (2, REMOVABLE) {
            return;
        }
        bytes[at] ^= mask;
        let changed = Wal { bytes: &bytes, ..*self };
        let verdict = changed.check(core::iter::repeat(usize::MAX));
        if let Some((_, checked_up_to, _)) = verdict.end {
            let changed = Lsn::new(self.start.get() + at as u64);
            assert!(checked_up_to <= changed, "bit {mask:#x} at {changed} is called right: {verdict:?}");
        }
    }
}

// Flags of pages.
const CONTINUED: u8 = 1;
const REMOVABLE: u8 = 4;
const OVERWRITES: u8 = 8;
