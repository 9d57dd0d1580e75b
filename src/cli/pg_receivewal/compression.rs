//! The value of `--compress`: `METHOD[:DETAIL]`, with the words that PostgreSQL's programs have for mistakes.

use core::ops::RangeInclusive;

use tapster::wal::Compression;

/// How segments are to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompressionSpec {
    pub(super) method: Compression,
    /// None for the method's own default.
    pub(super) level: Option<u32>,
}

impl CompressionSpec {
    pub(super) const NONE: Self = Self { method: Compression::None, level: None };

    /// `METHOD` is a name, or a number: 0 for none, else a level of gzip. `DETAIL` is a level, or a list of
    /// `keyword[=value]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (method, detail) = match text.split_once(':') {
            Some((method, detail)) => (method, Some(detail)),
            None => match integer(text) {
                Some(0) => ("none", None),
                Some(_) => ("gzip", Some(text)),
                None => (text, None),
            },
        };
        let method = match method {
            "none" => Method::NONE,
            "gzip" => Method::GZIP,
            "lz4" => Method::LZ4,
            "zstd" => Method::ZSTD,
            other => return Err(format!("unrecognized compression algorithm: \"{other}\"")),
        };
        let level = match detail {
            Some(detail) => {
                method.level(detail).map_err(|what| format!("invalid compression specification: {what}"))?
            }
            None => None,
        };
        Ok(Self { method: method.compression, level })
    }
}

/// A method of compression and its levels.
#[derive(Debug)]
struct Method {
    compression: Compression,
    name: &'static str,
    levels: RangeInclusive<i64>,
    /// The level that stands for the library's own choice.
    default: i64,
}

impl Method {
    const NONE: Self = Self { compression: Compression::None, name: "none", levels: 0..=0, default: 0 };
    const GZIP: Self = Self { compression: Compression::Gzip, name: "gzip", levels: 1..=9, default: -1 };
    const LZ4: Self = Self { compression: Compression::Lz4, name: "lz4", levels: 1..=12, default: 0 };
    const ZSTD: Self = Self { compression: Compression::Zstd, name: "zstd", levels: 1..=22, default: 3 };

    fn level(&self, detail: &str) -> Result<Option<u32>, String> {
        let mut level = integer(detail).filter(|_| !detail.is_empty());
        if level.is_none() {
            for option in detail.split(',') {
                level = self.option(option)?.or(level);
            }
        }
        match level {
            Some(level) if level != self.default => self.check(level).map(Some),
            _ => Ok(None),
        }
    }

    /// The level, if the option is that.
    fn option(&self, option: &str) -> Result<Option<i64>, String> {
        let (keyword, value) = match option.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (option, None),
        };
        match keyword {
            "" => Err("found empty string where a compression option was expected".into()),
            "level" | "workers" => {
                let value =
                    value.ok_or_else(|| format!("compression option \"{keyword}\" requires a value"))?;
                let value = integer(value).filter(|_| !value.is_empty());
                let value = value.ok_or_else(|| {
                    format!("value for compression option \"{keyword}\" must be an integer")
                })?;
                if keyword == "level" {
                    Ok(Some(value))
                } else {
                    Err(self.refusal("does not accept a worker count"))
                }
            }
            "long" => Err(self.refusal("does not support long-distance mode")),
            other => Err(format!("unrecognized compression option: \"{other}\"")),
        }
    }

    fn check(&self, level: i64) -> Result<u32, String> {
        let (first, last) = (self.levels.start(), self.levels.end());
        match u32::try_from(level) {
            Ok(valid) if self.levels.contains(&level) => Ok(valid),
            _ if self.compression == Compression::None => {
                Err(self.refusal("does not accept a compression level"))
            }
            _ => Err(self.refusal(&format!(
                "expects a compression level between {first} and {last} (default at {})",
                self.default
            ))),
        }
    }

    fn refusal(&self, what: &str) -> String {
        format!("compression algorithm \"{}\" {what}", self.name)
    }
}

/// A number as C's `strtol` reads one that is the whole text: with blanks and a sign before it, and 0 for
/// nothing. Too large a one is the largest.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_what_pg_receivewal_takes_them_for() {
        use Compression::{Gzip, Lz4, None as Plain, Zstd};
        for (text, method, level) in [
            ("0", Plain, None),
            ("", Plain, None),
            ("none", Plain, None),
            ("none:0", Plain, None),
            ("1", Gzip, Some(1)),
            (" +9", Gzip, Some(9)),
            ("-1", Gzip, None),
            ("gzip", Gzip, None),
            ("gzip:-1", Gzip, None),
            ("gzip:level=4", Gzip, Some(4)),
            ("gzip:level=1,level=2", Gzip, Some(2)),
            ("lz4", Lz4, None),
            ("lz4:0", Lz4, None),
            ("lz4:12", Lz4, Some(12)),
            ("zstd", Zstd, None),
            ("zstd:level=19", Zstd, Some(19)),
        ] {
            assert_eq!(CompressionSpec::parse(text), Ok(CompressionSpec { method, level }), "{text:?}");
        }
    }

    #[test]
    fn mistakes_have_the_words_of_pg_receivewal() {
        let levels =
            "compression algorithm \"gzip\" expects a compression level between 1 and 9 (default at -1)";
        for (text, words) in [
            ("10", levels),
            ("gzip:0", levels),
            ("gzip:99999999999999999999", levels),
            (
                "lz4:13",
                "compression algorithm \"lz4\" expects a compression level between 1 and 12 (default at 0)",
            ),
            ("none:1", "compression algorithm \"none\" does not accept a compression level"),
            ("none:level=1", "compression algorithm \"none\" does not accept a compression level"),
            ("gzip:", "found empty string where a compression option was expected"),
            ("gzip:level=1,", "found empty string where a compression option was expected"),
            ("gzip:level", "compression option \"level\" requires a value"),
            ("gzip:level=", "value for compression option \"level\" must be an integer"),
            ("gzip:level=x", "value for compression option \"level\" must be an integer"),
            ("gzip:workers=x", "value for compression option \"workers\" must be an integer"),
            ("gzip:workers=3", "compression algorithm \"gzip\" does not accept a worker count"),
            ("gzip:long", "compression algorithm \"gzip\" does not support long-distance mode"),
            ("gzip:1x", "unrecognized compression option: \"1x\""),
            ("gzip:foo=1", "unrecognized compression option: \"foo\""),
        ] {
            let words = format!("invalid compression specification: {words}");
            assert_eq!(CompressionSpec::parse(text), Err(words), "{text:?}");
        }
        for text in ["foo", "GZIP", "client-gzip", "1x", "-"] {
            let words = format!("unrecognized compression algorithm: \"{text}\"");
            assert_eq!(CompressionSpec::parse(text), Err(words));
        }
    }
}
