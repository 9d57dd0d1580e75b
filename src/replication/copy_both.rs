//! A copy in both directions: the part that all kinds of replication streams share.
//!
//! [`CopyBoth`] answers keepalives, sends the status updates that are due and ends the stream in good order.
//! [`Standby`] decides when a status is due. The stream above knows the meaning of the data; in
//! [`physical`](super::physical) they are WAL.

use core::convert::Infallible;
use core::time::Duration;
use std::string::String;
use std::time::SystemTime;
use std::vec::Vec;

use tokio::time::Instant;

use super::connection::ReplicationConnection;
use crate::client::Error;
use crate::codec::{BackendTag, CopyData, FrontendMessage, ReplicationMessage, StandbyMessage, XLogData};
use crate::deadline::{sleep_until, until};
use crate::session::Standby;
use crate::types::{Lsn, PgTimestamp};

pub(super) const DURING: &str = "streaming WAL";
const ENDING: &str = "ending the stream";

/// The result of a command that begins a stream.
pub(super) enum Started {
    Streaming(CopyBoth),
    /// The server sent a result set instead; its `RowDescription` is the current message.
    Rows(ReplicationConnection),
}

/// How a stream ended.
pub(super) enum CopyEnd {
    /// We asked for the end; the connection takes commands again.
    Stopped(ReplicationConnection),
    /// A result set follows; its `RowDescription` is the current message.
    Rows(ReplicationConnection),
    /// The server shut down, after it had sent everything.
    ServerShutdown,
}

