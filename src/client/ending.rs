//! How an answer or the connection ends: by an error of the server, by a fault of the peer, or in good order.

use core::ops::ControlFlow;
use core::time::Duration;
use std::boxed::Box;
use std::io;
use std::string::String;

use super::connection::Connection;
use super::error::Error;
use super::turn::Phase;
use crate::codec::{BackendMessage, BackendTag, DecodeError, FrontendMessage, ServerError};

impl Connection {
    /// Prepares for a command: reads the rest of an answer that an earlier call left behind, and rolls back what a
    /// dropped transaction left.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        match self.turn.phase() {
            Phase::Ready => {}
            Phase::Closed => return Err(Error::Closed),
            Phase::Busy(_) => self.drain().await?,
        }
        self.undo_dropped().await
    }

    /// Reads up to the last `ReadyForQuery` and throws it away.
    pub(crate) async fn drain(&mut self) -> Result<(), Error> {
        while self.turn.is_busy() {
            // The server may wait for the data of a COPY whose caller is gone.
            self.refuse_copy("given up")?;
            match self.advance_raw("reading the rest of an answer").await? {
                BackendTag::COPY_BOTH_RESPONSE => {
                    self.turn.close();
                    return Err(Error::Closed);
                }
                BackendTag::ERROR_RESPONSE => {
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

    /// Ends the session in good order.
    ///
    /// # Errors
    /// If `Terminate` cannot be written; the connection is closed all the same.
    ///
    /// # Cancel safety
    /// If the future is dropped, the connection is closed all the same, perhaps without `Terminate`.
    pub async fn close(mut self) -> Result<(), Error> {
        const DURING: &str = "closing the connection";
        if !self.turn.is_open() {
            return Ok(());
        }
        self.push(|out| FrontendMessage::Terminate.encode(out))?;
        self.flush(DURING).await?;
        self.turn.close();
        self.wire.shutdown().await.map_err(|source| Error::Io { during: DURING, source })
    }

    /// Handles an error that the server sent within an answer: reads on to `ReadyForQuery`, unless the error
    /// ends the session.
    pub(crate) async fn fail(&mut self, error: ServerError) -> Error {
        if error.severity.ends_connection() {
            return self.ended(error);
        }
        if let Err(lost) = self.drain().await {
            log::debug!("after {error}: {lost}");
        }
        Error::Server(Box::new(error))
    }

    /// Closes the connection after an error of the server that ends the session.
    pub(super) fn ended(&mut self, error: ServerError) -> Error {
        self.turn.close();
        Error::Server(Box::new(error))
    }

    /// Closes the connection after a failed write. The result is the reason that the server sent before it
    /// closed the connection, or else the failure itself.
    pub(super) async fn last_words(&mut self, during: &'static str, error: io::Error) -> Error {
        let reason = self.wire.last_words(|message| match message {
            BackendMessage::ErrorResponse(fields) if fields.severity().ends_connection() => {
                ControlFlow::Break(fields.to_server_error())
            }
            _ => ControlFlow::Continue(()),
        });
        match reason.await {
            Some(reason) => self.ended(reason),
            None => self.lost(during, error),
        }
    }

    /// Closes the connection because the server sent bytes that are no message.
    pub(crate) fn broken(&mut self, error: DecodeError) -> Error {
        self.turn.close();
        Error::Decode(error)
    }

    /// Closes the connection because the server sent a message that is not legal here.
    pub(crate) fn unexpected(&mut self, expected: &'static str, got: impl Into<String>) -> Error {
        self.turn.close();
        Error::Unexpected { expected, got: got.into() }
    }

    /// Closes the connection because reading or writing failed.
    pub(super) fn lost(&mut self, during: &'static str, source: io::Error) -> Error {
        self.turn.close();
        Error::Io { during, source }
    }

    /// Closes the connection because the server took too long.
    pub(super) fn late(&mut self, during: &'static str, after: Duration) -> Error {
        self.turn.close();
        Error::Timeout { during, after }
    }
}
