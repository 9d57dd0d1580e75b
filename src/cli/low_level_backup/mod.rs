//! `low-level-backup`: the server's backup mode around a command of the user that copies the files.

mod command;
mod server;
mod waiting;

use core::time::Duration;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde_json::json;
use tokio::time::timeout;

use self::command::{Running, check_program, check_status};
use self::server::{Server, connect};
use self::waiting::{Archiver, Checkpoint, told, waiting};
pub(super) use self::waiting::{archiver_progress, archives_nothing};
use super::about::About;
use super::awaited::{AwaitedArchive, Found};
use super::connection::{ServerArgs, seconds};
use super::failure::Failure;
use super::given::Given;
use super::members::time;
use super::postgres::with_grants;
use super::signals::EndSignals;
use super::{input, output};
use tapster::postgres::{
    PostgreSQL as _, PostgreSQLConnection, PostgresKeepAlive, StartedBackup, StoppedBackup, backup_privileges,
};
use tapster::storage::{Directory, StorageError};
use tapster::types::{Lsn, SystemId, WalSegmentSize};
use tapster::wal::WalSegment;

pub(super) const AFTER_HELP: &str = "Examples:
  tapster low-level-backup service=db1 -l nightly -D /copy --ok-exit 24 --wal-archive /wal -- \\
    rsync -a --exclude-from=/etc/pgdata.exclude db1:/pgdata/ /copy/
  tapster low-level-backup -H db2 --primary 'host=db1' -l n -D /snap -- zfs snapshot p/db@n

COMMAND copies the server's files. TAPSTER_DATA_DIRECTORY names the data directory, if the role may
read it, TAPSTER_START_LSN the position where recovery begins, and TAPSTER_TIMELINE the timeline. If
COMMAND fails, a signal comes, or the session is lost, the backup is abandoned and nothing is
written. Programs that copy a running server's files may end with a code that says that some of
them changed or vanished, 24 of rsync and 1 of tar; --ok-exit accepts such codes. What the copy
has to leave out is in docs/backups.md. COMMAND is then sent SIGTERM if it still runs, and SIGKILL two seconds later or at another
signal.

The WAL from the first to the last segment that is printed belongs to the backup. A server that
archives is waited for until it has archived all of that. With --wal-archive the archive of a
receiver is waited for instead; then backup_label is written before the wait, and the copy becomes
a backup as soon as the WAL is there.

Exit codes:
  0  done
  1  COMMAND failed, or the server
  2  usage, bad connection string, a COMMAND that cannot be run
  3  cannot connect, or the session was lost
  4  authentication, TLS verification, missing privilege
  5  refused: --wal-archive names the archive of another cluster
  6  local storage
  7  the archive lacks WAL that the backup needs
  130, 143  abandoned by SIGINT, SIGTERM";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// The backup's label
    #[arg(short, long)]
    label: String,
    /// Where to write backup_label and tablespace_map: the copy of the data directory
    #[arg(short = 'D', long, value_name = "DIR")]
    directory: PathBuf,
    /// Make the server do its checkpoint as fast as possible
    #[arg(long)]
    fast: bool,
    /// For a standby: the connection to its primary, where WAL is switched if the backup's stop waits for it
    #[arg(long, value_name = "CONN")]
    primary: Option<String>,
    /// With --primary: seconds after which an idle primary is asked for a checkpoint; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "primary")]
    primary_checkpoint_timeout: u64,
    /// Exit codes of COMMAND, besides 0, after which the copy is good: 24 for rsync, 1 for tar
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..))]
    ok_exit: Vec<u8>,
    /// Wait until the backup's WAL is complete in this archive of a receiver, not until the server has archived it
    #[arg(long, value_name = "DIR")]
    wal_archive: Option<PathBuf>,
    /// With --wal-archive: seconds to wait at most; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "wal_archive")]
    wal_archive_timeout: u64,
    /// Seconds between two keep-alive statements in the session; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u64,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// The command that copies the files, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    input::check_directory(&args.directory)?;
    for name in [LABEL, TABLESPACE_MAP] {
        input::check_output(&args.directory.join(name))?;
    }
    check_program(&args.command)?;
    let mut signals = EndSignals::listen()?;
    let mut target = args.server.target()?;
    let given = target.given();
    let server = tokio::select! {
        server = connect(&args, &mut target) => server?,
        signal = signals.next() => return Err(Failure::interrupted(signal)),
    };
    server.postgres().set_immediate_checkpoint(args.fast);
    // Not connected before there is something to ask.
    let watch = target.unconnected(None)?.0;
    let mut course = Course::default();
    let outcome = tokio::select! {
        outcome = backup(&args, &server, &watch, &given, &mut course) => outcome,
        signal = signals.next() => Err(course.interrupted(Failure::interrupted(signal))),
    };
    if let (Some(command), Err(_)) = (&mut course.command, &outcome) {
        command.end(signals.next()).await;
    }
    let is_interrupted = outcome.as_ref().is_err_and(Failure::is_interruption);
    let closed = async {
        if is_interrupted {
            server.cancel().await;
        }
        watch.close().await;
        // If the backup was not stopped, ending the session makes the server abandon it.
        server.close().await;
    };
    // A server that does not answer ends the session by itself, once ours has ended.
    let _ = timeout(if is_interrupted { FAREWELL } else { Duration::MAX }, closed).await;
    report(&args, &outcome?)
}

