//! Shared parts of the integration tests: real PostgreSQL servers, the built program, and independent checks.
//!
//! A test file declares `mod support;`. Everything in it is synchronous, bounded by deadlines and private to
//! the test, which has its own directory, port and processes. Dropping the owner removes them all.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses a part")]

mod builder;
pub mod certificates;
#[cfg(feature = "client")]
pub mod client;
pub mod cluster;
pub mod oracle;
mod positions;
pub mod process;
pub mod program;
pub mod proxy;
#[cfg(feature = "cli")]
pub mod receiver;
#[cfg(feature = "cli")]
pub mod restore;
pub mod servers;
mod standby;
mod template;
pub mod wait;
#[cfg(feature = "cli")]
pub mod wire;

pub use cluster::{Auth, Cluster, Stop};
pub use program::{Program, tapster};
#[cfg(feature = "cli")]
pub use program::{assert_has, json, tapster_json};
#[cfg(feature = "cli")]
pub use receiver::{Archive, Receiver, lsn};
pub use servers::Server;
pub use wait::wait_until;
