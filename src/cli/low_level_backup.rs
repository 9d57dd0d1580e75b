use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;

use super::about::About;
use super::connection::{ServerArgs, Target, seconds};
use super::failure::Failure;
use super::given::Given;
use super::members::time;
use super::postgres::with_grants;
use super::signals::EndSignals;
use super::{input, output};
use tapster::conninfo::ConnInfo;
use tapster::postgres::{
    PostgreSQL as _, PostgreSQLConnection, PostgresError, PostgresKeepAlive, StandbyOptions,
    StandbyPostgreSQLConnection, StartedBackup, StoppedBackup, backup_privileges,
};
use tapster::storage::{Directory, StorageError};
use tapster::types::WalSegmentSize;
use tapster::wal::WalSegment;

pub(super) const AFTER_HELP: &str = "Examples:
  tapster low-level-backup service=db1 -l nightly -D /copy -- rsync -a db1:/pgdata/ /copy/
  tapster low-level-backup -H db2 --primary 'host=db1' -l n -D /snap -- zfs snapshot p/db@n

COMMAND copies the server's files. TAPSTER_DATA_DIRECTORY names the data directory, if the role may
read it, TAPSTER_START_LSN the position where recovery begins, and TAPSTER_TIMELINE the timeline. If
COMMAND fails, a signal comes, or the session is lost, the backup is abandoned and nothing is
written. COMMAND is then sent SIGTERM if it still runs, and SIGKILL two seconds later or at another
signal.

The WAL from the first to the last segment that is printed belongs to the backup.

Exit codes:
  0  done
  1  COMMAND failed, or the server
  2  usage, bad connection string
  3  cannot connect, or the session was lost
  4  authentication, TLS verification, missing privilege
  6  local storage
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
    let mut signals = EndSignals::listen()?;
    let mut target = args.server.target()?;
    let given = target.given();
    let server = tokio::select! {
        server = connect(&args, &mut target) => server?,
        signal = signals.next() => return Err(Failure::interrupted(signal)),
    };
    server.postgres().set_immediate_checkpoint(args.fast);
    let mut command = None;
    let outcome = tokio::select! {
        outcome = backup(&args, &server, &given, &mut command) => outcome,
        signal = signals.next() => Err(Failure::interrupted(signal)),
    };
    if let (Some(command), Err(_)) = (&mut command, &outcome) {
        command.end(signals.next()).await;
    }
    if outcome.as_ref().is_err_and(Failure::is_interruption) {
        server.cancel().await;
    }
    // If the backup was not stopped, ending the session makes the server abandon it.
    server.close().await;
    let done = outcome?;
    write_files(&args.directory, &done.stopped).map_err(io::Error::from).map_err(|error| {
        Failure::storage(format!("could not write to \"{}\": {error}", args.directory.display()))
    })?;
    report(&args, &done)
}

enum Server {
    Plain(PostgreSQLConnection),
    Standby(Box<StandbyPostgreSQLConnection>),
}

impl Server {
    fn postgres(&self) -> &PostgreSQLConnection {
        match self {
            Self::Plain(postgres) => postgres,
            Self::Standby(standby) => standby,
        }
    }

    async fn stop(&self) -> Result<StoppedBackup, PostgresError> {
        match self {
            Self::Plain(postgres) => postgres.stop_concurrent_backup().await,
            Self::Standby(standby) => standby.stop_concurrent_backup().await,
        }
    }

    /// Cancels a start or a stop that is still running: the server would go on waiting without its client.
    async fn cancel(&self) {
        let postgres = self.postgres();
        // Without a connection there is nothing to cancel.
        if postgres.has_connection().await
            && let Ok(connection) = postgres.connect().await
            && let Some(token) = connection.cancel_token()
        {
            // A server that can no longer be reached will end the session by itself.
            let _ = token.cancel().await;
        }
    }

    async fn close(&self) {
        match self {
            Self::Plain(postgres) => postgres.close().await,
            Self::Standby(standby) => standby.close().await,
        }
    }
}

async fn connect(args: &Args, target: &mut Target) -> Result<Server, Failure> {
    let Some(primary) = &args.primary else {
        return Ok(Server::Plain(target.connect_postgres(None).await?.postgres));
    };
    let primary = ConnInfo::from_dbname_argument(primary)?;
    // This connection only finds out whether a password has to be asked for; the session is made below.
    target.connect_postgres(None).await?.postgres.close().await;
    let mut options = StandbyOptions::default();
    options.standby.application_name = target.application_name()?;
    options.standby.environment = target.environment().clone();
    options.primary_checkpoint_timeout = seconds(args.primary_checkpoint_timeout).unwrap_or_default();
    let conninfo = target.conninfo().clone();
    let standby = StandbyPostgreSQLConnection::with_options(conninfo, primary, options)?;
    standby.set_timeout(target.timeout());
    Ok(Server::Standby(Box::new(standby)))
}

