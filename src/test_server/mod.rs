//! A server that follows a script, to test clients with (feature `test-server`).
//!
//! A [`Script`] lists the messages that the server expects and sends, in the codec's types, and how the
//! server misbehaves: it sends in pieces, byte by byte or garbage, falls silent, or closes the connection. A
//! [`TestServer`] plays scripts over TCP in its own thread. A [`Conversation`] plays a script without any
//! I/O: bytes in, bytes and actions out.
//!
//! ```
//! use std::io::{Read, Write};
//! use tapster::codec::{BackendMessage, FrontendMessage};
//! use tapster::test_server::{Script, TestServer};
//!
//! // A server that greets, answers one query byte by byte, and closes the connection.
//! let script = Script::new()
//!     .greet()
//!     .expect("SELECT 1", |message| *message == FrontendMessage::Query { query: b"SELECT 1" })
//!     .dribble()
//!     .send(&BackendMessage::CommandComplete { tag: b"SELECT 0" })
//!     .close();
//! let server = TestServer::start([script])?;
//!
//! // Your client in place of this one.
//! let mut client = std::net::TcpStream::connect(server.address())?;
//! client.write_all(b"\0\0\0\x14\0\x03\0\0user\0alice\0\0")?;
//! client.write_all(b"Q\0\0\0\x0dSELECT 1\0")?;
//! let mut answer = Vec::new();
//! client.read_to_end(&mut answer)?;
//! assert!(answer.ends_with(b"C\0\0\0\x0dSELECT 0\0"));
//!
//! // Fails if the client did not send everything that the script expects.
//! server.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conversation;
mod script;
mod server;

pub use conversation::{Action, Conversation, ScriptError};
pub use script::Script;
pub use server::{TestServer, TestServerError};
