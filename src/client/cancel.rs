use core::time::Duration;
use std::boxed::Box;
use std::string::ToString as _;
use std::sync::Arc;
use std::vec::Vec;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::connection::Connection;
use super::error::{ConnectAttempt, ConnectFailure, Error};
use super::route::Route;
use crate::codec::{CancelRequest, StartupPacket};
use crate::session::{CancelKey, HandshakeError};

/// For a configuration without `connect_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Connection {
    /// What cancels this session's statements, from wherever it is sent; `None` if the server gave no key, as
    /// some poolers do.
    #[must_use]
    pub fn cancel_token(&self) -> Option<CancelToken> {
        let key = self.session.cancel_key.clone()?;
        Some(CancelToken { route: Arc::clone(&self.route), key })
    }
}

/// Cancels the statement that a session runs, over a connection of its own to the same address. That one is in
/// TLS if the session is.
///
/// It stays good for the session's lifetime and may be used any number of times, from any task.
#[derive(Clone, Debug)]
pub struct CancelToken {
    route: Arc<Route>,
    key: CancelKey,
}

impl CancelToken {
    /// Asks the server to cancel what the session runs now, and waits until it has passed that on.
    ///
    /// There is no answer: if a statement was running and is stopped by it, the statement fails with 57014.
    /// If none was running nothing happens; a server that is slow may also hit the next one, so wait for the
    /// statement's end before the session is given another.
    ///
    /// # Errors
    /// [`Error::Connect`] if the server cannot be reached. All of it takes at most `connect_timeout`, or 10 s
    /// if that is not set.
    ///
    /// # Cancel safety
    /// If the future is dropped the request may or may not have been sent.
    pub async fn cancel(&self) -> Result<(), Error> {
        let limit = self.route.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let outcome = tokio::time::timeout(limit, self.send()).await;
        outcome.unwrap_or(Err(ConnectFailure::Timeout(limit))).map_err(|failure| {
            let server = self.route.server.to_string();
            Error::Connect([ConnectAttempt { server, failure, note: None }].into())
        })
    }

    async fn send(&self) -> Result<(), ConnectFailure> {
        let CancelKey { process_id, secret_key } = &self.key;
        let mut request = Zeroizing::new(Vec::new());
        StartupPacket::Cancel(CancelRequest { process_id: *process_id, secret_key })
            .encode(&mut request)
            .map_err(HandshakeError::from)?;
        let mut stream = self.route.open_again().await?;
        stream.write_all(&request).await?;
        stream.flush().await?;
        // The server closes once the session's process has been signalled. How it closes does not matter,
        // and there is nothing it could say.
        let mut nothing = Box::new([0; 1024]);
        while matches!(stream.read(&mut *nothing).await, Ok(1..)) {}
        Ok(())
    }
}
