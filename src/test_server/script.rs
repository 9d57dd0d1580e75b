use core::fmt;
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

use crate::codec::{
    Authentication, BackendKeyData, BackendMessage, FrontendMessage, ParameterStatus, StartupPacket,
    TransactionStatus,
};

/// The steps of a server, in order: what it expects and what it sends.
///
/// Each method adds a step. After the last, the server sends nothing more and reads until the client has
/// closed the connection.
#[derive(Default)]
#[must_use]
pub struct Script {
    pub(super) steps: VecDeque<Step>,
}

pub(super) type OnStartup = Box<dyn FnMut(&StartupPacket<'_>, &mut Vec<u8>) -> bool + Send>;
pub(super) type OnMessage = Box<dyn FnMut(&FrontendMessage<'_>, &mut Vec<u8>) -> bool + Send>;

pub(super) enum Step {
    Startup {
        what: &'static str,
        accepts: OnStartup,
    },
    Message {
        what: &'static str,
        accepts: OnMessage,
        /// Whether the step ignores messages that it does not accept.
        skips: bool,
    },
    Send(Vec<u8>),
    /// From here on, sends in pieces of this many bytes; `None` for whole messages.
    Pieces(Option<usize>),
    Silence,
    HalfClose,
    Close,
}

impl Script {
    /// A script without steps.
    pub fn new() -> Self {
        Self::default()
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// Waits for the packet that begins a connection, which must satisfy `accepts`. Errors call it `what`.
    pub fn expect_startup(
        self,
        what: &'static str,
        mut accepts: impl FnMut(&StartupPacket<'_>) -> bool + Send + 'static,
    ) -> Self {
        let accepts = Box::new(move |packet: &StartupPacket<'_>, _: &mut Vec<u8>| accepts(packet));
        self.then(Step::Startup { what, accepts })
    }

    /// Waits for a message, which must satisfy `accepts`. Errors call it `what`.
    pub fn expect(
        self,
        what: &'static str,
        mut accepts: impl FnMut(&FrontendMessage<'_>) -> bool + Send + 'static,
    ) -> Self {
        self.answer(what, move |message, _| accepts(message))
    }

    /// Waits for a simple query with this text, such as a replication command.
    pub fn expect_query(self, query: &'static str) -> Self {
        self.expect(query, move |message| *message == FrontendMessage::Query { query: query.as_bytes() })
    }

    /// Waits for a message, and sends the bytes that `accepts` appends to its buffer: for answers that depend
    /// on the client's message, such as those of SCRAM.
    pub fn answer(
        self,
        what: &'static str,
        accepts: impl FnMut(&FrontendMessage<'_>, &mut Vec<u8>) -> bool + Send + 'static,
    ) -> Self {
        self.then(Step::Message { what, accepts: Box::new(accepts), skips: false })
    }

    /// Waits for a message that satisfies `accepts`, and ignores all others: for clients that also send
    /// messages unasked, such as the status updates of WAL receivers.
    pub fn skip_until(
        self,
        what: &'static str,
        mut accepts: impl FnMut(&FrontendMessage<'_>) -> bool + Send + 'static,
    ) -> Self {
        let accepts = Box::new(move |message: &FrontendMessage<'_>, _: &mut Vec<u8>| accepts(message));
        self.then(Step::Message { what, accepts, skips: true })
    }

    /// Sends a message.
    ///
    /// # Panics
    /// If the message cannot be encoded: the script is wrong.
    #[expect(clippy::panic, reason = "a message that cannot be encoded is a mistake in the test")]
    pub fn send(self, message: &BackendMessage<'_>) -> Self {
        let mut bytes = Vec::new();
        if let Err(error) = message.encode(&mut bytes) {
            panic!("the script sends a message that cannot be encoded: {error}");
        }
        self.send_bytes(bytes)
    }

    /// Sends bytes as they are: a reply to a request for encryption, half a message, garbage.
    pub fn send_bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Send(bytes.into()))
    }

    /// Greets the client like a server with `trust` authentication: waits for a `StartupMessage`, then sends
    /// `AuthenticationOk`, a few parameters of PostgreSQL 17, `BackendKeyData` and `ReadyForQuery`.
    pub fn greet(self) -> Self {
        let is_startup = |packet: &StartupPacket<'_>| matches!(packet, StartupPacket::Startup(_));
        let parameter = |name, value| BackendMessage::ParameterStatus(ParameterStatus { name, value });
        self.expect_startup("StartupMessage", is_startup)
            .send(&BackendMessage::Authentication(Authentication::Ok))
            .send(&parameter(b"server_version", b"17.0"))
            .send(&parameter(b"server_encoding", b"UTF8"))
            .send(&parameter(b"client_encoding", b"UTF8"))
            .send(&parameter(b"integer_datetimes", b"on"))
            .send(&parameter(b"standard_conforming_strings", b"on"))
            .send(&BackendMessage::BackendKeyData(BackendKeyData { process_id: 1, secret_key: b"keys" }))
            .send(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))
    }

    /// From here on, sends in pieces of `bytes` bytes. 0 counts as 1.
    pub fn split(self, bytes: usize) -> Self {
        self.then(Step::Pieces(Some(bytes.max(1))))
    }

    /// From here on, sends byte by byte.
    pub fn dribble(self) -> Self {
        self.split(1)
    }

    /// From here on, sends each message in one piece again.
    pub fn whole(self) -> Self {
        self.then(Step::Pieces(None))
    }

    /// Sends nothing more, and reads and ignores everything until the client closes the connection. Ends the
    /// script.
    pub fn silence(self) -> Self {
        self.then(Step::Silence)
    }

    /// Closes the sending side and continues to read.
    pub fn half_close(self) -> Self {
        self.then(Step::HalfClose)
    }

    /// Closes the connection. Ends the script.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { what, skips: true, .. } => write!(f, "skip until {what}"),
            Self::Startup { what, .. } | Self::Message { what, .. } => write!(f, "expect {what}"),
            Self::Send(bytes) => write!(f, "send {} bytes", bytes.len()),
            Self::Pieces(Some(bytes)) => write!(f, "split into {bytes} bytes"),
            Self::Pieces(None) => f.write_str("send whole"),
            Self::Silence => f.write_str("silence"),
            Self::HalfClose => f.write_str("half close"),
            Self::Close => f.write_str("close"),
        }
    }
}
