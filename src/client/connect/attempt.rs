//! One attempt at one address with one kind of encryption.

use std::format;
use std::vec::Vec;

use tokio::io::AsyncWriteExt as _;
use zeroize::Zeroizing;

use super::Connection;
use super::address::Address;
use super::startup::handshake_config;
use crate::auth::Nonce;
use crate::conninfo::{self, Config, HostConfig, SslCertMode};
use crate::error::ConnectFailure;
use crate::net::{ReadBuffer, Stream, TcpOptions, Tls, TlsError};
use crate::session::{Action, Encryption, Handshake, Progress, Session};

pub(super) struct Attempt<'a> {
    pub(super) config: &'a Config,
    pub(super) host: &'a HostConfig,
    pub(super) address: &'a Address,
    /// The server's name for messages.
    pub(super) server: &'a str,
    pub(super) encryption: Encryption,
    /// Whether TLS was begun.
    pub(super) in_tls: bool,
}

impl Attempt<'_> {
    /// From the first packet to `ReadyForQuery`. `tls` is filled when it is needed.
    pub(super) async fn connect(&mut self, tls: &mut Option<Tls>) -> Result<Connection, ConnectFailure> {
        let stream = match self.address {
            Address::Tcp(address) => Stream::connect_tcp(*address, &tcp_options(self.config)).await?,
            Address::Socket(path) => Stream::connect_unix(path).await?,
            #[cfg(target_os = "linux")]
            Address::Abstract(name) => Stream::connect_abstract(name).await?,
            #[cfg(not(target_os = "linux"))]
            Address::Abstract(_) => return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
        };
        if let Some(required) = &self.config.require_peer {
            check_peer(&stream, required)?;
        }
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|_| ConnectFailure::Random)?;
        let config = handshake_config(self.config, self.host, self.encryption)
            .map_err(|error| ConnectFailure::Handshake(error.into()))?;
        let handshake = Handshake::new(config, Nonce::from_random(random));
        let mut input = ReadBuffer::new();
        let (stream, session) = self.drive(handshake, stream, &mut input, tls).await?;
        if !self.in_tls && self.config.tls.certificate_mode == SslCertMode::Require {
            return Err(TlsError::certificate_not_requested().into());
        }
        Ok(Connection::new(stream, input, session, self.server.into()))
    }

    /// Moves the bytes of a handshake. Every decision is in [`Handshake`].
    async fn drive(
        &mut self,
        mut handshake: Handshake,
        mut stream: Stream,
        input: &mut ReadBuffer,
        tls: &mut Option<Tls>,
    ) -> Result<(Stream, Session), ConnectFailure> {
        let mut out = Zeroizing::new(Vec::new());
        loop {
            let Progress { consumed, action } =
                handshake.receive(input.filled(), &mut out).map_err(ConnectFailure::Handshake)?;
            input.consume(consumed);
            stream.write_all(&out).await?;
            stream.flush().await?;
            out.clear();
            match action {
                Action::Read => input.fill(&mut stream, 1).await?,
                Action::StartTls => {
                    self.in_tls = true;
                    let end_point;
                    (stream, end_point) = self.start_tls(stream, tls).await?;
                    handshake.tls_ready(end_point.as_deref(), &mut out).map_err(ConnectFailure::Handshake)?;
                }
                Action::Done(session) => return Ok((stream, *session)),
            }
        }
    }

    async fn start_tls(
        &self,
        stream: Stream,
        tls: &mut Option<Tls>,
    ) -> Result<(Stream, Option<Vec<u8>>), TlsError> {
        let tls = match tls {
            Some(tls) => tls,
            None => tls.insert(Tls::new(&self.config.tls)?),
        };
        let is_direct = self.encryption == Encryption::DirectTls;
        stream.start_tls(tls, self.host.name.as_deref(), is_direct).await
    }
}

fn tcp_options(config: &Config) -> TcpOptions {
    let keepalives = config.keepalives.unwrap_or_default();
    TcpOptions {
        keepalives: config.keepalives.is_some(),
        keepalives_idle: keepalives.idle,
        keepalives_interval: keepalives.interval,
        keepalives_count: keepalives.count,
        user_timeout: config.tcp_user_timeout,
    }
}

/// `requirepeer`: the server behind a Unix socket has to run as this user.
fn check_peer(stream: &Stream, required: &str) -> Result<(), ConnectFailure> {
    let Stream::Unix(unix) = stream else { return Ok(()) };
    let uid = unix.peer_cred()?.uid();
    let actual = conninfo::system_user_name(uid).unwrap_or_else(|| format!("{uid}"));
    if actual == required {
        return Ok(());
    }
    Err(ConnectFailure::Peer { required: required.into(), actual })
}
