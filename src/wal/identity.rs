use super::header::{PageHeader, SegmentHeader};
use crate::types::{Lsn, SystemId, WalSegmentSize};

/// What the first bytes of a segment say of themselves: which cluster's they are, and which segment.
///
/// Source: `XLogLongPageHeaderData` in PostgreSQL's xlog_internal.h, which is the same from 10 to 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The segment's first byte.
    pub start: Lsn,
    /// The cluster.
    pub system_id: SystemId,
    /// The size of the cluster's segments, in bytes, as it is written there: any number.
    pub segment_size: u32,
}

impl SegmentIdentity {
    /// Bytes that it is read from, at the beginning of the segment.
    pub const LEN: usize = SegmentHeader::LEN;

    /// Reads the first bytes of a segment; `None` if they are no header, as in a partial segment that nothing was
    /// written to.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let page = PageHeader::parse(bytes);
        let SegmentHeader { system_id, segment_size, .. } = SegmentHeader::parse(bytes);
        (page.magic != 0 && page.flags & PageHeader::LONG != 0).then_some(Self {
            start: page.address,
            system_id,
            segment_size,
        })
    }

    /// The size of the cluster's segments, if what is written there is one.
    #[must_use]
    pub fn size(&self) -> Option<WalSegmentSize> {
        WalSegmentSize::new(self.segment_size).ok()
    }
}

/// What the header of any page says of itself, where it is surely one: every value is one that a server writes.
#[cfg(feature = "archive")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageIdentity {
    /// The page's first byte.
    pub(crate) address: Lsn,
}

#[cfg(feature = "archive")]
impl PageIdentity {
    /// Bytes that it is read from; a page's header is shorter.
    pub(crate) const LEN: usize = SegmentHeader::LEN;

    /// The smallest pages that a server can be built with, in bytes.
    const MIN_PAGE_SIZE: u64 = 1 << 10;
    /// The first byte of the magic of every version since 9.0, and room for later ones.
    const MAGICS: core::ops::RangeInclusive<u16> = 0xd0..=0xd3;

    /// `None` if the bytes are no header of a page.
    pub(crate) fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let PageHeader { magic, flags, timeline, address, padding, .. } = PageHeader::parse(bytes);
        let is_header = Self::MAGICS.contains(&(magic >> 8))
            // Later versions may have more flags.
            && flags <= 0xff
            && timeline != 0
            && padding == 0
            && address > Lsn::INVALID
            && address.get().is_multiple_of(Self::MIN_PAGE_SIZE);
        is_header.then_some(Self { address })
    }
}

#[cfg(all(test, feature = "archive"))]
mod tests {
    use super::*;
    use crate::wal::check::test_support::Log;

    #[test]
    fn a_page_tells_its_address_and_other_bytes_are_no_page() {
        let mut log = Log::new();
        log.record(10);
        let header: [u8; PageIdentity::LEN] = *log.bytes.first_chunk().unwrap();
        assert_eq!(PageIdentity::parse(&header), Some(PageIdentity { address: log.start() }));
        // A later version, with a flag that is not known yet.
        let mut later = header;
        later[..4].copy_from_slice(&[0x1a, 0xd1, 0x12, 0]);
        assert!(PageIdentity::parse(&later).is_some());
        for damaged in [1, 3, 8, 20] {
            let mut bytes = header;
            bytes[damaged] ^= 0x41;
            assert_eq!(PageIdentity::parse(&bytes), None, "{damaged}");
        }
        for byte in 0..=255 {
            assert_eq!(PageIdentity::parse(&[byte; PageIdentity::LEN]), None);
        }
    }
}
