use std::io::{self, BufRead, BufReader, Read};
use std::prelude::v1::*;

use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::Compression;

/// Decompresses what it reads from a reader: all members of a gzip file, all frames of an LZ4 or Zstandard file, one
/// behind the other. bgzip, pigz and pzstd write several, and so does `cat a.gz b.gz`. Skippable frames are passed over.
///
/// It ends with the last of them and passes over what follows, which begins as none of them does.
///
/// An error that has no number of the system is about the bytes: damaged, cut off, or of another format.
pub struct Decoder<R: Read>(State<R>);

enum State<R: Read> {
    Plain(R),
    Gzip(Box<GzDecoder<Source<R>>>),
    Lz4(Box<FrameDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
    /// Before the first member or frame.
    Begin(Source<R>, Compression),
    /// Behind the last one; also while the state changes.
    End(Compression),
}

impl<R: Read> Decoder<R> {
    /// Reads the bytes that `from` holds, compressed by `method`. Nothing is read yet.
    pub fn new(from: R, method: Compression) -> Self {
        Self(match method {
            Compression::None => State::Plain(from),
            _ => State::Begin(Source::new(from), method),
        })
    }

    /// Whether it hands the bytes on as they are.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.0, State::Plain(_) | State::End(Compression::None))
    }
}

impl<R: Read> State<R> {
    /// Goes on with the first or the next member or frame, or ends.
    fn next(self) -> io::Result<Self> {
        let (mut source, method, is_first) = match self {
            Self::Begin(source, method) => (source, method, true),
            Self::Gzip(decoder) => (decoder.into_inner(), Compression::Gzip, false),
            Self::Lz4(decoder) => {
                let source = decoder.into_inner();
                // For the decoder the end of the file ends the frame between two blocks. Only legacy frames end so.
                if source.has_ended && !source.may_end {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                (source, Compression::Lz4, false)
            }
            Self::Zstd(decoder) => (decoder.finish(), Compression::Zstd, false),
            same @ (Self::Plain(_) | Self::End(_)) => return Ok(same),
        };
        if method != Compression::Gzip {
            source.skip_skippable()?;
        }
        // At the beginning the decoder itself says what is wrong with other bytes.
        if !is_first && !begins(source.peek()?, method) {
            return Ok(Self::End(method));
        }
        // An empty file has no frame; that is told by its size.
        let begin = source.peek()?;
        source.may_end = begin.is_empty() || begin == LZ4_LEGACY;
        Ok(match method {
            Compression::None => Self::End(method),
            Compression::Gzip => Self::Gzip(Box::new(GzDecoder::new(source))),
            Compression::Lz4 => Self::Lz4(Box::new(FrameDecoder::new(source))),
            Compression::Zstd => Self::Zstd(zstd::stream::read::Decoder::with_buffer(source)?.single_frame()),
        })
    }

    const fn method(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Lz4(_) => Compression::Lz4,
            Self::Zstd(_) => Compression::Zstd,
            Self::Begin(_, method) | Self::End(method) => *method,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.0 {
                State::Plain(from) => return from.read(buffer),
                State::End(_) => return Ok(0),
                State::Begin(..) => 0,
                State::Gzip(decoder) => decoder.read(buffer)?,
                State::Lz4(decoder) => decoder.read(buffer)?,
                State::Zstd(decoder) => decoder.read(buffer)?,
            };
            if read > 0 {
                return Ok(read);
            }
            let end = State::End(self.0.method());
            self.0 = core::mem::replace(&mut self.0, end).next()?;
        }
    }
}

/// Whether a member or frame of this format begins so.
fn begins(bytes: &[u8], method: Compression) -> bool {
    bytes.starts_with(match method {
        Compression::None => return false,
        // The third byte is the only method that there is, deflate.
        Compression::Gzip => &[0x1f, 0x8b, 8],
        Compression::Lz4 => &[0x04, 0x22, 0x4d, 0x18],
        Compression::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
    })
}

/// What a decoder reads from. It lends the next bytes before they are read.
struct Source<R> {
    from: BufReader<R>,
    /// Bytes that were read ahead, from `at` up to `len`.
    ahead: [u8; MAGIC_LEN],
    at: usize,
    len: usize,
    /// Whether a decoder wanted more bytes than there are.
    has_ended: bool,
    /// Whether what is read may end without a mark of its end.
    may_end: bool,
}

/// Bytes that tell LZ4 and Zstandard frames and skippable ones apart; gzip needs three.
const MAGIC_LEN: usize = 4;

/// Begins a frame of the format before the present one, which `lz4 -l` still writes.
const LZ4_LEGACY: [u8; MAGIC_LEN] = [0x02, 0x21, 0x4c, 0x18];

impl<R: Read> Source<R> {
    fn new(from: R) -> Self {
        Self {
            from: BufReader::new(from),
            ahead: [0; MAGIC_LEN],
            at: 0,
            len: 0,
            has_ended: false,
            may_end: false,
        }
    }

