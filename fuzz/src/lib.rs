//! The properties that the fuzz targets check: one function for each target, one file for each subject. A
//! function panics if its property does not hold.
//!
//! They use nothing but tapster's public interface. `tests/fuzz_properties.rs` runs the same functions on
//! stable, over the committed seeds and over random cases.

mod bytes;
pub mod codec;
pub mod conninfo;
pub mod handshake;
pub mod history;
pub mod names;
pub mod scram;
mod scratch;
pub mod segment_reader;
pub mod state_file;
pub mod wal_check;
mod wal_log;
