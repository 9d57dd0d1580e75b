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
