use core::convert::Infallible;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::format;
use std::string::String;
use std::time::SystemTime;
use std::vec::Vec;

use tokio::time::Instant;

use super::commands::start_physical;
use super::connection::ReplicationConnection;
use crate::client::Error;
use crate::client::ResultSet;
use crate::codec::{
    BackendMessage, BackendTag, CopyData, FrontendMessage, PrimaryKeepalive, ReplicationMessage,
    StandbyMessage, StandbyStatusUpdate, XLogData,
};
use crate::deadline::{sleep_until, until};
use crate::types::{Lsn, PgTimestamp, TimelineId};

#[cfg(test)]
mod tests;

const DURING: &str = "streaming WAL";
/// As `wal_receiver_status_interval` and pg_receivewal have it.
const DEFAULT_STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of an `XLogData` before its WAL, the `w` included.
const XLOG_DATA_HEADER: usize = 25;
/// How soon the same positions are sent again to a server that keeps asking.
const REPEAT_AFTER: Duration = Duration::from_millis(100);

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
    connection: ReplicationConnection,
    received: Lsn,
    server_end: Lsn,
    written: Lsn,
    flushed: Lsn,
    status_interval: Option<Duration>,
    /// When to send a status even if nothing else happens.
    next_status: Option<Instant>,
    /// The positions last sent, and when.
    last_status: Option<(Lsn, Lsn, Instant)>,
    /// Of the message of which [`next_into`](Self::next_into) gave the beginning.
    to_come: Option<WalToCome>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    /// The server has ended the copy: a result set with the next timeline may follow.
    CopyDone,
    ServerShutdown,
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
    pub async fn start_physical(mut self, start: &StartPhysical) -> Result<StartedStream, Error> {
        let command = start_physical(start.slot.as_deref(), start.start, start.timeline)?;
        self.connection.send_query(&command).await?;
        match self.connection.advance("starting replication").await? {
            Some(BackendTag::COPY_BOTH_RESPONSE) => Ok(StartedStream::Streaming(WalStream {
                connection: self,
                received: start.start,
                server_end: Lsn::INVALID,
                written: Lsn::INVALID,
                flushed: Lsn::INVALID,
                status_interval: Some(DEFAULT_STATUS_INTERVAL),
                next_status: Some(Instant::now()),
                last_status: None,
                to_come: None,
                state: State::Streaming,
            })),
            Some(BackendTag::ROW_DESCRIPTION) => match self.next_timeline().await? {
                Some(next) => Ok(StartedStream::EndOfTimeline(self, next)),
                None => Err(self.connection.unexpected("the next timeline", "no row")),
            },
            _ => Err(self.connection.unexpected("CopyBothResponse", "another answer to START_REPLICATION")),
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
        self.status_interval = interval;
        self.next_status = interval.map(|_| Instant::now());
    }

    /// The position behind the last byte that came: start plus everything received.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.received
    }

    /// The server's own end of WAL as of its last message.
    #[must_use]
    pub const fn server_end(&self) -> Lsn {
        self.server_end
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
        if written > self.received || flushed > written {
            return Err(Error::Usage("a position was reported that has not been received"));
        }
        (self.written, self.flushed) = (written, flushed);
        Ok(())
    }

    /// Sends the reported positions now.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// What is not written yet goes out with the next call.
    pub async fn send_status(&mut self) -> Result<(), Error> {
        self.push_status(false)?;
        self.connection.connection.flush(DURING).await
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
        self.push_status(true)?;
        self.connection.connection.flush(DURING).await
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
        loop {
            self.send_status_if_due().await?;
            sleep_until(self.next_status).await;
        }
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
        if !self.advance(usize::MAX).await? {
            return Ok(None);
        }
        let Some((data, _)) = self.connection.connection.copy_data()? else { return Ok(None) };
        match ReplicationMessage::parse(data)? {
            ReplicationMessage::XLogData(wal) => Ok(Some(WalEvent::Data(wal))),
            ReplicationMessage::PrimaryKeepalive(keepalive) => Ok(Some(WalEvent::Keepalive(keepalive))),
            ReplicationMessage::Unknown { .. } => Ok(None),
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
        while let Some(WalToCome { len, wal_end, sent_at }) = self.to_come {
            self.send_status_if_due().await?;
            let max = max.min(len.get());
            let read = self.connection.connection.read_rest(to, max, DURING);
            let Some(read) = until(self.next_status, read).await else { continue };
            let read = read?;
            self.received = Lsn::new(self.received.get().saturating_add(read as u64));
            self.to_come = NonZeroUsize::new(len.get() - read).map(|len| WalToCome { len, wal_end, sent_at });
            return Ok(Some(WalArrival::Data { len: read, wal_end, sent_at }));
        }
        if !self.advance(XLOG_DATA_HEADER).await? {
            return Ok(None);
        }
        let Some((data, missing)) = self.connection.connection.copy_data()? else { return Ok(None) };
        match ReplicationMessage::parse(data)? {
            ReplicationMessage::XLogData(XLogData { data, wal_end, sent_at, .. }) => {
                to.extend_from_slice(data);
                self.to_come = NonZeroUsize::new(missing).map(|len| WalToCome { len, wal_end, sent_at });
                Ok(Some(WalArrival::Data { len: data.len(), wal_end, sent_at }))
            }
            ReplicationMessage::PrimaryKeepalive(keepalive) => Ok(Some(WalArrival::Keepalive(keepalive))),
            ReplicationMessage::Unknown { .. } => Ok(None),
        }
    }

    /// Goes to the next event, of which so many bytes are enough; whether there is one.
    async fn advance(&mut self, enough: usize) -> Result<bool, Error> {
        while self.state == State::Streaming {
            self.send_status_if_due().await?;
            // A primary that writes nothing is silent.
            let advance = self.connection.connection.advance_to(enough, None, DURING);
            let Some(tag) = until(self.next_status, advance).await else { continue };
            let tag = tag?;
            if tag == BackendTag::COPY_DATA {
                if self.take_data().await? {
                    return Ok(true);
                }
            } else {
                self.take_end(tag).await?;
            }
        }
        Ok(false)
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
    pub async fn finish(mut self) -> Result<StreamEnd, Error> {
        if self.state == State::ServerShutdown {
            return Ok(StreamEnd::ServerShutdown);
        }
        let connection = &mut self.connection.connection;
        connection.push(|out| FrontendMessage::CopyDone.encode(out))?;
        connection.flush("ending the stream").await?;
        let mut is_done = self.state == State::CopyDone;
        loop {
            match self.connection.connection.advance("ending the stream").await? {
                Some(BackendTag::COPY_DATA) => {}
                Some(BackendTag::COPY_DONE) => is_done = true,
                Some(BackendTag::ROW_DESCRIPTION) => {
                    return match self.connection.next_timeline().await? {
                        Some(next) => Ok(StreamEnd::EndOfTimeline(self.connection, next)),
                        None => Ok(StreamEnd::Stopped(self.connection)),
                    };
                }
                // Without CopyDone before it, this is the last word of a server that shuts down.
                Some(BackendTag::COMMAND_COMPLETE) if !is_done => return Ok(StreamEnd::ServerShutdown),
                Some(_) => {}
                None => return Ok(StreamEnd::Stopped(self.connection)),
            }
        }
    }

    /// Takes note of a `CopyData`; whether it is an event for the caller.
    async fn take_data(&mut self) -> Result<bool, Error> {
        let Some((data, missing)) = self.connection.connection.copy_data()? else { return Ok(false) };
        let reply_requested = match ReplicationMessage::parse(data) {
            Ok(ReplicationMessage::XLogData(wal)) => {
                let (start, here, end) = (wal.wal_start, wal.data.len() as u64, wal.wal_end);
                let len = here.saturating_add(missing as u64);
                let is_next = start == self.received && start.checked_add(len).is_some();
                let received = start.checked_add(here).filter(|_| is_next);
                let Some(received) = received else {
                    let expected = self.received;
                    let got = format!("{len} bytes at {start} where {expected} was next");
                    return Err(self.connection.connection.unexpected("WAL without a gap", got));
                };
                (self.received, self.server_end) = (received, end);
                return Ok(true);
            }
            Ok(ReplicationMessage::PrimaryKeepalive(keepalive)) => {
                self.server_end = keepalive.wal_end;
                keepalive.reply_requested
            }
            Ok(ReplicationMessage::Unknown { .. }) => return Ok(false),
            Err(error) => return Err(self.connection.connection.broken(error)),
        };
        if reply_requested {
            self.reply().await?;
        }
        Ok(true)
    }

    /// Answers a request for the positions: at once, unless there is nothing new since the last answer. A server
    /// that shuts down asks again the moment it has an answer that does not satisfy it.
    async fn reply(&mut self) -> Result<(), Error> {
        match self.last_status {
            Some((written, flushed, at))
                if (written, flushed) == (self.written, self.flushed) && at.elapsed() < REPEAT_AFTER =>
            {
                let again = at + REPEAT_AFTER;
                self.next_status = Some(self.next_status.map_or(again, |next| next.min(again)));
                Ok(())
            }
            _ => self.send_status().await,
        }
    }

    /// Takes note of a message that ends the stream.
    async fn take_end(&mut self, tag: BackendTag) -> Result<(), Error> {
        match tag {
            BackendTag::COPY_DONE => self.state = State::CopyDone,
            BackendTag::COMMAND_COMPLETE => self.state = State::ServerShutdown,
            BackendTag::ERROR_RESPONSE => {
                let error = match self.connection.connection.current()? {
                    BackendMessage::ErrorResponse(fields) => Some(fields.to_server_error()),
                    _ => None,
                };
                if let Some(error) = error {
                    return Err(self.connection.connection.fail(error).await);
                }
            }
            other => {
                let got = other.name().unwrap_or_default();
                return Err(self.connection.connection.unexpected("WAL", got));
            }
        }
        Ok(())
    }

    async fn send_status_if_due(&mut self) -> Result<(), Error> {
        if self.next_status.is_some_and(|at| Instant::now() >= at) {
            self.send_status().await?;
        }
        Ok(())
    }

    fn push_status(&mut self, reply_requested: bool) -> Result<(), Error> {
        let status = StandbyMessage::StatusUpdate(StandbyStatusUpdate {
            written: self.written,
            flushed: self.flushed,
            // A receiver stores WAL and applies none; to claim it would make it look like a standby.
            applied: Lsn::INVALID,
            sent_at: PgTimestamp::from(SystemTime::now()),
            reply_requested,
        });
        let now = Instant::now();
        self.next_status = self.status_interval.map(|interval| now + interval);
        self.last_status = Some((self.written, self.flushed, now));
        self.connection.connection.push(|out| CopyData::encode_with(out, |out| status.encode(out)))
    }
}
