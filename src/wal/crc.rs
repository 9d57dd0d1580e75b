//! CRC-32C, the checksum of WAL records.

/// The checksum of what `crc` was computed over, followed by `bytes`. It begins with 0.
#[cfg(feature = "archive")]
#[inline(always)]
pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// As above, where there may be no standard library to ask for the processor's instruction: by tables, at about a
/// tenth of its speed.
#[cfg(not(feature = "archive"))]
pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
    by_table(crc, bytes)
}

#[cfg(any(test, not(feature = "archive")))]
fn by_table(crc: u32, bytes: &[u8]) -> u32 {
    const CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);
    // The crate takes the register, in the algorithm's order of bits, and gives its complement.
    let mut digest = CRC.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4.
    #[test]
    fn both_ways_give_the_examples_of_the_rfc() {
        for crc in [append, by_table] {
            assert_eq!(crc(0, &[0; 32]), 0x8a91_36aa);
            assert_eq!(crc(0, &[0xff; 32]), 0x62a8_ab43);
            assert_eq!(crc(0, b"123456789"), 0xe306_9283);
            assert_eq!(crc(0, b""), 0);
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * 7 % 251) as u8);
        let whole = append(0, &bytes);
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(append(append(0, head), tail), whole);
            assert_eq!(by_table(by_table(0, head), tail), whole);
        }
    }
}
