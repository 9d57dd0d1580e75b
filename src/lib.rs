//! PostgreSQL replication and backup control without libpq.
//!
//! tapster speaks PostgreSQL's frontend/backend protocol itself. Its layers can be taken one by one; each
//! uses only those above it in this list, and everything above [`codec`] sits behind a feature.
//!
//! | module | holds | feature |
//! |---|---|---|
//! | [`types`] | log positions, timelines, versions, SQLSTATEs | none (`no_std`) |
//! | [`codec`] | every message of the protocol, both directions | none (`no_std`) |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "auth")]
pub mod auth;
pub mod codec;
#[cfg(feature = "conninfo")]
pub mod conninfo;
#[cfg(feature = "session")]
pub mod session;
pub mod types;
#[cfg(feature = "wal")]
pub mod wal;
