//! The bytes of a connection: output that is to be sent, input that was read, and how much of the input is
//! used up.
//!
//! This file does not know whether a message is legal now; `turn` does.

use core::ops::ControlFlow;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;
use std::io;
use std::vec::Vec;

#[cfg(feature = "replication")]
use bytes::BufMut as _;
#[cfg(feature = "replication")]
use tokio::io::AsyncReadExt as _;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use super::server_name::ServerName;
#[cfg(feature = "replication")]
use crate::codec::CopyData;
use crate::codec::{
    BackendFraming, BackendMessage, BackendTag, DecodeError, EncodeError, FrontendMessage, Limits, Need,
};
use crate::net::{ReadBuffer, Stream};

/// The length of a message's header: its type and its length.
const HEADER: usize = 5;
/// The `enough` that waits for the whole of a `CopyData`.
pub(super) const WHOLE: usize = usize::MAX;
/// A larger output buffer is shrunk to this once it is written.
const USUAL_OUTPUT: usize = 256 * 1024;
/// How long to search for the reason of a failed write in the messages that the server sent before it closed
/// the connection. The connection is broken, so its input ends at once; the end may only arrive a little
/// later than the failure.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) struct Wire {
    stream: Stream,
    input: ReadBuffer,
    /// The length of the message that was lent last. Its bytes are dropped at the *start* of the next call,
    /// which makes reading cancel-safe.
    lent: usize,
    /// How many bytes are still to come of a message whose beginning was used up.
    rest: usize,
    output: Vec<u8>,
    /// How much of `output` is written.
    sent: usize,
    /// The rules for what the server sends.
    framing: BackendFraming,
}

/// Sending.
impl Wire {
    /// The wire of a session that is ready; `input` holds the bytes that came after the handshake.
    pub(super) fn new(stream: Stream, input: ReadBuffer) -> Self {
        let framing = BackendFraming::READY;
        Self { stream, input, lent: 0, rest: 0, output: Vec::new(), sent: 0, framing }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Appends messages to the output: all of them, or on an error none.
    pub(super) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.output.len();
        encode(&mut self.output).inspect_err(|_| self.output.truncate(start))
    }

    /// How many bytes were pushed since the output was last sent completely.
    pub(super) fn pushed(&self) -> usize {
        self.output.len()
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends the output.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    /// Sends `Terminate` if that can be done at once and nothing is half sent.
    pub(super) fn try_terminate(&mut self) {
        let mut terminate = Vec::new();
        if !self.has_unsent() && FrontendMessage::Terminate.encode(&mut terminate).is_ok() {
            let mut context = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_write(&mut context, &terminate);
        }
    }

    /// Ends our side of the byte stream.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Reading.
impl Wire {
    /// Limits the messages from now on.
    pub(super) const fn set_limits(&mut self, limits: Limits) {
        self.framing.limits = limits;
    }

    /// Looks for the next frame, after the message that was lent last. Gives its length once the buffer holds
    /// all of it, or `enough` bytes of the data of a `CopyData`.
    pub(super) fn next_frame(&mut self, enough: usize) -> Result<Need, DecodeError> {
        let rest = self.skip_rest();
        if rest > 0 {
            return Ok(Need::More(rest));
        }
        let filled = self.input.filled();
        match self.framing.need(filled)? {
            Need::More(missing) if begins_with_copy_data(filled) => {
                match HEADER.saturating_add(enough).checked_sub(filled.len()) {
                    Some(wanted @ 1..) => Ok(Need::More(missing.min(wanted))),
                    _ => Ok(Need::Frame(filled.len() + missing)),
                }
            }
            need => Ok(need),
        }
    }

    /// Reads once, at least one byte. `missing` is how many bytes the message lacks.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<io::Result<()>> {
        pin!(self.input.fill(&mut self.stream, missing)).poll(cx)
    }

    /// Reads once, and sends as much of the output as the socket takes.
    ///
    /// `server` is only for the log.
    pub(super) fn poll_read_and_send(
        &mut self,
        cx: &mut Context<'_>,
        missing: usize,
        server: &ServerName,
    ) -> Poll<io::Result<()>> {
        self.poll_send_beside_reading(cx, server);
        self.poll_read(cx, missing)
    }

    fn poll_send_beside_reading(&mut self, cx: &mut Context<'_>, server: &ServerName) {
        if self.has_unsent()
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            // Not an error here: reading will come to the end of the connection, and the server's last
            // message explains more.
            log::debug!("writing to {server}: {error}");
            self.forget_output();
        }
    }

    /// The type of the next frame.
    pub(super) fn tag(&self) -> BackendTag {
        BackendTag::of_frame(self.input.filled())
    }

