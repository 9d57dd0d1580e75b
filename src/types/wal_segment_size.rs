use core::fmt;
use core::str::FromStr;

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB, 16 MiB unless initdb was given
/// another size.
///
/// `FromStr` parses what `SHOW wal_segment_size` prints (`16MB`, `1GB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegmentSize(u32);

const MIN_BYTES: u32 = 1 << 20;
const MAX_BYTES: u32 = 1 << 30;

impl WalSegmentSize {
    /// 1 MiB, the smallest.
    pub const MIN: Self = Self(MIN_BYTES);
    /// 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    /// The segment size of `bytes`.
    ///
    /// # Errors
    /// If `bytes` is not a power of two from 1 MiB to 1 GiB.
    pub const fn new(bytes: u32) -> Result<Self, InvalidWalSegmentSize> {
        if bytes.is_power_of_two() && bytes >= MIN_BYTES && bytes <= MAX_BYTES {
            Ok(Self(bytes))
        } else {
            Err(InvalidWalSegmentSize(()))
        }
    }

    /// Bytes in a segment.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Segments in 4 GiB of log: the range of the last part of a segment's file name.
    #[must_use]
    pub const fn segments_per_log(self) -> u32 {
        // 2^32 / size, both powers of two.
        1 << (32 - self.0.trailing_zeros())
    }
}

impl Default for WalSegmentSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for WalSegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 20 {
            1024 => f.write_str("1GB"),
            mib => write!(f, "{mib}MB"),
        }
    }
}

/// A WAL segment size must be a power of two from 1 MB to 1 GB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidWalSegmentSize(());

impl fmt::Display for InvalidWalSegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a WAL segment size must be a power of two from 1 MB to 1 GB")
    }
}

impl core::error::Error for InvalidWalSegmentSize {}

impl FromStr for WalSegmentSize {
    type Err = InvalidWalSegmentSize;

    fn from_str(text: &str) -> Result<Self, InvalidWalSegmentSize> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let factor: u32 = match unit {
            "" | "B" => 1,
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => return Err(InvalidWalSegmentSize(())),
        };
        let number: u32 = number.parse().map_err(|_| InvalidWalSegmentSize(()))?;
        number.checked_mul(factor).ok_or(InvalidWalSegmentSize(())).and_then(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn show_output_round_trips() {
        for text in ["1MB", "16MB", "512MB", "1GB"] {
            assert_eq!(text.parse::<WalSegmentSize>().unwrap().to_string(), text);
        }
        assert_eq!("16777216".parse(), Ok(WalSegmentSize::DEFAULT));
    }

    #[test]
    fn other_sizes_are_refused() {
        for text in ["", "MB", "3MB", "2GB", "512kB", "16 MB", "-1MB", "5000000000", "16MiB"] {
            assert!(text.parse::<WalSegmentSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn segments_per_log_is_four_gib_divided_by_the_size() {
        assert_eq!(WalSegmentSize::DEFAULT.segments_per_log(), 256);
        assert_eq!(WalSegmentSize::new(1 << 20).unwrap().segments_per_log(), 4096);
        assert_eq!(WalSegmentSize::new(1 << 30).unwrap().segments_per_log(), 4);
    }
}
