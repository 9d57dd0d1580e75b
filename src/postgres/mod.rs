//! Status of a server and control over its WAL and backups, like Barman's module `barman.postgres`.
//!
//! Classes and members have Barman's names, so that Barman's documentation applies to them. Two things
//! differ: where Barman returns `None` for any trouble, a member here returns an error with the reason; and
//! each member is one round trip.
//!
//! ```no_run
//! # async fn example() -> Result<(), tapster::postgres::PostgresError> {
//! use tapster::postgres::{PostgreSQL, PostgreSQLConnection};
//!
//! let postgres = PostgreSQLConnection::new("host=db1 user=barman dbname=postgres")?;
//! let status = postgres.fetch_remote_status().await;
//! println!("{:?} at {:?}", status.server_txt_version, status.current_lsn);
//! if let Some(segment) = postgres.switch_wal().await? {
//!     println!("{segment} is finished");
//! }
//! postgres.close().await;
//! # Ok(())
//! # }
//! ```

mod commands;
mod connection;
mod error;
mod fetch_status;
mod keep_alive;
mod low_level_backup;
mod name_map;
mod postgresql;
mod privileges;
mod read;
mod readiness;
mod reconnecting;
mod registry;
mod replication_stats;
mod rows;
mod session_settings;
mod slots;
mod sql;
mod standby;
mod standby_names;
mod status;
mod streaming;
mod wal_senders;

pub use connection::{ConnectionOptions, PostgreSQLConnection};
pub use error::PostgresError;
pub use fetch_status::Overview;
pub use keep_alive::PostgresKeepAlive;
pub use name_map::NameMap;
pub use postgresql::PostgreSQL;
pub use privileges::{
    Privilege, backup_privileges, checkpoint_privileges, monitoring_privileges, restore_point_privileges,
};
pub use readiness::{Readiness, SlotAvailability};
pub use reconnecting::{ConnectionGuard, Reconnectable};
pub use registry::{close_all, live_connections};
pub use replication_stats::{ClientType, ReplicationStats};
pub use rows::{
    ArchiverStats, ConfigurationFiles, ExclusiveBackup, ReplicationSlot, StartedBackup, StoppedBackup,
    Tablespace, XlogInfo,
};
pub use slots::SlotStatus;
pub use standby::{StandbyOptions, StandbyPostgreSQLConnection};
pub use status::{PostgresStatus, StatusError};
pub use streaming::{StreamingConnection, StreamingStatus};
pub use wal_senders::WalSender;
