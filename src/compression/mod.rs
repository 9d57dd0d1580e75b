//! gzip, LZ4 and Zstandard: the method, what a user says about it, encoder and decoder.

mod decoder;
mod encoder;
mod spec;

use core::fmt;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use spec::{Compress, CompressError};

/// How the bytes of a file are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip, `.gz`.
    Gzip,
    /// An LZ4 frame, `.lz4`.
    Lz4,
    /// Zstandard, `.zst`; pg_receivewal does not write it.
    Zstd,
}

impl Compression {
    /// Every one, in the order in which they are looked for.
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Lz4, Self::Zstd];

    /// Those that compress.
    pub const COMPRESSING: [Self; 3] = [Self::Gzip, Self::Lz4, Self::Zstd];

    /// What it appends to a file name: `.gz`, and nothing for [`Compression::None`].
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Lz4 => ".lz4",
            Self::Zstd => ".zst",
        }
    }

    /// What pg_receivewal calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Splits a file name into the part before the suffix and what the suffix says.
    pub fn split_suffix(name: &str) -> (&str, Self) {
        Self::COMPRESSING
            .into_iter()
            .find_map(|compression| Some((name.strip_suffix(compression.suffix())?, compression)))
            .unwrap_or((name, Self::None))
    }
}

/// Its [name](Compression::name).
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
