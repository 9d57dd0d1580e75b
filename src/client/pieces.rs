//! Long messages of data, in pieces as they come.

use core::pin::pin;
use std::io;
use std::vec::Vec;

use bytes::BufMut as _;
use tokio::io::AsyncReadExt as _;

use super::connection::{Connection, Phase};
use super::conversation::HEADER;
use super::error::Error;
use crate::codec::{BackendMessage, CopyData};

impl Connection {
    /// What is here of the `CopyData` that the last advance went to, and how many bytes are to come; `None` if it is
    /// another message.
    pub(crate) fn copy_data(&mut self) -> Result<Option<(&[u8], usize)>, Error> {
        let here = self.input.filled().len();
        if self.lent > here {
            let data = self.input.filled().get(HEADER..).unwrap_or_default();
            return Ok(Some((data, self.lent - here)));
        }
        match self.current()? {
            BackendMessage::CopyData(CopyData { data }) => Ok(Some((data, 0))),
            _ => Ok(None),
        }
    }

    /// Reads on in the message that the last advance went to, which is not all here: what comes, up to `max` bytes and
    /// at least one, goes behind what `to` has.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn read_rest(
        &mut self,
        to: &mut Vec<u8>,
        max: usize,
        during: &'static str,
    ) -> Result<usize, Error> {
        if self.phase == Phase::Closed {
            return Err(Error::Closed);
        }
        self.give_up_lent();
        let max = self.rest.min(max);
        let read = core::future::poll_fn(|cx| {
            self.poll_send_beside_reading(cx);
            pin!(self.stream.read_buf(&mut (&mut *to).limit(max))).poll(cx)
        });
        match read.await {
            Ok(0) if max > 0 => Err(self.lost(during, io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => {
                self.rest -= len;
                Ok(len)
            }
            Err(error) => Err(self.lost(during, error)),
        }
    }
}
