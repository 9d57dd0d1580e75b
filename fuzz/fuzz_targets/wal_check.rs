#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| tapster_fuzz::wal_check::wal_check(input));
