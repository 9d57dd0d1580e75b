//! One attempt at one address with one kind of encryption.

use core::net::IpAddr;
use core::ops::ControlFlow;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

use tokio::io::AsyncWriteExt as _;
use zeroize::Zeroizing;

use super::keys::KeySlot;
use super::startup::handshake_config;
use crate::auth::Nonce;
use crate::client::connection::Connection;
use crate::client::error::ConnectFailure;
use crate::client::route::{Address, Route, TlsRoute};
use crate::client::server_name::ServerName;
use crate::client::wire::last_words;
use crate::conninfo::{Config, HostConfig, SslCertMode};
use crate::net::{ReadBuffer, Stream, Tls, TlsError};
use crate::random;
use crate::session::{Action, Encryption, Handshake, HandshakeConfig, Progress, Session};

pub(super) struct Attempt<'a> {
    pub(super) config: &'a Config,
    pub(super) host: &'a HostConfig,
    pub(super) keys: &'a KeySlot,
    pub(super) address: &'a Address,
    pub(super) server: &'a ServerName,
    pub(super) encryption: Encryption,
    /// Whether the TLS handshake has begun.
    pub(super) in_tls: bool,
    /// The address of our end, once a TCP connection is made.
    pub(super) client: Option<IpAddr>,
}

impl Attempt<'_> {
    /// Connects, from the first packet to `ReadyForQuery`. Fills `tls` when TLS is first needed.
    pub(super) async fn connect(&mut self, tls: &mut Option<Arc<Tls>>) -> Result<Connection, ConnectFailure> {
        let mut route = Route::new(self.config, self.host, self.address, self.server);
        let stream = route.open().await?;
        self.client = stream.local_ip();
        let mut nonce = [0; 18];
        random::fill(&mut nonce).map_err(|_| ConnectFailure::Random)?;
        let config = HandshakeConfig {
            derived_keys: self.keys.get(),
            ..handshake_config(self.config, self.host, self.encryption)
                .map_err(|error| ConnectFailure::Handshake(error.into()))?
        };
        let handshake = Handshake::new(config, Nonce::from_random(nonce));
        let mut input = ReadBuffer::new();
        let (stream, session) = self.drive(handshake, stream, &mut input, &mut route, tls).await?;
        if !self.in_tls && self.config.tls.certificate_mode == SslCertMode::Require {
            return Err(TlsError::certificate_not_requested().into());
        }
        self.keys.set(session.derived_keys.clone());
        Ok(Connection::new(stream, input, session, route))
    }

    /// Moves the bytes between the socket and [`Handshake`], which makes every decision.
    async fn drive(
        &mut self,
        mut handshake: Handshake,
        mut stream: Stream,
        input: &mut ReadBuffer,
        route: &mut Route,
        tls: &mut Option<Arc<Tls>>,
    ) -> Result<(Stream, Session), ConnectFailure> {
        let mut out = Zeroizing::new(Vec::new());
        loop {
            let Progress { consumed, action } = handshake.receive(input.filled(), &mut out)?;
            input.consume(consumed);
            let sent = match stream.write_all(&out).await {
                Ok(()) => stream.flush().await,
                error => error,
            };
            if let Err(error) = sent {
                return Err(explain_failed_write(&mut handshake, &mut stream, input, &mut out, error).await);
            }
            out.clear();
            match action {
                Action::Read => input.fill(&mut stream, 1).await?,
                Action::StartTls => {
                    self.in_tls = true;
                    let tls_route = route.tls.insert(self.tls(tls)?).clone();
                    let end_point;
                    (stream, end_point) = route.start_tls(stream, &tls_route).await?;
                    handshake.tls_ready(end_point.as_deref(), &mut out)?;
                }
                Action::Done(session) => return Ok((stream, *session)),
            }
        }
    }

    fn tls(&self, tls: &mut Option<Arc<Tls>>) -> Result<TlsRoute, TlsError> {
        let tls = match tls {
            Some(tls) => tls,
            None => tls.insert(Arc::new(Tls::new(&self.config.tls)?)),
        };
        Ok(TlsRoute { tls: Arc::clone(tls), is_direct: self.encryption == Encryption::DirectTls })
    }
}

/// Why writing failed: the reason that the server sent before it closed the connection, or else the failure
/// itself.
async fn explain_failed_write(
    handshake: &mut Handshake,
    stream: &mut Stream,
    input: &mut ReadBuffer,
    unsent: &mut Vec<u8>,
    failure: io::Error,
) -> ConnectFailure {
    let reason = last_words(stream, input, |input| match handshake.receive(input.filled(), unsent) {
        Ok(Progress { consumed, action: Action::Read }) => {
            input.consume(consumed);
            ControlFlow::Continue(())
        }
        Ok(_) => ControlFlow::Break(None),
        Err(error) => ControlFlow::Break(Some(ConnectFailure::from(error))),
    });
    match reason.await {
        Ok(reason) => reason,
        // A TLS alert explains the failure. Another I/O error does not: that the connection is lost is known
        // already.
        Err(end) => Some(ConnectFailure::from(end)).filter(|end| !matches!(end, ConnectFailure::Io(_))),
    }
    .unwrap_or_else(|| failure.into())
}
