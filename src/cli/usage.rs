//! Mistakes on the command line, reported without the passwords in it.

use std::borrow::Cow;
use std::ffi::OsString;

use super::failure::Failure;
use super::output;
use super::stderr;
use super::voice::{Voice, ours};
use tapster::conninfo::{ConnInfo, KEYWORDS};

/// Users of psql write `-h db1`; that would print the help and hide the mistake.
pub(super) fn refuse_host_given_as_help(arguments: &[OsString]) -> Result<(), Failure> {
    let mut pairs = ours(arguments).windows(2);
    let pair = pairs
        .find(|pair| pair[0] == "-h" && !pair[1].is_empty() && !pair[1].as_encoded_bytes().starts_with(b"-"));
    match pair {
        Some(pair) => {
            let host = pair[1].to_string_lossy();
            Err(Failure::usage(format!("-h is help; for the host write -H {}", shown(&host))))
        }
        None => Ok(()),
    }
}

/// What clap found wrong, and the environment variables that it comes from. For people, clap's own text is printed here.
pub(super) fn failure(
    error: &clap::Error,
    arguments: &[OsString],
    culprits: &[String],
    voice: Voice,
) -> Failure {
    let origin = match culprits {
        [] => String::new(),
        [variable] => format!("this comes from the environment variable {variable}"),
        several => format!("this comes from the environment variables {}", several.join(", ")),
    };
    let plain = error.render().to_string();
    let told = without_secrets(&plain, arguments);
    if voice.is_for_programs() || stderr::writes_json() {
        let told = told.strip_prefix("error: ").unwrap_or(&told);
        let (message, rest) = told.split_once("\n\n").unwrap_or((told, ""));
        let hints = rest.trim().split("\n\n").map(str::trim).collect::<Vec<_>>().join("\n");
        let separator = if origin.is_empty() { "" } else { "; " };
        return Failure::usage(format!("{message}{separator}{origin}")).with_hint(hints);
    }
    if told == plain {
        // In colour on a terminal.
        let _ = error.print();
    } else {
        output::note(told.trim_end());
    }
    if !origin.is_empty() {
        output::note(&origin);
    }
    Failure::usage("").already_reported()
}

/// Hides passwords in clap's text: clap quotes unexpected arguments, such as a second connection string.
fn without_secrets(text: &str, arguments: &[OsString]) -> String {
    let mut text = text.to_string();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let option = argument.strip_prefix("--").and_then(|option| option.split_once('='));
        let value = option.map_or(&*argument, |(_, value)| value);
        if let Cow::Owned(shown) = shown(value) {
            text = text.replace(value, &shown);
        }
    }
    text
}

/// Checks that `name` is the name of a `what`, and not a connection string whose name was forgotten.
pub(super) fn name<'a>(what: &str, name: &'a str) -> Result<&'a str, Failure> {
    let is_pairs = || name.contains('=') && ConnInfo::from_dbname_argument(name).is_ok();
    if name.contains("://") || is_pairs() {
        let shown = shown(name);
        return Err(Failure::usage(format!("\"{shown}\" is a connection; the {what}'s name comes after it")));
    }
    Ok(name)
}

/// The argument with its passwords hidden: it may be a connection string in the wrong place. Owned if something was
/// hidden.
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
        // A string that cannot be parsed may have a password anywhere.
        Err(_) if is_uri || argument.contains("password") => String::from("***").into(),
        Err(_) => argument.into(),
    }
}
