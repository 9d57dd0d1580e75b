//! The messages inside `CopyData` while replication streams.

use alloc::vec::Vec;
use core::fmt;

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::readable::{Size, readable, unknown};
use super::reader::Reader;
use super::writer::write;
use crate::types::{Lsn, PgTimestamp};

/// A message that a walsender sends inside `CopyData`.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-replication.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicationMessage<'a> {
    /// `w`: WAL.
    XLogData(XLogData<'a>),
    /// `k`: a sign of life.
    #[doc(alias = "Primary keepalive message")]
    PrimaryKeepalive(PrimaryKeepalive),
    /// A message of a newer server, such as the `s` of PostgreSQL 19. Ignore it.
    Unknown {
        /// Its first byte.
        kind: u8,
        /// What follows it.
        body: &'a [u8],
    },
}

impl fmt::Debug for ReplicationMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::XLogData(message) => message.fmt(f),
            Self::PrimaryKeepalive(message) => message.fmt(f),
            Self::Unknown { kind, body } => unknown(*kind, body, f),
        }
    }
}

impl<'a> ReplicationMessage<'a> {
    /// Reads the bytes of one `CopyData`.
    ///
    /// # Errors
    /// If the bytes do not follow the layout of their kind to the last one.
    #[inline]
    pub fn parse(data: &'a [u8]) -> Result<Self, DecodeError> {
        match data.split_first() {
            Some((b'w', body)) => XLogData::parse(body).map(Self::XLogData),
            Some((b'k', body)) => PrimaryKeepalive::parse(body).map(Self::PrimaryKeepalive),
            Some((&kind, body)) => Ok(Self::Unknown { kind, body }),
            None => Err(DecodeError::new("ReplicationMessage", "kind", DecodeErrorKind::Truncated)),
        }
    }

    /// Appends the bytes of one `CopyData` to `out`; for use in
    /// [`CopyData::encode_with`](super::CopyData::encode_with).
    ///
    /// # Errors
    /// None today.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write("ReplicationMessage", out, |w| {
            match self {
                Self::XLogData(wal) => {
                    w.u8(b'w');
                    w.u64(wal.wal_start.get());
                    w.u64(wal.wal_end.get());
                    w.i64(wal.sent_at.as_micros());
                    w.bytes(wal.data);
                }
                Self::PrimaryKeepalive(keepalive) => {
                    w.u8(b'k');
                    w.u64(keepalive.wal_end.get());
                    w.i64(keepalive.sent_at.as_micros());
                    w.u8(u8::from(keepalive.reply_requested));
                }
                Self::Unknown { kind, body } => {
                    w.u8(*kind);
                    w.bytes(body);
                }
            }
            Ok(())
        })
    }
}

/// `XLogData` (`w`): a run of WAL.
///
/// Layout: `Int64 wal_start, Int64 wal_end, Int64 sent_at, Byte[n] data`. At most 128 KiB of data from
/// PostgreSQL's walsender; a run may cross the end of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct XLogData<'a> {
    /// The position of the first byte of `data`.
    pub wal_start: Lsn,
    /// The *server's* end of WAL (on a historic timeline, the end of that timeline), not the end of this run.
    pub wal_end: Lsn,
    /// When the server sent it.
    pub sent_at: PgTimestamp,
    /// The WAL.
    pub data: &'a [u8],
}

impl<'a> XLogData<'a> {
    #[inline]
    fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("XLogData", body);
        Ok(Self {
            wal_start: Lsn::new(r.u64("wal_start")?),
            wal_end: Lsn::new(r.u64("wal_end")?),
            sent_at: PgTimestamp::from_micros(r.i64("sent_at")?),
            data: r.rest(),
        })
    }
}

readable!(XLogData { wal_start, wal_end, sent_at, data: Size });

/// `PrimaryKeepalive` (`k`): the server is alive, and may ask whether the client is.
///
/// Layout: `Int64 wal_end, Int64 sent_at, Byte1 reply_requested`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryKeepalive {
    /// How far the server has sent WAL on this connection.
    pub wal_end: Lsn,
    /// When the server sent it.
    pub sent_at: PgTimestamp,
    /// Whether to send a [`StandbyStatusUpdate`] at once; otherwise the server may take the client for dead.
    pub reply_requested: bool,
}

