use core::pin::pin;
use core::task::{Context, Poll, Waker};

use super::connection::{Connection, Phase};
use super::error::Error;
use crate::codec::{BackendFraming, BackendMessage, Need};

impl Connection {
    /// Why the server has ended the session, if it has: as far as the socket tells now. Nothing is sent, and
    /// nothing is waited for.
    ///
    /// While an answer is under way nothing is looked at; the answer itself will tell.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ended_by_server(&mut self) -> Option<Error> {
        match self.phase {
            Phase::Ready => {}
            Phase::Busy(_) => return None,
            Phase::Closed => return Some(Error::Closed),
        }
        self.give_up_lent();
        // A turn for the runtime, which has to see that there is something to read.
        tokio::task::yield_now().await;
        loop {
            while let Ok(Need::Frame(len)) = BackendFraming::READY.need(self.input.filled()) {
                match self.take_asynchronous(len) {
                    Ok(true) => {}
                    Ok(false) => return Some(self.unasked(len)),
                    Err(error) => return Some(error),
                }
            }
            let mut context = Context::from_waker(Waker::noop());
            match pin!(self.input.fill(&mut self.stream, 1)).poll(&mut context) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(source)) => {
                    self.phase = Phase::Closed;
                    return Some(Error::Io { during: "idle", source });
                }
            }
        }
    }

    /// A message without a question: the server's last words, or nothing that belongs here.
    fn unasked(&mut self, len: usize) -> Error {
        let frame = self.input.filled().get(..len).unwrap_or_default();
        let (error, name) = match BackendFraming::READY.parse(frame) {
            Ok(BackendMessage::ErrorResponse(fields)) => (Some(fields.to_server_error()), ""),
            Ok(other) => (None, other.name()),
            Err(error) => return self.broken(error),
        };
        match error {
            Some(error) => self.ended(error),
            None => self.unexpected("nothing", name),
        }
    }
}
