use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::path::Path;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::unix::UnixSocket;

/// A connection's byte stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixSocket),
    #[cfg(feature = "tls")]
    Tls(std::boxed::Box<super::tls::TlsStream>),
}

/// Options of TCP connections; they do not apply to Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpOptions {
    /// Whether the kernel probes an idle connection.
    pub(crate) keepalives: bool,
    /// Idle time before the first probe. `None` is the system's default, here and in the next two fields.
    pub(crate) keepalives_idle: Option<Duration>,
    /// Time between probes.
    pub(crate) keepalives_interval: Option<Duration>,
    /// Unanswered probes before the connection is given up.
    pub(crate) keepalives_count: Option<u32>,
    /// How long sent data may stay unacknowledged.
    pub(crate) user_timeout: Option<Duration>,
}

impl Stream {
    pub(crate) async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        // A command is small, and the client waits for its answer.
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&tcp);
        if options.keepalives {
            let mut keepalive = TcpKeepalive::new();
            if let Some(idle) = options.keepalives_idle {
                keepalive = keepalive.with_time(idle);
            }
            if let Some(interval) = options.keepalives_interval {
                keepalive = keepalive.with_interval(interval);
            }
            if let Some(count) = options.keepalives_count {
                keepalive = keepalive.with_retries(count);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(timeout) = options.user_timeout {
            socket.set_tcp_user_timeout(Some(timeout))?;
        }
        Ok(Self::Tcp(tcp))
    }

    pub(crate) async fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path).await?.into_std()?;
        UnixSocket::new(socket).map(Self::Unix)
    }

    /// Connects in Linux's abstract namespace; `name` does not include the zero byte with which an abstract
    /// name begins.
    #[cfg(target_os = "linux")]
    pub(crate) async fn connect_abstract(name: &str) -> io::Result<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        // A connect within the machine does not block: it succeeds, or fails at once.
        let unix = std::os::unix::net::UnixStream::connect_addr(&address)?;
        unix.set_nonblocking(true)?;
        UnixSocket::new(unix).map(Self::Unix)
    }
}

impl Stream {
    /// The address of our end; `None` of a Unix socket, and of a connection that is in TLS already.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        let Self::Tcp(tcp) = self else { return None };
        tcp.local_addr().ok().map(|address| address.ip())
    }

    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
