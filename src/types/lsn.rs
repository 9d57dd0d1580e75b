use core::fmt;
use core::str::FromStr;

/// A position in the write-ahead log: the number of bytes since its beginning.
///
/// An end position is "last byte + 1", as everywhere in PostgreSQL. `0/0` is the invalid position.
///
/// The text form is two hexadecimal halves, `16/B374D848`. Parsing is strict: one to eight digits on each
/// side, both cases, leading zeros accepted (PostgreSQL 19 prints them), no sign and no blanks. `Display`
/// prints no leading zeros, as servers up to 18 do.
///
/// ```
/// use tapster::types::Lsn;
/// let lsn: Lsn = "16/0B374D84".parse()?;
/// assert_eq!(lsn, Lsn::new(0x16_0B37_4D84));
/// assert_eq!(lsn.to_string(), "16/B374D84");
/// # Ok::<(), tapster::types::ParseLsnError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// `0/0`, which no record ever has.
    pub const INVALID: Self = Self(0);

    /// The position `bytes` after the beginning of the log.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes since the beginning of the log.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is not `0/0`.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// The position `bytes` further on, or `None` past the end of the 64-bit log.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// How many bytes this position is ahead of `earlier`; `None` if it is behind.
    #[must_use]
    pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// How many bytes this position is ahead of `earlier`; 0 if it is behind.
    #[must_use]
    pub const fn saturating_sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

/// The text is not a log position such as `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLsnError(());

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a log position: expected two hexadecimal numbers with a slash, such as 16/B374D848")
    }
}

impl core::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let half = |digits: &str| {
            // `from_str_radix` alone would accept a sign.
            let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hex && digits.len() <= 8)
        };
        let (high, low) = text.split_once('/').ok_or(ParseLsnError(()))?;
        match (half(high), half(low)) {
            (Some(high), Some(low)) => Ok(Self(u64::from(high) << 32 | u64::from(low))),
            _ => Err(ParseLsnError(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_round_trips() {
        for text in ["0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/0"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn zero_padding_and_lower_case_are_accepted() {
        assert_eq!("0000000a/000000ff".parse(), Ok(Lsn::new(0xa_0000_00ff)));
    }

    #[test]
    fn anything_but_hex_slash_hex_is_refused() {
        for text in
            ["", "/", "0", "0/", "/0", "0/0/0", "+1/0", "0/-1", " 0/0", "0/0 ", "123456789/0", "g/0", "0/é"]
        {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError(())), "{text:?}");
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Lsn::new(u64::MAX).checked_add(1), None);
        assert_eq!(Lsn::new(1).checked_sub(Lsn::new(2)), None);
        assert_eq!(Lsn::new(1).saturating_sub(Lsn::new(2)), 0);
    }
}