/// How long an interrupted program takes leave of the server.
const FAREWELL: Duration = Duration::from_secs(1);

/// How far the backup is, for the case that it does not end.
#[derive(Default)]
struct Course {
    /// The command, once it was started.
    command: Option<Running>,
    /// What is left once the copy is complete.
    unfinished: Option<String>,
}

impl Course {
    fn interrupted(&self, failure: Failure) -> Failure {
        match &self.unfinished {
            Some(unfinished) => {
                let message = format!("{}; {unfinished}", failure.message());
                failure.reworded(message)
            }
            None => failure,
        }
    }
}

struct Done {
    about: About,
    started: StartedBackup,
    stopped: StoppedBackup,
    first: String,
    last: String,
    command_exit: i32,
}

/// The command is left running if this fails or is dropped.
async fn backup(
    args: &Args,
    server: &Server,
    watch: &PostgreSQLConnection,
    given: &Given,
    course: &mut Course,
) -> Result<Done, Failure> {
    let about = About::connected(&*server.postgres().connect().await?);
    match backup_of(&about, args, server, watch, course).await {
        Err(failure) => {
            let failure = failure.about(&about).given(given);
            Err(with_grants(server.postgres(), given, backup_privileges, failure).await)
        }
        done => done,
    }
}

async fn backup_of(
    about: &About,
    args: &Args,
    server: &Server,
    watch: &PostgreSQLConnection,
    course: &mut Course,
) -> Result<Done, Failure> {
    let postgres = server.postgres();
    let data_directory = postgres.get_setting_bytes("data_directory").await.ok();
    let bytes = postgres.xlog_segment_size().await?;
    let size = u32::try_from(bytes).ok().and_then(|bytes| WalSegmentSize::new(bytes).ok());
    let size = size.ok_or_else(|| Failure::other(format!("{bytes} is no size of a WAL segment")))?;
    let archive = match &args.wal_archive {
        Some(path) => Some(AwaitedArchive::open(path, size, cluster(postgres).await?).await?),
        None => None,
    };
    postgres.connect().await?.on_notice(|notice| output::note(&format!("the server says: {notice}")));
    let checkpoint = Checkpoint::of(args.fast, postgres).await;
    let start = postgres.start_concurrent_backup(&args.label);
    let started = told(start, async |waited| checkpoint.text(waited)).await?;
    output::note(&format!("started at {} on timeline {}", started.location, started.timeline));
    let running = Running::start(&args.command, &started, data_directory.as_deref())?;
    let running = course.command.insert(running);
    let interval = Duration::from_secs(args.keep_alive);
    let status = PostgresKeepAlive::new(postgres, interval, true).run(running.wait()).await??;
    let command_exit = check_status(status, &args.command, &args.ok_exit)?;
    let stopped = if archive.is_some() {
        told(server.stop_at_once(), async |waited| format!("{} the end of the backup", waiting(waited)))
            .await?
    } else {
        // The stop ends the segment that is written now. A standby does not tell which one that is.
        let segment = postgres.current_xlog_file_name().await.ok().flatten();
        let mut archiver = Archiver::new(watch, segment);
        told(server.stop(), async |waited| archiver.text(waited).await).await?
    };
    // Without its label the copy would be taken for a server that crashed, and be damaged.
    let written = write_files(&args.directory, &stopped).map_err(io::Error::from);
    written.and_then(|()| give_files(&args.directory)).map_err(|error| {
        Failure::storage(format!("could not write to \"{}\": {error}", args.directory.display()))
    })?;
    // The stop position is the last byte + 1: at a segment boundary, the segment beginning there is not needed.
    let last_byte = Lsn::new(stopped.location.get().saturating_sub(1));
    let first = WalSegment::containing(started.location, started.timeline, size);
    let last = WalSegment::containing(last_byte, stopped.timeline, size);
    if let Some(archive) = &archive {
        course.unfinished = Some(format!(
            "the copy in \"{}\" has its backup_label, and becomes a backup once {first} - {last} are complete in \"{}\"",
            args.directory.display(),
            archive.path().display()
        ));
        wait_in(archive, args, server, first, last).await.map_err(|failure| course.interrupted(failure))?;
    }
    let (first, last) = (first.to_string(), last.to_string());
    Ok(Done { about: about.clone(), started, stopped, first, last, command_exit })
}

