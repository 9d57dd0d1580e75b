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

/// The time limit if the configuration has no `connect_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Connection {
    /// A token that cancels this session's statements, from any task. `None` if the server gave no cancel
    /// key; some poolers give none.
    #[must_use]
    pub fn cancel_token(&self) -> Option<CancelToken> {
        let key = self.session.cancel_key.clone()?;
        Some(CancelToken { route: Arc::clone(&self.route), key })
    }
}

/// Cancels the statement that a session runs. Each request goes over a connection of its own to the same
/// address, in TLS if the session is in TLS.
///
/// A token is valid as long as its session, and can be used any number of times, from any task.
#[derive(Clone, Debug)]
pub struct CancelToken {
    route: Arc<Route>,
    key: CancelKey,
}

impl CancelToken {
    /// Asks the server to cancel the session's current statement, and waits until the server has signalled
    /// the session.
    ///
    /// The server sends no answer. A statement that is stopped fails with 57014; if none was running, nothing
    /// happens. A slow server may stop the next statement instead, so wait for the statement's end before you
    /// send another.
    ///
    /// # Errors
    /// [`Error::Connect`] if the server cannot be reached. The whole call takes at most `connect_timeout`, or
    /// 10 s if that is not set.
    ///
    /// # Cancel safety
    /// If the future is dropped the request may or may not have been sent.
    pub async fn cancel(&self) -> Result<(), Error> {
        let limit = self.route.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let outcome = tokio::time::timeout(limit, self.send()).await;
        outcome.unwrap_or(Err(ConnectFailure::Timeout(limit))).map_err(|failure| {
            let server = self.route.server.to_string();
            Error::Connect(
                [ConnectAttempt { server, failure, note: None, client: None, replication: false }].into(),
            )
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
        // The server closes the connection once it has signalled the session's process. It has nothing to
        // send before, and how it closes does not matter.
        let mut nothing = Box::new([0; 1024]);
        while matches!(stream.read(&mut *nothing).await, Ok(1..)) {}
        Ok(())
    }
}
