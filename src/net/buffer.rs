use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes that were read from a connection and are not used up yet.
///
/// The buffer grows with the bytes that have arrived, never with a length that a peer claims, and gives
/// memory back once a large message is used up.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
}

/// Room for an `XLogData` of a walsender, 128 KiB and its headers, and for the beginning of the next one.
/// That beginning is then moved to the front of the buffer, so a larger buffer would have more bytes to move.
const USUAL_CAPACITY: usize = 144 * 1024;
/// The least room to read into.
const MIN_READ: usize = 8 * 1024;

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(MIN_READ) }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.bytes.advance(len);
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * USUAL_CAPACITY {
            self.bytes = BytesMut::with_capacity(USUAL_CAPACITY);
        }
    }

    /// Reads once, at least one byte. `missing` is how many bytes the message lacks.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer closed the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        missing: usize,
    ) -> io::Result<()> {
        // A message that claims to be long has to prove it: the buffer at most doubles.
        let room = missing.clamp(MIN_READ, self.bytes.len().max(USUAL_CAPACITY));
        self.bytes.reserve(room);
        match stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_claimed_length_alone_takes_no_memory() {
        let mut buffer = ReadBuffer::new();
        block_on(buffer.fill(&mut &b"d"[..], 1 << 30)).unwrap();
        assert!(buffer.bytes.capacity() <= 2 * USUAL_CAPACITY, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn a_large_message_gives_its_memory_back() {
        let mut buffer = ReadBuffer::new();
        let large = vec![7; 8 * USUAL_CAPACITY];
        let mut input = &large[..];
        while buffer.filled().len() < large.len() {
            let missing = large.len() - buffer.filled().len();
            block_on(buffer.fill(&mut input, missing)).unwrap();
        }
        assert_eq!(buffer.filled(), large);
        buffer.consume(large.len());
        assert!(buffer.bytes.capacity() <= USUAL_CAPACITY);
    }

    #[test]
    fn the_end_of_the_connection_is_an_error() {
        let error = block_on(ReadBuffer::new().fill(&mut &b""[..], 5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
