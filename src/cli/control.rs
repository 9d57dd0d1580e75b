//! Commands that make the server do one thing: switch WAL, write a checkpoint or a restore point.

use core::cell::Cell;
use core::time::Duration;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::awaited::{AwaitedArchive, Found};
use super::connection::{ConnectionArgs, ServerArgs, TimeoutArgs};
use super::failure::Failure;
use super::{output, usage};
use tapster::postgres::{
    PostgreSQL as _, PostgreSQLConnection, backup_privileges, checkpoint_privileges, restore_point_privileges,
};
use tapster::types::{SystemId, WalSegmentSize, text_of};
use tapster::wal::WalSegment;

pub(super) const SWITCH_WAL_AFTER_HELP: &str = "Examples:
  tapster switch-wal service=db1
  tapster switch-wal service=db1 --wait
  tapster switch-wal service=db1 --wait-for /wal/db1

Exit codes:
  0  done
  1  failed for another reason; not archived, or not complete in DIR, in time
  2  usage, bad connection string; --wait: the server does not archive
  3  cannot connect, or connection lost
  4  authentication, TLS verification, missing privilege
  5  DIR is the archive of another cluster
  6  DIR cannot be read, the result cannot be written";

#[derive(Debug, clap::Args)]
pub(super) struct SwitchWalArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Wait until the server has archived the segment, for --timeout at most
    #[arg(long)]
    wait: bool,
    /// Wait until the segment is complete in this archive of a receiver, for --timeout at most
    #[arg(long, value_name = "DIR", conflicts_with = "wait")]
    wait_for: Option<PathBuf>,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestorePointArgs {
    /// The connection, which may be left out, and the restore point's name
    #[arg(value_name = "[CONN] NAME", num_args = 1..=2, required = true)]
    conn_and_name: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn switch_wal(args: SwitchWalArgs) -> Result<(), Failure> {
    let mut target = args.server.target()?.connect_postgres(None).await?;
    let postgres = &target.postgres;
    // What cannot be waited for is found before the switch.
    let waiting = match (&args.wait_for, args.wait) {
        (Some(directory), _) => {
            let (archive, size, cluster) = target.ask(open_archive(postgres, directory)).await?;
            target.about.system_id = Some(cluster);
            Waiting::Ours(archive, size)
        }
        (None, true) => Waiting::Server(target.ask(archived(postgres)).await?),
        (None, false) => Waiting::None,
    };
    let segment = target.ask_with(backup_privileges, postgres.switch_wal()).await?;
    if let Some(segment) = &segment {
        let wait = Wait::begin(segment, args.server.timeout.limit());
        target
            .ask(async {
                match &waiting {
                    Waiting::None => Ok(()),
                    Waiting::Server(before) => wait.for_server(postgres, before.clone()).await,
                    Waiting::Ours(archive, size) => wait.for_archive(archive, *size).await,
                }
            })
            .await?;
    }
    postgres.close().await;
    if args.json {
        let archived = args.wait && segment.is_some();
        let directory = args.wait_for.as_ref().filter(|_| segment.is_some());
        let document = json!({
            "schema": "tapster.switch-wal/1", "ok": true, "server": target.about.to_json(), "switched": segment.is_some(), "segment": segment, "archived": archived,
            "directory": directory.map(|directory| text_of(directory.as_os_str().as_bytes())),
        });
        output::print_json(&document)?;
        return Ok(());
    }
    match segment {
        Some(segment) => output::print(&segment),
        None => {
            output::note("nothing was written to the current segment, so there is nothing to switch");
            Ok(())
        }
    }
}

/// What the command waits for after the switch.
enum Waiting {
    None,
    /// The server's archiver, whose last file before the switch this was.
    Server(Option<String>),
    /// A receiver, which has the segment complete in this archive.
    Ours(AwaitedArchive, WalSegmentSize),
}

/// Opens the archive of the server's receiver.
async fn open_archive(
    postgres: &PostgreSQLConnection,
    directory: &Path,
) -> Result<(AwaitedArchive, WalSegmentSize, SystemId), Failure> {
    let bytes = postgres.xlog_segment_size().await?;
    let size = u32::try_from(bytes).ok().and_then(|bytes| WalSegmentSize::new(bytes).ok());
    let size = size.ok_or_else(|| Failure::other(format!("{bytes} is no size of a WAL segment")))?;
    let cluster = postgres.get_systemid().await?;
    Ok((AwaitedArchive::open(directory, size, cluster).await?, size, cluster))
}

/// The archiver's last file, for a server that archives.
async fn archived(postgres: &PostgreSQLConnection) -> Result<Option<String>, Failure> {
    let what = if postgres.get_setting("archive_mode").await? == "off" {
        "archive_mode is off"
    } else {
        // Servers before 15 have no archive_library.
        let library = postgres.get_setting("archive_library").await.unwrap_or_default();
        let command = postgres.get_setting("archive_command").await?;
        match command.is_empty() && library.is_empty() {
            true => "archive_command is empty",
            false => return Ok(postgres.get_archiver_stats().await?.last_archived_wal),
        }
    };
    Err(Failure::usage(format!("--wait: the server does not archive: {what}")).with_hint(
        "--wait-for DIR waits until the segment is complete in the archive DIR of tapster's receiver; \
         --wait needs archive_mode = on and an archive_command on the server",
    ))
}

/// A wait for the segment that was ended, which says from time to time what it waits for.
struct Wait<'a> {
    segment: &'a str,
    limit: Option<Duration>,
    begun: Instant,
    /// When the wait was told last.
    told: Cell<Option<Instant>>,
}

