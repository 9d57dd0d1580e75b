//! What must hold when things break, whatever breaks: nothing is acknowledged that is not durable, the archive
//! never has a hole or a mixture, every wait is bounded, and work goes on when the fault is gone.
//!
//! Where PostgreSQL's own `pg_receivewal` has the fault, the same scenario is played with it too: so the scenario
//! is known to be one.
#![cfg(feature = "cli")]

mod black_hole;
mod files;
mod network;
mod nonsense;
mod process;
mod promotions;
mod server;
mod storage;
mod subject;
#[path = "../support/mod.rs"]
mod support;
