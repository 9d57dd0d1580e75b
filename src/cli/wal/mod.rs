//! `tapster wal`: list an archive, and hand its files out to a recovery.

mod get;
mod ls;

use super::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Hand a file out to a recovery, as a server's restore_command
    #[command(after_long_help = get::AFTER_HELP)]
    Get(get::Args),
    /// List an archive: timelines, ranges, gaps, partial segments
    #[command(after_long_help = ls::AFTER_HELP)]
    Ls(ls::Args),
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Get(args) => get::run(args),
        Command::Ls(args) => ls::run(args),
    }
}