    /// The next bytes: fewer than [`MAGIC_LEN`] only at the end.
    fn peek(&mut self) -> io::Result<&[u8]> {
        self.ahead.copy_within(self.at..self.len, 0);
        (self.at, self.len) = (0, self.len - self.at);
        while self.len < MAGIC_LEN {
            match self.from.read(&mut self.ahead[self.len..]) {
                Ok(0) => break,
                Ok(read) => self.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.ahead[..self.len])
    }

    /// Passes over the skippable frames that come next; LZ4 and Zstandard have the same.
    fn skip_skippable(&mut self) -> io::Result<()> {
        while let Ok(magic) = <[u8; MAGIC_LEN]>::try_from(self.peek()?)
            && u32::from_le_bytes(magic) & 0xffff_fff0 == 0x184d_2a50
        {
            self.consume(MAGIC_LEN);
            let mut len = [0; 4];
            self.read_exact(&mut len)?;
            let len = u64::from(u32::from_le_bytes(len));
            if io::copy(&mut self.by_ref().take(len), &mut io::sink())? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.len {
            let read = self.from.read(buffer)?;
            self.has_ended |= read == 0 && !buffer.is_empty();
            return Ok(read);
        }
        let read = (&self.ahead[self.at..self.len]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.len { self.from.fill_buf() } else { Ok(&self.ahead[self.at..self.len]) }
    }

    fn consume(&mut self, amount: usize) {
        if self.at == self.len {
            self.from.consume(amount);
        } else {
            self.at += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compress, Encoder};
    use super::*;
    use std::io::Write as _;

    /// The content in a member or frame of its own.
    fn stored(content: &[u8], method: Compression) -> Vec<u8> {
        let compress = Compress { method, level: None };
        let mut encoder = Encoder::new(Vec::new(), compress, content.len() as u64).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(stored: &[u8], method: Compression) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Decoder::new(stored, method).read_to_end(&mut content).map(|_| content)
    }

    fn skippable(content: &[u8]) -> Vec<u8> {
        [&0x184d_2a53_u32.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat()
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let a: Vec<u8> = (0..25_000_u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
        let b = b"b".repeat(8185);
        let all = [&a[..], &b, &a].concat();
        for method in Compression::COMPRESSING {
            let [first, second] = [&a, &b].map(|content| stored(content, method));
            let empty = stored(b"", method);
            let whole = [&first[..], &empty, &second, &first, &empty].concat();
            assert!(read(&whole, method).unwrap() == all, "{method}");
            // What begins as no member or frame ends it.
            for tail in [&b"\0\0\0\0"[..], b"\x1f\x8b", b"tail", &[7; 300]] {
                assert!(read(&[&whole, tail].concat(), method).unwrap() == all, "{method}");
            }
            // A member or frame that was cut off is an error, wherever it is.
            let cut = whole.len() - empty.len() - first.len() / 2;
            let error = read(&whole[..cut], method).unwrap_err();
            assert!(error.raw_os_error().is_none(), "{method}");
            let mut damaged = whole.clone();
            damaged[cut] ^= 0x55;
            assert!(read(&damaged, method).map_or(true, |read| read != all), "{method}");
        }
    }

    #[test]
    fn every_place_of_a_boundary_is_read_right() {
        // The buffer of the reader ends before, within and behind the mark that is looked ahead for.
        for method in Compression::COMPRESSING {
            for len in 0..40_usize {
                let noise: Vec<u8> =
                    (0..8150 + len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                let frame = stored(&noise, method);
                let content = read(&[&frame[..], &frame].concat(), method).unwrap();
                assert!(content == [&noise[..], &noise].concat(), "{method} {len}");
            }
        }
    }

    #[test]
    fn skippable_frames_are_passed_over() {
        for method in [Compression::Lz4, Compression::Zstd] {
            let frame = stored(b"content", method);
            let skipped = [skippable(&[1; 70_000]), skippable(b"")].concat();
            // As pzstd writes them: each before a frame.
            let whole = [&skipped[..], &frame, &skipped, &frame, &skipped].concat();
            assert_eq!(read(&whole, method).unwrap(), b"contentcontent", "{method}");
            assert!(read(&whole[..whole.len() - 9], method).is_err(), "{method}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        // Two blocks of LZ4; the end of a block is where its decoder takes the end of the file for that of the frame.
        let content: Vec<u8> = (0..20_000_u32).flat_map(|i| (i / 9).to_le_bytes()).collect();
        for method in Compression::COMPRESSING {
            let whole = stored(&content, method);
            for len in 1..whole.len() {
                assert!(read(&whole[..len], method).is_err(), "{method}: {len} of {}", whole.len());
            }
        }
    }

    #[test]
    fn legacy_lz4_frames_end_with_the_file() {
        // `printf aaaaaaaaaaaaaaaaaaaaaaaa | lz4 -l`
        let frame = b"\x02\x21\x4c\x18\x0a\x00\x00\x00\x1e\x61\x01\x00\x50\x61\x61\x61\x61\x61";
        assert_eq!(read(frame, Compression::Lz4).unwrap(), b"a".repeat(24));
    }

    #[test]
    fn other_bytes_at_the_beginning_are_an_error() {
        for method in Compression::COMPRESSING {
            assert!(read(b"no compressed bytes", method).is_err(), "{method}");
        }
    }
}
