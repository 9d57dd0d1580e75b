//! A client over `std::net::TcpStream`, without tokio: the handshake and the messages are functions from bytes
//! to bytes, and moving the bytes is all that is left to do.
//!
//! It authenticates by whatever the server asks for (SCRAM-SHA-256, MD5, a password in clear, or nothing),
//! runs SQL and prints the rows, columns parted by tabs:
//!
//! ```sh
//! PGPASSWORD=... cargo run --example blocking --no-default-features --features session -- \
//!     127.0.0.1:5432 USER DATABASE 'SELECT version()'
//! ```

use core::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use tapster::auth::Nonce;
use tapster::codec::{BackendFraming, BackendMessage, FrontendMessage, Need, ParametersBuf};
use tapster::session::{Action, Handshake, HandshakeConfig, Progress, Session};
use zeroize::Zeroizing;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, database, sql] = &args[..] else {
        return Err("usage: PGPASSWORD=... blocking HOST:PORT USER DATABASE SQL".into());
    };
    let password = std::env::var("PGPASSWORD").unwrap_or_default();
    let mut connection = Connection::connect(address, user, database, &password)?;
    connection.query(sql, |row| println!("{}", row.join("\t")))?;
    connection.close()
}

/// A connection that blocks.
pub struct Connection {
    wire: Wire,
    session: Session,
}

impl Connection {
    /// Connects, in clear, and authenticates.
    pub fn connect(
        address: impl ToSocketAddrs,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let mut parameters = ParametersBuf::new();
        for (name, value) in [("user", user), ("database", database), ("client_encoding", "UTF8")] {
            parameters.push((name.as_bytes(), value.as_bytes()))?;
        }
        let config = HandshakeConfig {
            password: Some(Zeroizing::new(password.as_bytes().to_vec())),
            ..HandshakeConfig::new(parameters)
        };
        let mut handshake = Handshake::new(config, fresh_nonce()?);
        let mut wire = Wire { stream: TcpStream::connect(address)?, input: Vec::new() };
        wire.stream.set_nodelay(true)?;

        // The contract of `session`: send `out`, then do what the action says.
        let mut out = Zeroizing::new(Vec::new());
        loop {
            let Progress { consumed, action } = handshake.receive(&wire.input, &mut out)?;
            wire.input.drain(..consumed);
            wire.stream.write_all(&out)?;
            out.clear();
            match action {
                Action::Read => wire.read_more()?,
                // Not asked for by `HandshakeConfig::new`; a TLS library would take over the stream here.
                Action::StartTls => return Err("TLS is not part of this example".into()),
                Action::Done(session) => return Ok(Self { wire, session: *session }),
            }
        }
    }

    /// The server's version, as it reported it.
    pub fn server_version(&self) -> Option<&str> {
        self.session.parameters.get("server_version")
    }

    /// Runs SQL and hands out every row, with NULL as `\N`.
    pub fn query(&mut self, sql: &str, mut take: impl FnMut(Vec<String>)) -> Result<(), Box<dyn Error>> {
        self.send(&FrontendMessage::Query { query: sql.as_bytes() })?;
        let mut failure = None;
        loop {
            let is_done = self.wire.message(|message| {
                match message {
                    BackendMessage::DataRow(row) => {
                        let values = row.values.iter().map(|value| value.unwrap_or(b"\\N"));
                        take(values.map(|value| String::from_utf8_lossy(value).into_owned()).collect());
                    }
                    BackendMessage::ErrorResponse(fields) => failure = Some(fields.to_server_error()),
                    BackendMessage::NoticeResponse(fields) => eprintln!("{}", fields.to_server_error()),
                    // This example has no use for the other messages of an answer.
                    _ => {}
                }
                matches!(message, BackendMessage::ReadyForQuery(_))
            });
            match is_done {
                Ok(false) => {}
                Ok(true) => return failure.map_or(Ok(()), |error| Err(error.into())),
                // A server that ends the session sends the reason first.
                Err(error) => return Err(failure.map_or(error, Into::into)),
            }
        }
    }

    /// Ends the session.
    pub fn close(mut self) -> Result<(), Box<dyn Error>> {
        self.send(&FrontendMessage::Terminate)
    }

    fn send(&mut self, message: &FrontendMessage<'_>) -> Result<(), Box<dyn Error>> {
        let mut out = Vec::new();
        message.encode(&mut out)?;
        Ok(self.wire.stream.write_all(&out)?)
    }
}

/// The socket, and the bytes that were read and not used yet.
struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// Hands out the next message, for which it blocks.
    fn message<T>(&mut self, take: impl FnOnce(BackendMessage<'_>) -> T) -> Result<T, Box<dyn Error>> {
        let len = loop {
            match BackendFraming::READY.need(&self.input)? {
                Need::Frame(len) => break len,
                Need::More(_) => self.read_more()?,
            }
        };
        let taken = take(BackendFraming::READY.parse(&self.input[..len])?);
        self.input.drain(..len);
        Ok(taken)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.input.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

/// The one thing that SCRAM wants from the system: 18 random bytes.
fn fresh_nonce() -> io::Result<Nonce> {
    let mut random = [0; 18];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(Nonce::from_random(random))
}
