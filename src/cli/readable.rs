//! Values in a form for people.

use std::time::UNIX_EPOCH;

use tapster::types::PgTimestamp;

/// Now in UTC, as RFC 3339 has it, to the second.
pub(super) fn timestamp() -> String {
    let micros = UNIX_EPOCH.elapsed().map(|since| since.as_micros()).unwrap_or_default();
    seconds(PgTimestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX)))
}

fn seconds(moment: PgTimestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A number of bytes as people read it: `312.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_no_fractions() {
        assert_eq!(seconds(PgTimestamp::from_unix_micros(999_999)), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(PgTimestamp::from_unix_micros(1_795_164_611_000_000)), "2026-11-20T08:50:11Z");
    }

    #[test]
    fn sizes_are_rounded_to_the_unit_that_reads_best() {
        let texts = [0, 1023, 1024, 16 << 20, (1 << 30) - 1, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "16.0 MiB", "1.0 GiB", "1.0 GiB", "16384.0 PiB"]);
    }
}
