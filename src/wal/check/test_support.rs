//! Writes WAL as servers do, for tests.

use alloc::vec::Vec;

use crate::types::{Lsn, SystemId, WalSegmentSize};
use crate::wal::crc;

/// A log under construction, from the start of a segment.
///
/// Pages have 1 KiB, so that a few hundred bytes reach every case.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    pub(crate) magic: u16,
    pub(crate) timeline: u32,
    pub(crate) start: u64,
    pub(crate) previous: u64,
}

pub(crate) const PAGE: usize = 1 << 10;
pub(crate) const SEGMENT: usize = 1 << 20;
pub(crate) const SYSTEM_ID: SystemId = SystemId::new(7_710_915_963_472_273_421);

const SHORT_HEADER: usize = 24;
const RECORD_HEADER: usize = 24;
const CONTINUED: u16 = 1;
const LONG: u16 = 2;
const OVERWRITES: u16 = 8;

pub(crate) fn segment_size() -> WalSegmentSize {
    WalSegmentSize::new(SEGMENT as u32).unwrap()
}

impl Log {
    /// A log of PostgreSQL 15 on timeline 1, in the fifth segment.
    pub(crate) fn new() -> Self {
        let start = 5 * SEGMENT as u64;
        Self { bytes: Vec::new(), magic: 0xd110, timeline: 1, start, previous: start - 64 }
    }

    pub(crate) fn start(&self) -> Lsn {
        Lsn::new(self.start)
    }

    pub(crate) fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(crate) fn offset_in_page(&self) -> usize {
        self.bytes.len() % PAGE
    }

    /// Appends a record whose body has `len` bytes; returns its position.
    pub(crate) fn record(&mut self, len: usize) -> Lsn {
        self.record_of(10, 0x20, len)
    }

    pub(crate) fn record_of(&mut self, resource_manager: u8, info: u8, len: usize) -> Lsn {
        self.begin_record_if_page_ended();
        let at = self.position();
        let record = self.encode(resource_manager, info, len);
        self.put(&record);
        self.pad();
        self.previous = at;
        Lsn::new(at)
    }

    /// A record as it stands in the log, without page headers.
    fn encode(&self, resource_manager: u8, info: u8, len: usize) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(((RECORD_HEADER + len) as u32).to_le_bytes());
        header.extend(731_u32.to_le_bytes());
        header.extend(self.previous.to_le_bytes());
        header.extend([info, resource_manager, 0, 0]);
        let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8 | 1).collect();
        let crc = crc::append(crc::append(0, &body), &header);
        header.extend(crc.to_le_bytes());
        header.extend(body);
        header
    }

    /// Appends a WAL switch and the empty rest of its segment, with headers of its pages or without.
    pub(crate) fn switch(&mut self, with_headers: bool) {
        self.record_of(0, 0x40, 0);
        while !self.bytes.len().is_multiple_of(SEGMENT) {
            let rest = PAGE - self.offset_in_page();
            if rest == PAGE && with_headers {
                self.page_header(0, 0);
            } else {
                self.bytes.resize(self.bytes.len() + rest, 0);
            }
        }
    }

    /// Appends the part of a record before the next page, and goes on there as a server does after a crash.
    pub(crate) fn cut_off_record(&mut self, says_so: bool) {
        self.begin_record_if_page_ended();
        let rest = PAGE - self.offset_in_page();
        let record = self.encode(10, 0x20, 3 * PAGE);
        self.bytes.extend(&record[..rest]);
        self.page_header(0, if says_so { OVERWRITES } else { 0 });
    }

    /// Appends a record that ends at `offset` in its page: 0 for the end of a page, else a multiple of 8 that
    /// is beyond the page's header.
    pub(crate) fn fill_to(&mut self, offset: usize) {
        self.begin_record_if_page_ended();
        let now = self.offset_in_page();
        let mut len = match offset {
            0 => PAGE - now,
            _ if offset > now => offset - now,
            _ => PAGE - now + offset - SHORT_HEADER,
        };
        if len < RECORD_HEADER {
            len += PAGE - SHORT_HEADER;
        }
        self.record(len - RECORD_HEADER);
        assert_eq!(self.offset_in_page(), offset);
    }

    /// Appends records up to the start of the last page of the segment.
    pub(crate) fn fill_segment(&mut self) {
        while self.bytes.len() % SEGMENT < SEGMENT - 2 * PAGE {
            self.record(500);
        }
        self.fill_to(0);
        if self.bytes.len() % SEGMENT != SEGMENT - PAGE {
            self.fill_to(0);
        }
        assert_eq!(self.bytes.len() % SEGMENT, SEGMENT - PAGE);
    }

    fn begin_record_if_page_ended(&mut self) {
        if self.offset_in_page() == 0 {
            self.page_header(0, 0);
        }
    }

    fn put(&mut self, mut record: &[u8]) {
        while !record.is_empty() {
            if self.offset_in_page() == 0 {
                self.page_header(record.len(), CONTINUED);
            }
            let (now, rest) = record.split_at(record.len().min(PAGE - self.offset_in_page()));
            self.bytes.extend(now);
            record = rest;
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    pub(crate) fn page_header(&mut self, remaining: usize, flags: u16) {
        let position = self.position();
        let is_first = position.is_multiple_of(SEGMENT as u64);
        let flags = flags | if is_first { LONG } else { 0 };
        self.bytes.extend(self.magic.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(position.to_le_bytes());
        self.bytes.extend((remaining as u32).to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_first {
            self.bytes.extend(SYSTEM_ID.get().to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }
}
