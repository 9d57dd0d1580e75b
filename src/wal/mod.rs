//! The format of the write-ahead log: segment names and arithmetic, timeline histories, the check of pages and
//! records. `no_std`.
//!
//! [`WalChecker`] checks that bytes are the log that a server wrote, before they are trusted. It is pure
//! computation and serves streams and files alike.

mod check;
mod crc;
mod header;
mod history;
mod identity;
mod segment;

#[cfg(all(test, feature = "receiver"))]
pub(crate) use check::test_support;
pub use check::{WalChecker, WalDamage, WalDamageKind};
pub use history::{HistoryEntry, HistoryError, HistoryErrorKind, TimelineHistory};
#[cfg(feature = "archive")]
pub(crate) use identity::PageIdentity;
pub use identity::SegmentIdentity;
pub use segment::WalSegment;
#[cfg(feature = "archive")]
pub(crate) use segment::parse_hex;
