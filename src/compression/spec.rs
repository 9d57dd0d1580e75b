use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::format;
use std::prelude::v1::*;

use super::Compression;

/// How complete segments are compressed.
///
/// It is written as for pg_receivewal: `METHOD[:DETAIL]` where the method is `none`, `gzip`, `lz4` or `zstd` and
/// the detail a level or `level=LEVEL`; a number alone is a level of gzip, and 0 is `none`.
///
/// ```
/// use tapster::compression::{Compress, Compression};
///
/// let compress: Compress = "zstd:level=9".parse()?;
/// assert_eq!(compress, Compress { method: Compression::Zstd, level: Some(9) });
/// assert_eq!("5".parse(), Ok(Compress { method: Compression::Gzip, level: Some(5) }));
/// # Ok::<_, tapster::compression::CompressError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compress {
    /// The format; [`Compression::None`] leaves segments as they are.
    pub method: Compression,
    /// How hard to try: 1 to 9 for gzip, up to 22 for Zstandard, also below zero; `None` for the method's default.
    /// 1 to 12 are taken for LZ4, which has one speed here.
    pub level: Option<i32>,
}

/// What is wrong with the text of a [`Compress`], in PostgreSQL's words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompressError {
    /// There is no such method.
    Method(String),
    /// The detail cannot be understood, or is not for this method.
    Detail(String),
}

impl Compress {
    /// The levels of a method, and the number that stands for its default.
    fn levels(method: Compression) -> Option<(RangeInclusive<i32>, i32)> {
        match method {
            Compression::None => None,
            Compression::Gzip => Some((1..=9, -1)),
            Compression::Lz4 => Some((1..=12, 0)),
            Compression::Zstd => Some((zstd::compression_level_range(), zstd::DEFAULT_COMPRESSION_LEVEL)),
        }
    }

    fn new(method: Compression, level: Option<i32>) -> Result<Self, CompressError> {
        let Some(wanted) = level else { return Ok(Self { method, level }) };
        let Some((levels, default)) = Self::levels(method) else {
            return Err(refuse(format!(
                "compression algorithm \"{method}\" does not accept a compression level"
            )));
        };
        if wanted == default {
            return Ok(Self { method, level: None });
        }
        if !levels.contains(&wanted) {
            return Err(refuse(format!(
                "compression algorithm \"{method}\" expects a compression level between {} and {} (default at \
                 {default})",
                levels.start(),
                levels.end()
            )));
        }
        Ok(Self { method, level })
    }
}

impl FromStr for Compress {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        if let Ok(level) = text.parse() {
            return match level {
                0 => Ok(Self::default()),
                level => Self::new(Compression::Gzip, Some(level)),
            };
        }
        let (name, detail) = match text.split_once(':') {
            Some((name, detail)) => (name, Some(detail)),
            None => (text, None),
        };
        let method = Compression::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| CompressError::Method(name.into()))?;
        let level = match detail {
            None => None,
            Some(detail) => match detail.parse() {
                Ok(level) => Some(level),
                Err(_) => level_of(method, detail)?,
            },
        };
        Self::new(method, level)
    }
}

/// The level in a list of `keyword=value`.
fn level_of(method: Compression, detail: &str) -> Result<Option<i32>, CompressError> {
    let mut level = None;
    for option in detail.split(',') {
        let (keyword, value) = match option.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (option, None),
        };
        match (keyword, value) {
            ("", _) => {
                return Err(refuse("found empty string where a compression option was expected".into()));
            }
            ("level", None) => {
                return Err(refuse("compression option \"level\" requires a value".into()));
            }
            ("level", Some(value)) => match value.parse() {
                Ok(value) => level = Some(value),
                Err(_) => {
                    return Err(refuse("value for compression option \"level\" must be an integer".into()));
                }
            },
            ("workers", _) => {
                return Err(refuse(format!(
                    "compression algorithm \"{method}\" does not accept a worker count"
                )));
            }
            ("long", _) => {
                return Err(refuse(format!(
                    "compression algorithm \"{method}\" does not support long-distance mode"
                )));
            }
            _ => return Err(refuse(format!("unrecognized compression option: \"{keyword}\""))),
        }
    }
    Ok(level)
}

const fn refuse(reason: String) -> CompressError {
    CompressError::Detail(reason)
}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(name) => write!(f, "unrecognized compression algorithm: \"{name}\""),
            Self::Detail(reason) => write!(f, "invalid compression specification: {reason}"),
        }
    }
}

impl core::error::Error for CompressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_pg_receivewal_are_understood() {
        for (text, method, level) in [
            ("none", Compression::None, None),
            ("0", Compression::None, None),
            ("1", Compression::Gzip, Some(1)),
            ("gzip", Compression::Gzip, None),
            ("gzip:5", Compression::Gzip, Some(5)),
            ("gzip:level=5", Compression::Gzip, Some(5)),
            ("gzip:-1", Compression::Gzip, None),
            ("lz4", Compression::Lz4, None),
            ("lz4:12", Compression::Lz4, Some(12)),
            ("zstd:level=9", Compression::Zstd, Some(9)),
            ("zstd:3", Compression::Zstd, None),
            ("zstd:-7", Compression::Zstd, Some(-7)),
        ] {
            assert_eq!(text.parse(), Ok(Compress { method, level }), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_in_its_words() {
        for (text, message) in [
            ("foo", "unrecognized compression algorithm: \"foo\""),
            ("", "unrecognized compression algorithm: \"\""),
            ("GZIP", "unrecognized compression algorithm: \"GZIP\""),
            (
                "10",
                "compression algorithm \"gzip\" expects a compression level between 1 and 9 (default at -1)",
            ),
            (
                "gzip:0",
                "compression algorithm \"gzip\" expects a compression level between 1 and 9 (default at -1)",
            ),
            (
                "lz4:13",
                "compression algorithm \"lz4\" expects a compression level between 1 and 12 (default at 0)",
            ),
            ("none:1", "compression algorithm \"none\" does not accept a compression level"),
            ("gzip:", "found empty string where a compression option was expected"),
            ("gzip:level", "compression option \"level\" requires a value"),
            ("gzip:level=x", "value for compression option \"level\" must be an integer"),
            ("gzip:fast", "unrecognized compression option: \"fast\""),
            ("gzip:workers=2", "compression algorithm \"gzip\" does not accept a worker count"),
            ("lz4:long", "compression algorithm \"lz4\" does not support long-distance mode"),
        ] {
            let error = text.parse::<Compress>().unwrap_err().to_string();
            assert_eq!(error.strip_prefix("invalid compression specification: ").unwrap_or(&error), message);
        }
    }
}
