use std::io::{self, Write};
use std::prelude::v1::*;

use flate2::write::GzEncoder;
use lz4_flex::frame::{FrameEncoder, FrameInfo};

use super::{Compress, Compression};

/// Compresses what is written to it, as a [`Compress`] says, into a writer.
pub struct Encoder<W: Write>(Method<W>);

enum Method<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Lz4(Box<FrameEncoder<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// An encoder for `len` bytes. Where the format has them, the frame gets a checksum of the content and its length.
    ///
    /// # Errors
    /// Those of the writer; a level that the method does not have.
    pub fn new(to: W, compress: Compress, len: u64) -> io::Result<Self> {
        let level = compress.level;
        Ok(Self(match compress.method {
            Compression::None => Method::Plain(to),
            Compression::Gzip => {
                let level = level.and_then(|level| level.try_into().ok());
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                Method::Gzip(GzEncoder::new(to, level))
            }
            Compression::Lz4 => {
                let info = FrameInfo::new().content_checksum(true).content_size(Some(len));
                Method::Lz4(Box::new(FrameEncoder::with_frame_info(info, to)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(to, level.unwrap_or_default())?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(len))?;
                Method::Zstd(encoder)
            }
        }))
    }

    /// Ends the compressed stream and gives the writer back. Without this call the stream stays incomplete.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Method::Plain(to) => Ok(to),
            Method::Gzip(encoder) => encoder.finish(),
            Method::Lz4(encoder) => Ok(encoder.finish()?),
            Method::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Method::Plain(to) => to.write(bytes),
            Method::Gzip(encoder) => encoder.write(bytes),
            Method::Lz4(encoder) => encoder.write(bytes),
            Method::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Method::Plain(to) => to.flush(),
            Method::Gzip(encoder) => encoder.flush(),
            Method::Lz4(encoder) => encoder.flush(),
            Method::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_every_method_wrote_its_decoder_reads() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(|i| (i / 9).to_le_bytes()).collect();
        for method in Compression::ALL {
            let compress = Compress { method, level: None };
            let mut encoder = Encoder::new(Vec::new(), compress, content.len() as u64).unwrap();
            encoder.write_all(&content).unwrap();
            let stored = encoder.finish().unwrap();
            assert_eq!(stored.len() < content.len(), method != Compression::None, "{method}");
            let mut read = Vec::new();
            Decoder::new(&stored[..], method).read_to_end(&mut read).unwrap();
            assert!(read == content, "{method}");
        }
    }
}
