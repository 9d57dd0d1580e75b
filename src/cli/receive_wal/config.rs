//! `--config FILE`: many servers, each a table with the flags of the command line as keys.
//!
//! A table is turned into arguments, which clap parses, so that keys cannot differ from flags. Errors name the line in
//! the file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, Command, FromArgMatches as _};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::environment;
use super::super::failure::Failure;
use super::args::ServerArgs;

/// A server of the file.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    /// The arguments from the tables. If they change, the server's definition has changed.
    arguments: Vec<String>,
    pub(super) args: ServerArgs,
}

impl Definition {
    /// The server of the command line, which needs no name.
    pub(super) fn of_command_line(args: ServerArgs) -> Self {
        Self { name: String::new(), arguments: Vec::new(), args }
    }

    /// Whether both definitions have the same arguments.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.arguments == other.arguments
    }
}

/// Reads the servers of a file, and checks that no two share a directory.
pub(super) fn read(path: &Path) -> Result<Vec<Definition>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("could not read \"{}\": {error}", path.display())))?;
    let definitions = parse(&text).map_err(|problem| {
        let line = line_of(&text, problem.offset);
        Failure::usage(format!("{}:{line}: {}", path.display(), problem.message))
    })?;
    if definitions.is_empty() {
        let message = format!("{}: there is no server; a table [servers.NAME] describes one", path.display());
        return Err(Failure::usage(message));
    }
    refuse_shared_directories(&definitions)?;
    Ok(definitions)
}

/// What is wrong, and where in the text.
#[derive(Debug)]
struct Problem {
    offset: usize,
    message: String,
}

impl Problem {
    fn at<T>(place: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { offset: place.span().start, message: message.into() }
    }
}

/// A table's setting: its flag, its place in the file, and the argument it becomes.
type Settings = BTreeMap<String, Setting>;

#[derive(Clone, Debug)]
struct Setting {
    offset: usize,
    /// None for a switch that is off.
    argument: Option<String>,
}

fn parse(text: &str) -> Result<Vec<Definition>, Problem> {
    let document = DeTable::parse(text).map_err(|error| Problem {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().to_string(),
    })?;
    let command = ServerArgs::augment_args(Command::new("server").no_binary_name(true));
    let command = environment::without_empty(command);
    let mut defaults = Settings::new();
    let mut servers = None;
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "defaults" => defaults = settings(&command, table(key, value)?)?,
            "servers" => servers = Some(table(key, value)?),
            other => {
                return Err(Problem::at(
                    key,
                    format!("unknown key \"{other}\"; there are defaults and servers"),
                ));
            }
        }
    }
    let servers = servers.into_iter().flatten();
    servers.map(|(name, value)| definition(&command, &defaults, name, value)).collect()
}

fn definition(
    command: &Command,
    defaults: &Settings,
    name: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Definition, Problem> {
    let mut all = defaults.clone();
    all.extend(settings(command, table(name, value)?)?);
    // A daemon has nobody to ask for a password.
    all.insert("no-password".into(), Setting { offset: 0, argument: Some("--no-password".into()) });
    let arguments: Vec<String> = all.values().filter_map(|setting| setting.argument.clone()).collect();
    let name_text = name.get_ref().as_ref().to_string();
    let args = command
        .clone()
        .try_get_matches_from(&arguments)
        .and_then(|matches| ServerArgs::from_arg_matches(&matches))
        .map_err(|error| {
            let offset = culprit(&error, &all).map_or_else(|| name.span().start, |setting| setting.offset);
            Problem { offset, message: format!("server {name_text}: {}", sentence(&error)) }
        })?;
    if args.directory.is_none() {
        return Err(Problem::at(name, format!("server {name_text} has no directory")));
    }
    Ok(Definition { name: name_text, arguments, args })
}

fn table<'a, 'i>(
    key: &Spanned<impl AsRef<str>>,
    value: &'a Spanned<DeValue<'i>>,
) -> Result<&'a DeTable<'i>, Problem> {
    let not_a_table = || Problem::at(value, format!("\"{}\" has to be a table", key.get_ref().as_ref()));
    value.get_ref().as_table().ok_or_else(not_a_table)
}

/// Every key of a table as an argument of the command line.
fn settings(command: &Command, table: &DeTable<'_>) -> Result<Settings, Problem> {
    let mut settings = Settings::new();
    for (key, value) in table {
        let flag = key.get_ref().replace('_', "-");
        let arg = command.get_arguments().find(|arg| is_of_key(arg, &flag));
        let arg = arg.ok_or_else(|| Problem::at(key, format!("unknown key \"{}\"", key.get_ref())))?;
        let argument = argument(arg, &flag, value).ok_or_else(|| {
            let kind = if takes_value(arg) { "a string or a number" } else { "true or false" };
            Problem::at(value, format!("\"{}\" has to be {kind}", key.get_ref()))
        })?;
        let offset = key.span().start;
        if settings.insert(flag, Setting { offset, argument }).is_some() {
            return Err(Problem::at(key, format!("\"{}\" is given twice", key.get_ref())));
        }
    }
    Ok(settings)
}

/// `password` only asks on a terminal; a password itself does not belong into this file.
fn is_of_key(arg: &Arg, flag: &str) -> bool {
    match arg.get_long() {
        Some("password") => false,
        Some(long) => long == flag,
        None => arg.get_id() == flag,
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set)
}

/// None if the value is of a wrong type.
fn argument(arg: &Arg, flag: &str, value: &Spanned<DeValue<'_>>) -> Option<Option<String>> {
    let text = match value.get_ref() {
        DeValue::Boolean(is_on) if !takes_value(arg) => return Some(is_on.then(|| format!("--{flag}"))),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_string(),
        DeValue::Float(number) => number.as_str().to_string(),
        _ => return None,
    };
    takes_value(arg).then(|| Some(if arg.is_positional() { text } else { format!("--{flag}={text}") }))
}

/// The setting that clap complains about.
fn culprit<'a>(error: &clap::Error, settings: &'a Settings) -> Option<&'a Setting> {
    let flag_of =
        |text: &str| text.trim_start_matches('-').split([' ', '=']).next().unwrap_or("").to_string();
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(text) => settings.get(&flag_of(text)),
        ContextValue::Strings(texts) => texts.iter().find_map(|text| settings.get(&flag_of(text))),
        _ => None,
    }
}

