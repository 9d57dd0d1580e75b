//! Newtypes for values that are easily confused: log positions, timelines, systems, versions, SQLSTATEs; and
//! the advice that errors of every layer may give; text of others in a form that is safe to show.
//!
//! Everything here is plain data that needs only `core`: parsing text, printing it, and arithmetic that
//! cannot overflow unnoticed.

mod advice;
mod byte_count;
mod from_bytes;
mod lsn;
mod printable;
mod server_version;
mod sqlstate;
mod system_id;
mod timeline;
mod timestamp;
mod wal_segment_size;
mod with_causes;

pub use advice::Advice;
pub use byte_count::ByteCount;
pub use from_bytes::text_of;
pub use lsn::{Lsn, ParseLsnError};
pub use printable::{Printable, PrintableLines, is_printable};
pub use server_version::{ParseServerVersionError, ServerVersion};
pub use sqlstate::{ParseSqlStateError, SqlState};
pub use system_id::{ParseSystemIdError, SystemId};
pub use timeline::{ParseTimelineError, TimelineId};
pub use timestamp::{ParseTimestampError, PgTimestamp};
pub use wal_segment_size::{InvalidWalSegmentSize, WalSegmentSize};
pub use with_causes::WithCauses;
