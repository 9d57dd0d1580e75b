//! Mistakes on the command line, told without the passwords that stand there.

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use super::failure::Failure;
use super::output;
use tapster::conninfo::{ConnInfo, KEYWORDS};

/// With psql's habit, `-h db1` would print the help and hide the mistake.
pub(super) fn host_given_as_help(arguments: &[OsString]) -> Option<Failure> {
    let mut pairs = arguments.windows(2);
    let pair = pairs.find(|pair| {
        pair[0] == "-h" && !pair[1].is_empty() && !pair[1].as_encoded_bytes().starts_with(b"-")
    })?;
    let host = pair[1].to_string_lossy();
    Some(Failure::usage(format!("-h is help; for the host write -H {}", shown(&host))))
}

/// Prints what clap has to say, which for help and version is no failure, and gives the exit code.
pub(super) fn print(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let plain = error.render().to_string();
    let mut told = plain.clone();
    // It quotes what it has no place for, such as a second connection string.
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let option = argument.strip_prefix("--").and_then(|option| option.split_once('='));
        let value = option.map_or(&*argument, |(_, value)| value);
        if let Cow::Owned(shown) = shown(value) {
            told = told.replace(value, &shown);
        }
    }
    if told == plain {
        // In colour on a terminal, and on stdout for help and version.
        let _ = error.print();
    } else {
        output::note(told.trim_end());
    }
    // clap's code for mistakes is ours, 2.
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// An argument as it may be shown, as it may be a connection string in the wrong place. It is owned if there
/// was something to hide.
pub(super) fn shown(argument: &str) -> Cow<'_, str> {
    let is_uri = argument.contains("://");
    if !is_uri && !argument.contains('=') {
        return argument.into();
    }
    match ConnInfo::from_dbname_argument(argument) {
        Ok(conninfo) => {
            let is_secret = |name| KEYWORDS.iter().any(|keyword| keyword.name == name && keyword.secret);
            match conninfo.iter().any(|(name, _)| is_secret(name)) {
                true => conninfo.to_string().into(),
                false => argument.into(),
            }
        }
        // What cannot be read may have a password anywhere.
        Err(_) if is_uri || argument.contains("password") => String::from("***").into(),
        Err(_) => argument.into(),
    }
}
