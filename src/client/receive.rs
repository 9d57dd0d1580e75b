//! Reading: the messages of an answer, one after the other.

use core::future::poll_fn;
use core::time::Duration;
use std::string::ToString as _;
#[cfg(feature = "replication")]
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::wire::WHOLE;
use crate::codec::{BackendMessage, BackendTag, Need, ServerError};
use crate::deadline::within;

impl Connection {
    /// Reads the next message of an answer and gives its type; [`current`](Self::current) lends the message.
    /// `None` at `ReadyForQuery`. Handles notices, notifications and reported settings itself.
    ///
    /// # Errors
    /// An error of the server, after reading on to `ReadyForQuery`, or a loss of the connection.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub(crate) async fn advance(&mut self, during: &'static str) -> Result<Option<BackendTag>, Error> {
        match self.advance_raw(during).await? {
            BackendTag::READY_FOR_QUERY => Ok(None),
            BackendTag::ERROR_RESPONSE => {
                let error = self.current_error()?;
                Err(self.fail(error).await)
            }
            tag => Ok(Some(tag)),
        }
    }

    /// Reads the next message like [`advance`](Self::advance), but gives `ErrorResponse` and `ReadyForQuery`
    /// like every other message.
    pub(crate) async fn advance_raw(&mut self, during: &'static str) -> Result<BackendTag, Error> {
        self.advance_to(WHOLE, self.time_left(), during).await
    }

    /// Reads the next message like [`advance_raw`](Self::advance_raw), but lets the server be silent for
    /// `limit`, and waits only for the first `enough` bytes of the data of a `CopyData`.
    /// [`copy_data`](Self::copy_data) then lends the part that is here, and [`read_rest`](Self::read_rest)
    /// reads the rest; the next call throws away what was not read.
    pub(crate) async fn advance_to(
        &mut self,
        enough: usize,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<BackendTag, Error> {
        loop {
            let len = self.next_frame(enough, limit, during).await?;
            if self.take_asynchronous(len)? {
                continue;
            }
            self.wire.lend(len);
            let tag = self.wire.tag();
            match tag {
                BackendTag::COPY_IN_RESPONSE => self.turn.begin_copy_in(),
                BackendTag::READY_FOR_QUERY => self.end_answer()?,
                _ => {}
            }
            return Ok(tag);
        }
    }

    /// Records a `ReadyForQuery`.
    fn end_answer(&mut self) -> Result<(), Error> {
        if let BackendMessage::ReadyForQuery(status) = self.current()?
            && self.turn.end_answer()
        {
            self.session.transaction_status = status;
        }
        if !self.turn.is_busy() {
            self.answer_began = None;
        }
        Ok(())
    }

    /// The message that the last `advance` read.
    pub(crate) fn current(&mut self) -> Result<BackendMessage<'_>, Error> {
        self.wire.lent().map_err(|error| {
            self.turn.close();
            Error::Decode(error)
        })
    }

    /// The error that the last `advance` read.
    pub(crate) fn current_error(&mut self) -> Result<ServerError, Error> {
        match self.current()? {
            BackendMessage::ErrorResponse(fields) => Ok(fields.to_server_error()),
            other => {
                let name = other.name();
                Err(self.unexpected("an ErrorResponse", name))
            }
        }
    }

    /// The part of the current `CopyData` that is in the buffer, and how many bytes are still to come; `None`
    /// if the current message is another one.
    #[cfg(feature = "replication")]
    pub(crate) fn copy_data(&mut self) -> Result<Option<(&[u8], usize)>, Error> {
        self.wire.copy_data().map_err(|error| {
            self.turn.close();
            Error::Decode(error)
        })
    }

    /// Reads more of the current message, of which the buffer holds only a part: appends at least one byte
    /// and at most `max` bytes to `to`.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    #[cfg(feature = "replication")]
    pub(crate) async fn read_rest(
        &mut self,
        to: &mut Vec<u8>,
        max: usize,
        during: &'static str,
    ) -> Result<usize, Error> {
        self.turn.check_open()?;
        let Self { wire, route, .. } = self;
        let read = poll_fn(|cx| wire.poll_read_rest(cx, to, max, &route.server));
        read.await.map_err(|error| self.lost(during, error))
    }

    /// Waits until the buffer holds the next frame as a whole, or `enough` bytes of the data of a `CopyData`,
    /// and gives the frame's length.
    ///
    /// Sends pending output meanwhile: a server that has filled the buffers of the connection with its own
    /// output reads our commands only after we have read.
    pub(super) async fn next_frame(
        &mut self,
        enough: usize,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<usize, Error> {
        self.turn.check_open()?;
        loop {
            // A server that keeps the buffer full never lets the timer below run.
            if self.answer_began.is_some() && self.time_left() == Some(Duration::ZERO) {
                return Err(self.late(during, self.read_timeout.unwrap_or_default()));
            }
            let missing = match self.wire.next_frame(enough) {
                Ok(Need::Frame(len)) => return Ok(len),
                Ok(Need::More(missing)) => missing,
                Err(error) => return Err(self.broken(error)),
            };
            let Self { wire, route, .. } = self;
            let exchange = poll_fn(|cx| wire.poll_read_and_send(cx, missing, &route.server));
            match within(limit, exchange).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.lost(during, error)),
                // What was left of the time for the whole answer is of no interest.
                Err(after) => {
                    let whole = self.read_timeout.filter(|_| self.answer_began.is_some());
                    return Err(self.late(during, whole.unwrap_or(after)));
                }
            }
        }
    }

    /// Handles the next message if it is one that may come at any time, and says whether it was.
    pub(super) fn take_asynchronous(&mut self, len: usize) -> Result<bool, Error> {
        if !matches!(
            self.wire.tag(),
            BackendTag::NOTICE_RESPONSE | BackendTag::PARAMETER_STATUS | BackendTag::NOTIFICATION_RESPONSE
        ) {
            return Ok(false);
        }
        match self.wire.parse(len) {
            Ok(BackendMessage::NoticeResponse(fields)) => (self.on_notice)(&fields.to_server_error()),
            Ok(BackendMessage::ParameterStatus(status)) => {
                if let Err(error) = self.session.parameters.update(&status) {
                    return Err(self.unexpected("reported settings", error.to_string()));
                }
            }
            Ok(BackendMessage::NotificationResponse(notification)) => self.notifications.push(&notification),
            Ok(_) => {}
            Err(error) => return Err(self.broken(error)),
        }
        self.wire.consume(len);
        Ok(true)
    }
}
