use crate::types::{Lsn, SystemId};

/// The header of a WAL page.
///
/// Layout: `u16 magic, u16 flags, u32 timeline, u64 address, u32 remaining, u32 zero`, and on the first page
/// of a segment `u64 system_id, u32 segment_size, u32 page_size`. The server's byte order and alignment; here
/// little-endian, with 8-byte alignment.
///
/// Source: `XLogPageHeaderData` and `XLogLongPageHeaderData` in PostgreSQL's xlog_internal.h.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageHeader {
    pub(super) magic: u16,
    pub(super) flags: u16,
    pub(super) timeline: u32,
    pub(super) address: Lsn,
    /// Bytes to come, from this page on, of the record that crosses into it.
    pub(super) remaining: u32,
    pub(super) padding: u32,
}

impl PageHeader {
    pub(super) const LEN: usize = 24;

    /// The page begins with the rest of a record.
    pub(super) const CONTINUED: u16 = 1;
    /// The header is that of a segment's first page.
    pub(super) const LONG: u16 = 2;
    /// The record that crosses into the page was lost in a crash, and is not continued. From 14 on, and in the
    /// last releases of 10 to 13.
    pub(super) const OVERWRITES: u16 = 8;
    /// These and 4, which says that full-page images may be removed.
    pub(super) const ALL_FLAGS: u16 = 0xf;

    /// Of the first [`Self::LEN`] bytes.
    pub(super) fn parse(bytes: &[u8; SegmentHeader::LEN]) -> Self {
        let [first, address, last] = [word(bytes, 0), word(bytes, 8), word(bytes, 16)];
        Self {
            magic: first as u16,
            flags: (first >> 16) as u16,
            timeline: (first >> 32) as u32,
            address: Lsn::new(address),
            remaining: last as u32,
            padding: (last >> 32) as u32,
        }
    }
}

/// What the first page of a segment says about its cluster, after the header that every page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) system_id: SystemId,
    pub(super) segment_size: u32,
    pub(super) page_size: u32,
}

impl SegmentHeader {
    /// Bytes of a long header, this part and the page's.
    pub(super) const LEN: usize = 40;

    pub(super) fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let [system_id, sizes] = [word(bytes, 24), word(bytes, 32)];
        Self {
            system_id: SystemId::new(system_id),
            segment_size: sizes as u32,
            page_size: (sizes >> 32) as u32,
        }
    }
}

/// The header of a WAL record.
///
/// Layout: `u32 total_len, u32 xid, u64 previous, u8 info, u8 resource_manager, u16 zero, u32 crc`. The
/// checksum is CRC-32C over what follows the header, and then over the header up to the checksum.
///
/// Source: `XLogRecord` in PostgreSQL's xlogrecord.h.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHeader {
    /// With this header, in bytes.
    pub(super) total_len: u32,
    /// Where the record before it begins.
    pub(super) previous: Lsn,
    pub(super) crc: u32,
}

impl RecordHeader {
    pub(super) const LEN: usize = 24;
    /// Bytes of the header that the checksum covers.
    pub(super) const CHECKED_LEN: usize = 20;

    // Every record comes here, and a library's user may build for size.
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let [first, previous, last] = [word(bytes, 0), word(bytes, 8), word(bytes, 16)];
        Self { total_len: first as u32, previous: Lsn::new(previous), crc: (last >> 32) as u32 }
    }
}

/// The little-endian word at `offset`, 0 where `bytes` ends before.
#[inline(always)]
fn word(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u64::from_le_bytes(*word))
}