/// The time between two looks, and between two lines that say so.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const TELL_INTERVAL: Duration = Duration::from_secs(10);

impl<'a> Wait<'a> {
    fn begin(segment: &'a str, limit: Option<Duration>) -> Self {
        Self { segment, limit, begun: Instant::now(), told: Cell::new(None) }
    }

    /// Segments of one timeline are archived in order, so a later file proves that this one was archived.
    async fn for_server(
        &self,
        postgres: &PostgreSQLConnection,
        before: Option<String>,
    ) -> Result<(), Failure> {
        let mut last = before;
        let mut failed = None;
        while last.as_deref().is_none_or(|last| last.get(..24).unwrap_or(last) < self.segment) {
            let reason = match (&failed, &last) {
                (Some(failed), _) => format!("its last attempt failed, with {failed}"),
                (None, Some(last)) => format!("its last file is {last}"),
                (None, None) => "it has archived nothing yet".into(),
            };
            self.pause("archived by the server", &reason).await?;
            let stats = postgres.get_archiver_stats().await?;
            failed = stats.last_failed_wal.filter(|_| stats.last_failed_time > stats.last_archived_time);
            last = stats.last_archived_wal;
        }
        Ok(())
    }

    async fn for_archive(&self, archive: &AwaitedArchive, size: WalSegmentSize) -> Result<(), Failure> {
        let segment = WalSegment::parse(self.segment, size)
            .ok_or_else(|| Failure::other(format!("{} is no segment's name", self.segment)))?;
        let goal = format!("complete in \"{}\"", archive.path().display());
        while let Found::NotYet(reason) = archive.look(segment, true).await? {
            let reason = reason.unwrap_or_else(|| "it is not there; is a receiver running?".into());
            self.pause(&goal, &reason).await?;
        }
        Ok(())
    }

    /// Waits until the next look.
    async fn pause(&self, goal: &str, reason: &str) -> Result<(), Failure> {
        let segment = self.segment;
        if let Some(limit) = self.limit.filter(|limit| self.begun.elapsed() >= *limit) {
            let seconds = limit.as_secs();
            let text = format!("{segment} is finished, but was not {goal} within {seconds} s: {reason}");
            return Err(Failure::other(text).with_hint("--timeout SECONDS waits longer, 0 for ever"));
        }
        if self.told.get().is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            let again = self.told.replace(Some(Instant::now())).is_some();
            let rest = match (again, self.limit) {
                (true, _) => format!(": {reason}"),
                (false, Some(limit)) => format!(", for {} s at most", limit.as_secs()),
                (false, None) => String::new(),
            };
            output::note(&format!("waiting until {segment} is {goal}{rest}"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        Ok(())
    }
}

pub(super) async fn checkpoint(args: CheckpointArgs) -> Result<(), Failure> {
    let target = args.server.target()?.connect_postgres(None).await?;
    target.ask_with(checkpoint_privileges, target.postgres.checkpoint()).await?;
    target.postgres.close().await;
    if args.json {
        output::print_json(
            &json!({ "schema": "tapster.checkpoint/1", "ok": true, "server": target.about.to_json() }),
        )?;
    } else {
        output::print("checkpoint done")?;
    }
    Ok(())
}

pub(super) async fn restore_point(args: RestorePointArgs) -> Result<(), Failure> {
    let (conn, name) = match args.conn_and_name.as_slice() {
        [conn, name] => (Some(conn.as_str()), name),
        [name] => (None, name),
        _ => return Err(Failure::usage("give the restore point's name")),
    };
    let name = usage::name("restore point", name)?;
    let target = args.connection.target(conn)?.within(args.timeout).connect_postgres(None).await?;
    let point = target.postgres.create_restore_point(name);
    let position = target.ask_with(restore_point_privileges, point).await?;
    target.postgres.close().await;
    if args.json {
        output::print_json(&json!({
            "schema": "tapster.restore-point/1", "ok": true, "server": target.about.to_json(), "name": name,
            "restore_point_lsn": position.to_string(),
        }))?;
    } else {
        output::print(&position.to_string())?;
    }
    Ok(())
}