/// Waits until all WAL from the first to the last segment is in the archive.
async fn wait_in(
    archive: &AwaitedArchive,
    args: &Args,
    server: &Server,
    first: WalSegment,
    last: WalSegment,
) -> Result<(), Failure> {
    let path = archive.path().display();
    let wait = told(server.wait_for(archive, last), async |waited| {
        let reason = match archive.look(last, true).await {
            Ok(Found::NotYet(Some(reason))) => format!(" ({reason})"),
            _ => String::new(),
        };
        format!("{} WAL segment {last} to be complete in \"{path}\"{reason}", waiting(waited))
    });
    match seconds(args.wal_archive_timeout) {
        Some(limit) => timeout(limit, wait).await.unwrap_or_else(|_| {
            let limit = limit.as_secs();
            let failure = Failure::other(format!("{last} is not complete in \"{path}\" after {limit} s"));
            Err(failure.with_hint("is the receiver running? \"tapster wal ls\" shows how far the archive is"))
        })?,
        None => wait.await?,
    }
    // A receiver completes its segments in order: what is not there now does not come.
    for number in first.number()..last.number() {
        let timelines = [last.timeline(), first.timeline()];
        let mut is_there = false;
        for segment in timelines.into_iter().filter_map(|id| WalSegment::new(id, number, last.size())) {
            is_there |= archive.look(segment, false).await? == Found::Complete;
        }
        if !is_there {
            let missing = WalSegment::new(first.timeline(), number, last.size()).unwrap_or(first);
            return Err(Failure::damage(format!("{missing} is not complete in \"{path}\"")));
        }
    }
    Ok(())
}

/// The server's system identifier.
async fn cluster(postgres: &PostgreSQLConnection) -> Result<SystemId, Failure> {
    let status = postgres.fetch_remote_status().await;
    status.postgres_systemid.ok_or_else(|| {
        let why = status.errors.iter().find(|(key, _)| *key == "postgres_systemid");
        let why = why.map(|(_, error)| error.message.as_str()).unwrap_or("it does not tell");
        Failure::other(format!("--wal-archive: could not ask the server for its system identifier: {why}"))
    })
}

/// Writes the files that make the copy a backup: durable, and each one whole or not at all.
fn write_files(path: &Path, stopped: &StoppedBackup) -> Result<(), StorageError> {
    let directory = Directory::open(path)?;
    directory.remove_left_over(|name| [LABEL, TABLESPACE_MAP].contains(&name))?;
    // The map comes first: a label without its map would make a backup without its tablespaces.
    if stopped.tablespace_map.is_empty() {
        // The map of an earlier copy would mislead recovery.
        directory.remove(TABLESPACE_MAP)?;
    } else {
        directory.replace(TABLESPACE_MAP, &stopped.tablespace_map, FILE_MODE)?;
    }
    directory.replace(LABEL, &stopped.backup_label, FILE_MODE)
}

/// Gives the files of root to the owner of the copy's directory. A server opens `backup_label` for writing at the end of
/// its recovery, and does not start if it may not.
fn give_files(path: &Path) -> io::Result<()> {
    let owner = path.metadata()?;
    if !geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    for name in [LABEL, TABLESPACE_MAP] {
        match lchown(path.join(name), Some(owner.uid()), Some(owner.gid())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

const LABEL: &str = "backup_label";
const TABLESPACE_MAP: &str = "tablespace_map";
/// Less what the umask takes away: the copy may be for another user.
const FILE_MODE: u32 = 0o666;

fn report(args: &Args, done: &Done) -> Result<(), Failure> {
    let Done { about, started, stopped, first, last, command_exit } = done;
    if args.json {
        output::print_json(&json!({
            "schema": "tapster.low-level-backup/1",
            "ok": true,
            "server": about.to_json(),
            "label": args.label,
            "start_lsn": started.location.to_string(),
            "stop_lsn": stopped.location.to_string(),
            "timeline": stopped.timeline.get(),
            "started_at": time(Some(started.timestamp)),
            "stopped_at": time(Some(stopped.finished)),
            "first_segment": first,
            "last_segment": last,
            "command_exit": command_exit,
            "wal_archive": args.wal_archive.as_ref().map(|archive| archive.display().to_string()),
            "tablespace_map": !stopped.tablespace_map.is_empty(),
        }))
    } else {
        output::print(&format!(
            "backup {}: {} - {} on timeline {}, WAL {first} - {last}",
            args.label, started.location, stopped.location, stopped.timeline
        ))
    }
}
