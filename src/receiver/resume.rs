//! Finds where a receiver would begin, without receiving.

use core::fmt;

use tokio::time::timeout;

use super::plan::Plan;
use super::start::explain;
use super::stream::{FINISH_TIMEOUT, start_at};
use super::within;
use super::{ReceiveError, Receiver, ReceiverEvent};
use crate::archive::SegmentFile;
use crate::replication::{ReplicationConnection, StartedStream, WalEvent};
use crate::types::{Lsn, SqlState};
use crate::wal::WalSegment;

/// Where a receiver would begin, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumePoint {
    /// The segment, which is received from its start.
    pub first: WalSegment,
    /// Why the receiver would begin with this segment.
    pub reason: ResumeReason,
    /// Whether the slot exists; `None` without a slot.
    pub slot_exists: Option<bool>,
    /// Where the server is.
    pub server_position: Lsn,
}

/// What decides where a receiver begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeReason {
    /// The archive ends with this segment: a partial one is received again, a complete one is followed.
    Archive(SegmentFile),
    /// The newest segments are not in the archive any more. By the state file, everything before this position was
    /// durable.
    State(Lsn),
    /// The newest segments are not in the archive any more. This run received everything before this position.
    Reached(Lsn),
    /// The archive's file of this segment is incomplete or damaged. This segment and the later ones are received again.
    Broken(WalSegment),
    /// The archive is empty, and the slot keeps WAL from here on.
    Slot,
    /// The archive is empty, and no slot is known to keep WAL: the receiver begins with the server's current segment.
    Current,
}

impl<F: FnMut(ReceiverEvent<'_>)> Receiver<F> {
    /// Does everything that comes before a stream - connects, compares the archive with the server, finds the
    /// segment to begin with - starts the stream, and ends it with its first WAL: only a stream shows whether the
    /// server still has that WAL, and whether the slot can be used. It reports no position to the server, so that the
    /// slot stays as it is. It writes and creates nothing, and holds the archive's lock only until it returns.
    ///
    /// If the slot does not exist, the stream is tried without it.
    ///
    /// # Errors
    /// As [`run`](Self::run), but this function never tries again.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn resume_point(mut self) -> Result<ResumePoint, ReceiveError> {
        let mut connection = self.connect().await?;
        let patience = self.options.receive_timeout;
        let ask = async {
            let Plan { server, first, reason, .. } = self.prepare(&mut connection, None).await?;
            let server_position = server.system.xlog_pos;
            let slot = self.options.slot.clone();
            let slot_exists = match try_stream(connection, slot.as_deref(), first, server_position).await {
                Err(ReceiveError::Connection(error))
                    if slot.is_some() && error.sqlstate() == Some(SqlState::UNDEFINED_OBJECT) =>
                {
                    try_stream(self.connect().await?, None, first, server_position).await?;
                    Some(false)
                }
                tried => tried.map(|()| slot.map(|_| true))?,
            };
            Ok(ResumePoint { first, reason, slot_exists, server_position })
        };
        within(patience, "asking the server what it has", ask).await
    }
}

/// Starts a stream, and ends it with the first WAL of what the server has from there on.
async fn try_stream(
    connection: ReplicationConnection,
    slot: Option<&str>,
    first: WalSegment,
    server: Lsn,
) -> Result<(), ReceiveError> {
    let StartedStream::Streaming(mut stream) = start_at(connection, slot, first, server).await? else {
        return Ok(());
    };
    while server > first.start() {
        match stream.next().await {
            // Not WAL yet.
            Ok(Some(WalEvent::Keepalive(_))) => {}
            Ok(_) => break,
            Err(error) => return Err(explain(error, first.start(), first.timeline(), server, slot)),
        }
    }
    // The answer does not matter: what was asked is known.
    let _ = timeout(FINISH_TIMEOUT, stream.finish()).await;
    Ok(())
}

/// The reason as the second half of a sentence.
impl fmt::Display for ResumeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(newest) if !newest.is_partial => write!(f, "the archive ends with {newest}"),
            Self::Archive(newest) => write!(f, "{newest} is received again from its start"),
            Self::State(flushed) => {
                write!(f, "by its state file, the archive had everything before {flushed}")
            }
            Self::Reached(reached) => {
                write!(f, "everything before {reached} was received, though the archive no longer has it")
            }
            Self::Broken(segment) => write!(f, "{segment} is not whole here, and is received again"),
            Self::Slot => f.write_str("the archive is empty, and the slot keeps WAL from there on"),
            Self::Current => f.write_str("the archive is empty, and this is the server's current segment"),
        }
    }
}