/// clap's message, without its tips for the command line.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let end = text.find("\n\n").unwrap_or(text.len());
    let lines = text[..end].trim_start_matches("error: ").lines().map(str::trim);
    lines.collect::<Vec<_>>().join(" ")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

/// Refuses two servers with one archive, whose WAL would mix, before connecting to either.
fn refuse_shared_directories(definitions: &[Definition]) -> Result<(), Failure> {
    let mut by_directory: BTreeMap<Place, &str> = BTreeMap::new();
    for definition in definitions {
        let directory = definition.args.directory()?;
        if let Some(first) = by_directory.insert(place(&directory), &definition.name) {
            let (second, shown) = (&definition.name, directory.display());
            return Err(Failure::usage(format!(
                "the servers {first} and {second} have the same directory \"{shown}\""
            )));
        }
    }
    Ok(())
}

/// The identity of a directory, the same for all its names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Device and inode.
    Directory(u64, u64),
    /// The directory does not exist; that is reported when its server starts.
    Missing(PathBuf),
}

fn place(directory: &Path) -> Place {
    match fs::metadata(directory) {
        Ok(metadata) => Place::Directory(metadata.dev(), metadata.ino()),
        Err(_) => Place::Missing(directory.to_path_buf()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
[defaults]
slot = 'tap'
status_interval = 5
create-slot = true

[servers.db1]
conn = 'service=db1'
directory = '/wal/db1'

[servers.db2]
conn = 'service=db2'
directory = '/wal/db2'
slot = 'other'
create_slot = false
";

    #[track_caller]
    fn problem(text: &str) -> (usize, String) {
        let problem = parse(text).expect_err("something is wrong");
        (line_of(text, problem.offset), problem.message)
    }

    #[test]
    fn a_server_has_its_keys_and_the_defaults() {
        let servers = parse(TWO).unwrap();
        let [db1, db2] = &servers[..] else { panic!("{servers:?}") };
        assert_eq!((db1.name.as_str(), db1.args.conn.as_deref()), ("db1", Some("service=db1")));
        assert_eq!((db1.args.slot.as_deref(), db1.args.create_slot), (Some("tap"), true));
        assert_eq!((db2.args.slot.as_deref(), db2.args.create_slot), (Some("other"), false));
        assert_eq!((db1.args.status_interval, db2.args.status_interval), (5, 5));
        assert_eq!(db1.args.receive_timeout, 60);
        assert!(db1.is_same_as(&parse(TWO).unwrap()[0]) && !db1.is_same_as(db2));
    }

    #[test]
    fn the_example_of_the_manual_is_right() {
        let page = include_str!("../../../docs/operating.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let servers = parse(example).unwrap();
        let [db1, db2] = &servers[..] else { panic!("{servers:?}") };
        assert!(db1.args.create_slot && !db1.args.synchronous && db2.args.synchronous);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        assert_eq!(problem("x = 1"), (1, "unknown key \"x\"; there are defaults and servers".into()));
        assert_eq!(problem("[defaults]\nslto = 'a'\n[servers.a]").0, 2);
        assert_eq!(problem("[servers.a]\ndirectory='/a'\n\nslto = 'a'"), (4, "unknown key \"slto\"".into()));
        assert_eq!(problem("[servers.a]\nslot = 'a'"), (1, "server a has no directory".into()));
        assert_eq!(
            problem("[servers.a]\nslot = true"),
            (2, "\"slot\" has to be a string or a number".into())
        );
        assert_eq!(problem("[servers.a]\nno_loop = 'x'"), (2, "\"no_loop\" has to be true or false".into()));
        assert_eq!(
            problem("[servers.a]\nno-loop = true\nno_loop = true"),
            (3, "\"no_loop\" is given twice".into())
        );
        assert_eq!(problem("[servers.a]\npassword = 's3cret'"), (2, "unknown key \"password\"".into()));
        let (line, message) = problem("[servers.a]\ndirectory='/a'\nstatus_interval = -1");
        assert_eq!(line, 3);
        assert!(message.contains("'--status-interval <SECONDS>'"), "{message}");
        let (line, message) = problem("[servers.a]\ndirectory='/a'\ncreate_slot = true");
        assert!(line == 1 && message.contains("--slot <NAME>"), "{line}: {message}");
        assert_eq!(problem("servers = 3"), (1, "\"servers\" has to be a table".into()));
        assert!(parse("[defaults]").unwrap().is_empty());
        assert_eq!(problem("[servers.a]\nslot = ").0, 2);
    }

    #[test]
    fn one_directory_under_two_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let (here, there) = (dir.path().display(), dir.path().join(".").display().to_string());
        fs::write(&file, format!("[servers.a]\ndirectory='{here}'\n[servers.b]\ndirectory='{there}'"))
            .unwrap();
        let failure = read(&file).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.message().contains("a and b have the same directory"), "{}", failure.message());
    }
}
