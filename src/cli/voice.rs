//! Who reads the program's errors. Decided once, and from the arguments alone, because they may be wrong themselves.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Command;
use clap::builder::{BoolishValueParser, TypedValueParser as _};
use serde_json::json;

use super::failure::Failure;
use super::stderr::{self, Level};
use super::{check, drop_in, output};

/// The form in which failures are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Lines on stderr.
    People,
    /// A document on stdout: `--json`.
    Json,
    /// A line on stdout and the exit codes of a monitoring plugin: `check --nagios`.
    Plugin,
    /// `wal get`: a recovery takes a missing file for the end of WAL, so no other failure may look like that.
    RestoreCommand {
        /// Whether a document is wanted as well.
        json: bool,
    },
    /// PostgreSQL's program of this name.
    Program(&'static str),
}

impl Voice {
    /// The voice for these arguments, the first of which is the program's name, of these commands.
    pub(super) fn of(arguments: &[OsString], commands: &Command) -> Self {
        if let Some(program) = arguments.first().and_then(|program| drop_in::called_as(program)) {
            return Self::Program(program);
        }
        let ours = ours(arguments);
        let has = |flag: &str| ours.iter().any(|argument| argument == flag);
        let word = |at: usize| ours.get(at).and_then(|word| word.to_str()).unwrap_or_default();
        let json = has("--json") || is_json_by_variable(commands, word(1));
        match (word(1), word(2)) {
            ("wal", "get") => Self::RestoreCommand { json },
            ("check", _) if has("--nagios") => Self::Plugin,
            _ if json => Self::Json,
            _ => Self::People,
        }
    }

    /// Whether a failure has to be a single document or line, and nothing else may be printed.
    pub(super) const fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Plugin | Self::RestoreCommand { json: true })
    }

    /// Reports a failure, unless it was reported before, and gives the exit code.
    pub(super) fn report(self, failure: Failure) -> ExitCode {
        let failure = match self {
            Self::RestoreCommand { .. } => failure.or_unclear(),
            _ => failure,
        };
        // 0 would be OK to a monitoring system, and 6 means nothing to it.
        if self == Self::Plugin && failure.is_untold() {
            return check::UNKNOWN.into();
        }
        if failure.is_reported() {
            return failure.code().into();
        }
        let told = match self {
            // Printing to stdout would fail again.
            _ if failure.is_unwritten() => None,
            Self::Plugin => Some(output::print(&check::unknown(failure.message()))),
            Self::Json | Self::RestoreCommand { json: true } => Some(output::print_json(&failure.document())),
            Self::People | Self::RestoreCommand { json: false } | Self::Program(_) => None,
        };
        match (told, self) {
            (Some(Ok(())), Self::Plugin) => check::UNKNOWN.into(),
            (Some(Ok(())), _) => failure.code().into(),
            (Some(Err(unwritten)), _) => Self::People.report(unwritten),
            (None, _) => {
                let mut event = json!({ "event": "failed", "ok": false, "error": failure.to_json() });
                if let Some(server) = failure.server() {
                    event["server"] = server;
                }
                let line = failure.full_text();
                let (level, line) = match self {
                    // Every recovery asks for files that do not exist. Its line in the server's log is no error.
                    Self::RestoreCommand { .. } if failure.is_missing() => {
                        (Level::Info, format!("tapster: {line}"))
                    }
                    // The lines of many programs come together in the server's log.
                    Self::RestoreCommand { .. } => (Level::Error, format!("tapster: error: {line}")),
                    _ => (Level::Error, format!("error: {line}")),
                };
                stderr::log(level, &line, &failure.text(), &event);
                failure.code().into()
            }
        }
    }
}

/// Whether `receive-wal` is to write documents on stderr. A mistake in the arguments is one of them.
pub(super) fn logs_documents(arguments: &[OsString]) -> bool {
    let ours = ours(arguments);
    let is_form = |form: Option<&OsStr>| form.is_some_and(|form| form == "json");
    let apart = ours.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
    let joined = ours.iter().any(|argument| argument == "--log-format=json");
    let is_given = ours.iter().any(|argument| argument.as_encoded_bytes().starts_with(b"--log-format"));
    let by_variable = || is_form(std::env::var_os("TAPSTER_LOG_FORMAT").as_deref());
    ours.get(1).is_some_and(|command| command == "receive-wal")
        && (apart || joined || !is_given && by_variable())
}

/// The arguments before `--`; those after it may belong to another program.
pub(super) fn ours(arguments: &[OsString]) -> &[OsString] {
    arguments.split(|argument| argument == "--").next().unwrap_or_default()
}

/// Whether an environment variable switches on the command's `--json`, in any spelling that clap accepts.
fn is_json_by_variable(commands: &Command, command: &str) -> bool {
    let mut arguments = commands.find_subcommand(command).into_iter().flat_map(Command::get_arguments);
    let variable = arguments.find(|arg| arg.get_long() == Some("json")).and_then(clap::Arg::get_env);
    let value = variable.and_then(std::env::var_os).unwrap_or_default();
    BoolishValueParser::new().parse_ref(&Command::new(""), None, &value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory as _;

    fn voice(arguments: &str) -> Voice {
        let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
        Voice::of(&arguments, &Cli::command())
    }

    #[test]
    fn the_arguments_decide_who_is_spoken_to() {
        for (arguments, expected) in [
            ("tapster", Voice::People),
            ("tapster status service=db1", Voice::People),
            ("tapster status --json service=db1", Voice::Json),
            ("tapster --json", Voice::Json),
            ("tapster nonsense --json", Voice::Json),
            ("tapster low-level-backup -l x -D d -- cp --json", Voice::People),
            ("tapster check --nagios", Voice::Plugin),
            ("tapster check --nagios --json", Voice::Plugin),
            ("tapster check -- --nagios", Voice::People),
            ("tapster status --nagios", Voice::People),
            ("tapster wal get", Voice::RestoreCommand { json: false }),
            ("tapster wal get --json f p", Voice::RestoreCommand { json: true }),
            ("tapster wal ls d --json", Voice::Json),
            ("/usr/bin/pg_receivewal --json", Voice::Program("pg_receivewal")),
            ("pg_receivexlog", Voice::Program("pg_receivexlog")),
        ] {
            assert_eq!(voice(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn every_command_with_a_document_speaks_in_documents() {
        fn check(path: &str, command: &Command) {
            if command.get_arguments().any(|arg| arg.get_long() == Some("json")) {
                assert!(voice(&format!("{path} --json")).is_for_programs(), "{path}");
            }
            for command in command.get_subcommands() {
                check(&format!("{path} {}", command.get_name()), command);
            }
        }
        check("tapster", &Cli::command());
    }
}
