use core::error::Error;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::boxed::Box;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

use super::{Action, Conversation, Script, ScriptError};

/// A server on a free port of 127.0.0.1 that plays one script for each connection, in order.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    /// The address from which `finish` has connected to wake the thread, if it has. `finish` holds the lock
    /// while it connects.
    waker: Arc<Mutex<Option<SocketAddr>>>,
    thread: JoinHandle<Result<(), TestServerError>>,
}

/// How long the server waits for a silent client.
const PATIENCE: Duration = Duration::from_secs(20);

impl TestServer {
    /// Starts the server. The first connection gets the first script, and so on. After the last script the
    /// server accepts no connection.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> io::Result<Self> {
        let scripts: Vec<_> = scripts.into_iter().collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let waker = Arc::new(Mutex::new(None));
        let woken_from = Arc::clone(&waker);
        let thread = thread::spawn(move || {
            for (connection, script) in scripts.into_iter().enumerate() {
                let fail = |cause: Box<dyn Error + Send + Sync>| TestServerError { connection, cause };
                let (stream, peer) = listener.accept().map_err(|error| fail(error.into()))?;
                if *woken_from.lock().unwrap_or_else(PoisonError::into_inner) == Some(peer) {
                    return Err(fail("nobody connected".into()));
                }
                play(stream, Conversation::new(script)).map_err(fail)?;
            }
            Ok(())
        });
        Ok(Self { address, waker, thread })
    }

    /// The address that the server listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until all scripts have ended.
    ///
    /// # Errors
    /// If a client sent something other than its script expects, was silent for 20 seconds, or never
    /// connected.
    pub fn finish(self) -> Result<(), TestServerError> {
        // Clients that have already connected are served first. If the thread then still waits for a client,
        // this connection wakes it. If the connection fails, the thread no longer waits for one.
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = TcpStream::connect(self.address);
        *waker = connection.as_ref().ok().and_then(|connection| connection.local_addr().ok());
        drop(waker);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn play(mut stream: TcpStream, mut conversation: Conversation) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Sends each piece in its own packet.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    loop {
        match conversation.next_action()? {
            Action::Send(bytes) => stream.write_all(&bytes)?,
            Action::Read => match stream.read(&mut buffer)? {
                0 => conversation.receive_end(),
                read => conversation.receive(buffer.get(..read).unwrap_or_default()),
            },
            Action::HalfClose => stream.shutdown(Shutdown::Write)?,
            Action::Drain => {
                // The script does not care whether the client reads everything before it closes the
                // connection.
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
                return Ok(());
            }
            Action::Close => return Ok(()),
        }
    }
}

/// A connection did not follow its script.
#[derive(Debug)]
pub struct TestServerError {
    /// The connection, from 0.
    pub connection: usize,
    cause: Box<dyn Error + Send + Sync>,
}

impl TestServerError {
    /// The message with which the client left the script, if that is the cause.
    #[must_use]
    pub fn script_error(&self) -> Option<&ScriptError> {
        self.cause.downcast_ref()
    }
}

impl fmt::Display for TestServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} to the test server", self.connection)
    }
}

impl Error for TestServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn each_connection_gets_its_own_script() {
        let script = |bytes: &'static [u8]| Script::new().send_bytes(bytes).close();
        let server = TestServer::start([script(b"one"), script(b"two")]).unwrap();
        for expected in ["one", "two"] {
            let mut said = std::string::String::new();
            TcpStream::connect(server.address()).unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, expected);
        }
        server.finish().unwrap();
    }

    #[test]
    fn a_client_that_leaves_the_script_is_an_error() {
        let server = TestServer::start([Script::new().expect_query("SELECT 1")]).unwrap();
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.write_all(b"S\0\0\0\x04").unwrap();
        let error = server.finish().unwrap_err();
        assert_eq!(error.script_error().map(|error| error.got.as_str()), Some("Sync"));
        assert_eq!(error.to_string(), "connection 0 to the test server");
    }

    #[test]
    fn a_client_that_never_connects_is_an_error() {
        let server = TestServer::start([Script::new().close()]).unwrap();
        let error = server.finish().unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "nobody connected");
    }

    #[test]
    fn silence_ends_when_the_client_closes() {
        let server = TestServer::start([Script::new().silence()]).unwrap();
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.write_all(b"anything at all").unwrap();
        drop(client);
        server.finish().unwrap();
    }
}
