//! A server that follows a script, to test clients with (feature `test-server`).
//!
//! A [`Script`] says what the server expects and what it sends, message by message, with the same types that
//! the client uses, and how it misbehaves: in pieces, byte by byte, with garbage, silently, or by going away.
//! A [`TestServer`] plays scripts over TCP in a thread of its own. A [`Conversation`] plays one without any
//! I/O: bytes in, bytes and actions out.
//!
//! ```
//! use std::io::{Read, Write};
//! use tapster::codec::{BackendMessage, FrontendMessage};
//! use tapster::test_server::{Script, TestServer};
//!
//! // A server that greets, answers one query a byte at a time, and then goes away.
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
//! // Did the client say all that the script expected?
//! server.finish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod conversation;
mod script;
mod server;

pub use conversation::{Action, Conversation, ScriptError};
pub use script::Script;
pub use server::{TestServer, TestServerError};
