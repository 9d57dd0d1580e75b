//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as PostgreSQL speaks them.
//!
//! `message` is the grammar; `mac`, `pbkdf2` and `keys` are the arithmetic; `client` and `server` are the two
//! sides, with one state for each message that a side waits for.

mod client;
mod error;
mod keys;
mod mac;
mod message;
mod pbkdf2;
mod server;

pub use client::{ScramClient, ScramFinal};
pub use error::{ScramError, ScramServerError};
pub use keys::{DerivedKeys, ParseScramKeyError, ScramKeys, ScramSecret};
pub use message::{ChannelBinding, Mechanism, Nonce};
pub use server::{ParseScramVerifierError, ScramServer, ScramServerFinal, ScramVerifier};

#[cfg(test)]
mod tests;
