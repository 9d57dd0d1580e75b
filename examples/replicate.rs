//! Follows a server's WAL and prints where each run of it begins and how long it is. Nothing is stored, and so
//! nothing is reported as durable.
//!
//! ```sh
//! cargo run --example replicate --no-default-features --features replication -- \
//!     'host=127.0.0.1 user=streaming_barman'
//! ```
//!
//! The user needs the REPLICATION attribute, and `pg_hba.conf` a line for the database `replication`.

use core::error::Error;

use tapster::conninfo::{ConnInfo, Environment};
use tapster::replication::{ReplicationConnection, StartPhysical, StartedStream, WalEvent};
use tapster::types::Lsn;

fn main() -> Result<(), Box<dyn Error>> {
    let conninfo = std::env::args().nth(1).ok_or("usage: replicate CONNINFO")?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(replicate(&conninfo))
}

/// Prints until the stream ends.
pub async fn replicate(conninfo: &str) -> Result<(), Box<dyn Error>> {
    let mut conninfo: ConnInfo = conninfo.parse()?;
    conninfo.set("replication", "true")?;
    let config = conninfo.resolve(&Environment::from_process())?.config()?;

    let mut connection = ReplicationConnection::connect(&config).await?;
    let system = connection.identify_system().await?;
    println!("system {}, timeline {}, WAL up to {}", system.system_id, system.timeline, system.xlog_pos);

    let start = StartPhysical { slot: None, start: system.xlog_pos, timeline: system.timeline };
    let mut stream = match connection.start_physical(&start).await? {
        StartedStream::Streaming(stream) => stream,
        StartedStream::EndOfTimeline(_, next) => {
            return Err(format!("the timeline ends here; {} follows", next.timeline).into());
        }
    };
    // `next` also keeps the connection alive, as long as it is called again soon.
    while let Some(event) = stream.next().await? {
        match event {
            WalEvent::Data(wal) => {
                println!("{}: {} bytes of WAL", wal.wal_start, wal.data.len());
                // Seen but not stored. A server that shuts down waits for its followers to say this much.
                stream.report(stream.received(), Lsn::INVALID)?;
            }
            WalEvent::Keepalive(keepalive) => println!("{}: the server is idle", keepalive.wal_end),
            _ => {}
        }
    }
    println!("the stream has ended: {:?}", stream.finish().await?);
    Ok(())
}
