//! The variables `TAPSTER_...`: one name has one meaning, an empty one counts as not set, and an argument of the command
//! line takes precedence.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// The text of `tapster help environment`.
pub(super) const ENVIRONMENT: &str = "\
Environment:
  TAPSTER_DBNAME    a connection URI, a key=value string, or a database's name, as -d
  TAPSTER_HOST, TAPSTER_PORT, TAPSTER_USERNAME
                    as -H, -p and -U, for what neither these nor CONN nor -d give
  TAPSTER_TIMEOUT   as --timeout
  TAPSTER_SLOT      the replication slot, as -S
  TAPSTER_LOG       which messages of the library go to stderr: error, warn (the default), info with
                    the servers' notices, debug, trace; or tapster::MODULE=LEVEL, several with commas

receive-wal has a variable for each flag but --password: TAPSTER_ and the flag's name, as in
  TAPSTER_DIRECTORY, TAPSTER_CREATE_SLOT, TAPSTER_COMPRESS, TAPSTER_LOG_FORMAT
TAPSTER_DIRECTORY is the archive. Switches are set by true, yes, on or 1.

low-level-backup sets TAPSTER_DATA_DIRECTORY, TAPSTER_START_LSN and TAPSTER_TIMELINE for its COMMAND.

The variables of PostgreSQL's own programs (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD,
PGPASSFILE, PGSERVICE, PGSSLMODE, ...) count after these, and are the only ones under the name
pg_receivewal. \"tapster conninfo\" shows what is used, and where it comes from.

The command line takes precedence over a variable. A variable that is set to nothing counts as not
set.
";

/// The command without the variables that are set to nothing: clap would take them for empty values.
pub(super) fn without_empty(command: Command) -> Command {
    without(command, &|variable| env::var_os(variable).is_some_and(|value| value.is_empty()))
}

/// The command without the variables that `is_unwanted`.
fn without(command: Command, is_unwanted: &dyn Fn(&OsStr) -> bool) -> Command {
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(variable) if is_unwanted(variable) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(|subcommand| without(subcommand, is_unwanted))
}

/// The variables without which these arguments would not have failed, or not in this way.
pub(super) fn culprits(program: &Command, arguments: &[OsString], failed: &clap::Error) -> Vec<String> {
    let failed = failed.render().to_string();
    let mut set = BTreeSet::new();
    collect_set(program, &mut set);
    let is_culprit = |variable: &&OsString| {
        let mut program = without(program.clone(), &|other| other == variable.as_os_str());
        match program.try_get_matches_from_mut(arguments) {
            Ok(_) => true,
            Err(error) => error.render().to_string() != failed,
        }
    };
    set.iter().filter(is_culprit).map(|variable| variable.to_string_lossy().into_owned()).collect()
}

fn collect_set(command: &Command, set: &mut BTreeSet<OsString>) {
    let variables = command.get_arguments().filter_map(Arg::get_env);
    set.extend(variables.filter(|variable| env::var_os(variable).is_some()).map(OsStr::to_os_string));
    command.get_subcommands().for_each(|subcommand| collect_set(subcommand, set));
}

/// Whether the argument's value comes from its variable and not from the command line.
pub(super) fn is_from_variable(matches: &ArgMatches, argument: &str) -> bool {
    matches.try_contains_id(argument).unwrap_or_default()
        && matches.value_source(argument) == Some(ValueSource::EnvVariable)
}

/// Which messages of the library are logged unless `TAPSTER_LOG` says otherwise.
const DEFAULT_LOG: &str = "warn";

/// What `TAPSTER_LOG` says, and what is wrong with it.
pub(super) fn log_filter() -> (String, Option<String>) {
    let value = env::var_os("TAPSTER_LOG").unwrap_or_default();
    let value = value.to_string_lossy();
    if value.is_empty() {
        return (DEFAULT_LOG.into(), None);
    }
    match value.split(',').map(str::trim).find(|directive| !is_directive(directive)) {
        None => (value.into(), None),
        Some(wrong) => {
            let message = format!(
                "environment variable TAPSTER_LOG: \"{wrong}\" is no level (off, error, warn, info, debug, trace) and \
                 no tapster::MODULE=LEVEL; {DEFAULT_LOG} is used"
            );
            (DEFAULT_LOG.into(), Some(message))
        }
    }
}

/// A level, a module, or both.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| text.parse::<log::LevelFilter>().is_ok();
    match text.split_once('=') {
        Some((module, level)) => !module.is_empty() && is_level(level),
        None => is_level(text) || text == "tapster" || text.starts_with("tapster::"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory as _;

    /// The variables of a command, and of its subcommands, with the flag of each.
    fn variables(command: &Command, of: &mut Vec<(String, String, String)>) {
        for arg in command.get_arguments() {
            if let Some(variable) = arg.get_env() {
                let flag = arg.get_long().unwrap_or_default().to_string();
                of.push((variable.to_str().unwrap().into(), flag, command.get_name().into()));
            }
        }
        command.get_subcommands().for_each(|subcommand| variables(subcommand, of));
    }

    #[test]
    fn one_name_has_one_meaning_and_is_in_the_table() {
        let mut all = Vec::new();
        variables(&Cli::command(), &mut all);
        for (variable, flag, command) in &all {
            let expected = format!("TAPSTER_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(*variable, expected, "{command}");
            if command != "receive-wal" {
                assert!(ENVIRONMENT.contains(variable.as_str()), "{variable} of {command}");
            }
        }
        // The archive in one command and the copy in another would be two meanings.
        let is_directory = |(variable, _, _): &&(String, String, String)| variable == "TAPSTER_DIRECTORY";
        let of: Vec<&str> = all.iter().filter(is_directory).map(|(_, _, command)| command.as_str()).collect();
        assert_eq!(of, ["receive-wal"]);
        let told = ENVIRONMENT.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        for variable in told.filter(|word| word.starts_with("TAPSTER_") && word.len() > 8) {
            let others = ["TAPSTER_LOG", "TAPSTER_DATA_DIRECTORY", "TAPSTER_START_LSN", "TAPSTER_TIMELINE"];
            let is_known = others.contains(&variable) || all.iter().any(|(known, _, _)| known == variable);
            assert!(is_known, "{variable}");
        }
    }

    #[test]
    fn what_is_no_level_is_noticed() {
        for text in ["warn", "INFO", "off", "tapster", "tapster::client=debug", "rustls=trace"] {
            assert!(is_directive(text), "{text}");
        }
        for text in ["inof", "", "=debug", "tapster=inof", "1"] {
            assert!(!is_directive(text), "{text}");
        }
    }
}
