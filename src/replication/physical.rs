//! Physical WAL: [`WalStream`], and what its data have to be.

use core::convert::Infallible;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::commands::start_physical;
use super::connection::ReplicationConnection;
use super::copy_both::{CopyBoth, CopyEnd, DURING, Misfit, Started};
use crate::client::{Error, ResultSet};
use crate::codec::{BackendMessage, PrimaryKeepalive, ReplicationMessage, XLogData};
use crate::session::{Positions, Standby};
use crate::types::{Lsn, PgTimestamp, TimelineId};

#[cfg(test)]
mod tests;

/// Bytes of an `XLogData` before its WAL, the `w` included.
const XLOG_DATA_HEADER: usize = 25;

/// Where physical streaming starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPhysical {
    /// The slot that keeps the WAL until it is reported as flushed.
    pub slot: Option<String>,
    /// The first byte wanted. Start at the beginning of a segment to get whole segments.
    pub start: Lsn,
    /// The timeline wanted.
    pub timeline: TimelineId,
}

/// What `START_REPLICATION` led to.
#[derive(Debug)]
pub enum StartedStream {
    /// WAL follows.
    Streaming(WalStream),
    /// The timeline ends exactly at the position asked for.
    EndOfTimeline(ReplicationConnection, NextTimeline),
}

/// Where the history goes on after the end of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that follows.
    pub timeline: TimelineId,
    /// Where it branched off. Its first segment is the one that holds this position, from its start.
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
    /// The server shut down, after everything it had was sent.
    ServerShutdown,
}

/// One thing that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalEvent<'a> {
    /// WAL, at the position where the last run ended. It is lent until the next call: store it before it is
    /// reported.
    Data(XLogData<'a>),
    /// A sign of life. If a reply was requested it was sent already, with the positions reported so far.
    Keepalive(PrimaryKeepalive),
}

/// Physical WAL as it streams in.
///
/// Replies to keepalives and the regular status updates are sent by [`next`](Self::next), with the positions
/// that the caller has [reported](Self::report): nothing is ever acknowledged that the caller did not report.
/// Call `next` again soon, also while waiting for a disk, or the server ends the stream after
/// `wal_sender_timeout`.
#[derive(Debug)]
pub struct WalStream {
    copy: CopyBoth,
    /// Of the message of which [`next_into`](Self::next_into) gave the beginning.
    to_come: Option<WalToCome>,
}

/// One thing that came, where WAL goes into memory of the caller; see [`WalStream::next_into`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalArrival {
    /// WAL, at the position where the last run ended.
    Data {
        /// How many bytes were added.
        len: usize,
        /// The server's own end of WAL.
        wal_end: Lsn,
        /// The server's clock when it sent the message that these bytes are of.
        sent_at: PgTimestamp,
    },
    /// As [`WalEvent::Keepalive`].
    Keepalive(PrimaryKeepalive),
}

/// What is to come of a message of which the beginning was taken.
#[derive(Clone, Copy, Debug)]
struct WalToCome {
    len: NonZeroUsize,
    wal_end: Lsn,
    sent_at: PgTimestamp,
}

impl ReplicationConnection {
    /// `START_REPLICATION ... PHYSICAL`: streams WAL from a position on a timeline.
    ///
    /// # Errors
    /// 42704 if there is no such slot, 55006 if it is active, XX000 if the timeline is not in the server's
    /// history or ends before the position. A position that the server does not have yet or any more is
    /// only told by the first [`WalStream::next`].
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub async fn start_physical(self, start: &StartPhysical) -> Result<StartedStream, Error> {
        let command = start_physical(start.slot.as_deref(), start.start, start.timeline)?;
        match CopyBoth::start(self, &command, start.start).await? {
            Started::Streaming(copy) => Ok(StartedStream::Streaming(WalStream { copy, to_come: None })),
            Started::Rows(mut connection) => match connection.next_timeline().await? {
                Some(next) => Ok(StartedStream::EndOfTimeline(connection, next)),
                None => Err(connection.connection.unexpected("the next timeline", "no row")),
            },
        }
    }

    /// Reads the result set that ends a timeline, from its `RowDescription` (where the connection stands) to
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
    /// Sets how often the server is told where we are even if it does not ask; `None` for never. The default
    /// is 10 s, and the first update goes out at once.
    pub fn set_status_interval(&mut self, interval: Option<Duration>) {
        self.copy.set_status_interval(interval);
    }

