use core::fmt;
use core::str::FromStr;

/// The system identifier of a cluster, made by initdb and shared by all its standbys and backups.
///
/// Two WAL files with different identifiers never belong in one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(u64);

impl SystemId {
    /// The identifier with this number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a system identifier: a decimal number of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSystemIdError(());

impl fmt::Display for ParseSystemIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a system identifier: expected a decimal number of 64 bits")
    }
}

impl core::error::Error for ParseSystemIdError {}

impl FromStr for SystemId {
    type Err = ParseSystemIdError;

    fn from_str(text: &str) -> Result<Self, ParseSystemIdError> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseSystemIdError(()));
        }
        text.parse().map(Self).map_err(|_| ParseSystemIdError(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_numbers_of_64_bits_parse() {
        assert_eq!("7710915963472273421".parse(), Ok(SystemId::new(7_710_915_963_472_273_421)));
        for text in ["", "-1", "+1", "18446744073709551616", "0x1"] {
            assert_eq!(text.parse::<SystemId>(), Err(ParseSystemIdError(())), "{text:?}");
        }
    }
}
