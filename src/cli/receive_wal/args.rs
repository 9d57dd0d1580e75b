use core::time::Duration;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ValueEnum, builder::BoolishValueParser};

use super::super::connection::{ConnectionArgs, Target, seconds};
use super::super::failure::Failure;
use super::super::input::parse_size;
use tapster::compression::Compress;
use tapster::receiver::ReceiverOptions;
use tapster::types::Lsn;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// Receive from all servers of a TOML file, which has the flags above as keys
    #[arg(long, value_name = "FILE", conflicts_with = "ConnectionArgs", conflicts_with_all = OF_ONE_SERVER)]
    pub(super) config: Option<PathBuf>,
    /// Do everything except stream: show where receiving would begin, and why. Nothing is written or created
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print events as JSON documents, one a line
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Also print each segment
    #[arg(short, long, conflicts_with = "quiet")]
    pub(super) verbose: bool,
    // Last, because its heading also applies to all arguments that follow.
    #[command(flatten)]
    pub(super) daemon: DaemonArgs,
}

/// The arguments of [`ServerArgs`] itself. (It has no clap group, because it flattens another struct.)
const OF_ONE_SERVER: &[&str] = &[
    "conn",
    "directory",
    "slot",
    "create_slot",
    "if_not_exists",
    "endpos",
    "no_loop",
    "status_interval",
    "synchronous",
    "receive_timeout",
    "no_check_wal",
    "compress",
    "accept_gap",
    "no_state_file",
    "min_free",
];

/// What to receive from one server: on the command line, or in a table of the file.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// A connection URI, a key=value string, or a database's name
    pub(super) conn: Option<String>,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// The archive: a directory, which must exist
    #[arg(short = 'D', long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// The replication slot to use
    #[arg(short = 'S', long, value_name = "NAME")]
    pub(super) slot: Option<String>,
    /// Create the slot first; it keeps WAL from then on
    #[arg(long, requires = "slot")]
    pub(super) create_slot: bool,
    /// With --create-slot: a slot that exists already is no error
    #[arg(long, requires = "create_slot")]
    pub(super) if_not_exists: bool,
    /// Stop when everything up to this position is received
    #[arg(short = 'E', long, value_name = "LSN")]
    pub(super) endpos: Option<Lsn>,
    /// End with an error when the connection is lost, instead of connecting again
    #[arg(short = 'n', long)]
    pub(super) no_loop: bool,
    /// Seconds between status reports to the server; 0 for none but those it asks for
    #[arg(short = 's', long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=2_147_483))]
    pub(super) status_interval: u64,
    /// Make everything durable and report it at once, as a synchronous standby does
    #[arg(long, alias = "sync")]
    pub(super) synchronous: bool,
    /// Seconds the server may be silent before the connection counts as lost; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=2_147_483))]
    pub(super) receive_timeout: u64,
    /// Store WAL without checking its pages and records
    #[arg(long)]
    pub(super) no_check_wal: bool,
    /// Compress complete segments: gzip, lz4 or zstd, and a level if wanted (gzip:9, zstd:level=3); none
    #[arg(short = 'Z', long, value_name = "METHOD[:LEVEL]")]
    pub(super) compress: Option<Compress>,
    /// If the server no longer has the next WAL, note the gap in the archive and go on behind it
    #[arg(long, conflicts_with = "no_state_file")]
    pub(super) accept_gap: bool,
    /// Keep no state file (tapster.state) in the archive
    #[arg(long)]
    pub(super) no_state_file: bool,
    /// Begin no segment with less space left than this, as in 500MB or 10GiB
    #[arg(long, value_name = "SIZE", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = parse_size)]
    pub(super) min_free: u64,
}

/// How the process reports what it does.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Monitoring")]
pub(super) struct DaemonArgs {
    /// Write metrics to this file, in Prometheus' text format
    #[arg(long, value_name = "FILE")]
    pub(super) metrics_file: Option<PathBuf>,
    /// Seconds after which the metrics are written again, even without a change of state
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) metrics_interval: u64,
    /// Show the progress in one line on a terminal; "always" prints a line each 30 s elsewhere
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(super) progress: When,
    /// The form of log lines on stderr
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Also elsewhere
    Always,
    /// Not at all
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One document a line
    Json,
}

impl ServerArgs {
    /// The archive's directory.
    pub(super) fn directory(&self) -> Result<PathBuf, Failure> {
        self.directory
            .clone()
            .ok_or_else(|| Failure::usage("the archive's directory is missing: give -D DIR"))
    }

    /// The server, with what hints repeat.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let target = self.connection.target(self.conn.as_deref())?;
        Ok(target.with_names(self.slot.as_deref(), self.directory.as_deref()))
    }

    /// What the receiver is to do.
    pub(super) fn options(&self, ask_after: Option<Duration>) -> Result<ReceiverOptions, Failure> {
        Ok(ReceiverOptions {
            slot: self.slot.clone(),
            create_slot: self.create_slot && self.if_not_exists,
            end_position: self.endpos,
            status_interval: seconds(self.status_interval),
            synchronous: self.synchronous,
            no_loop: self.no_loop,
            check_wal: !self.no_check_wal,
            receive_timeout: seconds(self.receive_timeout),
            ask_after,
            compress: self.compress,
            state_file: !self.no_state_file,
            accept_gap: self.accept_gap,
            min_free: self.min_free,
            ..ReceiverOptions::new(self.directory()?)
        })
    }
}

/// Gives a flag the variable `TAPSTER_<FLAG>`, unless it has one. Not for --password: users would put the password
/// itself into TAPSTER_PASSWORD, and an error would show it.
pub(in crate::cli) fn with_variable(arg: Arg) -> Arg {
    let Some(flag) = arg.get_long().filter(|&flag| flag != "password" && arg.get_env().is_none()) else {
        return arg;
    };
    let variable = format!("TAPSTER_{}", flag.replace('-', "_").to_uppercase());
    let arg = if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg.value_parser(BoolishValueParser::new())
    } else {
        arg
    };
    arg.env(variable).hide_env_values(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, Command};

    #[test]
    fn what_the_file_says_is_refused_beside_it() {
        let command = Args::augment_args(Command::new("receive-wal"));
        let config = command.get_arguments().find(|arg| arg.get_id() == "config").unwrap();
        let refused = command.get_arg_conflicts_with(config);
        for arg in ServerArgs::augment_args(Command::new("server")).get_arguments() {
            assert!(refused.iter().any(|other| other.get_id() == arg.get_id()), "{}", arg.get_id());
        }
    }
}
