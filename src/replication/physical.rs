//! Physical WAL: [`WalStream`], and the check that its data have no gap.

use core::convert::Infallible;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::commands::start_physical;
use super::connection::ReplicationConnection;
use super::copy_both::{CopyBoth, CopyEnd, DURING, IllegalData, Started};
use crate::client::{Error, ResultSet};
use crate::codec::{BackendMessage, PrimaryKeepalive, ReplicationMessage, XLogData};
use crate::session::{Positions, Standby};
use crate::types::{Lsn, PgTimestamp, TimelineId};

#[cfg(test)]
mod tests;

/// The length of an `XLogData` before its WAL, including the `w`.
const XLOG_DATA_HEADER: usize = 25;

/// Where physical streaming starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPhysical {
    /// The slot that keeps the WAL until it is reported as flushed.
    pub slot: Option<String>,
    /// The first byte to receive. Start at the beginning of a segment to get whole segments.
    pub start: Lsn,
    /// The timeline to receive.
    pub timeline: TimelineId,
}

/// The result of `START_REPLICATION`.
#[derive(Debug)]
pub enum StartedStream {
    /// WAL follows.
    Streaming(WalStream),
    /// The timeline ends exactly at the position asked for.
    EndOfTimeline(ReplicationConnection, NextTimeline),
}

/// Where the history continues after the end of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that follows.
    pub timeline: TimelineId,
    /// Where it branched off. Its first segment is the segment that holds this position, from that segment's
    /// start.
    pub switchpoint: Lsn,
}

/// How a stream ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamEnd {
    /// We asked for the end; the connection takes commands again.
    Stopped(ReplicationConnection),
    /// The timeline ended; the connection takes commands again.
    EndOfTimeline(ReplicationConnection, NextTimeline),
    /// The server shut down, after it had sent everything.
    ServerShutdown,
}

/// One event of a [`WalStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalEvent<'a> {
    /// WAL, which begins where the last run ended. It is lent until the next call: store it before you report
    /// it.
    Data(XLogData<'a>),
    /// A sign of life of the server. The stream itself sends a reply if the server requests one, with the
    /// positions reported so far.
    Keepalive(PrimaryKeepalive),
}

/// A stream of physical WAL.
///
/// [`next`](Self::next) replies to keepalives and sends the regular status updates, with the positions that
/// the caller has [reported](Self::report): nothing is ever acknowledged that the caller did not report. Call
/// `next` again soon, also while you wait for a disk, or the server ends the stream after
/// `wal_sender_timeout`.
#[derive(Debug)]
pub struct WalStream {
    copy: CopyBoth,
    /// The rest of the message of which [`next_into`](Self::next_into) has given the beginning.
    rest: Option<RestOfMessage>,
}

/// One event of a [`WalStream`], where WAL goes into the caller's memory; see [`WalStream::next_into`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalArrival {
    /// WAL, which begins where the last run ended.
    Data {
        /// How many bytes were added.
        len: usize,
        /// The server's own end of WAL.
        wal_end: Lsn,
        /// The server's time when it sent the message that holds these bytes.
        sent_at: PgTimestamp,
    },
    /// A sign of life of the server; see [`WalEvent::Keepalive`].
    Keepalive(PrimaryKeepalive),
}

/// The rest of a message of which the caller has the beginning.
#[derive(Clone, Copy, Debug)]
struct RestOfMessage {
    len: NonZeroUsize,
    wal_end: Lsn,
    sent_at: PgTimestamp,
}

impl ReplicationConnection {
    /// `START_REPLICATION ... PHYSICAL`: streams WAL from a position on a timeline.
    ///
    /// # Errors
    /// 42704 if there is no such slot, 55006 if it is active, XX000 if the timeline is not in the server's
    /// history or ends before the position. If the server does not have the position yet, or no longer has
    /// it, only the first [`WalStream::next`] reports that.
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub async fn start_physical(self, start: &StartPhysical) -> Result<StartedStream, Error> {
        let command = start_physical(start.slot.as_deref(), start.start, start.timeline)?;
        match CopyBoth::start(self, &command, start.start).await? {
            Started::Streaming(copy) => Ok(StartedStream::Streaming(WalStream { copy, rest: None })),
            Started::Rows(mut connection) => match connection.next_timeline().await? {
                Some(next) => Ok(StartedStream::EndOfTimeline(connection, next)),
                None => Err(connection.connection.unexpected("the next timeline", "no row")),
            },
        }
    }