    /// Parses the next frame, which has this length and is in the buffer as a whole.
    pub(super) fn parse(&self, len: usize) -> Result<BackendMessage<'_>, DecodeError> {
        self.framing.parse(self.input.filled().get(..len).unwrap_or_default())
    }

    /// Drops the next frame.
    pub(super) fn consume(&mut self, len: usize) {
        self.input.consume(len);
    }

    /// Lends the next frame until the caller asks for the one after it.
    pub(super) const fn lend(&mut self, len: usize) {
        self.lent = len;
    }

    /// The message that was lent last.
    pub(super) fn lent(&self) -> Result<BackendMessage<'_>, DecodeError> {
        self.parse(self.lent)
    }

    /// Drops the bytes of the lent message that are in the buffer, and adds those still to come to `rest`.
    fn give_up_lent(&mut self) {
        let lent = core::mem::take(&mut self.lent);
        let here = lent.min(self.input.filled().len());
        self.input.consume(here);
        self.rest += lent - here;
    }

    /// Drops the lent message and what the buffer holds of the rest, and gives how many bytes are still to
    /// come.
    fn skip_rest(&mut self) -> usize {
        self.give_up_lent();
        let here = self.rest.min(self.input.filled().len());
        self.input.consume(here);
        self.rest -= here;
        self.rest
    }

    /// The part of the lent `CopyData` that is in the buffer, and how many bytes are still to come; `None` if
    /// the lent message is another one.
    #[cfg(feature = "replication")]
    pub(super) fn copy_data(&self) -> Result<Option<(&[u8], usize)>, DecodeError> {
        let here = self.input.filled().len();
        if self.lent > here {
            let data = self.input.filled().get(HEADER..).unwrap_or_default();
            return Ok(Some((data, self.lent - here)));
        }
        match self.lent()? {
            BackendMessage::CopyData(CopyData { data }) => Ok(Some((data, 0))),
            _ => Ok(None),
        }
    }

    /// Reads once from the lent message, of which the buffer holds only a part: appends at least one byte and
    /// at most `max` bytes to `to`. Sends as much of the output as the socket takes.
    #[cfg(feature = "replication")]
    pub(super) fn poll_read_rest(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Vec<u8>,
        max: usize,
        server: &ServerName,
    ) -> Poll<io::Result<usize>> {
        self.give_up_lent();
        let max = self.rest.min(max);
        self.poll_send_beside_reading(cx, server);
        match ready!(pin!(self.stream.read_buf(&mut to.limit(max))).poll(cx))? {
            0 if max > 0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            len => {
                self.rest -= len;
                Poll::Ready(Ok(len))
            }
        }
    }

    /// After a failed write, gives `find` the messages that are here or still arrive, until `find` breaks;
    /// `None` if it found nothing in time.
    pub(super) async fn last_words<T>(
        &mut self,
        mut find: impl FnMut(BackendMessage<'_>) -> ControlFlow<T>,
    ) -> Option<T> {
        self.skip_rest();
        let Self { stream, input, rest, framing, .. } = self;
        let reason = last_words(stream, input, |input| {
            let here = (*rest).min(input.filled().len());
            input.consume(here);
            *rest -= here;
            while *rest == 0
                && let Ok(Need::Frame(len)) = framing.need(input.filled())
            {
                if let Ok(message) = framing.parse(input.filled().get(..len).unwrap_or_default())
                    && let ControlFlow::Break(found) = find(message)
                {
                    return ControlFlow::Break(Some(found));
                }
                input.consume(len);
            }
            ControlFlow::Continue(())
        });
        reason.await.unwrap_or_default()
    }
}

/// Whether `input` begins with the whole header of a `CopyData`.
fn begins_with_copy_data(input: &[u8]) -> bool {
    input.len() >= HEADER && BackendTag::of_frame(input) == BackendTag::COPY_DATA
}

/// Searches the bytes that the server sent before it closed the connection for the reason of a failed write;
/// a server with no room for another client sends one. Calls `look` with the input, and again after each
/// read, until `look` breaks.
///
/// # Errors
/// The error that ended the input, if it ends first.
pub(super) async fn last_words<T>(
    stream: &mut Stream,
    input: &mut ReadBuffer,
    mut look: impl FnMut(&mut ReadBuffer) -> ControlFlow<Option<T>>,
) -> io::Result<Option<T>> {
    let reading = async {
        loop {
            if let ControlFlow::Break(found) = look(input) {
                return Ok(found);
            }
            input.fill(stream, 1).await?;
        }
    };
    tokio::time::timeout(LAST_WORDS, reading).await.unwrap_or(Ok(None))
}
