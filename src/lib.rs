//! PostgreSQL replication and backup control without libpq.
//!
//! tapster speaks PostgreSQL's frontend/backend protocol itself. Its layers can be used one by one: each uses
//! only layers that stand before it in this list. Every module after [`codec`] needs a feature.
//!
//! | module | holds | feature |
//! |---|---|---|
//! | [`types`] | log positions, timelines, versions, SQLSTATEs | none (`no_std`) |
//! | [`codec`] | every message of the protocol, both directions | none (`no_std`) |
//! | `wal` | the format of the log: segment names, timeline histories, checks of pages and records | `wal` (`no_std`) |
//! | `auth` | MD5 and SCRAM as pure functions and states, policy | `auth` (`no_std`) |
//! | `session` | the handshake and a standby's duties as state machines without sockets | `session` (`no_std`) |
//! | `conninfo` | connection strings, environment, service and password file | `conninfo` |
//! | `compression` | gzip, LZ4, Zstandard | `compression` |
//! | `storage` | durable files | `storage` |
//! | `archive` | the files of a log: end, verification, listing, reading, writing, handing out to a recovery | `archive` |
//! | `client` | `Connection`: connecting, queries, pipelines, transactions, COPY, LISTEN, cancel; on tokio | `client`; TLS: `tls`, `encrypted-key` |
//! | `replication` | replication commands and the WAL stream | `replication` |
//! | `receiver` | the WAL receiver: from a server's stream into an archive | `receiver` |
//! | `postgres` | status and control of a server: the classes of `barman.postgres` | `postgres` |
//! | `test_server` | a server that follows a script, for tests of clients | `test-server` |
//!
//! The feature `arbitrary` makes every message of the protocol from a fuzzer's input (`codec::OwnedMessage`).
#![no_std]
// docs.rs labels each item with the feature that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "archive")]
pub mod archive;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
#[cfg(feature = "compression")]
pub mod compression;
#[cfg(feature = "conninfo")]
pub mod conninfo;
#[cfg(feature = "client")]
mod deadline;
#[cfg(feature = "client")]
mod net;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "client")]
mod random;
#[cfg(feature = "receiver")]
pub mod receiver;
#[cfg(feature = "replication")]
pub mod replication;
#[cfg(feature = "session")]
pub mod session;
#[cfg(feature = "storage")]
pub mod storage;
#[cfg(any(feature = "test-server", all(test, any(feature = "postgres", feature = "receiver"))))]
pub mod test_server;
pub mod types;
#[cfg(feature = "wal")]
pub mod wal;

#[cfg(feature = "client")]
pub use client::{ConnectAttempt, ConnectFailure, Error};
#[cfg(feature = "client")]
pub use net::{TlsError, TlsErrorKind};

/// Compiles the README's examples.
#[cfg(all(doctest, feature = "replication"))]
#[doc = include_str!("../README.md")]
struct Readme;
