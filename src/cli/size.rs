//! Sizes as options have them.

/// A number of bytes: `1048576`, `512kB`, `10 GB`. As in PostgreSQL's settings, a kB has 1024
/// bytes; KiB and K mean the same.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("expected a number with a unit of B, kB, MB, GB or TB".into()),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a number of bytes, as 1048576 or 512MB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_1024_in_any_spelling() {
        for (text, bytes) in [("0", 0), ("17", 17), ("17B", 17), ("2k", 2048), ("2 kB", 2048), ("2KiB", 2048)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse("10GB"), Ok(10 << 30));
        assert_eq!(parse("1TiB"), Ok(1 << 40));
        for text in ["", "MB", "1.5GB", "-1", "1 PB", "99999999999TB", "1 M x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
