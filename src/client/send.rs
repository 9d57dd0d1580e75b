//! What is sent: commands, and the answer to a COPY that the server waits for.

use core::task::Poll;
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::turn::{Answer, AwaitedCopy};
use super::wire::WHOLE;
use crate::codec::{EncodeError, FrontendMessage, Need};
use crate::deadline::within;

impl Connection {
    /// Appends messages to what [`flush`](Self::flush) writes: all of them, or on an error none.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        self.wire.push(encode).map_err(Error::Encode)
    }

    /// Sends a simple query; its answer runs to `ReadyForQuery`.
    pub(crate) async fn send_query(&mut self, query: &str) -> Result<(), Error> {
        self.ready().await?;
        self.push(|out| FrontendMessage::Query { query: query.as_bytes() }.encode(out))?;
        self.turn.expect(Answer::SIMPLE);
        self.flush("sending a command").await
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

    /// As [`flush`](Self::flush), for a server that may have something to say meanwhile.
    ///
    /// # Errors
    /// Its error, after reading on to `ReadyForQuery`, or a loss of the connection.
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
                self.take_interjection(len).await?;
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
        let Some(AwaitedCopy { needs_sync }) = self.turn.awaited_copy() else { return Ok(()) };
        self.push(|out| {
            message.encode(out)?;
            if needs_sync { FrontendMessage::Sync.encode(out) } else { Ok(()) }
        })?;
        self.turn.end_copy_in();
        Ok(())
    }
}