struct Done {
    about: About,
    started: StartedBackup,
    stopped: StoppedBackup,
    first: String,
    last: String,
}

/// `command` is left running if this fails or is dropped.
async fn backup(
    args: &Args,
    server: &Server,
    given: &Given,
    command: &mut Option<Running>,
) -> Result<Done, Failure> {
    let about = About::connected(&*server.postgres().connect().await?);
    match backup_of(&about, args, server, command).await {
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
    command: &mut Option<Running>,
) -> Result<Done, Failure> {
    let postgres = server.postgres();
    let data_directory = postgres.get_setting_bytes("data_directory").await.ok();
    let segment_size = postgres.xlog_segment_size().await?;
    let started = postgres.start_concurrent_backup(&args.label).await?;
    output::note(&format!("started at {} on timeline {}", started.location, started.timeline));
    let child = command.insert(spawn(&args.command, &started, data_directory.as_deref())?);
    let interval = Duration::from_secs(args.keep_alive);
    let status = PostgresKeepAlive::new(postgres, interval, true).run(child.wait()).await?;
    check(status, &args.command)?;
    let stopped = server.stop().await?;
    let size = u32::try_from(segment_size).ok().and_then(|bytes| WalSegmentSize::new(bytes).ok());
    let size = size.ok_or_else(|| Failure::other(format!("{segment_size} is no size of a WAL segment")))?;
    // The stop position is the last byte + 1: at a segment boundary, the segment beginning there is not needed.
    let last_byte = tapster::types::Lsn::new(stopped.location.get().saturating_sub(1));
    let first = WalSegment::containing(started.location, started.timeline, size).to_string();
    let last = WalSegment::containing(last_byte, stopped.timeline, size).to_string();
    Ok(Done { about: about.clone(), started, stopped, first, last })
}

/// How long the command may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// The user's command.
struct Running {
    child: Child,
    /// Whether signals go to the command's whole process group.
    is_group: bool,
}

impl Running {
    async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let status = self.child.wait().await;
        status.map_err(|error| Failure::other(format!("could not wait for the command: {error}")))
    }

    /// Sends SIGTERM, and SIGKILL after [`GRACE`] or as soon as `impatient` completes.
    async fn end(&mut self, impatient: impl Future<Output = SignalKind>) {
        self.signal(Signal::TERM);
        tokio::select! {
            _ = self.child.wait() => return,
            () = tokio::time::sleep(GRACE) => {}
            _ = impatient => {}
        }
        self.signal(Signal::KILL);
        // SIGKILL cannot be ignored.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        // The child has an id until it was waited for.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // A process that has already ended needs no signal.
            let _ = if self.is_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        }
    }
}

fn spawn(
    command: &[OsString],
    started: &StartedBackup,
    data_directory: Option<&[u8]>,
) -> Result<Running, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("give a command"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.env("TAPSTER_START_LSN", started.location.to_string());
    command.env("TAPSTER_TIMELINE", started.timeline.to_string());
    if let Some(directory) = data_directory {
        command.env("TAPSTER_DATA_DIRECTORY", OsStr::from_bytes(directory));
    }
    // Our stdout carries the result, so the command's output goes to stderr.
    command.stdout(io::stderr());
    // On a terminal the command may have to ask for input, and only the foreground group can read.
    let is_group = !io::stdin().is_terminal();
    if is_group {
        command.process_group(0);
    }
    let child = command
        .spawn()
        .map_err(|error| Failure::other(format!("could not start \"{}\": {error}", program.display())))?;
    Ok(Running { child, is_group })
}

fn check(status: Result<ExitStatus, Failure>, command: &[OsString]) -> Result<(), Failure> {
    let status = status?;
    if status.success() {
        return Ok(());
    }
    let program = command.first().map(|program| program.display().to_string()).unwrap_or_default();
    Err(Failure::other(format!("\"{program}\" ended with {status}; the backup is abandoned")))
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

const LABEL: &str = "backup_label";
const TABLESPACE_MAP: &str = "tablespace_map";
/// Less what the umask takes away: the copy may be for another user.
const FILE_MODE: u32 = 0o666;

fn report(args: &Args, done: &Done) -> Result<(), Failure> {
    let Done { about, started, stopped, first, last } = done;
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
            "tablespace_map": !stopped.tablespace_map.is_empty(),
        }))
    } else {
        output::print(&format!(
            "backup {}: {} - {} on timeline {}, WAL {first} - {last}",
            args.label, started.location, stopped.location, stopped.timeline
        ))
    }
}
