use std::vec::Vec;

use crate::types::Lsn;
use crate::wal::BLOCK_LEN;

/// A run of WAL on its way to the disk.
///
/// A byte that belongs at the start of a block of its file is at the start of a block in memory, unless the batch
/// outgrows its capacity: so it can be written past the page cache.
#[derive(Debug, Default)]
pub(super) struct Batch {
    start: Lsn,
    memory: Vec<u8>,
    /// Where in `memory` the first byte is.
    begin: usize,
}

/// What is before the first byte, up to the start of a block.
const ZEROS: &[u8] = &[0; BLOCK_LEN];

impl Batch {
    /// The position of the first byte.
    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.begin..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Begins anew at `start`, with room for `capacity` bytes.
    pub(super) fn begin(&mut self, start: Lsn, capacity: usize) {
        self.clear();
        self.memory.reserve_exact(capacity + BLOCK_LEN);
        let in_block = (start.get() % BLOCK_LEN as u64) as usize;
        let begin = in_block.wrapping_sub(self.memory.as_ptr().addr()) % BLOCK_LEN;
        self.memory.extend_from_slice(ZEROS.get(..begin).unwrap_or_default());
        (self.start, self.begin) = (start, begin);
    }

    /// The memory behind which more bytes go.
    pub(super) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
    }

    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.memory.truncate(self.begin + len);
    }

    /// Drops the first bytes.
    pub(super) fn advance(&mut self, len: usize) {
        self.begin += len;
        self.start = Lsn::new(self.start.get().saturating_add(len as u64));
    }

    pub(super) fn clear(&mut self) {
        self.memory.clear();
        self.begin = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_memory_as_in_the_file() {
        let mut batch = Batch::default();
        for start in [0, 1, 4095, 4096, 0x1234_5678] {
            batch.begin(Lsn::new(start), 10_000);
            assert!(batch.is_empty());
            batch.push(&[1; 6000]);
            batch.push(&[2; 4000]);
            assert_eq!(batch.bytes().as_ptr().addr() % BLOCK_LEN, start as usize % BLOCK_LEN);
            batch.advance(5999);
            assert_eq!((batch.start().get(), batch.len()), (start + 5999, 4001));
            assert_eq!(batch.bytes().first_chunk(), Some(&[1, 2]));
            assert_eq!(batch.bytes().as_ptr().addr() % BLOCK_LEN, (start as usize + 5999) % BLOCK_LEN);
            batch.truncate(1);
            assert_eq!(batch.bytes(), [1]);
        }
        batch.clear();
        assert!(batch.is_empty());
    }

    #[test]
    fn more_than_there_was_room_for_is_kept_too() {
        let mut batch = Batch::default();
        batch.begin(Lsn::new(9), 10);
        batch.push(&[3; 50_000]);
        assert_eq!((batch.bytes(), batch.start()), (&[3; 50_000][..], Lsn::new(9)));
    }
}
