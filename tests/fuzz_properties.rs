//! The properties of the fuzz targets, on stable: over the committed seeds, over slightly changed seeds, and
//! over random inputs.
#![cfg(feature = "receiver")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use them from outside")]
mod properties;

use properties::codec::{backend, base_backup, frames, frontend, replication, startup};
use properties::conninfo::conninfo;
use properties::handshake::handshake;
use properties::history::timeline_history;
use properties::names::wal_names;
use properties::scram::scram;
use properties::segment_reader::segment_reader;
use properties::state_file::state_file;
use properties::wal_check::wal_check;

/// Changed copies of each seed.
const CHANGES: usize = 40;
/// Random inputs without a seed.
const RANDOM: usize = 20_000;

#[test]
fn frames_of_recorded_sessions() {
    check("frames", frames);
}

#[test]
fn messages_of_servers() {
    check("backend", backend);
}

#[test]
fn messages_of_clients() {
    check("frontend", frontend);
}

#[test]
fn packets_that_begin_a_connection() {
    check("startup", startup);
}

#[test]
fn messages_of_replication() {
    check("replication", replication);
}

#[test]
fn messages_of_a_base_backup() {
    check("base_backup", base_backup);
}

#[test]
fn handshakes_with_any_server() {
    check("handshake", handshake);
}

#[test]
fn scram_with_an_attacker_in_between() {
    // Each input derives keys a dozen times.
    check_with("scram", 1_000, scram);
}

#[test]
fn connection_strings() {
    check("conninfo", conninfo);
}

#[test]
fn timeline_histories() {
    check("timeline_history", timeline_history);
}

#[test]
fn names_of_wal_files() {
    check("wal_names", wal_names);
}

#[test]
fn state_files_of_archives() {
    // Each input is a directory and a few files.
    check_with("state_file", 500, state_file);
}

#[test]
fn compressed_segments() {
    // Each input is a directory and several files.
    check_with("segment_reader", 500, segment_reader);
}

#[test]
fn write_ahead_logs() {
    // Each input is checked several times, in pieces.
    check_with("wal_check", 2_000, wal_check);
}

fn check(target: &str, property: fn(&[u8])) {
    check_with(target, RANDOM, property);
}

/// Runs one property. Seeds that a fuzzer has found are in the same folder as the recorded ones, and run
/// first.
fn check_with(target: &str, random_inputs: usize, property: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "{} seeds in {}", paths.len(), directory.display());
    let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, seed) in paths.iter().zip(&seeds) {
        eprintln!("{}", path.display()); // shown if the property fails
        property(seed);
    }
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..CHANGES {
        for seed in &seeds {
            property(&random.changed(seed));
        }
    }
    for _ in 0..random_inputs {
        let len = random.below(64);
        let input: Vec<_> = (0..len).map(|_| random.byte()).collect();
        property(&input);
    }
}

/// xorshift64: the same cases on every run and every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end.max(1)
    }

    /// Any byte, but more often one with a meaning: ends of strings, small counts, signs.
    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 8] = [0, 1, 2, 4, 8, 0x7f, 0x80, 0xff];
        let byte = self.next().to_be_bytes()[0];
        if byte & 1 == 0 { TELLING[self.below(TELLING.len())] } else { byte }
    }

    /// The seed with a few bytes changed, taken away or added.
    fn changed(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            // Mostly near the beginning, where the fields are that decide about a message.
            let near = if self.below(2) == 0 { 16 } else { bytes.len() };
            let at = self.below(near.min(bytes.len()));
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = self.byte(),
                _ => {}
            }
        }
        bytes
    }
}
