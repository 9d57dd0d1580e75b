//! Replication connections: commands as typed calls, and the stream of WAL.
//!
//! A mode is a type: [`ReplicationConnection`] takes commands, [`WalStream`] streams, and
//! [`WalStream::finish`] gives the connection back.
//!
//! ```no_run
//! # async fn example(config: &tapster::conninfo::Config) -> Result<(), tapster::Error> {
//! use tapster::replication::{ReplicationConnection, StartPhysical, StartedStream, WalEvent};
//!
//! let mut connection = ReplicationConnection::connect(config).await?;
//! let system = connection.identify_system().await?;
//! let start = StartPhysical { slot: None, start: system.xlog_pos, timeline: system.timeline };
//! let StartedStream::Streaming(mut stream) = connection.start_physical(&start).await? else {
//!     return Ok(()); // the timeline ends exactly here
//! };
//! while let Some(event) = stream.next().await? {
//!     if let WalEvent::Data(wal) = event {
//!         println!("{} bytes of WAL at {}", wal.data.len(), wal.wal_start);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod commands;
mod connection;
mod copy_both;
mod physical;
mod slot_by_sql;

pub use commands::{
    CreatedSlot, HistoryFile, IdentifySystem, LogicalSlot, PhysicalSlot, SlotPosition, SnapshotAction,
};
pub use connection::ReplicationConnection;
pub use physical::{NextTimeline, StartPhysical, StartedStream, StreamEnd, WalArrival, WalEvent, WalStream};
pub use slot_by_sql::{SlotBySql, max_wal_senders};
