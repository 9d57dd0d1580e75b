//! Writes WAL as a server does, for the targets that read it.

/// A log under construction, from the start of a segment.
///
/// Its pages are as small as a server can be built with, so that short inputs reach several of them.
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    start: u64,
    timeline: u32,
    /// Where the record before the next one begins.
    previous: u64,
}

pub(crate) const PAGE: usize = 1 << 10;
pub(crate) const SEGMENT: u64 = 1 << 20;
pub(crate) const SYSTEM_ID: u64 = 7_710_915_963_472_273_421;

/// The page magic of PostgreSQL 15.
const MAGIC: u16 = 0xd110;
const PAGE_HEADER: usize = 24;
const RECORD_HEADER: usize = 24;
// Flags of pages.
const CONTINUED: u16 = 1;
const LONG: u16 = 2;
const OVERWRITES: u16 = 8;

impl Log {
    /// A log from the segment with this number on, whose first record points back to `previous`.
    pub(crate) fn new(number: u64, timeline: u32, previous: u64) -> Self {
        Self { bytes: Vec::new(), start: number * SEGMENT, timeline, previous }
    }

    /// Appends a record.
    pub(crate) fn record(&mut self, body: &[u8]) {
        self.begin_page_if_due();
        let at = self.position();
        let record = self.encode(body);
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE) {
                self.page_header(rest.len() as u32, CONTINUED);
            }
            let (now, later) = rest.split_at(rest.len().min(PAGE - self.bytes.len() % PAGE));
            self.bytes.extend(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.previous = at;
    }

    /// Appends the part of a record before the next page, which says that a crash cut it off.
    pub(crate) fn cut_off_record(&mut self) {
        self.begin_page_if_due();
        let record = self.encode(&[7; PAGE]);
        self.bytes.extend(&record[..PAGE - self.bytes.len() % PAGE]);
        self.page_header(0, OVERWRITES);
    }

    fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(((RECORD_HEADER + body.len()) as u32).to_le_bytes());
        header.extend(731_u32.to_le_bytes());
        header.extend(self.previous.to_le_bytes());
        header.extend([0x20, 10, 0, 0]);
        let crc = !crc(crc(!0, body), &header);
        header.extend(crc.to_le_bytes());
        [&header, body].concat()
    }

    fn begin_page_if_due(&mut self) {
        if self.bytes.len().is_multiple_of(PAGE) {
            self.page_header(0, 0);
        }
    }

    fn page_header(&mut self, remaining: u32, flags: u16) {
        let position = self.position();
        let is_first = position.is_multiple_of(SEGMENT);
        let flags = flags | if is_first { LONG } else { 0 };
        let before = self.bytes.len();
        self.bytes.extend(MAGIC.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(position.to_le_bytes());
        self.bytes.extend(u64::from(remaining).to_le_bytes());
        assert_eq!(self.bytes.len() - before, PAGE_HEADER);
        if is_first {
            self.bytes.extend(SYSTEM_ID.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }
}

/// CRC-32C, before its last step.
fn crc(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
