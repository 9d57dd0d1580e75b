use core::fmt;
use std::boxed::Box;
use std::string::{String, ToString as _};
use std::vec::Vec;

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use crate::codec::{
    BackendFraming, BackendMessage, EncodeError, FrontendMessage, Limits, Need, ServerError,
    TransactionStatus,
};
use crate::error::Error;
use crate::net::{ReadBuffer, Stream};
use crate::session::{CancelKey, Session, SessionParameters};
use crate::types::ServerVersion;

/// Called with every notice of the server.
pub type NoticeHandler = Box<dyn FnMut(&ServerError) + Send>;

/// A session with a PostgreSQL server.
///
/// # Cancel safety
/// A call whose future is dropped half way leaves the connection marked: the next call first reads and throws
/// away what is left of the answer, so that it never sees rows of another statement. Where that is impossible
/// (an error while reading or writing) the connection is closed and every call returns
/// [`Error::Closed`].
pub struct Connection {
    stream: Stream,
    input: ReadBuffer,
    /// Bytes of the message that was lent last. They are given up at the *start* of the next call, which
    /// makes reading cancel-safe.
    lent: usize,
    output: Vec<u8>,
    /// How much of `output` is written.
    sent: usize,
    phase: Phase,
    session: Session,
    server: String,
    on_notice: NoticeHandler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The server waits for a command.
    Ready,
    /// An answer is under way: up to `ReadyForQuery` everything belongs to it.
    Busy,
    /// Out of step or closed; never used again.
    Closed,
}

impl Connection {
    pub(super) fn new(stream: Stream, input: ReadBuffer, session: Session, server: String) -> Self {
        let on_notice = Box::new(|notice: &ServerError| log::info!("{notice}"));
        let mut connection = Self {
            stream,
            input,
            lent: 0,
            output: Vec::new(),
            sent: 0,
            phase: Phase::Ready,
            session,
            server,
            on_notice,
        };
        for notice in core::mem::take(&mut connection.session.notices) {
            (connection.on_notice)(&notice);
        }
        connection
    }

    /// The server's version, from what it reported when the connection was made. No round trip.
    ///
    /// # Errors
    /// If it reported none that can be read.
    pub fn server_version(&self) -> Result<ServerVersion, Error> {
        self.session.parameters.server_version().ok_or_else(|| Error::Unexpected {
            expected: "a server_version",
            got: self.session.parameters.get("server_version").unwrap_or("none").into(),
        })
    }

    /// The settings that the server reports of itself, as of its last message.
    #[must_use]
    pub fn parameters(&self) -> &SessionParameters {
        &self.session.parameters
    }