impl PrimaryKeepalive {
    fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("PrimaryKeepalive", body);
        let keepalive = Self {
            wal_end: Lsn::new(r.u64("wal_end")?),
            sent_at: PgTimestamp::from_micros(r.i64("sent_at")?),
            reply_requested: r.bool("reply_requested")?,
        };
        r.finish()?;
        Ok(keepalive)
    }
}

/// A message that a client sends inside `CopyData` while replication streams.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-replication.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StandbyMessage<'a> {
    /// `r`: how far the client has written, flushed and applied WAL.
    StatusUpdate(StandbyStatusUpdate),
    /// `h`: which old rows the client still needs.
    HotStandbyFeedback(HotStandbyFeedback),
    /// A message of a newer client, such as the `p` of PostgreSQL 19.
    Unknown {
        /// Its first byte.
        kind: u8,
        /// What follows it.
        body: &'a [u8],
    },
}

impl fmt::Debug for StandbyMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusUpdate(message) => message.fmt(f),
            Self::HotStandbyFeedback(message) => message.fmt(f),
            Self::Unknown { kind, body } => unknown(*kind, body, f),
        }
    }
}

/// `StandbyStatusUpdate` (`r`): how far the client has written, flushed and applied WAL.
///
/// Layout: `Int64 written, Int64 flushed, Int64 applied, Int64 sent_at, Byte1 reply_requested`. Each position
/// is "last byte + 1"; 0 reports nothing. With a slot, `flushed` lets the server remove older WAL; as a
/// synchronous standby, it lets commits return: report only what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatusUpdate {
    /// The end of the WAL that was written to a file.
    pub written: Lsn,
    /// The end of the WAL that would survive a power cut.
    pub flushed: Lsn,
    /// The end of the WAL that was replayed. A receiver that only stores WAL leaves it invalid.
    pub applied: Lsn,
    /// When the client sent it.
    pub sent_at: PgTimestamp,
    /// Whether the server should answer at once with a keepalive.
    pub reply_requested: bool,
}

/// `HotStandbyFeedback` (`h`): which old rows the client's queries still need.
///
/// Layout: `Int64 sent_at, Int32 xmin, Int32 xmin_epoch, Int32 catalog_xmin, Int32 catalog_xmin_epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotStandbyFeedback {
    /// When the client sent it.
    pub sent_at: PgTimestamp,
    /// The oldest transaction still needed; 0 for none.
    pub xmin: u32,
    /// How often transaction numbers had wrapped around at `xmin`.
    pub xmin_epoch: u32,
    /// The oldest transaction still needed in the system catalogs; 0 for none.
    pub catalog_xmin: u32,
    /// How often transaction numbers had wrapped around at `catalog_xmin`.
    pub catalog_xmin_epoch: u32,
}

impl<'a> StandbyMessage<'a> {
    /// Reads the bytes of one `CopyData`.
    ///
    /// # Errors
    /// If the bytes do not follow the layout of their kind to the last one.
    pub fn parse(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StandbyMessage", data);
        let message = match r.u8("kind")? {
            b'r' => Self::StatusUpdate(StandbyStatusUpdate {
                written: Lsn::new(r.u64("written")?),
                flushed: Lsn::new(r.u64("flushed")?),
                applied: Lsn::new(r.u64("applied")?),
                sent_at: PgTimestamp::from_micros(r.i64("sent_at")?),
                reply_requested: r.bool("reply_requested")?,
            }),
            b'h' => Self::HotStandbyFeedback(HotStandbyFeedback {
                sent_at: PgTimestamp::from_micros(r.i64("sent_at")?),
                xmin: r.u32("xmin")?,
                xmin_epoch: r.u32("xmin_epoch")?,
                catalog_xmin: r.u32("catalog_xmin")?,
                catalog_xmin_epoch: r.u32("catalog_xmin_epoch")?,
            }),
            kind => Self::Unknown { kind, body: r.rest() },
        };
        r.finish()?;
        Ok(message)
    }

