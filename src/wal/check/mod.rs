//! The check of WAL bytes: page headers, and the checksum of every record.

mod checker;
mod damage;
mod header;
mod pages;
mod records;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::types::{Lsn, SystemId};
use header::{PageHeader, SegmentHeader};

pub use checker::WalChecker;
pub use damage::{WalDamage, WalDamageKind};

/// Bytes of a segment that tell which cluster it is of.
pub(super) const SEGMENT_HEADER_LEN: usize = SegmentHeader::LEN;

/// The cluster that the segment beginning at `start` is of, by its first bytes; `None` if they are no header, as
/// in a partial segment that nothing was written to.
pub(super) fn system_id_of(start: Lsn, bytes: &[u8; SEGMENT_HEADER_LEN]) -> Option<SystemId> {
    let (system_id, _) = segment_header(bytes)?;
    (PageHeader::parse(bytes).address == start).then_some(system_id)
}

/// The cluster and the segment size in bytes that a segment's first bytes tell, if they are its header.
pub(super) fn segment_header(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Option<(SystemId, u32)> {
    let page = PageHeader::parse(bytes);
    let SegmentHeader { system_id, segment_size, .. } = SegmentHeader::parse(bytes);
    (page.magic != 0 && page.flags & PageHeader::LONG != 0).then_some((system_id, segment_size))
}
