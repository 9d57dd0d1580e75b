//! Messages that the server sends unasked: notifications, and the error that ends the session.

use core::task::{Context, Poll, Waker};

use super::connection::Connection;
use super::error::Error;
use super::notification::Notification;
use super::turn::Phase;
use super::wire::WHOLE;
use crate::codec::{BackendMessage, Need};

impl Connection {
    /// The next notification, oldest first, on a channel that the session listens to by `LISTEN`. Waits
    /// without a limit: the [read timeout](Self::set_read_timeout) applies to answers only.
    ///
    /// Outside of a transaction, notifications also arrive with the answers to other calls. The connection
    /// queues up to 10,000 of them or 4 MiB. If more arrive it drops the oldest, and
    /// [`dropped_notifications`](Self::dropped_notifications) counts them.
    ///
    /// # Errors
    /// The server's error that ends the session, or a loss of the connection.
    ///
    /// # Cancel safety
    /// No notification is lost when the future is dropped.
    pub async fn notification(&mut self) -> Result<Notification, Error> {
        self.ready().await?;
        loop {
            if let Some(notification) = self.notifications.pop() {
                return Ok(notification);
            }
            self.listen("waiting for a notification").await?;
        }
    }

    /// The oldest notification in the queue, without waiting.
    pub fn queued_notification(&mut self) -> Option<Notification> {
        self.notifications.pop()
    }

    /// How many notifications were dropped because the queue was full.
    #[must_use]
    pub fn dropped_notifications(&self) -> u64 {
        self.notifications.dropped
    }

    /// The error with which the server has ended the session, if the socket shows one by now. Sends nothing
    /// and waits for nothing.
    ///
    /// `None` while an answer is under way; reading the answer will report the error.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ended_by_server(&mut self) -> Option<Error> {
        match self.turn.phase() {
            Phase::Ready => {}
            Phase::Busy(_) => return None,
            Phase::Closed => return Some(Error::Closed),
        }
        // Yields to the runtime, which has to notice that the socket has bytes to read.
        tokio::task::yield_now().await;
        loop {
            while let Ok(Need::Frame(len)) = self.wire.next_frame(WHOLE) {
                match self.take_asynchronous(len) {
                    Ok(true) => {}
                    Ok(false) => return Some(self.close_after_unasked(len)),
                    Err(error) => return Some(error),
                }
            }
            match self.wire.poll_read(&mut Context::from_waker(Waker::noop()), 1) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(source)) => return Some(self.lost("idle", source)),
            }
        }
    }

    /// Closes the connection after a message that the server sent unasked: the error that ends the session,
    /// or a message that is not legal here.
    fn close_after_unasked(&mut self, len: usize) -> Error {
        let (error, name) = match self.wire.parse(len) {
            Ok(BackendMessage::ErrorResponse(fields)) => (Some(fields.to_server_error()), ""),
            Ok(other) => (None, other.name()),
            Err(error) => return self.broken(error),
        };
        match error {
            Some(error) => self.ended(error),
            None => self.unexpected("nothing", name),
        }
    }

    /// Waits for a message while no answer is due.
    pub(super) async fn listen(&mut self, during: &'static str) -> Result<(), Error> {
        let len = self.next_frame(WHOLE, None, during).await?;
        self.take_unasked(len).await
    }

    /// Handles a message that arrives while it is not the server's turn.
    pub(super) async fn take_unasked(&mut self, len: usize) -> Result<(), Error> {
        if self.take_asynchronous(len)? {
            return Ok(());
        }
        self.wire.lend(len);
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
}