    /// Reads the result set that ends a timeline, from its `RowDescription` (the current message) to
    /// `ReadyForQuery`.
    async fn next_timeline(&mut self) -> Result<Option<NextTimeline>, Error> {
        let mut set: Option<ResultSet> = None;
        loop {
            match (self.connection.current()?, &mut set) {
                (BackendMessage::RowDescription(columns), _) => set = Some(ResultSet::new(&columns)),
                (BackendMessage::DataRow(row), Some(set)) if set.is_empty() => set.push(&row),
                _ => {}
            }
            if self.connection.advance(DURING).await?.is_none() {
                break;
            }
        }
        let set = set.unwrap_or_default();
        let Some(row) = set.row(0) else { return Ok(None) };
        Ok(Some(NextTimeline {
            timeline: row.parse("next_tli")?,
            switchpoint: row.parse("next_tli_startpos")?,
        }))
    }
}

impl WalStream {
    /// Sets how often a status update is sent even if the server does not ask; `None` for never. The default
    /// is 10 s, and the first update is sent at once.
    pub fn set_status_interval(&mut self, interval: Option<Duration>) {
        self.copy.set_status_interval(interval);
    }

    /// The position after the last byte that was received: start plus everything received.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.copy.standby.received()
    }

    /// The server's own end of WAL as of its last message.
    #[must_use]
    pub const fn server_end(&self) -> Lsn {
        self.copy.standby.server_end()
    }

    /// Sets the positions that every status update reports from now on: how far the WAL was written to a
    /// file, and how far it is durable. Sends nothing yet; see [`send_status`](Self::send_status).
    ///
    /// Leave `flushed` invalid to never take part in synchronous replication and never move a slot. Report
    /// `written` all the same: a server that shuts down waits until all that it has sent is reported, up to
    /// `wal_sender_timeout`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a position is beyond the WAL that was received, or `flushed` is beyond `written`.
    pub fn report(&mut self, written: Lsn, flushed: Lsn) -> Result<(), Error> {
        // A receiver stores WAL and applies none; an applied position would make it look like a standby.
        let positions = Positions { written, flushed, applied: Lsn::INVALID };
        let not_received = |_| Error::Usage("a position was reported that has not been received");
        self.copy.standby.report(positions).map_err(not_received)
    }

    /// Sends the reported positions now.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// What is not written yet goes out with the next call.
    pub async fn send_status(&mut self) -> Result<(), Error> {
        self.copy.send_status(false).await
    }

    /// Sends the reported positions now and asks for a keepalive in return: this finds out whether the server
    /// is still there.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// As [`send_status`](Self::send_status).
    pub async fn request_keepalive(&mut self) -> Result<(), Error> {
        self.copy.send_status(true).await
    }

    /// Sends the regular status updates without reading the stream, for as long as the future is awaited.
    /// Returns only with an error.
    ///
    /// This is for a receiver that cannot take more WAL for now: the server sees that the receiver is alive,
    /// and waits.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// As [`send_status`](Self::send_status).
    pub async fn keep_alive(&mut self) -> Result<Infallible, Error> {
        self.copy.keep_alive().await
    }

    /// The next event; `None` at the end of the stream, after which [`finish`](Self::finish) says why it
    /// ended. Waits for as long as the server is silent.
    ///
    /// # Errors
    /// 58P01 if the WAL was removed, XX000 if the start is ahead of the server, [`Error::Unexpected`] if the
    /// WAL does not continue the WAL before it, [`Error::Usage`] in the middle of a message of which
    /// [`next_into`](Self::next_into) has given the beginning, or a loss of the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<WalEvent<'_>>, Error> {
        if self.rest.is_some() {
            return Err(Error::Usage("the rest of a message has to be taken by next_into"));
        }
        if !self.copy.advance(usize::MAX, record_wal).await? {
            return Ok(None);
        }
        match self.copy.message()? {
            Some((ReplicationMessage::XLogData(wal), _)) => Ok(Some(WalEvent::Data(wal))),
            Some((ReplicationMessage::PrimaryKeepalive(keepalive), _)) => {
                Ok(Some(WalEvent::Keepalive(keepalive)))
            }
            Some((ReplicationMessage::Unknown { .. }, _)) | None => Ok(None),
        }
    }

    /// The next event, like [`next`](Self::next), but appends WAL to `to` as soon as it arrives, also a part
    /// of a message, and without a copy in between. Appends at most `max` bytes; only the bytes that were
    /// read together with the header of a message, usually less than 8 KiB, may be more.
    ///
    /// # Errors
    /// Those of [`next`](Self::next), except that the middle of a message is no error, and [`Error::Usage`]
    /// if `max` is 0.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next_into(&mut self, to: &mut Vec<u8>, max: usize) -> Result<Option<WalArrival>, Error> {
        if max == 0 {
            return Err(Error::Usage("there is no room for WAL"));
        }
        if let Some(RestOfMessage { len, wal_end, sent_at }) = self.rest {
            let read = self.copy.read_rest(to, max.min(len.get())).await?;
            let received = self.received().get().saturating_add(read as u64);
            self.copy.standby.receive_to(Lsn::new(received));
            self.rest =
                NonZeroUsize::new(len.get() - read).map(|len| RestOfMessage { len, wal_end, sent_at });
            return Ok(Some(WalArrival::Data { len: read, wal_end, sent_at }));
        }
        if !self.copy.advance(XLOG_DATA_HEADER, record_wal).await? {
            return Ok(None);
        }
        match self.copy.message()? {
            Some((ReplicationMessage::XLogData(XLogData { data, wal_end, sent_at, .. }), missing)) => {
                to.extend_from_slice(data);
                self.rest = NonZeroUsize::new(missing).map(|len| RestOfMessage { len, wal_end, sent_at });
                Ok(Some(WalArrival::Data { len: data.len(), wal_end, sent_at }))
            }
            Some((ReplicationMessage::PrimaryKeepalive(keepalive), _)) => {
                Ok(Some(WalArrival::Keepalive(keepalive)))
            }
            Some((ReplicationMessage::Unknown { .. }, _)) | None => Ok(None),
        }
    }

    /// Ends the stream, or completes the end that the server began, and gives the connection back.
    ///
    /// WAL that still arrives is thrown away: it was not reported, so the server will send it again.
    ///
    /// # Errors
    /// If the connection is lost. A server that shuts down meanwhile is no error.
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub async fn finish(self) -> Result<StreamEnd, Error> {
        match self.copy.finish().await? {
            CopyEnd::Stopped(connection) => Ok(StreamEnd::Stopped(connection)),
            CopyEnd::Rows(mut connection) => match connection.next_timeline().await? {
                Some(next) => Ok(StreamEnd::EndOfTimeline(connection, next)),
                None => Ok(StreamEnd::Stopped(connection)),
            },
            CopyEnd::ServerShutdown => Ok(StreamEnd::ServerShutdown),
        }
    }
}

/// Records a run of WAL of which `missing` bytes are still to come. It has to begin where the last run ended.
fn record_wal(standby: &mut Standby, wal: &XLogData<'_>, missing: usize) -> Result<(), IllegalData> {
    let (start, here, expected) = (wal.wal_start, wal.data.len() as u64, standby.received());
    let len = here.saturating_add(missing as u64);
    let is_next = start == expected && start.checked_add(len).is_some();
    let Some(received) = start.checked_add(here).filter(|_| is_next) else {
        let got = format!("{len} bytes at {start} where {expected} was next");
        return Err(IllegalData { expected: "WAL without a gap", got });
    };
    standby.receive_to(received);
    Ok(())
}
