//! Sockets and buffers: the only layer that touches the network.

mod buffer;
mod stream;

pub(crate) use buffer::ReadBuffer;
pub(crate) use stream::{Stream, TcpOptions};
