use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

/// A Unix socket that wakes the runtime only for events that the runtime waits for.
///
/// tokio's own `UnixStream` is registered for reading and writing at once, and the kernel reports a Unix
/// socket as writable each time the peer has read the data that were sent (a TCP socket only after its buffer
/// was full). So every command woke its client twice, once for nothing: `SELECT 1` took 1.5 times as long as
/// libpq's.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    socket: UnixStream,
    /// The same socket, registered for reading alone. Of tokio's types only this one is registered so and
    /// reads into memory that was not cleared before. It also reads from a socket, although it is called a
    /// pipe.
    reader: pipe::Receiver,
    /// The same socket, registered for writing too, while the kernel has no room for the data to be sent.
    full: Option<tokio::net::UnixStream>,
}

impl UnixSocket {
    /// Takes over a non-blocking socket.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        let reader = pipe::Receiver::from_owned_fd_unchecked(socket.try_clone()?.into())?;
        Ok(Self { socket, reader, full: None })
    }

    /// The user id that the peer had when it began to listen.
    pub(crate) fn peer_uid(&self) -> io::Result<u32> {
        let socket = tokio::net::UnixStream::from_std(self.socket.try_clone()?)?;
        Ok(socket.peer_cred()?.uid())
    }
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, full, .. } = self.get_mut();
        loop {
            if let Some(registered) = full {
                return Pin::new(registered).poll_write(cx, buf);
            }
            match socket.write(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *full = Some(tokio::net::UnixStream::from_std(socket.try_clone()?)?);
                }
                written => return Poll::Ready(written),
            }
        }
    }

    /// Everything is sent: from here on the runtime need not know that the socket is writable.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().full = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::io::Read as _;
    use std::{thread, vec};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn pair() -> (UnixSocket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (UnixSocket::new(ours).unwrap(), theirs)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("it ends") })
    }

    #[test]
    fn data_larger_than_the_buffer_are_sent_and_the_end_is_seen() {
        block_on(async {
            let (mut ours, mut theirs) = pair();
            let sent: vec::Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
            let expected = sent.clone();
            let peer = thread::spawn(move || {
                // By then the buffer is full.
                thread::sleep(Duration::from_millis(50));
                let mut got = vec![0; expected.len()];
                theirs.read_exact(&mut got).unwrap();
                assert!(got == expected);
                theirs.write_all(b"taken").unwrap();
                assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "our side is shut down");
            });
            ours.write_all(&sent).await.unwrap();
            assert!(ours.full.is_some(), "the writer had to wait");
            ours.flush().await.unwrap();
            assert!(ours.full.is_none());
            let mut answer = [0; 5];
            ours.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"taken");
            ours.shutdown().await.unwrap();
            assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
            peer.join().unwrap();
        });
    }

    #[test]
    fn writing_to_a_closed_peer_is_an_error() {
        block_on(async {
            let (mut ours, theirs) = pair();
            drop(theirs);
            assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_user_of_the_peer_is_known() {
        use std::os::unix::fs::MetadataExt as _;
        block_on(async {
            let (ours, _theirs) = pair();
            assert_eq!(ours.peer_uid().unwrap(), std::fs::metadata("/proc/self").unwrap().uid());
        });
    }
}
