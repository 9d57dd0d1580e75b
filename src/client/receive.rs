//! What is read: the messages of an answer, one after the other.

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
    /// Goes to the next message of an answer and gives its type; [`current`](Self::current) lends it.
    /// `None` at `ReadyForQuery`. Notices and reported settings are dealt with here.
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

    /// As [`advance`](Self::advance), with errors and `ReadyForQuery` as messages like the others.
    pub(crate) async fn advance_raw(&mut self, during: &'static str) -> Result<BackendTag, Error> {
        self.advance_to(WHOLE, self.read_timeout, during).await
    }

    /// As [`advance_raw`](Self::advance_raw), where the server may be silent for this long, and of a `CopyData` so
    /// many bytes are `enough`: it has to be looked at by [`copy_data`](Self::copy_data) then, and what is to come of
    /// it is read by [`read_rest`](Self::read_rest), or thrown away.
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

    /// Takes note of a `ReadyForQuery`.
    fn end_answer(&mut self) -> Result<(), Error> {
        if let BackendMessage::ReadyForQuery(status) = self.current()?
            && self.turn.end_answer()
        {
            self.session.transaction_status = status;
        }
        Ok(())
    }

    /// The message that the last advance went to.
    pub(crate) fn current(&mut self) -> Result<BackendMessage<'_>, Error> {
        self.wire.lent().map_err(|error| {
            self.turn.close();
            Error::Decode(error)
        })
    }

    /// The error that the last advance went to.
    pub(crate) fn current_error(&mut self) -> Result<ServerError, Error> {
        match self.current()? {
            BackendMessage::ErrorResponse(fields) => Ok(fields.to_server_error()),
            other => {
                let name = other.name();
                Err(self.unexpected("an ErrorResponse", name))
            }
        }
    }

    /// What is here of the `CopyData` that the last advance went to, and how many bytes are to come; `None` if it is
    /// another message.
    #[cfg(feature = "replication")]
    pub(crate) fn copy_data(&mut self) -> Result<Option<(&[u8], usize)>, Error> {
        self.wire.copy_data().map_err(|error| {
            self.turn.close();
            Error::Decode(error)
        })
    }

    /// Reads on in the message that the last advance went to, which is not all here: what comes, up to `max` bytes and
    /// at least one, goes behind what `to` has.
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

    /// The length of the frame at the start of the buffer, once it is there as a whole, or so many bytes of the data
    /// of a `CopyData`.
    ///
    /// What is still to be sent is sent meanwhile: a server that has more to say than fits on the way reads
    /// on only after somebody has listened.
    pub(super) async fn next_frame(
        &mut self,
        enough: usize,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<usize, Error> {
        self.turn.check_open()?;
        loop {
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
                Err(after) => return Err(self.late(during, after)),
            }
        }
    }

    /// Deals with a message that may come at any time, and says whether it was one.
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
