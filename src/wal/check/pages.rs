use super::WalDamageKind;
use crate::types::{Lsn, SystemId, TimelineId, WalSegmentSize};
use crate::wal::header::{PageHeader, SegmentHeader};

/// What is known of the pages of a log, and the check of their headers.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    segment_size: WalSegmentSize,
    timeline: TimelineId,
    /// Where `timeline` began, if known.
    pub(super) switchpoint: Option<Lsn>,
    /// Given, or that of the first segment.
    pub(super) system_id: Option<SystemId>,
    /// The magic of all pages and their size in bytes, as the first one says.
    format: Option<(u16, u32)>,
    /// The timeline of the last page: timelines never go back.
    last_timeline: u32,
}

/// How a page begins, as far as records go.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageBegin {
    /// Bytes to come, from this page on, of the record that crosses into it; 0 without such a record.
    pub(super) remaining: u32,
    /// Whether a record from the page before may be without its rest.
    pub(super) cut_off: CutOff,
    /// Whether a segment begins.
    pub(super) of_segment: bool,
}

/// What a page says about a record that a crash cut off.
#[derive(Clone, Copy, Debug)]
pub(super) enum CutOff {
    /// No record was cut off.
    None,
    /// A record may be cut off at the end of the segment before: servers before 14 did not always mark it.
    Possible,
    /// A record was cut off.
    Certain,
}

/// The page magic of the major versions 10, 11, ... 18.
const MAGICS: [u16; 9] = [0xd097, 0xd098, 0xd101, 0xd106, MAGIC_14, 0xd110, 0xd113, 0xd116, 0xd118];
const MAGIC_14: u16 = 0xd10d;

/// What pages have unless the server was built otherwise; all possible sizes are multiples of 1 KiB.
const DEFAULT_PAGE_SIZE: u32 = 8 << 10;

impl Pages {
    pub(super) const fn new(
        segment_size: WalSegmentSize,
        system_id: Option<SystemId>,
        timeline: TimelineId,
    ) -> Self {
        Self { segment_size, timeline, switchpoint: None, system_id, format: None, last_timeline: 1 }
    }

    /// Bytes in a page.
    pub(super) fn page_size(&self) -> usize {
        self.format.map_or(DEFAULT_PAGE_SIZE, |(_, page_size)| page_size) as usize
    }

    /// The start of the page that holds the byte at `lsn`.
    pub(super) fn page_of(&self, lsn: Lsn) -> Lsn {
        Lsn::new(lsn.get() - lsn.get() % self.page_size() as u64)
    }

    /// Whether the page at `page` is the first of its segment, and so has a long header.
    pub(super) fn begins_segment(&self, page: Lsn) -> bool {
        page.get().is_multiple_of(self.segment_size.bytes().into())
    }

    /// Checks the header of the page at `page`: 24 bytes, or 40 of a segment's first page. `None` for
    /// an empty page, which has no header and is right only where the log `may_end`.
    pub(super) fn check(
        &mut self,
        page: Lsn,
        bytes: &[u8; SegmentHeader::LEN],
        may_end: bool,
    ) -> Result<Option<PageBegin>, WalDamageKind> {
        let of_segment = self.begins_segment(page);
        if may_end && !of_segment && bytes[..PageHeader::LEN] == [0; PageHeader::LEN] {
            return Ok(None);
        }
        let header = PageHeader::parse(bytes);
        self.check_magic(header.magic)?;
        self.check_page(page, &header)?;
        if of_segment {
            self.check_segment(header.magic, SegmentHeader::parse(bytes))?;
        }
        let cut_off = match header.magic {
            _ if header.flags & PageHeader::OVERWRITES != 0 => CutOff::Certain,
            ..MAGIC_14 if of_segment => CutOff::Possible,
            _ => CutOff::None,
        };
        Ok(Some(PageBegin { remaining: header.remaining, cut_off, of_segment }))
    }

    fn check_magic(&self, found: u16) -> Result<(), WalDamageKind> {
        match self.format {
            Some((magic, _)) if magic != found => Err(WalDamageKind::Magic { found }),
            None if !MAGICS.contains(&found) => Err(WalDamageKind::UnknownMagic { found }),
            _ => Ok(()),
        }
    }

    fn check_page(&mut self, page: Lsn, header: &PageHeader) -> Result<(), WalDamageKind> {
        let has = |flag| header.flags & flag != 0;
        if header.flags & !PageHeader::ALL_FLAGS != 0
            || has(PageHeader::LONG) != self.begins_segment(page)
            || has(PageHeader::CONTINUED) && has(PageHeader::OVERWRITES)
            || has(PageHeader::CONTINUED) != (header.remaining > 0)
        {
            return Err(WalDamageKind::PageFlags { found: header.flags });
        }
        if header.address != page {
            return Err(WalDamageKind::PageAddress { found: header.address });
        }
        if header.padding != 0 {
            return Err(WalDamageKind::NotZero);
        }
        let (found, own) = (header.timeline, self.timeline.get());
        let possible = match self.switchpoint {
            // A timeline goes on in a copy of its parent's last segment, which ends at the switchpoint.
            Some(switchpoint) if page > switchpoint => found == own,
            Some(switchpoint) if page < switchpoint => found < own,
            _ => found <= own,
        };
        if !possible || found < self.last_timeline {
            return Err(WalDamageKind::Timeline { found });
        }
        self.last_timeline = found;
        Ok(())
    }

    fn check_segment(&mut self, magic: u16, header: SegmentHeader) -> Result<(), WalDamageKind> {
        let SegmentHeader { system_id: found, segment_size, page_size } = header;
        match self.system_id {
            Some(expected) if found != expected => return Err(WalDamageKind::SystemId { expected, found }),
            _ => self.system_id = Some(found),
        }
        if segment_size != self.segment_size.bytes() {
            return Err(WalDamageKind::SegmentSize { found: segment_size });
        }
        let possible = match self.format {
            Some((_, known)) => page_size == known,
            None => page_size.is_power_of_two() && (1 << 10..=64 << 10).contains(&page_size),
        };
        if !possible {
            return Err(WalDamageKind::PageSize { found: page_size });
        }
        self.format = Some((magic, page_size));
        Ok(())
    }
}
