//! Every message of PostgreSQL's frontend/backend protocol 3.0 and 3.2, both directions.
//!
//! Decoding borrows: a [`BackendMessage`] or [`FrontendMessage`] points into the bytes of its frame and
//! allocates nothing. Framing is separate from parsing and deals only with lengths: [`BackendFraming`] and
//! [`FrontendFraming`] say how many bytes the next frame has or how many are missing. A parser only ever sees
//! one whole frame, and must use all of it. Lists inside messages are checked once; reading them later cannot
//! fail ([`List`]).
//!
//! Every peer is treated as hostile: every length, count and value is checked, nothing is allocated from a
//! count that a peer claims, nothing panics, and [`Limits`] bound what one message may need.
//!
//! ```
//! use tapster::codec::{BackendFraming, BackendMessage, FrontendMessage, Need};
//!
//! // A client writes ...
//! let mut out = Vec::new();
//! FrontendMessage::Query { query: b"SELECT 'a'" }.encode(&mut out)?;
//!
//! // ... and reads the answer, however the network has split it.
//! let input = b"D\0\0\0\x0b\0\x01\0\0\0\x01aC\0\0\0\rSELECT 1\0Z\0\0\0\x05I";
//! let (framing, mut rest, mut seen) = (BackendFraming::READY, &input[..], Vec::new());
//! while let Need::Frame(len) = framing.need(rest)? {
//!     let (frame, after) = rest.split_at(len);
//!     let message = framing.parse(frame)?;
//!     if let BackendMessage::DataRow(row) = message {
//!         assert_eq!(row.values.get(0), Some(Some(&b"a"[..])));
//!     }
//!     seen.push(message.name());
//!     rest = after;
//! }
//! assert_eq!(seen, ["DataRow", "CommandComplete", "ReadyForQuery"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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

#[cfg(feature = "arbitrary")]
mod arbitrary;
mod authentication;
mod backend;
mod base_backup;
mod command_tag;
mod copy;
mod error;
#[cfg(test)]
mod every_message;
mod extended;
mod fields;
mod framing;
mod frontend;
mod limits;
mod list;
mod owned;
mod readable;
mod reader;
mod replication;
mod row;
mod startup;
mod status;
mod tag;
#[cfg(test)]
mod test_support;
mod version;
mod writer;

pub use authentication::{Authentication, AuthenticationResponse, NameItem, Names, NamesBuf};
pub use backend::BackendMessage;
pub use base_backup::BaseBackupMessage;
pub use command_tag::affected_rows;
pub use copy::{CopyData, CopyResponse};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use extended::{Bind, Execute, FunctionCall, FunctionCallResponse, ParameterDescription, Parse, Target};
pub use fields::{ErrorFields, Field, FieldItem, FieldsBuf, ServerError, Severity};
pub use framing::{BackendFraming, FrontendFraming, Need};
pub use frontend::FrontendMessage;
pub use limits::Limits;
pub use list::{Item, List, ListBuf, ListIter};
pub use owned::{Backend, BaseBackup, Family, Frontend, OwnedMessage, Replication, Standby, Startup};
pub use replication::{
    HotStandbyFeedback, PrimaryKeepalive, ReplicationMessage, StandbyMessage, StandbyStatusUpdate, XLogData,
};
pub use row::{
    Column, ColumnItem, Columns, ColumnsBuf, DataRow, Format, FormatItem, Formats, FormatsBuf, OidItem, Oids,
    OidsBuf, RowDescription, ValueItem, Values, ValuesBuf,
};
pub use startup::{
    CancelRequest, EncryptionReply, ParameterItem, Parameters, ParametersBuf, StartupMessage, StartupPacket,
};
pub use status::{
    BackendKeyData, NegotiateProtocolVersion, NotificationResponse, ParameterStatus, TransactionStatus,
};
#[cfg(any(feature = "client", test))]
pub(crate) use tag::BackendTag;
pub use version::ProtocolVersion;
