use std::io::{self, BufReader, Read};
use std::prelude::v1::*;

use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::Compression;

/// Decompresses what it reads from a reader. It ends with the compressed stream and passes over what follows it.
///
/// An error that has no number of the system is about the bytes: damaged, cut off, or of another format.
pub struct Decoder<R: Read>(Method<R>);

enum Method<R: Read> {
    Plain(R),
    Gzip(Box<GzDecoder<BufReader<R>>>),
    Lz4(Box<FrameDecoder<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Decoder<R> {
    /// Reads the bytes that `from` holds, compressed by `method`.
    ///
    /// # Errors
    /// Where the decoder cannot have its memory. Nothing is read yet.
    pub fn new(from: R, method: Compression) -> io::Result<Self> {
        Ok(Self(match method {
            Compression::None => Method::Plain(from),
            Compression::Gzip => Method::Gzip(Box::new(GzDecoder::new(BufReader::new(from)))),
            Compression::Lz4 => Method::Lz4(Box::new(FrameDecoder::new(BufReader::new(from)))),
            Compression::Zstd => Method::Zstd(zstd::stream::read::Decoder::new(from)?.single_frame()),
        }))
    }

    /// Whether it hands the bytes on as they are.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.0, Method::Plain(_))
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Method::Plain(from) => from.read(buffer),
            Method::Gzip(decoder) => decoder.read(buffer),
            Method::Lz4(decoder) => decoder.read(buffer),
            Method::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