    /// Appends the bytes of one `CopyData` to `out`; for use in
    /// [`CopyData::encode_with`](super::CopyData::encode_with).
    ///
    /// # Errors
    /// None today.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write("StandbyMessage", out, |w| {
            match self {
                Self::StatusUpdate(status) => {
                    w.u8(b'r');
                    w.u64(status.written.get());
                    w.u64(status.flushed.get());
                    w.u64(status.applied.get());
                    w.i64(status.sent_at.as_micros());
                    w.u8(u8::from(status.reply_requested));
                }
                Self::HotStandbyFeedback(feedback) => {
                    w.u8(b'h');
                    w.i64(feedback.sent_at.as_micros());
                    w.u32(feedback.xmin);
                    w.u32(feedback.xmin_epoch);
                    w.u32(feedback.catalog_xmin);
                    w.u32(feedback.catalog_xmin_epoch);
                }
                Self::Unknown { kind, body } => {
                    w.u8(*kind);
                    w.bytes(body);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, golden_open};
    use crate::codec::{Replication, Standby};
    use alloc::format;

    #[test]
    fn messages_of_a_walsender_are_their_bytes() {
        let bytes = b"w\0\0\0\0\x01R\xb1P\0\0\0\0\x01R\xb2\x08\0\x03\x03\xd9\xe0\\\x13\xb2B\0\0\0";
        let message = XLogData {
            wal_start: Lsn::new(0x0152_b150),
            wal_end: Lsn::new(0x0152_b208),
            sent_at: PgTimestamp::from_micros(0x0003_03d9_e05c_13b2),
            data: b"B\0\0\0",
        };
        golden_open::<Replication>(bytes, 25, ReplicationMessage::XLogData(message));
        assert!(format!("{message:?}").ends_with("data: 4 bytes }"), "{message:?}");
        for (last, reply_requested) in [(0, false), (1, true)] {
            let bytes = [&b"k\0\0\0\0\x01R\xb2\x08\0\x03\x03\xd9\xe0\\\x143"[..], &[last]].concat();
            let keepalive = PrimaryKeepalive {
                wal_end: Lsn::new(0x0152_b208),
                sent_at: PgTimestamp::from_micros(0x0003_03d9_e05c_1433),
                reply_requested,
            };
            golden::<Replication>(&bytes, ReplicationMessage::PrimaryKeepalive(keepalive));
        }
        let newer = ReplicationMessage::Unknown { kind: b's', body: &[7; 32] };
        golden_open::<Replication>(&[&b"s"[..], &[7; 32]].concat(), 1, newer);
    }

    #[test]
    fn messages_of_a_standby_are_their_bytes() {
        let bytes =
            b"r\0\0\0\0\x01R\xb2\x08\0\0\0\0\x01R\xb2\x07\0\0\0\0\0\0\0\0\0\x03\x03\xd9\xe0\\\x13\xf1\x01";
        let status = StandbyStatusUpdate {
            written: Lsn::new(0x0152_b208),
            flushed: Lsn::new(0x0152_b207),
            applied: Lsn::INVALID,
            sent_at: PgTimestamp::from_micros(0x0003_03d9_e05c_13f1),
            reply_requested: true,
        };
        golden::<Standby>(bytes, StandbyMessage::StatusUpdate(status));
        let bytes = b"h\0\x03\x03\xd9\xe0\\\x13\xf1\0\0\x02\xbc\0\0\0\x01\0\0\x02\xb2\0\0\0\x02";
        let feedback = HotStandbyFeedback {
            sent_at: PgTimestamp::from_micros(0x0003_03d9_e05c_13f1),
            xmin: 700,
            xmin_epoch: 1,
            catalog_xmin: 690,
            catalog_xmin_epoch: 2,
        };
        golden::<Standby>(bytes, StandbyMessage::HotStandbyFeedback(feedback));
        golden_open::<Standby>(b"p12345678", 1, StandbyMessage::Unknown { kind: b'p', body: b"12345678" });
    }

    #[test]
    fn a_flag_is_0_or_1() {
        for flag in [2, 0x7f, 0xff] {
            let mut keepalive = [0; 18];
            (keepalive[0], keepalive[17]) = (b'k', flag);
            assert!(ReplicationMessage::parse(&keepalive).is_err(), "{flag}");
            let mut status = [0; 34];
            (status[0], status[33]) = (b'r', flag);
            assert!(StandbyMessage::parse(&status).is_err(), "{flag}");
        }
    }
}
