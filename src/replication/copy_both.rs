//! A copy in both directions: what every kind of replication stream has in common.
//!
//! [`CopyBoth`] answers keepalives, sends the status updates that are due and ends the stream in good order. When
//! something is due is decided by [`Standby`]; what the data are is known to the stream above: WAL in
//! [`physical`](super::physical).

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

/// What a command that begins a stream led to.
pub(super) enum Started {
    Streaming(CopyBoth),
    /// There is a result set instead; the connection stands at its `RowDescription`.
    Rows(ReplicationConnection),
}

/// How a stream ended.
pub(super) enum CopyEnd {
    /// We asked for the end; the connection takes commands again.
    Stopped(ReplicationConnection),
    /// A result set follows; the connection stands at its `RowDescription`.
    Rows(ReplicationConnection),
    /// The server shut down, after everything it had was sent.
    ServerShutdown,
}

/// Takes note of data that have come, of which this many bytes are still to come: which positions they are is for the
/// stream above to know.
pub(super) type Receive = fn(&mut Standby, &XLogData<'_>, usize) -> Result<(), Misfit>;

/// Data that must not come here.
pub(super) struct Misfit {
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

    /// As [`Standby::set_status_interval`].
    pub(super) fn set_status_interval(&mut self, interval: Option<Duration>) {
        self.standby.set_status_interval(interval, self.epoch.elapsed());
    }

    /// Sends the reported positions now, and asks for a keepalive in return if that is wanted.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// What is not written yet goes out with the next call.
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

    /// When the next status is due; never, if the clock does not go that far.
    fn deadline(&self) -> Option<Instant> {
        self.epoch.checked_add(self.standby.deadline()?)
    }

    /// Sends what is due without reading, for as long as it is awaited. It returns only with an error.
    ///
    /// # Errors
    /// If the connection is lost.
    ///
    /// # Cancel safety
    /// As [`send_status`](Self::send_status).
    pub(super) async fn keep_alive(&mut self) -> Result<Infallible, Error> {
        loop {
            self.send_status_if_due().await?;
            sleep_until(self.deadline()).await;
        }
    }

    /// Goes to the next data or keepalive, which [`message`](Self::message) lends, and says whether there is one. Of
    /// data, `enough` bytes are. Data were taken note of by `receive` then, and a keepalive was answered.
    ///
    /// Waits for as long as the server is silent: one that writes nothing is.
    ///
    /// # Errors
    /// The server's error, after which the connection takes commands again unless the session ended; data that
    /// `receive` refuses, after which the connection is closed; or a loss of the connection.
    ///
    /// # Cancel safety
    /// No data are lost when the future is dropped.
    pub(super) async fn advance(&mut self, enough: usize, receive: Receive) -> Result<bool, Error> {
        while self.state == State::Streaming {
            self.send_status_if_due().await?;
            let deadline = self.deadline();
            let advance = self.connection.connection.advance_to(enough, None, DURING);
            let Some(tag) = until(deadline, advance).await else { continue };
            match tag? {
                BackendTag::COPY_DATA => {
                    if self.take_data(receive).await? {
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

    /// Takes note of a `CopyData`; whether it is something for the caller.
    async fn take_data(&mut self, receive: Receive) -> Result<bool, Error> {
        let Some((data, missing)) = self.connection.connection.copy_data()? else { return Ok(false) };
        match ReplicationMessage::parse(data) {
            Ok(ReplicationMessage::XLogData(data)) => match receive(&mut self.standby, &data, missing) {
                Ok(()) => self.standby.see_server_end(data.wal_end),
                Err(Misfit { expected, got }) => {
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

    /// What [`advance`](Self::advance) went to, and how many bytes of it are to come.
    pub(super) fn message(&mut self) -> Result<Option<(ReplicationMessage<'_>, usize)>, Error> {
        match self.connection.connection.copy_data()? {
            Some((data, missing)) => Ok(Some((ReplicationMessage::parse(data)?, missing))),
            None => Ok(None),
        }
    }

    /// Reads on in data that [`message`](Self::message) had only the beginning of: what comes, up to `max` bytes and at
    /// least one, goes behind what `to` has.
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

    /// Ends the stream, or takes note that it has ended. What still comes meanwhile is thrown away.
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
                // Without CopyDone before it, this is the last word of a server that shuts down.
                Some(BackendTag::COMMAND_COMPLETE) if !is_done => return Ok(CopyEnd::ServerShutdown),
                Some(_) => {}
                None => return Ok(CopyEnd::Stopped(self.connection)),
            }
        }
    }
}
