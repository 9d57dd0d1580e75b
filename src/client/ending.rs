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
    /// Prepares for a command: reads what is left of an answer nobody waited for.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        match self.turn.phase() {
            Phase::Ready => Ok(()),
            Phase::Closed => Err(Error::Closed),
            Phase::Busy(_) => self.drain().await,
        }
    }

    /// Reads up to the last `ReadyForQuery` and throws it away.
    pub(crate) async fn drain(&mut self) -> Result<(), Error> {
        while self.turn.is_busy() {
            // The server may wait for data that nobody will send.
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
    /// If the goodbye cannot be written; the connection is closed all the same.
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
        self.turn.close();
        Error::Server(Box::new(error))
    }

    /// Writing has failed: the connection is lost, and what the server said before it went tells why.
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

    /// Closes the connection over bytes that are no message.
    pub(crate) fn broken(&mut self, error: DecodeError) -> Error {
        self.turn.close();
        Error::Decode(error)
    }

    /// Closes the connection over a message that is not legal here.
    pub(crate) fn unexpected(&mut self, expected: &'static str, got: impl Into<String>) -> Error {
        self.turn.close();
        Error::Unexpected { expected, got: got.into() }
    }

    /// Closes the connection over a failure to read or write.
    pub(super) fn lost(&mut self, during: &'static str, source: io::Error) -> Error {
        self.turn.close();
        Error::Io { during, source }
    }

    /// Closes the connection as the server let too much time pass.
    pub(super) fn late(&mut self, during: &'static str, after: Duration) -> Error {
        self.turn.close();
        Error::Timeout { during, after }
    }
}
