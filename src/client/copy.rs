use super::connection::Connection;
use super::error::Error;
use crate::codec::{BackendMessage, BackendTag, CopyData, CopyResponse, Format, affected_rows};

const OUT: &str = "reading the data of a COPY";
const IN: &str = "sending the data of a COPY";
/// Gathered data are sent once they have this many bytes.
const SEND_BYTES: usize = 64 * 1024;
/// Longer data are split into several messages.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

impl Connection {
    /// Runs `COPY ... TO STDOUT` and gives the data as they arrive.
    ///
    /// If the SQL holds several statements, the first such COPY counts; the results of the others are thrown
    /// away.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again; [`Error::Usage`] if the SQL holds no
    /// such COPY (it has been run all the same); or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future or the [`CopyOut`] is dropped, the COPY goes on in the server; the next call reads the
    /// rest of the data and throws it away. For a large table a [`CancelToken`](super::CancelToken) is
    /// quicker.
    pub async fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>, Error> {
        let layout = self
            .begin_copy(sql, BackendTag::COPY_OUT_RESPONSE, "the SQL holds no COPY ... TO STDOUT")
            .await?;
        Ok(CopyOut { connection: self, layout, state: OutState::Data, rows: 0 })
    }

    /// Begins `COPY ... FROM STDIN`, whose data the caller sends. Only [`CopyIn::finish`] completes it; every
    /// other end leaves the table as it was.
    ///
    /// If the SQL holds several statements, the first such COPY counts; the results of the others are thrown
    /// away, and another COPY of this kind fails.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again; [`Error::Usage`] if the SQL holds no
    /// such COPY (it has been run all the same); or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future or the [`CopyIn`] is dropped, the next call makes the COPY fail.
    pub async fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, Error> {
        let layout = self
            .begin_copy(sql, BackendTag::COPY_IN_RESPONSE, "the SQL holds no COPY ... FROM STDIN")
            .await?;
        Ok(CopyIn { connection: self, layout, has_failed: false })
    }

    async fn begin_copy(
        &mut self,
        sql: &str,
        tag: BackendTag,
        missing: &'static str,
    ) -> Result<CopyLayout, Error> {
        self.send_query(sql).await?;
        loop {
            match self.advance("waiting for a COPY to begin").await? {
                Some(found) if found == tag => break,
                Some(BackendTag::COPY_IN_RESPONSE) => {
                    self.refuse_copy("this COPY goes in the other direction")?
                }
                Some(BackendTag::COPY_BOTH_RESPONSE) => {
                    return Err(self.unexpected("a COPY in one direction", "CopyBothResponse"));
                }
                Some(_) => {}
                None => return Err(Error::Usage(missing)),
            }
        }
        match self.current()? {
            BackendMessage::CopyInResponse(response) | BackendMessage::CopyOutResponse(response) => {
                Ok(CopyLayout::new(&response))
            }
            other => {
                let name = other.name();
                Err(self.unexpected("the beginning of a COPY", name))
            }
        }
    }

    /// Reads the answer to its end, after the data of the COPY. Gives the number of rows that the server
    /// reports as copied.
    async fn end_copy(&mut self) -> Result<u64, Error> {
        let mut rows = None;
        while let Some(tag) = self.advance("waiting for a COPY to end").await? {
            match (tag, self.current()?) {
                (BackendTag::COMMAND_COMPLETE, BackendMessage::CommandComplete { tag }) => {
                    rows = rows.or_else(|| Some(affected_rows(tag).unwrap_or(0)));
                }
                (BackendTag::COPY_IN_RESPONSE, _) => {
                    self.refuse_copy("only one COPY is possible in a call")?
                }
                _ => {}
            }
        }
        Ok(rows.unwrap_or(0))
    }
}

/// How the data of a COPY are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyLayout {
    /// Whether the data are in the binary format; else they are text or CSV.
    pub is_binary: bool,
    /// How many columns a row has.
    pub columns: usize,
}

impl CopyLayout {
    fn new(response: &CopyResponse<'_>) -> Self {
        Self { is_binary: response.format == Format::Binary, columns: response.columns.len() }
    }
}

