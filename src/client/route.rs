use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::format;
use std::path::PathBuf;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::ConnectFailure;
use super::server_name::ServerName;
use crate::codec::{EncryptionReply, StartupPacket};
use crate::conninfo::{self, Config, HostConfig};
use crate::net::{Stream, TcpOptions, Tls};
use crate::session::HandshakeError;

/// One address of a host.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Socket(PathBuf),
    Abstract(String),
}

impl Address {
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// The IP address; `None` for a Unix socket.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Socket(_) | Self::Abstract(_) => None,
        }
    }
}

/// The way to one address of a server. The same route can be connected again, to send a `CancelRequest`.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) server: ServerName,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) address: Address,
    tcp_options: TcpOptions,
    required_peer: Option<String>,
    pub(super) host: HostConfig,
    /// How TLS was started, if the session is in TLS.
    pub(super) tls: Option<TlsRoute>,
}

#[derive(Clone, Debug)]
pub(super) struct TlsRoute {
    pub(super) tls: Arc<Tls>,
    /// Whether TLS begins with the first byte, without an `SSLRequest` before it.
    pub(super) is_direct: bool,
}

impl Route {
    pub(super) fn new(config: &Config, host: &HostConfig, address: &Address, server: &ServerName) -> Self {
        let keepalives = config.keepalives.unwrap_or_default();
        Self {
            server: server.clone(),
            connect_timeout: config.connect_timeout,
            address: address.clone(),
            tcp_options: TcpOptions {
                keepalives: config.keepalives.is_some(),
                keepalives_idle: keepalives.idle,
                keepalives_interval: keepalives.interval,
                keepalives_count: keepalives.count,
                user_timeout: config.tcp_user_timeout,
            },
            required_peer: config.require_peer.clone(),
            host: host.clone(),
            tls: None,
        }
    }

    /// Opens a connection that is not in TLS yet, and checks `requirepeer`.
    pub(super) async fn open(&self) -> Result<Stream, ConnectFailure> {
        let stream = match &self.address {
            Address::Tcp(address) => Stream::connect_tcp(*address, &self.tcp_options).await?,
            Address::Socket(path) => Stream::connect_unix(path).await?,
            #[cfg(target_os = "linux")]
            Address::Abstract(name) => Stream::connect_abstract(name).await?,
            #[cfg(not(target_os = "linux"))]
            Address::Abstract(_) => return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
        };
        if let Some(required) = &self.required_peer {
            check_peer(&stream, required)?;
        }
        Ok(stream)
    }

    /// Puts the connection into TLS, and gives the channel binding data for the authentication.
    pub(super) async fn start_tls(
        &self,
        stream: Stream,
        with: &TlsRoute,
    ) -> Result<(Stream, Option<Vec<u8>>), ConnectFailure> {
        Ok(stream.start_tls(&with.tls, self.host.name.as_deref(), with.is_direct).await?)
    }

    /// Opens another connection, as well protected as the session on this route.
    pub(super) async fn open_again(&self) -> Result<Stream, ConnectFailure> {
        let mut stream = self.open().await?;
        let Some(with) = &self.tls else { return Ok(stream) };
        if !with.is_direct {
            let mut request = Vec::new();
            StartupPacket::SslRequest.encode(&mut request).map_err(HandshakeError::from)?;
            stream.write_all(&request).await?;
            // Exactly one byte: if an attacker adds more in the clear, TLS reads and refuses it.
            let reply = EncryptionReply::parse(stream.read_u8().await?).map_err(HandshakeError::from)?;
            if reply != EncryptionReply::Tls {
                return Err(HandshakeError::TlsRefused.into());
            }
        }
        let (stream, _) = self.start_tls(stream, with).await?;
        Ok(stream)
    }
}

/// `requirepeer`: the server behind a Unix socket has to run as this user.
fn check_peer(stream: &Stream, required: &str) -> Result<(), ConnectFailure> {
    let Stream::Unix(unix) = stream else { return Ok(()) };
    let uid = unix.peer_uid()?;
    let actual = conninfo::system_user_name(uid).unwrap_or_else(|| format!("{uid}"));
    if actual == required {
        return Ok(());
    }
    Err(ConnectFailure::Peer { required: required.into(), actual })
}
