//! The properties that the fuzz targets check, one function for each target.
//!
//! They use nothing but tapster's public interface. `tests/codec_properties.rs` runs the same functions on
//! stable, over the committed seeds and over random cases.

pub mod codec;
