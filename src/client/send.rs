//! Sending: commands, and the end of a COPY for whose data the server waits.

use core::task::Poll;
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::turn::{Answer, AwaitedCopy};
use super::wire::WHOLE;
use crate::codec::{EncodeError, FrontendMessage, Need};
use crate::deadline::within;

impl Connection {
    /// Appends messages to the output that [`flush`](Self::flush) writes: all of them, or on an error none.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        self.wire.push(encode).map_err(Error::Encode)
    }

    /// Sends a simple query; its answer runs to `ReadyForQuery`.
    pub(crate) async fn send_query(&mut self, query: &str) -> Result<(), Error> {
        self.ready().await?;
        self.push_query(query)?;
        self.flush("sending a command").await
    }

    /// Pushes a simple query. The next read sends it.
    pub(super) fn push_query(&mut self, query: &str) -> Result<(), Error> {
        self.push(|out| FrontendMessage::Query { query: query.as_bytes() }.encode(out))?;
        self.expect(Answer::SIMPLE);
        Ok(())
    }

    /// Writes everything that was pushed.
    ///
    /// # Cancel safety
    /// What is not written yet is written by the next call.
    pub(crate) async fn flush(&mut self, during: &'static str) -> Result<(), Error> {
        self.turn.check_open()?;
        match within(self.read_timeout, core::future::poll_fn(|cx| self.wire.poll_send(cx))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(during, error).await),
            Err(after) => Err(self.late(during, after)),
        }
    }

    /// Writes everything that was pushed, and handles the messages that the server sends meanwhile.
    ///
    /// # Errors
    /// The server's error, after reading on to `ReadyForQuery`, or a loss of the connection.
    ///
    /// # Cancel safety
    /// What is not written yet is written by the next call.
    pub(super) async fn flush_and_listen(&mut self, during: &'static str) -> Result<(), Error> {
        while self.wire.has_unsent() {
            let exchange = core::future::poll_fn(|cx| {
                let sent = self.wire.poll_send(cx)?;
                let read = self.wire.poll_read(cx, 1)?;
                if sent.is_ready() || read.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
            });
            match within(self.read_timeout, exchange).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.last_words(during, error).await),
                Err(after) => return Err(self.late(during, after)),
            }
            while let Need::Frame(len) = self.wire.next_frame(WHOLE).map_err(|error| self.broken(error))? {
                self.take_unasked(len).await?;
            }
        }
        Ok(())
    }

    /// Makes a COPY to the server fail for this reason, if the server waits for its data. The next read sends
    /// the message.
    pub(super) fn refuse_copy(&mut self, reason: &str) -> Result<(), Error> {
        self.answer_copy(FrontendMessage::CopyFail { message: reason.as_bytes() })
    }

    /// Ends the data of a COPY to the server, if the server waits for them. The next read sends the message.
    pub(super) fn finish_copy(&mut self) -> Result<(), Error> {
        self.answer_copy(FrontendMessage::CopyDone)
    }

    fn answer_copy(&mut self, message: FrontendMessage<'_>) -> Result<(), Error> {
        let Some(AwaitedCopy { needs_sync }) = self.turn.awaited_copy() else { return Ok(()) };
        self.push(|out| {
            message.encode(out)?;
            if needs_sync { FrontendMessage::Sync.encode(out) } else { Ok(()) }
        })?;
        self.turn.end_copy_in();
        Ok(())
    }
}
