use core::fmt;
use core::str::FromStr;

/// A server's version as libpq numbers it: `150018` for 15.18, `90624` for 9.6.24.
///
/// `FromStr` parses the `server_version` parameter, which may have a suffix:
/// `15.18 (Debian 15.18-0+deb12u1)`, `19devel`, `18beta2`.
///
/// ```
/// use tapster::types::ServerVersion;
/// let version: ServerVersion = "15.18 (Debian 15.18-0+deb12u1)".parse()?;
/// assert_eq!((version.num(), version.major()), (150018, 15));
/// assert_eq!(version.to_string(), "15.18");
/// # Ok::<(), tapster::types::ParseServerVersionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion(u32);

impl ServerVersion {
    /// The version with this number, such as `150018`.
    #[must_use]
    pub const fn from_num(num: u32) -> Self {
        Self(num)
    }

    /// The first release of a major version from 10 on: `ServerVersion::release(15)` is 15.0.
    #[must_use]
    pub const fn release(major: u16) -> Self {
        Self(major as u32 * 10_000)
    }

    /// The number: major × 10000 + minor; before 10, 9.6.24 is 90624.
    #[must_use]
    pub const fn num(self) -> u32 {
        self.0
    }

    /// The first number: 15 for 15.18, and 9 for 9.6.24.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, rest) = (self.0 / 10_000, self.0 % 10_000);
        if major >= 10 {
            write!(f, "{major}.{rest}")
        } else {
            write!(f, "{major}.{}.{}", rest / 100, rest % 100)
        }
    }
}

/// The text does not begin with a version number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseServerVersionError(());

impl fmt::Display for ParseServerVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a PostgreSQL version: expected a text such as 15.18")
    }
}

impl core::error::Error for ParseServerVersionError {}

impl FromStr for ServerVersion {
    type Err = ParseServerVersionError;

    fn from_str(text: &str) -> Result<Self, ParseServerVersionError> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut parts = text.get(..end).unwrap_or_default().split('.').map(|part| match part {
            "" => Some(0),
            digits => digits.parse::<u32>().ok().filter(|&n| n < 10_000),
        });
        let mut next = || parts.next().unwrap_or(Some(0)).ok_or(ParseServerVersionError(()));
        let (first, second, third) = (next()?, next()?, next()?);
        match first {
            0 => Err(ParseServerVersionError(())),
            1..10 if second < 100 && third < 100 => Ok(Self(first * 10_000 + second * 100 + third)),
            1..10 => Err(ParseServerVersionError(())),
            _ => Ok(Self(first * 10_000 + second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reported_server_versions_parse() {
        for (text, num, shown) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 150_018, "15.18"),
            ("10.23", 100_023, "10.23"),
            ("19devel", 190_000, "19.0"),
            ("18beta2", 180_000, "18.0"),
            ("18rc1", 180_000, "18.0"),
            ("9.6.24", 90_624, "9.6.24"),
        ] {
            let version: ServerVersion = text.parse().unwrap();
            assert_eq!((version.num(), version.to_string().as_str()), (num, shown), "{text}");
        }
    }

    #[test]
    fn text_without_a_number_is_refused() {
        for text in ["", "PostgreSQL 15", ".5", "0", "99999999999", "9.600.1"] {
            assert!(text.parse::<ServerVersion>().is_err(), "{text:?}");
        }
    }
}
