use super::pages::Pages;
use super::records::Records;
use super::{WalDamage, WalDamageKind};
use crate::types::{Lsn, SystemId, TimelineId, WalSegmentSize};
use crate::wal::header::{PageHeader, SegmentHeader};

/// Checks a stream of WAL, as a server sends it or an archive holds it, before it is trusted.
///
/// It takes the bytes in pieces of any size and keeps none of them: the page headers (magic, flags, timeline,
/// address, system identifier, sizes), and of each record the length, the link to the record before it and the
/// CRC-32C, across pages and segments, for records of any length in the same few hundred bytes of memory.
///
/// It knows the WAL of PostgreSQL 10 to 18 from machines that are little-endian with 8-byte alignment, as all
/// but a few are. See [`WalDamageKind::UnknownMagic`] for other WAL.
///
/// # What counts as right
/// A false alarm would be worse than a miss, so whatever a healthy server writes is right:
/// - of the record that crosses into the first segment only the end is seen, and its checksum is unknown;
/// - after a WAL switch the rest of the segment is zero, with page headers (10) or without;
/// - a segment that is zero from the end of a record on was not filled further;
/// - a record that was cut off by a crash is followed by a page that says so, or, before 14, by the first page
///   of the next segment without a word;
/// - the pages of a segment up to the point where its timeline began are of earlier timelines.
///
/// ```
/// # use tapster::types::{Lsn, TimelineId, WalSegmentSize};
/// # use tapster::wal::{WalChecker, WalDamageKind};
/// let start = Lsn::new(0x100_0000);
/// let mut checker = WalChecker::new(WalSegmentSize::DEFAULT, None, TimelineId::FIRST, start);
/// let damage = checker.check(start, &[0; 8192]).unwrap_err();
/// assert_eq!(damage.kind, WalDamageKind::UnknownMagic { found: 0 });
/// ```
#[derive(Clone, Debug)]
pub struct WalChecker {
    /// The next byte.
    position: Lsn,
    /// The first byte that is checked, the start of a segment.
    begin: Lsn,
    pages: Pages,
    records: Records,
    /// The page header that is being assembled.
    header: [u8; SegmentHeader::LEN],
    /// The first damage, after which nothing is right any more.
    damage: Option<WalDamage>,
}

impl WalChecker {
    /// A check of the log of `timeline` from `start`, which should be the start of a segment: bytes before the
    /// first one that begins there or later are passed over.
    ///
    /// Without `system_id`, that of the first segment is taken for that of all.
    #[must_use]
    pub fn new(
        segment_size: WalSegmentSize,
        system_id: Option<SystemId>,
        timeline: TimelineId,
        start: Lsn,
    ) -> Self {
        let begin = start.get().checked_next_multiple_of(segment_size.bytes().into());
        Self {
            position: start,
            begin: Lsn::new(begin.unwrap_or(u64::MAX)),
            pages: Pages::new(segment_size, system_id, timeline),
            records: Records::new(start),
            header: [0; SegmentHeader::LEN],
            damage: None,
        }
    }

    /// Sets where the timeline began, its parent's switchpoint. The timeline of every page is known then; without it,
    /// pages of an earlier timeline are right as long as timelines never go back.
    #[must_use]
    pub fn with_switchpoint(mut self, switchpoint: Lsn) -> Self {
        self.pages.switchpoint = Some(switchpoint);
        self
    }

    /// The position of the next byte to check.
    #[must_use]
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// The position up to which every byte was checked and found right: it may be acknowledged.
    /// It is behind [`WalChecker::position`] while a record or page header is under way.
    #[must_use]
    pub fn checked_up_to(&self) -> Lsn {
        let page = self.pages.page_of(self.position);
        let is_in_header = self.position.saturating_sub(page) < self.header_len(page) as u64;
        match self.records.under_way() {
            Some(record) => record,
            None if is_in_header && self.position > self.begin => page,
            None => self.position,
        }
    }

    /// The end of the last complete record, all of which was right; the start before the first one.
    ///
    /// Where a log was cut off and zeros follow, as in a partial segment, this is the end of the log.
    #[must_use]
    pub const fn last_record_end(&self) -> Lsn {
        self.records.last_end()
    }

    /// Whether the log is empty behind its last record although that was no WAL switch, which leaves the rest of a
    /// segment empty: it was cut off there.
    #[must_use]
    pub fn is_empty_behind_record(&self) -> bool {
        self.records.is_empty_behind_record()
    }

    /// The cluster whose log it is: the given one, else that of the first segment once it was seen.
    #[must_use]
    pub const fn system_id(&self) -> Option<SystemId> {
        self.pages.system_id
    }

    /// Checks the bytes that begin at `start`, which has to be [`WalChecker::position`].
    ///
    /// # Errors
    /// The first damage, with the last byte of the page header or record in question at the latest. Every
    /// later call returns the same.
    pub fn check(&mut self, start: Lsn, bytes: &[u8]) -> Result<(), WalDamage> {
        match self.damage {
            Some(damage) => Err(damage),
            None => self.take(start, bytes).inspect_err(|&damage| self.damage = Some(damage)),
        }
    }

    fn take(&mut self, start: Lsn, bytes: &[u8]) -> Result<(), WalDamage> {
        if start != self.position {
            return Err(WalDamageKind::Position { expected: self.position }.at(start));
        }
        let unchecked = usize::try_from(self.begin.saturating_sub(start)).unwrap_or(usize::MAX);
        let (unchecked, mut bytes) = bytes.split_at(bytes.len().min(unchecked));
        self.advance(unchecked.len());
        while !bytes.is_empty() {
            let page = self.pages.page_of(self.position);
            let offset = self.position.saturating_sub(page) as usize;
            let header_len = self.header_len(page);
            let end = if offset < header_len { header_len } else { self.pages.page_size() };
            let (run, rest) = bytes.split_at(bytes.len().min(end - offset));
            if offset < header_len {
                self.header[offset..offset + run.len()].copy_from_slice(run);
                if offset + run.len() == header_len {
                    self.begin_page(page).map_err(|kind| kind.at(page))?;
                }
            } else {
                self.records.take(self.position, run)?;
            }
            self.advance(run.len());
            bytes = rest;
        }
        Ok(())
    }

    /// Goes on with the page at `page`, whose header is complete.
    fn begin_page(&mut self, page: Lsn) -> Result<(), WalDamageKind> {
        match self.pages.check(page, &self.header, self.records.may_end())? {
            Some(begin) => self.records.begin_page(begin),
            None => {
                self.records.begin_empty_page();
                Ok(())
            }
        }
    }

    /// Bytes in the header of the page at `page`.
    fn header_len(&self, page: Lsn) -> usize {
        if self.pages.begins_segment(page) { SegmentHeader::LEN } else { PageHeader::LEN }
    }

    fn advance(&mut self, len: usize) {
        self.position = Lsn::new(self.position.get().saturating_add(len as u64));
    }
}