/// The data of a `COPY ... TO STDOUT`, made by [`Connection::copy_out`].
#[derive(Debug)]
pub struct CopyOut<'c> {
    connection: &'c mut Connection,
    layout: CopyLayout,
    state: OutState,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutState {
    /// More data may come.
    Data,
    /// The data are complete, the answer is not.
    Done,
    /// The connection takes the next command.
    Ended,
}

impl CopyOut<'_> {
    /// How the data are laid out.
    #[must_use]
    pub const fn layout(&self) -> CopyLayout {
        self.layout
    }

    /// The next piece of the data; `None` at their end. The server sends each row as one piece.
    ///
    /// # Errors
    /// The server's error, which ends the COPY, or a loss of the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        // A piece borrows the connection, so the loop only finds it and the code after the loop lends it.
        while self.state == OutState::Data {
            match self.connection.advance(OUT).await.inspect_err(|_| self.state = OutState::Ended)? {
                Some(BackendTag::COPY_DATA) => break,
                Some(BackendTag::COPY_DONE) => self.state = OutState::Done,
                _ => return Err(self.connection.unexpected("CopyData", "something else")),
            }
        }
        if self.state == OutState::Done {
            let rows = self.connection.end_copy().await.inspect_err(|_| self.state = OutState::Ended)?;
            (self.state, self.rows) = (OutState::Ended, rows);
        }
        match (self.state, self.connection.current()?) {
            (OutState::Data, BackendMessage::CopyData(CopyData { data })) => Ok(Some(data)),
            _ => Ok(None),
        }
    }

    /// How many rows were copied, once [`next`](Self::next) has returned `None`.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }
}

/// Takes the data of a `COPY ... FROM STDIN`, made by [`Connection::copy_in`].
///
/// Dropping it makes the COPY fail.
#[derive(Debug)]
pub struct CopyIn<'c> {
    connection: &'c mut Connection,
    layout: CopyLayout,
    has_failed: bool,
}

impl CopyIn<'_> {
    /// How the data have to be laid out.
    #[must_use]
    pub const fn layout(&self) -> CopyLayout {
        self.layout
    }

    /// Adds data, which need not end where a row ends. Small pieces are gathered and sent together.
    ///
    /// # Errors
    /// The server's error, if the server has refused earlier data; the COPY has then failed. A server may
    /// report the error as late as in [`finish`](Self::finish). Or a loss of the connection.
    ///
    /// # Cancel safety
    /// The call takes all of `data`, even if the future is dropped before the data are sent.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), Error> {
        self.check_usable()?;
        for piece in data.chunks(MAX_MESSAGE_BYTES) {
            self.connection.push(|out| CopyData { data: piece }.encode(out))?;
        }
        if self.connection.wire.pushed() < SEND_BYTES {
            return Ok(());
        }
        self.connection.flush_and_listen(IN).await.inspect_err(|_| self.has_failed = true)
    }

    /// Ends the data and waits until the server has stored them. Gives the number of rows.
    ///
    /// # Errors
    /// The server's error: nothing was stored, and the connection is usable. Or a loss of the connection:
    /// whether the rows are stored is not known then.
    ///
    /// # Cancel safety
    /// If the future is dropped the COPY goes on in the server, and whether it succeeds is not known. The
    /// next call waits for its end.
    pub async fn finish(self) -> Result<u64, Error> {
        self.check_usable()?;
        self.connection.finish_copy()?;
        self.connection.end_copy().await
    }

    /// Makes the COPY fail, with a reason that the server writes into its log, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Encode`] if the reason contains a NUL, or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped the next call waits for the end.
    pub async fn fail(self, reason: &str) -> Result<(), Error> {
        self.connection.refuse_copy(reason)?;
        self.connection.ready().await
    }

    fn check_usable(&self) -> Result<(), Error> {
        match (self.has_failed, self.connection.is_open()) {
            (_, false) => Err(Error::Closed),
            (true, true) => Err(Error::Usage("the COPY has failed; no more data can be sent")),
            (false, true) => Ok(()),
        }
    }
}
