//! The command line: arguments, rendering, exit codes and signals. The only code that prints or exits.

/// The exit codes of commands other than `receive-wal`.
macro_rules! exit_codes {
    () => {
        "Exit codes:
  0  done
  1  failed for another reason
  2  usage, bad connection string
  3  cannot connect, or connection lost
  4  authentication, TLS verification, missing privilege
  6  the result cannot be written"
    };
}

/// The text of `tapster help exit-codes`, for every command.
const EXIT_CODES: &str = "\
Exit codes:
    0  done; also a clean stop of receive-wal by SIGINT or SIGTERM
    1  failed for another reason; check found a failure; wal get: no archive has the file
    2  usage, bad connection string
    3  cannot connect, or connection lost and --no-loop: worth a retry
    4  authentication, TLS verification, missing privilege
    5  refused because WAL would be lost or mixed: needs a decision
    6  local storage: worth a retry after the repair
    7  verification found damage
  130  low-level-backup abandoned by SIGINT; receive-wal ended at once by a second SIGINT
  143  the same for SIGTERM
  255  wal get: could not find out whether an archive has the file

check --nagios ends with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN.
";

/// The version, and how the program was built.
macro_rules! version {
    ($build:literal) => {
        concat!(env!("CARGO_PKG_VERSION"), " (", $build, ", rustls 0.23 ring, PostgreSQL protocol 3.0-3.2)")
    };
}

/// The end of most commands' long help.
macro_rules! after_help {
    ($examples:literal) => {
        concat!("Examples:\n", $examples, "\n\n", exit_codes!())
    };
}

mod about;
mod advice;
mod awaited;
mod check;
mod completions;
mod connection;
mod conninfo;
mod control;
mod drop_in;
mod environment;
mod failure;
mod given;
mod input;
mod low_level_backup;
#[cfg(test)]
mod man;
mod members;
mod output;
mod postgres;
mod readable;
mod receive_wal;
mod rows;
mod show;
mod signals;
mod slot;
mod status;
mod stderr;
mod usage;
mod verify;
mod verify_progress;
mod voice;
mod wal;

use core::pin::Pin;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use serde_json::json;

use environment::ENVIRONMENT;
use failure::Failure;
use tapster::receiver::ReceiverEvent;
use voice::Voice;

/// PostgreSQL replication and backup control without libpq.
#[derive(Debug, Parser)]
#[command(name = "tapster", version = VERSION, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "\"tapster help COMMAND\" describes a command, \"tapster help exit-codes\" the exit codes, and\n\
    \"tapster help environment\" the environment variables. TAPSTER_LOG=info shows the servers' notices."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive WAL from a server into an archive, for as long as it runs
    #[command(after_long_help = receive_wal::AFTER_HELP, mut_args(receive_wal::with_variable))]
    ReceiveWal(Box<receive_wal::Args>),
    /// Show a server's version, position, replication clients and slots
    #[command(after_long_help = status::AFTER_HELP)]
    Status(status::Args),
    /// Check whether a server is ready, and print what to grant or set if it is not
    #[command(after_long_help = check::AFTER_HELP)]
    Check(check::Args),
    /// Show a member of Barman's classes for a server, or all members
    #[command(after_long_help = show::after_help())]
    Show(show::Args),
    /// End the current WAL segment, and print its name
    #[command(after_long_help = control::SWITCH_WAL_AFTER_HELP)]
    SwitchWal(control::SwitchWalArgs),
    /// Make the server write a checkpoint
    #[command(after_long_help = after_help!("  tapster checkpoint service=db1\n  tapster checkpoint -H db1 -U barman"))]
    Checkpoint(control::CheckpointArgs),
    /// Write a named restore point into the WAL, and print its position
    #[command(after_long_help = after_help!(
        "  tapster restore-point service=db1 before-upgrade\n  tapster restore-point service=db1 nightly --json"
    ))]
    RestorePoint(control::RestorePointArgs),
    /// Start a backup, run a command that copies the files, and stop the backup
    #[command(after_long_help = low_level_backup::AFTER_HELP)]
    LowLevelBackup(low_level_backup::Args),
    /// List, create and drop replication slots
    #[command(subcommand)]
    Slot(slot::Command),
    /// Verify an archive: holes, sizes, histories, and every page and record of its WAL
    #[command(after_long_help = verify::AFTER_HELP)]
    Verify(verify::Args),
    /// List an archive, and hand its files out to a recovery
    #[command(subcommand)]
    Wal(wal::Command),
    /// Show which connection parameters would be used, and where each comes from
    #[command(after_long_help = conninfo::AFTER_HELP)]
    Conninfo(conninfo::Args),
    /// Print a script that completes commands and options in a shell
    #[command(after_long_help = completions::AFTER_HELP)]
    Completions(completions::Args),
    /// What each exit code means
    #[command(hide = true, help_template = EXIT_CODES)]
    ExitCodes,
    /// Which environment variables count
    #[command(hide = true, help_template = ENVIRONMENT)]
    Environment,
}

