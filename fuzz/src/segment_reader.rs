//! Properties of the reader of stored segments, plain and compressed.

use std::fs;
use std::io::{self, Read, Write};

use tapster::archive::SegmentReader;
use tapster::compression::{Compress, Compression, Decoder, Encoder};

use super::bytes::{Bytes, Lengths};
use super::scratch::Scratch;

/// The input is a method of compression and a mode, a limit, the lengths of pieces, and the bytes of a file or, by
/// the mode, the content that a file is to have.
pub fn segment_reader(input: &[u8]) {
    let mut input = Bytes(input);
    let (choice, limit, pieces) = (input.u8(), input.u32() % (1 << 20), input.u32());
    let method = Compression::ALL[usize::from(choice) % Compression::ALL.len()];
    let reader = Reader { directory: Scratch::new(), method, pieces };
    match choice / 4 % 3 {
        0 => reader.check_file(input.0, limit.into()),
        1 => reader.check_content(input.0, limit as usize),
        _ => reader.check_bomb(input.0, limit.into()),
    }
}

struct Reader {
    directory: Scratch,
    method: Compression,
    pieces: u32,
}

impl Reader {
    fn store(&self, stored: &[u8]) -> std::path::PathBuf {
        let path = self.directory.path().join(format!("segment{}", self.method.suffix()));
        fs::write(&path, stored).unwrap();
        path
    }

    /// What the reader gives of a file, in large pieces; and whether it ended well.
    fn read(&self, stored: &[u8], limit: u64) -> (Vec<u8>, io::Result<()>) {
        read(SegmentReader::open(&self.store(stored), limit).unwrap(), core::iter::repeat(1 << 16))
    }

    /// Checks any file: the limit holds; the content is the same in pieces, and from memory; and a plain file is its
    /// own content.
    fn check_file(&self, stored: &[u8], limit: u64) {
        let path = self.store(stored);
        let (content, result) = self.read(stored, limit);
        assert!(content.len() as u64 <= limit, "{} bytes of {limit}", content.len());
        if self.method == Compression::None {
            assert_eq!(result.is_ok(), stored.len() as u64 <= limit);
            assert!(stored.starts_with(&content));
        }
        let (in_pieces, other) = read(SegmentReader::open(&path, limit).unwrap(), Lengths::new(self.pieces));
        assert_eq!(result.is_ok(), other.is_ok(), "{result:?} {other:?}");
        if result.is_ok() {
            assert!(in_pieces == content, "{} and {} bytes", in_pieces.len(), content.len());
            let short = Dribble(stored, Lengths::new(!self.pieces));
            let (dribbled, other) = read(Decoder::new(short, self.method), core::iter::repeat(1 << 16));
            assert!(other.is_ok() && dribbled == content, "{other:?}");
        } else {
            // How much comes before an error depends on the pieces, but it is of the same content.
            assert!(in_pieces.starts_with(&content) || content.starts_with(&in_pieces));
        }
        assert_eq!(fs::read(path).unwrap(), stored, "reading changed the file");
    }

    /// Checks a file that was made of this content: it is read again, whole or with an error, wherever the file was
    /// cut off, and never where it holds more than the limit.
    fn check_content(&self, content: &[u8], split: usize) {
        let len = content.len() as u64;
        let (first, second) = content.split_at(split % (content.len() + 1));
        let whole = self.compress(content);
        let parts = [self.compress(first), self.compress(second)];
        for stored in [&whole, &parts.concat()] {
            let (read, result) = self.read(stored, len);
            assert!(result.is_ok() && read == content, "{}: {result:?}", self.method);
            if len > 0 {
                let (read, result) = self.read(stored, len - 1);
                assert!(result.is_err() && content.starts_with(&read) && read.len() < content.len());
            }
            self.check_file(stored, len);
        }
        if self.method == Compression::None {
            return;
        }
        // An empty file is one without any member or frame.
        let cut_off = self.pieces as usize % whole.len();
        for at in [cut_off, 1, whole.len() / 2, whole.len() - 1] {
            let (read, result) = self.read(&whole[..at], len);
            assert!(result.is_err() || at == 0, "{} of {} bytes are whole", at, whole.len());
            assert!(content.starts_with(&read));
        }
        // One bit that is different is either found or means nothing; only LZ4 and Zstandard always have a checksum.
        let mut changed = whole;
        let bit = self.pieces as usize % (8 * changed.len());
        changed[bit / 8] ^= 1 << (bit % 8);
        self.check_file(&changed, len);
    }

    /// Checks a content that is many times as large as its file and the limit.
    fn check_bomb(&self, unit: &[u8], limit: u64) {
        let unit = if unit.is_empty() { &[0] } else { &unit[..unit.len().min(64)] };
        let content = unit.repeat((2 << 20) / unit.len());
        let stored = self.compress(&content);
        let (read, result) = self.read(&stored, limit);
        assert!(result.is_err(), "{} bytes of {limit}", read.len());
        assert!(read.len() as u64 <= limit && content.starts_with(&read));
    }

    fn compress(&self, content: &[u8]) -> Vec<u8> {
        let compress = Compress { method: self.method, level: None };
        let mut encoder = Encoder::new(Vec::new(), compress, content.len() as u64).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }
}

/// Reads to the end or the first error, in pieces of these lengths.
fn read(mut from: impl Read, lengths: impl Iterator<Item = usize>) -> (Vec<u8>, io::Result<()>) {
    let mut content = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    for len in lengths {
        match from.read(&mut buffer[..len]) {
            Ok(0) => break,
            Ok(read) => content.extend_from_slice(&buffer[..read]),
            Err(error) => {
                assert!(error.raw_os_error().is_none(), "{error}");
                return (content, Err(error));
            }
        }
    }
    // The end stays the end.
    assert!(from.read(&mut buffer).is_ok_and(|read| read == 0));
    (content, Ok(()))
}

/// Gives its bytes in pieces.
struct Dribble<'a>(&'a [u8], Lengths);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.1.next().unwrap_or(1).min(buffer.len());
        self.0.read(&mut buffer[..len])
    }
}
