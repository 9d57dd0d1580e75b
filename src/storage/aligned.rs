use super::BLOCK_LEN;
use crate::types::Lsn;
use std::prelude::v1::*;

/// Bytes with a position, aligned in memory as in their file.
///
/// A byte at the start of a block of the file is at the start of a block in memory, so that a
/// [`DirectWriter`](super::DirectWriter) can write past the page cache. Only a buffer that outgrows its capacity loses
/// that alignment. The position is that of a log whose files have a whole number of blocks.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    start: Lsn,
    memory: Vec<u8>,
    /// Where in `memory` the first byte is.
    begin: usize,
}

/// The padding before the first byte.
const ZEROS: &[u8] = &[0; BLOCK_LEN];

impl AlignedBuffer {
    /// The position of the first byte.
    #[must_use]
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.begin..).unwrap_or_default()
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Drops all bytes; the next ones begin at `start`, and there is room for `capacity` of them.
    pub fn begin(&mut self, start: Lsn, capacity: usize) {
        self.clear();
        self.memory.reserve_exact(capacity + BLOCK_LEN);
        let in_block = (start.get() % BLOCK_LEN as u64) as usize;
        let begin = in_block.wrapping_sub(self.memory.as_ptr().addr()) % BLOCK_LEN;
        self.memory.extend_from_slice(ZEROS.get(..begin).unwrap_or_default());
        (self.start, self.begin) = (start, begin);
    }

    /// The memory, for a reader that appends to it.
    pub fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.memory.truncate(self.begin + len);
    }

    /// Drops the first bytes.
    pub fn advance(&mut self, len: usize) {
        self.begin += len;
        self.start = Lsn::new(self.start.get().saturating_add(len as u64));
    }

    /// Drops all bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.begin = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_memory_as_in_the_file() {
        let mut buffer = AlignedBuffer::default();
        for start in [0, 1, 4095, 4096, 0x1234_5678] {
            buffer.begin(Lsn::new(start), 10_000);
            assert!(buffer.is_empty());
            buffer.push(&[1; 6000]);
            buffer.push(&[2; 4000]);
            assert_eq!(buffer.bytes().as_ptr().addr() % BLOCK_LEN, start as usize % BLOCK_LEN);
            buffer.advance(5999);
            assert_eq!((buffer.start().get(), buffer.len()), (start + 5999, 4001));
            assert_eq!(buffer.bytes().first_chunk(), Some(&[1, 2]));
            assert_eq!(buffer.bytes().as_ptr().addr() % BLOCK_LEN, (start as usize + 5999) % BLOCK_LEN);
            buffer.truncate(1);
            assert_eq!(buffer.bytes(), [1]);
        }
        buffer.clear();
        assert!(buffer.is_empty());
    }

    #[test]
    fn more_than_there_was_room_for_is_kept_too() {
        let mut buffer = AlignedBuffer::default();
        buffer.begin(Lsn::new(9), 10);
        buffer.push(&[3; 50_000]);
        assert_eq!((buffer.bytes(), buffer.start()), (&[3; 50_000][..], Lsn::new(9)));
    }
}