    /// The position behind the last byte that came: start plus everything received.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.copy.standby.received()
    }

    /// The server's own end of WAL as of its last message.
    #[must_use]
    pub const fn server_end(&self) -> Lsn {
        self.copy.standby.server_end()
    }

    /// Reports how far the WAL was written to a file, and how far it is durable, from now on. Nothing is sent
    /// yet; see [`send_status`](Self::send_status).
    ///
    /// Leave `flushed` invalid to never take part in synchronous replication and never move a slot. Report
    /// `written` even so: a server that shuts down waits until all it sent is reported, up to
    /// `wal_sender_timeout`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a position lies behind what was received, or `flushed` behind `written`.
    pub fn report(&mut self, written: Lsn, flushed: Lsn) -> Result<(), Error> {
        // A receiver stores WAL and applies none; to claim it would make it look like a standby.
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

    /// Sends the reported positions now and asks for a keepalive in return: a way to find out whether the
    /// server is still there.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// As [`send_status`](Self::send_status).
    pub async fn request_keepalive(&mut self) -> Result<(), Error> {
        self.copy.send_status(true).await
    }

    /// Sends the regular status updates without reading the stream, for as long as it is awaited. It returns
    /// only with an error.
    ///
    /// This is for a receiver that cannot take more for now: the server hears of it, and waits.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// As [`send_status`](Self::send_status).
    pub async fn keep_alive(&mut self) -> Result<Infallible, Error> {
        self.copy.keep_alive().await
    }

    /// The next thing that comes; `None` at the end of the stream, after which [`finish`](Self::finish) tells
    /// why it ended. Waits for as long as the server is silent.
    ///
    /// # Errors
    /// 58P01 if the WAL was removed, XX000 if the start is ahead of the server, [`Error::Unexpected`] if WAL
    /// came that does not continue what came before, [`Error::Usage`] in the middle of a message of which
    /// [`next_into`](Self::next_into) has the beginning, or a loss of the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<WalEvent<'_>>, Error> {
        if self.to_come.is_some() {
            return Err(Error::Usage("the rest of a message has to be taken by next_into"));
        }
        if !self.copy.advance(usize::MAX, receive).await? {
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

    /// As [`next`](Self::next), with WAL as it comes, also in the middle of a message: it goes behind what `to` has,
    /// without a copy in between. `max` is how many bytes there is room for; what was read together with the header
    /// of a message, usually less than 8 KiB, may be more.
    ///
    /// # Errors
    /// As there, and [`Error::Usage`] if `max` is 0.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next_into(&mut self, to: &mut Vec<u8>, max: usize) -> Result<Option<WalArrival>, Error> {
        if max == 0 {
            return Err(Error::Usage("there is no room for WAL"));
        }
        if let Some(WalToCome { len, wal_end, sent_at }) = self.to_come {
            let read = self.copy.read_rest(to, max.min(len.get())).await?;
            let received = self.received().get().saturating_add(read as u64);
            self.copy.standby.receive_to(Lsn::new(received));
            self.to_come = NonZeroUsize::new(len.get() - read).map(|len| WalToCome { len, wal_end, sent_at });
            return Ok(Some(WalArrival::Data { len: read, wal_end, sent_at }));
        }
        if !self.copy.advance(XLOG_DATA_HEADER, receive).await? {
            return Ok(None);
        }
        match self.copy.message()? {
            Some((ReplicationMessage::XLogData(XLogData { data, wal_end, sent_at, .. }), missing)) => {
                to.extend_from_slice(data);
                self.to_come = NonZeroUsize::new(missing).map(|len| WalToCome { len, wal_end, sent_at });
                Ok(Some(WalArrival::Data { len: data.len(), wal_end, sent_at }))
            }
            Some((ReplicationMessage::PrimaryKeepalive(keepalive), _)) => {
                Ok(Some(WalArrival::Keepalive(keepalive)))
            }
            Some((ReplicationMessage::Unknown { .. }, _)) | None => Ok(None),
        }
    }

    /// Ends the stream, or takes note that it has ended, and gives the connection back.
    ///
    /// What still comes from the server meanwhile is thrown away: it was not reported and will be sent again.
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

/// Takes note of a run of WAL of which `missing` bytes are to come: it has to begin where the last one ended.
fn receive(standby: &mut Standby, wal: &XLogData<'_>, missing: usize) -> Result<(), Misfit> {
    let (start, here, expected) = (wal.wal_start, wal.data.len() as u64, standby.received());
    let len = here.saturating_add(missing as u64);
    let is_next = start == expected && start.checked_add(len).is_some();
    let Some(received) = start.checked_add(here).filter(|_| is_next) else {
        let got = format!("{len} bytes at {start} where {expected} was next");
        return Err(Misfit { expected: "WAL without a gap", got });
    };
    standby.receive_to(received);
    Ok(())
}