/// The version with everything a bug report needs.
const VERSION: &str = if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
    version!("musl static")
} else if cfg!(target_feature = "crt-static") {
    version!("gnu static")
} else {
    version!("shared C library")
};

/// Runs the program with these arguments, the first of which is its name.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let commands = environment::without_empty(Cli::command());
    let voice = Voice::of(&arguments, &commands);
    if voice::logs_documents(&arguments) {
        stderr::write_json();
    }
    log_to_stderr(voice);
    if let Voice::Program(program) = voice {
        return drop_in::main(program, &arguments);
    }
    match run(&arguments, commands, voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => voice.report(failure),
    }
}

fn run(arguments: &[OsString], mut commands: clap::Command, voice: Voice) -> Result<(), Failure> {
    usage::refuse_host_given_as_help(arguments)?;
    let matches = commands.try_get_matches_from_mut(arguments);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    match cli.map_err(|error| error.format(&mut commands)) {
        Ok(cli) => cli.command.run(),
        // Help, or the version: in colour on a terminal.
        Err(error) if !error.use_stderr() => error.print().map_err(|error| Failure::unwritten(&error)),
        Err(error) => {
            let culprits = environment::culprits(&commands, arguments, &error);
            Err(usage::failure(&error, arguments, &culprits, voice))
        }
    }
}

/// The callback for a receiver's events. Boxed, so that the large receiver is compiled only once.
type OnEvent<'a> = Box<dyn FnMut(ReceiverEvent<'_>) + Send + 'a>;

impl Command {
    fn run(self) -> Result<(), Failure> {
        block_on(match self {
            Self::ReceiveWal(args) => Box::pin(receive_wal::run(*args)),
            Self::Status(args) => Box::pin(status::run(args)),
            Self::Check(args) => Box::pin(check::run(args)),
            Self::Show(args) => Box::pin(show::run(args)),
            Self::SwitchWal(args) => Box::pin(control::switch_wal(args)),
            Self::Checkpoint(args) => Box::pin(control::checkpoint(args)),
            Self::RestorePoint(args) => Box::pin(control::restore_point(args)),
            Self::LowLevelBackup(args) => Box::pin(low_level_backup::run(args)),
            Self::Slot(command) => Box::pin(slot::run(command)),
            Self::Verify(args) => return verify::run(&args),
            Self::Wal(command) => return wal::run(&command),
            Self::Conninfo(args) => return conninfo::run(&args),
            Self::Completions(args) => return completions::run(&args),
            Self::ExitCodes => return output::print(EXIT_CODES.trim_end()),
            Self::Environment => return output::print(ENVIRONMENT.trim_end()),
        })
    }
}

/// A running command. Boxed, so that each takes only its own memory and not that of the largest command.
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// Runs a command to its end.
fn block_on(command: Running<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("could not start: {error}")))?;
    let result = runtime.block_on(command);
    // Do not wait for blocking threads: a name look-up or a write to a stuck disk may never return.
    runtime.shutdown_background();
    result
}

/// Prints the library's warnings on stderr; `TAPSTER_LOG=info` adds the server's notices. Under another program's
/// name, each line begins with that name.
fn log_to_stderr(voice: Voice) {
    let (filter, wrong) = environment::log_filter();
    let prefix = match voice {
        Voice::Program(program) => format!("{program}: "),
        _ => String::new(),
    };
    env_logger::Builder::new()
        .parse_filters(&filter)
        .format(move |_, record| {
            let level = match record.level() {
                // The word of all other warnings.
                log::Level::Warn => "warning".into(),
                level => level.as_str().to_lowercase(),
            };
            let message = record.args().to_string();
            stderr::log(record.level().into(), &format!("{prefix}{level}: {message}"), &message, &json!({}));
            Ok(())
        })
        .init();
    if let Some(wrong) = wrong {
        log::warn!("{wrong}");
    }
}
