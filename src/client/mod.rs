//! A connection to a server: how it is made, used and closed.
//!
//! [`Connection`] is exclusive: one conversation, one `&mut`, no task in the background and no channel.
//! Two conversations are two connections.
//!
//! | to | call |
//! |---|---|
//! | run SQL, also several statements | [`Connection::simple_query`], or row by row [`Connection::query`] |
//! | run one statement with parameters | [`Connection::query_params`], [`Connection::query_params_rows`] |
//! | expect one row | [`Connection::query_one`], [`Connection::query_opt`], [`Connection::query_params_one`] |
//! | run one many times | [`Connection::prepare`], [`Connection::query_prepared`] |
//! | run many in one round trip | [`Connection::pipeline`] |
//! | commit several together or none | [`Connection::begin`], [`Transaction::savepoint`] |
//! | move a table | [`Connection::copy_out`], [`Connection::copy_in`] |
//! | receive notifications (`LISTEN`, `NOTIFY`) | [`Connection::notification`] |
//! | stop a statement | [`CancelToken::cancel`], [`Connection::set_read_timeout`] |
//! | connect again cheaply | [`Connector::connect`] |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tapster::client::Connection;
//!
//! let mut connection = Connection::connect_str("postgresql://barman@db1/postgres").await?;
//! for set in connection.simple_query("SELECT name, setting FROM pg_settings").await? {
//!     for row in set.rows() {
//!         println!("{} = {}", row.text("name")?, row.text("setting")?);
//!     }
//! }
//! connection.close().await?;
//! # Ok(())
//! # }
//! ```

mod bytea;
mod cancel;
mod connect;
mod connection;
mod copy;
mod ending;
mod error;
mod extended;
mod grammar;
mod limits;
mod listen;
mod notification;
mod one;
mod prepared;
mod query;
mod quote;
mod receive;
mod refusal;
mod route;
mod row;
mod row_buf;
mod send;
mod server_name;
mod statement;
mod transaction;
mod turn;
mod wire;

pub use cancel::CancelToken;
pub use connect::Connector;
pub use connection::{Connection, NoticeHandler};
pub use copy::{CopyIn, CopyLayout, CopyOut};
pub use error::{ConnectAttempt, ConnectFailure, Error};
pub use extended::Pipeline;
pub use limits::SessionLimits;
pub use notification::Notification;
pub use query::{Query, QueryEvent};
pub use quote::{quote_ident, quote_literal};
pub use row::{ColumnError, ColumnErrorKind, ColumnKey, ResultSet, Row};
pub use row_buf::RowBuf;
pub use server_name::ServerName;
pub use statement::Statement;
pub use transaction::{IsolationLevel, Transaction, TransactionOptions};
