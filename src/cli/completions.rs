use clap::CommandFactory as _;
use clap_complete::Shell;

use super::failure::Failure;
use super::{Cli, output};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster completions bash >/etc/bash_completion.d/tapster
  tapster completions fish >~/.config/fish/completions/tapster.fish

Exit codes:
  0  done
  2  usage
  6  the script cannot be written";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tapster", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}