/// Records data that have arrived. The number says how many bytes of their message are still to come. The
/// stream above provides this function, because only it knows the positions of the data.
pub(super) type RecordData = fn(&mut Standby, &XLogData<'_>, usize) -> Result<(), IllegalData>;

/// Data that are not legal at this point of the stream.
pub(super) struct IllegalData {
    pub(super) expected: &'static str,
    pub(super) got: String,
}

/// A stream that was begun by `CopyBothResponse`.
#[derive(Debug)]
pub(super) struct CopyBoth {
    connection: ReplicationConnection,
    pub(super) standby: Standby,
    /// The moment from which the standby's times count.
    epoch: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    /// The server has ended the copy: a result set may follow.
    CopyDone,
    ServerShutdown,
}

impl CopyBoth {
    /// Sends the command that begins a stream at `start`.
    ///
    /// # Errors
    /// The server's error, or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub(super) async fn start(
        mut connection: ReplicationConnection,
        command: &str,
        start: Lsn,
    ) -> Result<Started, Error> {
        connection.connection.send_query(command).await?;
        match connection.connection.advance("starting replication").await? {
            Some(BackendTag::COPY_BOTH_RESPONSE) => Ok(Started::Streaming(Self {
                connection,
                standby: Standby::new(start, Duration::ZERO),
                epoch: Instant::now(),
                state: State::Streaming,
            })),
            Some(BackendTag::ROW_DESCRIPTION) => Ok(Started::Rows(connection)),
            _ => Err(connection
                .connection
                .unexpected("CopyBothResponse", "another answer to START_REPLICATION")),
        }
    }

    /// Sets how often a status is due; see [`Standby::set_status_interval`].
    pub(super) fn set_status_interval(&mut self, interval: Option<Duration>) {
        self.standby.set_status_interval(interval, self.epoch.elapsed());
    }

    /// Sends the reported positions now, and asks for a keepalive in return if `reply_requested` is set.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// The next call writes what is not written yet.
    pub(super) async fn send_status(&mut self, reply_requested: bool) -> Result<(), Error> {
        let now = PgTimestamp::from(SystemTime::now());
        let status = self.standby.status(self.epoch.elapsed(), now, reply_requested);
        let status = StandbyMessage::StatusUpdate(status);
        self.connection.connection.push(|out| CopyData::encode_with(out, |out| status.encode(out)))?;
        self.connection.connection.flush(DURING).await
    }

    async fn send_status_if_due(&mut self) -> Result<(), Error> {
        if self.standby.is_due(self.epoch.elapsed()) {
            self.send_status(false).await?;
        }
        Ok(())
    }

    /// When the next status is due; `None` if never, or later than the clock can count.
    fn deadline(&self) -> Option<Instant> {
        self.epoch.checked_add(self.standby.deadline()?)
    }

    /// Sends every status that is due, without reading, for as long as the future is awaited. Returns only
    /// with an error.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// The next call writes what is not written yet.
    pub(super) async fn keep_alive(&mut self) -> Result<Infallible, Error> {
        loop {
            self.send_status_if_due().await?;
            sleep_until(self.deadline()).await;
        }
    }

    /// Reads up to the next data or keepalive, which [`message`](Self::message) then lends. False at the end
    /// of the stream. Of data, waits only for `enough` bytes. `record` has then recorded the data; a
    /// keepalive was answered.
    ///
    /// Waits without a limit: a server that writes no WAL is silent.
    ///
    /// # Errors
    /// The server's error, after which the connection takes commands again unless the session ended; data
    /// that `record` refuses, after which the connection is closed; or a loss of the connection.
    ///
    /// # Cancel safety
    /// No data are lost when the future is dropped.
    pub(super) async fn advance(&mut self, enough: usize, record: RecordData) -> Result<bool, Error> {
        while self.state == State::Streaming {
            self.send_status_if_due().await?;
            let deadline = self.deadline();
            let advance = self.connection.connection.advance_to(enough, None, DURING);
            let Some(tag) = until(deadline, advance).await else { continue };
            match tag? {
                BackendTag::COPY_DATA => {
                    if self.handle_data(record).await? {
                        return Ok(true);
                    }
                }
                BackendTag::COPY_DONE => self.state = State::CopyDone,
                BackendTag::COMMAND_COMPLETE => self.state = State::ServerShutdown,
                BackendTag::ERROR_RESPONSE => {
                    let error = self.connection.connection.current_error()?;
                    return Err(self.connection.connection.fail(error).await);
                }
                other => {
                    let got = other.name().unwrap_or_default();
                    return Err(self.connection.connection.unexpected("WAL", got));
                }
            }
        }
        Ok(false)
    }

    /// Handles a `CopyData`, and says whether the caller has to see it.
    async fn handle_data(&mut self, record: RecordData) -> Result<bool, Error> {
        let Some((data, missing)) = self.connection.connection.copy_data()? else { return Ok(false) };
        match ReplicationMessage::parse(data) {
            Ok(ReplicationMessage::XLogData(data)) => match record(&mut self.standby, &data, missing) {
                Ok(()) => self.standby.see_server_end(data.wal_end),
                Err(IllegalData { expected, got }) => {
                    return Err(self.connection.connection.unexpected(expected, got));
                }
            },
            Ok(ReplicationMessage::PrimaryKeepalive(keepalive)) => {
                self.standby.keepalive(&keepalive, self.epoch.elapsed());
                self.send_status_if_due().await?;
            }
            Ok(ReplicationMessage::Unknown { .. }) => return Ok(false),
            Err(error) => return Err(self.connection.connection.broken(error)),
        }
        Ok(true)
    }

    /// The message that [`advance`](Self::advance) read, and how many bytes of it are still to come.
    pub(super) fn message(&mut self) -> Result<Option<(ReplicationMessage<'_>, usize)>, Error> {
        match self.connection.connection.copy_data()? {
            Some((data, missing)) => Ok(Some((ReplicationMessage::parse(data)?, missing))),
            None => Ok(None),
        }
    }

    /// Reads more of the data of which [`message`](Self::message) had only the beginning: appends at least
    /// one byte and at most `max` bytes to `to`.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn read_rest(&mut self, to: &mut Vec<u8>, max: usize) -> Result<usize, Error> {
        loop {
            self.send_status_if_due().await?;
            let deadline = self.deadline();
            let read = self.connection.connection.read_rest(to, max, DURING);
            if let Some(read) = until(deadline, read).await {
                return read;
            }
        }
    }

    /// Ends the stream, or completes the end that the server began. Data that still arrive are thrown away.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// If the future is dropped the connection is closed.
    pub(super) async fn finish(mut self) -> Result<CopyEnd, Error> {
        if self.state == State::ServerShutdown {
            return Ok(CopyEnd::ServerShutdown);
        }
        let connection = &mut self.connection.connection;
        connection.push(|out| FrontendMessage::CopyDone.encode(out))?;
        connection.flush(ENDING).await?;
        let mut is_done = self.state == State::CopyDone;
        loop {
            match connection.advance(ENDING).await? {
                Some(BackendTag::COPY_DONE) => is_done = true,
                Some(BackendTag::ROW_DESCRIPTION) => return Ok(CopyEnd::Rows(self.connection)),
                // Without CopyDone before it, this is the last message of a server that shuts down.
                Some(BackendTag::COMMAND_COMPLETE) if !is_done => return Ok(CopyEnd::ServerShutdown),
                Some(_) => {}
                None => return Ok(CopyEnd::Stopped(self.connection)),
            }
        }
    }
}
