//! Sockets and buffers: the only layer that touches the network.

mod buffer;
mod stream;
mod tls;
mod unix;

pub(crate) use buffer::ReadBuffer;
pub(crate) use stream::{Stream, TcpOptions};
pub(crate) use tls::Tls;
pub use tls::{TlsError, TlsErrorKind};
