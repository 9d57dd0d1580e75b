//! How messages move: what is sent, what an answer consists of, and how to get back into step.

use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::boxed::Box;
use std::io;
use std::string::{String, ToString as _};
use std::vec::Vec;

use tokio::io::AsyncWrite as _;

use super::connection::{Answer, Connection, Phase};
use super::error::Error;
use crate::codec::{BackendMessage, EncodeError, FrontendMessage, Need, ServerError};

/// Bytes of a message's type and length.
pub(super) const HEADER: usize = 5;
/// Of a `CopyData`, nothing less than all of it is enough.
const WHOLE: usize = usize::MAX;
/// A larger output buffer is not kept once it is written.
const USUAL_OUTPUT: usize = 256 * 1024;
/// How long is looked for the reason of a failed write, in what the server sent before it closed the connection.
/// Its end comes at once, as the connection is broken; it is only not always here before the failure.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

impl Connection {
    /// Prepares for a command: reads what is left of an answer nobody waited for.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        match self.phase {
            Phase::Ready => Ok(()),
            Phase::Closed => Err(Error::Closed),
            Phase::Busy(_) => self.drain().await,
        }
    }

    /// Appends messages to what [`flush`](Self::flush) writes: all of them, or on an error none.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        let start = self.output.len();
        encode(&mut self.output).map_err(|error| {
            self.output.truncate(start);
            Error::Encode(error)
        })
    }

    /// Takes note that what was pushed will be answered.
    pub(super) fn expect(&mut self, answer: Answer) {
        self.phase = Phase::Busy(answer);
    }

    /// Sends a simple query; its answer runs to `ReadyForQuery`.
    pub(crate) async fn send_query(&mut self, query: &str) -> Result<(), Error> {
        self.ready().await?;
        self.push(|out| FrontendMessage::Query { query: query.as_bytes() }.encode(out))?;
        self.expect(Answer::SIMPLE);
        self.flush("sending a command").await
    }

    /// Writes everything that was pushed.
    ///
    /// # Cancel safety
    /// What is not written yet is written by the next call.
    pub(crate) async fn flush(&mut self, during: &'static str) -> Result<(), Error> {
        if self.phase == Phase::Closed {
            return Err(Error::Closed);
        }
        match within(self.read_timeout, core::future::poll_fn(|cx| self.poll_send(cx))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(during, error).await),
            Err(after) => Err(self.late(during, after)),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.forget_output();
        Poll::Ready(Ok(()))
    }

    fn forget_output(&mut self) {
        self.output.clear();
        self.output.shrink_to(USUAL_OUTPUT);
        self.sent = 0;
    }

    /// Goes to the next message of an answer and gives its type; [`current`](Self::current) lends it.
    /// `None` at `ReadyForQuery`. Notices and reported settings are dealt with here.
    ///
    /// # Errors
    /// An error of the server, after reading on to `ReadyForQuery`, or a loss of the connection.
    ///
    /// # Cancel safety
    /// No message is lost when the future is dropped.
    pub(crate) async fn advance(&mut self, during: &'static str) -> Result<Option<u8>, Error> {
        match self.advance_raw(during).await? {
            b'Z' => Ok(None),
            b'E' => {
                let error = self.current_error()?;
                Err(self.fail(error).await)
            }
            tag => Ok(Some(tag)),
        }
    }

    /// As [`advance`](Self::advance), with errors and `ReadyForQuery` as messages like the others.
    pub(crate) async fn advance_raw(&mut self, during: &'static str) -> Result<u8, Error> {
        self.advance_within(self.read_timeout, during).await
    }

    /// As [`advance_raw`](Self::advance_raw), where the server may be silent for any time or the one given.
    pub(crate) async fn advance_within(
        &mut self,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<u8, Error> {
        self.advance_to(WHOLE, limit, during).await
    }

    /// As [`advance_within`](Self::advance_within), where of a `CopyData` so many bytes are enough. It has to be
    /// looked at by [`copy_data`](Self::copy_data); what is to come of it is read by
    /// [`read_rest`](Self::read_rest), or thrown away.
    pub(crate) async fn advance_to(
        &mut self,
        enough: usize,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<u8, Error> {
        loop {
            let len = self.next_frame(enough, limit, during).await?;
            if self.take_asynchronous(len)? {
                continue;
            }
            self.lent = len;
            let tag = self.input.filled().first().copied().unwrap_or_default();
            if matches!(tag, b'G' | b'Z') {
                self.keep_step()?;
            }
            return Ok(tag);
        }
    }

    /// Takes note of a message after which it is our turn.
    fn keep_step(&mut self) -> Result<(), Error> {
        let status = match self.current()? {
            BackendMessage::ReadyForQuery(status) => Some(status),
            _ => None,
        };
        let Phase::Busy(answer) = &mut self.phase else { return Ok(()) };
        let Some(status) = status else {
            answer.awaits_copy = true;
            return Ok(());
        };
        answer.awaits_copy = false;
        answer.ends = answer.ends.saturating_sub(1);
        if answer.ends == 0 {
            self.phase = Phase::Ready;
        }
        self.session.transaction_status = status;
        Ok(())
    }

    /// The message that the last advance went to.
    pub(crate) fn current(&mut self) -> Result<BackendMessage<'_>, Error> {
        let frame = self.input.filled().get(..self.lent).unwrap_or_default();
        let phase = &mut self.phase;
        self.framing.parse(frame).map_err(|error| {
            *phase = Phase::Closed;
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

    /// Drops what is here of the message that was lent last; the rest is still to come.
    pub(super) fn give_up_lent(&mut self) {
        let lent = core::mem::take(&mut self.lent);
        let here = lent.min(self.input.filled().len());
        self.input.consume(here);
        self.rest += lent - here;
    }

    /// Drops what is here of the message that was lent last, and gives how much of it is to come.
    fn skip_rest(&mut self) -> usize {
        self.give_up_lent();
        let here = self.rest.min(self.input.filled().len());
        self.input.consume(here);
        self.rest -= here;
        self.rest
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
        if self.phase == Phase::Closed {
            return Err(Error::Closed);
        }
        loop {
            let rest = self.skip_rest();
            let filled = self.input.filled();
            let missing = match self.framing.need(filled) {
                _ if rest > 0 => rest,
                Ok(Need::Frame(len)) => return Ok(len),
                Ok(Need::More(missing)) if is_data(filled) => {
                    match HEADER.saturating_add(enough).checked_sub(filled.len()) {
                        Some(wanted @ 1..) => missing.min(wanted),
                        _ => return Ok(filled.len() + missing),
                    }
                }
                Ok(Need::More(missing)) => missing,
                Err(error) => return Err(self.broken(error)),
            };
            match within(limit, core::future::poll_fn(|cx| self.poll_exchange(cx, missing))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.lost(during, error)),
                Err(after) => return Err(self.late(during, after)),
            }
        }
    }

    /// As [`flush`](Self::flush), for a server that may have something to say meanwhile.
    ///
    /// # Errors
    /// Its error, after reading on to `ReadyForQuery`, or a loss of the connection.
    ///
    /// # Cancel safety
    /// What is not written yet is written by the next call.
    pub(super) async fn flush_and_listen(&mut self, during: &'static str) -> Result<(), Error> {
        while !self.output.is_empty() {
            let limit = self.read_timeout;
            let exchange = core::future::poll_fn(|cx| {
                let sent = self.poll_send(cx)?;
                let read = pin!(self.input.fill(&mut self.stream, 1)).poll(cx)?;
                if sent.is_ready() || read.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
            });
            match within(limit, exchange).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.last_words(during, error).await),
                Err(after) => return Err(self.late(during, after)),
            }
            while self.skip_rest() == 0
                && let Need::Frame(len) =
                    self.framing.need(self.input.filled()).map_err(|e| self.broken(e))?
            {
                self.take_interjection(len).await?;
            }
        }
        Ok(())
    }

    /// Waits for a message while no answer is due.
    pub(super) async fn listen(&mut self, during: &'static str) -> Result<(), Error> {
        let len = self.next_frame(WHOLE, None, during).await?;
        self.take_interjection(len).await
    }

    /// Deals with a message that comes while it is not the server's turn.
    async fn take_interjection(&mut self, len: usize) -> Result<(), Error> {
        if self.take_asynchronous(len)? {
            return Ok(());
        }
        self.lent = len;
        match self.current()? {
            BackendMessage::ErrorResponse(fields) => {
                let error = fields.to_server_error();
                Err(self.fail(error).await)
            }
            other => {
                let name = other.name();
                Err(self.unexpected("nothing but a notice", name))
            }
        }
    }

    /// Reads once, and writes what can be written.
    fn poll_exchange(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<io::Result<()>> {
        self.poll_send_beside_reading(cx);
        pin!(self.input.fill(&mut self.stream, missing)).poll(cx)
    }

    pub(super) fn poll_send_beside_reading(&mut self, cx: &mut Context<'_>) {
        if !self.output.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            // What the server said before it went explains more, and reading comes to the end by itself.
            log::debug!("writing to {}: {error}", self.route.server);
            self.forget_output();
        }
    }

    /// Deals with a message that may come at any time, and says whether it was one.
    pub(super) fn take_asynchronous(&mut self, len: usize) -> Result<bool, Error> {
        let frame = self.input.filled().get(..len).unwrap_or_default();
        if !matches!(frame.first(), Some(b'N' | b'S' | b'A')) {
            return Ok(false);
        }
        match self.framing.parse(frame) {
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
        self.input.consume(len);
        Ok(true)
    }

    /// Reads up to the last `ReadyForQuery` and throws it away.
    pub(crate) async fn drain(&mut self) -> Result<(), Error> {
        while matches!(self.phase, Phase::Busy(_)) {
            // The server may wait for data that nobody will send.
            self.refuse_copy("given up")?;
            match self.advance_raw("reading the rest of an answer").await? {
                b'W' => {
                    self.phase = Phase::Closed;
                    return Err(Error::Closed);
                }
                b'E' => {
                    let error = self.current_error()?;
                    if error.severity.ends_connection() {
                        return Err(self.ended(error));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends a COPY to the server, if it waits for one, so that it fails for this reason. Reading sends it.
    pub(super) fn refuse_copy(&mut self, reason: &str) -> Result<(), Error> {
        self.answer_copy(FrontendMessage::CopyFail { message: reason.as_bytes() })
    }

    /// Ends a COPY to the server, if it waits for one. Reading sends it.
    pub(super) fn finish_copy(&mut self) -> Result<(), Error> {
        self.answer_copy(FrontendMessage::CopyDone)
    }

    fn answer_copy(&mut self, message: FrontendMessage<'_>) -> Result<(), Error> {
        let Phase::Busy(answer @ Answer { awaits_copy: true, .. }) = self.phase else { return Ok(()) };
        self.push(|out| {
            message.encode(out)?;
            // The Sync that was sent with the statement was passed over as a part of the COPY.
            if answer.is_extended { FrontendMessage::Sync.encode(out) } else { Ok(()) }
        })?;
        self.phase = Phase::Busy(Answer { awaits_copy: false, ..answer });
        Ok(())
    }

    /// Takes an error of the server within an answer: reads on to `ReadyForQuery`, unless the session ends.
    pub(crate) async fn fail(&mut self, error: ServerError) -> Error {
        if error.severity.ends_connection() {
            return self.ended(error);
        }
        if let Err(lost) = self.drain().await {
            log::debug!("after {error}: {lost}");
        }
        Error::Server(Box::new(error))
    }

    /// Takes an error of the server that ends the session.
    pub(super) fn ended(&mut self, error: ServerError) -> Error {
        self.phase = Phase::Closed;
        Error::Server(Box::new(error))
    }

    /// Writing has failed: the connection is lost, and what the server said before it went tells why.
    async fn last_words(&mut self, during: &'static str, error: io::Error) -> Error {
        let last = tokio::time::timeout(LAST_WORDS, self.read_to_the_end()).await;
        match last.ok().flatten() {
            Some(reason) => self.ended(reason),
            None => self.lost(during, error),
        }
    }

    /// The error with which the server ended the session, if one is still to be read.
    async fn read_to_the_end(&mut self) -> Option<ServerError> {
        loop {
            while self.skip_rest() == 0
                && let Ok(Need::Frame(len)) = self.framing.need(self.input.filled())
            {
                match self.framing.parse(self.input.filled().get(..len).unwrap_or_default()) {
                    Ok(BackendMessage::ErrorResponse(fields)) if fields.severity().ends_connection() => {
                        return Some(fields.to_server_error());
                    }
                    _ => self.input.consume(len),
                }
            }
            self.input.fill(&mut self.stream, 1).await.ok()?;
        }
    }

    /// Closes the connection over bytes that are no message.
    pub(crate) fn broken(&mut self, error: crate::codec::DecodeError) -> Error {
        self.phase = Phase::Closed;
        Error::Decode(error)
    }

    /// Closes the connection over a message that is not legal here.
    pub(crate) fn unexpected(&mut self, expected: &'static str, got: impl Into<String>) -> Error {
        self.phase = Phase::Closed;
        Error::Unexpected { expected, got: got.into() }
    }

    pub(super) fn lost(&mut self, during: &'static str, source: io::Error) -> Error {
        self.phase = Phase::Closed;
        Error::Io { during, source }
    }

    fn late(&mut self, phase: &'static str, after: Duration) -> Error {
        self.phase = Phase::Closed;
        Error::Timeout { phase, after }
    }
}

/// Whether a `CopyData` begins here, with its whole header.
fn is_data(input: &[u8]) -> bool {
    input.len() >= HEADER && input.first() == Some(&b'd')
}

/// The outcome of `work`, or the limit where that was exceeded.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| limit),
        None => Ok(work.await),
    }
}