    /// Whether a transaction is open, as of the last answer.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.session.transaction_status
    }

    /// What the handshake agreed upon.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The server as error messages name it: `server at "db1" (10.0.0.1), port 5432`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What cancels this session's statements; some poolers give none.
    #[must_use]
    pub fn cancel_key(&self) -> Option<&CancelKey> {
        self.session.cancel_key.as_ref()
    }

    /// Whether the connection can take a command, as far as can be known without asking.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// Takes the server's notices from now on. Without one they go to the `log` crate at level info.
    pub fn on_notice(&mut self, handler: impl FnMut(&ServerError) + Send + 'static) {
        self.on_notice = Box::new(handler);
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// If the goodbye cannot be written; the connection is closed all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        self.phase = Phase::Closed;
        self.push(|out| FrontendMessage::Terminate.encode(out))?;
        self.flush("closing the connection").await?;
        self.stream.shutdown().await.map_err(|source| Error::Io { during: "closing the connection", source })
    }

    /// Prepares for a command: reads what is left of an answer nobody waited for.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        match self.phase {
            Phase::Ready => Ok(()),
            Phase::Closed => Err(Error::Closed),
            Phase::Busy => self.drain().await,
        }
    }

    /// Appends a message to what [`flush`](Self::flush) writes.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        encode(&mut self.output).map_err(Error::Encode)
    }

    /// Sends a simple query; its answer runs to `ReadyForQuery`.
    pub(crate) async fn send_query(&mut self, query: &str) -> Result<(), Error> {
        self.ready().await?;
        self.push(|out| FrontendMessage::Query { query: query.as_bytes() }.encode(out))?;
        self.phase = Phase::Busy;
        self.flush("sending a command").await
    }

    /// Writes everything that was pushed.
    ///
    /// # Cancel safety
    /// What is not written yet is written by the next call.
    pub(crate) async fn flush(&mut self, during: &'static str) -> Result<(), Error> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest).await {
                Ok(0) => return Err(self.lost(during, std::io::ErrorKind::WriteZero.into())),
                Ok(written) => self.sent += written,
                Err(error) => return Err(self.lost(during, error)),
            }
        }
        self.output.clear();
        self.sent = 0;
        match self.stream.flush().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.lost(during, error)),
        }
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
        let tag = self.advance_raw(during).await?;
        match self.current()? {
            BackendMessage::ReadyForQuery(_) => Ok(None),
            BackendMessage::ErrorResponse(fields) => {
                let error = fields.to_server_error();
                Err(self.fail(error).await)
            }
            _ => Ok(Some(tag)),
        }
    }

    /// As [`advance`](Self::advance), with errors and `ReadyForQuery` as messages like the others.
    pub(crate) async fn advance_raw(&mut self, during: &'static str) -> Result<u8, Error> {
        loop {
            let len = self.next_frame(during).await?;
            if self.take_asynchronous(len)? {
                continue;
            }
            self.lent = len;
            if let BackendMessage::ReadyForQuery(status) = self.current()? {
                self.phase = Phase::Ready;
                self.session.transaction_status = status;
            }
            return Ok(self.input.filled().first().copied().unwrap_or_default());
        }
    }

    /// The message that the last advance went to.
    pub(crate) fn current(&mut self) -> Result<BackendMessage<'_>, Error> {
        let frame = self.input.filled().get(..self.lent).unwrap_or_default();
        let phase = &mut self.phase;
        FRAMING.parse(frame).map_err(|error| {
            *phase = Phase::Closed;
            Error::Decode(error)
        })
    }

    /// The length of the frame at the start of the buffer, once it is there as a whole.
    async fn next_frame(&mut self, during: &'static str) -> Result<usize, Error> {
        if self.phase == Phase::Closed {
            return Err(Error::Closed);
        }
        self.input.consume(core::mem::take(&mut self.lent));
        loop {
            match FRAMING.need(self.input.filled()) {
                Ok(Need::Frame(len)) => return Ok(len),
                Ok(Need::More(missing)) => {
                    if let Err(error) = self.input.fill(&mut self.stream, missing).await {
                        return Err(self.lost(during, error));
                    }
                }
                Err(error) => {
                    self.phase = Phase::Closed;
                    return Err(Error::Decode(error));
                }
            }
        }
    }

    /// Deals with a message that may come at any time, and says whether it was one.
    fn take_asynchronous(&mut self, len: usize) -> Result<bool, Error> {
        let frame = self.input.filled().get(..len).unwrap_or_default();
        if !matches!(frame.first(), Some(b'N' | b'S' | b'A')) {
            return Ok(false);
        }
        match FRAMING.parse(frame) {
            Ok(BackendMessage::NoticeResponse(fields)) => (self.on_notice)(&fields.to_server_error()),
            Ok(BackendMessage::ParameterStatus(status)) => {
                if let Err(error) = self.session.parameters.update(&status) {
                    self.phase = Phase::Closed;
                    return Err(Error::Unexpected { expected: "reported settings", got: error.to_string() });
                }
            }
            // Nobody here has called LISTEN.
            Ok(_) => {}
            Err(error) => {
                self.phase = Phase::Closed;
                return Err(Error::Decode(error));
            }
        }
        self.input.consume(len);
        Ok(true)
    }

    /// Reads up to `ReadyForQuery` and throws it away.
    pub(crate) async fn drain(&mut self) -> Result<(), Error> {
        const DURING: &str = "reading the rest of an answer";
        self.flush(DURING).await?;
        while self.phase == Phase::Busy {
            self.advance_raw(DURING).await?;
            let ends = match self.current()? {
                // The server waits for data that nobody will send.
                BackendMessage::CopyInResponse(_) => {
                    self.push(|out| FrontendMessage::CopyFail { message: b"given up" }.encode(out))?;
                    self.flush(DURING).await?;
                    false
                }
                BackendMessage::CopyBothResponse(_) => true,
                BackendMessage::ErrorResponse(fields) => fields.severity().ends_connection(),
                _ => false,
            };
            if ends {
                self.phase = Phase::Closed;
                return Err(Error::Closed);
            }
        }
        Ok(())
    }

    /// Takes an error of the server within an answer: reads on to `ReadyForQuery`, unless the session ends.
    pub(crate) async fn fail(&mut self, error: ServerError) -> Error {
        if error.severity.ends_connection() {
            self.phase = Phase::Closed;
        } else if let Err(lost) = self.drain().await {
            log::debug!("after {error}: {lost}");
        }
        Error::Server(Box::new(error))
    }

    /// Closes the connection over bytes that are no message.
    #[cfg(feature = "replication")]
    pub(crate) fn broken(&mut self, error: crate::codec::DecodeError) -> Error {
        self.phase = Phase::Closed;
        Error::Decode(error)
    }

    /// Closes the connection over a message that is not legal here.
    pub(crate) fn unexpected(&mut self, expected: &'static str, got: impl Into<String>) -> Error {
        self.phase = Phase::Closed;
        Error::Unexpected { expected, got: got.into() }
    }

    fn lost(&mut self, during: &'static str, source: std::io::Error) -> Error {
        self.phase = Phase::Closed;
        Error::Io { during, source }
    }
}

/// The rules for frames once the connection is made.
const FRAMING: BackendFraming = BackendFraming { limits: Limits::DEFAULT, ready: true };

impl Drop for Connection {
    fn drop(&mut self) {
        // A goodbye spares the server a line in its log. Best effort: only if it can be written at once.
        if self.phase != Phase::Closed && self.output.is_empty() {
            let mut goodbye = Vec::new();
            if FrontendMessage::Terminate.encode(&mut goodbye).is_ok() {
                let mut context = core::task::Context::from_waker(core::task::Waker::noop());
                let _ = core::pin::Pin::new(&mut self.stream).poll_write(&mut context, &goodbye);
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}
