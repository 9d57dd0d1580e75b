//! Numbers as libpq reads them.

use std::format;
use std::prelude::v1::*;

use core::time::Duration;

use super::error::{ConnInfoError, ConnInfoErrorKind};
use super::key_value::is_space;

/// Parses a C `int` in decimal, with optional blanks around it and an optional sign.
pub(super) fn integer(keyword: &str, text: &str) -> Result<i32, ConnInfoError> {
    // Rust's `parse` takes the same signs and digits as `strtol`.
    text.trim_matches(is_space).parse().map_err(|_| {
        ConnInfoError::new(
            ConnInfoErrorKind::InvalidValue,
            format!("invalid integer value \"{text}\" for connection option \"{keyword}\""),
        )
    })
}

/// Parses a number of which only values above zero count; zero and less mean the system's default or no
/// limit.
pub(super) fn positive(keyword: &str, text: &str) -> Result<Option<u32>, ConnInfoError> {
    Ok(u32::try_from(integer(keyword, text)?).ok().filter(|&number| number != 0))
}

/// Parses a number of seconds; zero and less mean the system's default or no limit.
pub(super) fn seconds(keyword: &str, text: &str) -> Result<Option<Duration>, ConnInfoError> {
    Ok(positive(keyword, text)?.map(|seconds| Duration::from_secs(seconds.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_c_ints_with_blanks_and_a_sign() {
        for (text, number) in [
            ("0", Some(0)),
            (" 5\t", Some(5)),
            ("+5", Some(5)),
            ("-05", Some(-5)),
            ("2147483647", Some(i32::MAX)),
            ("-2147483648", Some(i32::MIN)),
            ("2147483648", None),
            ("", None),
            (" ", None),
            ("5x", None),
            ("0x5", None),
            ("- 5", None),
            ("+", None),
            ("5.0", None),
        ] {
            let message = format!("invalid integer value \"{text}\" for connection option \"k\"");
            assert_eq!(
                integer("k", text).map_err(|error| error.to_string()),
                number.ok_or(message),
                "{text:?}"
            );
        }
    }

    #[test]
    fn zero_and_less_are_no_limit() {
        assert_eq!(positive("k", "-1"), Ok(None));
        assert_eq!(seconds("k", "0"), Ok(None));
        assert_eq!(seconds("k", "2"), Ok(Some(Duration::from_secs(2))));
    }
}
