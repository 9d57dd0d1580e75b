use core::fmt;

/// A number of bytes. Shown in the unit that suits it, `192.5 MiB`; with `{:#}` exactly, `201850880 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if f.alternate() {
            return write!(f, "{} bytes", self.0);
        }
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = UNITS[0];
        for next in &UNITS[1..] {
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        write!(f, "{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_size_has_the_unit_that_suits_it_or_is_exact() {
        let both = |bytes| format!("{0} = {0:#}", ByteCount(bytes));
        assert_eq!(both(1023), "1023 B = 1023 bytes");
        assert_eq!(both(201_850_880), "192.5 MiB = 201850880 bytes");
        assert_eq!(both((1 << 20) - 1), "1.0 MiB = 1048575 bytes");
    }
}
