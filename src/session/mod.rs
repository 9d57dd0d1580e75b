//! Sans-IO state machines: bytes in, bytes and an action out.
//!
//! [`Handshake`] takes a connection from its first byte to `ReadyForQuery`. It has no socket, no clock and no
//! random source; a driver moves the bytes and makes no protocol decision:
//!
//! ```
//! # use tapster::session::{Action, Handshake, HandshakeError, Progress, Session};
//! # trait Wire { fn read_more(&mut self); fn filled(&self) -> &[u8]; fn consume(&mut self, n: usize);
//! #   fn write(&mut self, out: &mut Vec<u8>); fn start_tls(&mut self) -> Option<Vec<u8>>; }
//! # fn drive(mut handshake: Handshake, wire: &mut impl Wire) -> Result<Session, HandshakeError> {
//! let mut out = Vec::new();
//! loop {
//!     let Progress { consumed, action } = handshake.receive(wire.filled(), &mut out)?;
//!     wire.consume(consumed);
//!     wire.write(&mut out); // sends everything and clears `out`
//!     match action {
//!         Action::Read => wire.read_more(),
//!         Action::StartTls => {
//!             let certificate_hash = wire.start_tls();
//!             handshake.tls_ready(certificate_hash.as_deref(), &mut out)?;
//!         }
//!         Action::Done(session) => return Ok(*session),
//!     }
//! }
//! # }
//! ```
//!
//! After an error every further call returns the same error; the connection has to be closed.
//!
//! [`Standby`] is for a connection that streams: it decides which positions may be reported to the server,
//! and when.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod config;
mod error;
mod handshake;
mod parameters;
mod ready;
mod standby;

pub use config::{Encryption, HandshakeConfig};
pub use error::{AnswerStart, HandshakeError, NegotiationFault};
pub use handshake::{Action, Handshake, Progress};
pub use parameters::{SessionParameters, TooManyParameters};
pub use ready::{CancelKey, Session};
pub use standby::{NotReceived, Positions, Standby};
