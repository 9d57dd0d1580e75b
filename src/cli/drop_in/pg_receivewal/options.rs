use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::cli::connection::seconds;
use crate::cli::drop_in::getopt::{Getopt, Spec};
use tapster::compression::{Compress, CompressError};
use tapster::types::Lsn;

/// The parsed command line.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) action: Action,
    pub(super) slot: Option<String>,
    pub(super) if_not_exists: bool,
    /// There is one if the action is to receive.
    pub(super) directory: Option<PathBuf>,
    pub(super) endpos: Option<Lsn>,
    pub(super) no_loop: bool,
    pub(super) status_interval: Option<Duration>,
    pub(super) synchronous: bool,
    pub(super) compress: Compress,
    pub(super) verbose: bool,
    pub(super) dbname: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Password,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Receive,
    /// There is a slot.
    CreateSlot,
    /// There is a slot.
    DropSlot,
}

/// When to ask for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Password {
    /// `-w`
    Never,
    /// If the server wants one and none is known.
    IfWanted,
    /// `-W`: before connecting.
    First,
}

/// A mistake on the command line, in the words of `pg_receivewal`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A complaint of [`Getopt`], which begins with the program's name already.
    Syntax(String),
    /// `--help` or `--version`, which have to be the first argument.
    NotFirst,
    /// Options that do not go together.
    Combination(String),
    /// A value.
    Value(String),
}

#[derive(Clone, Copy, Debug)]
enum Id {
    Help,
    Version,
    Directory,
    Dbname,
    Endpos,
    Host,
    Port,
    Username,
    NoLoop,
    NoPassword,
    Password,
    StatusInterval,
    Slot,
    Verbose,
    Compress,
    CreateSlot,
    DropSlot,
    IfNotExists,
    Synchronous,
    NoSync,
}

/// In the order of `pg_receivewal`, because complaints about ambiguous abbreviations list them in it.
const SPECS: [Spec<Id>; 20] = [
    flag(Id::Help, None, "help"),
    flag(Id::Version, None, "version"),
    value(Id::Directory, Some(b'D'), "directory"),
    value(Id::Dbname, Some(b'd'), "dbname"),
    value(Id::Endpos, Some(b'E'), "endpos"),
    value(Id::Host, Some(b'h'), "host"),
    value(Id::Port, Some(b'p'), "port"),
    value(Id::Username, Some(b'U'), "username"),
    flag(Id::NoLoop, Some(b'n'), "no-loop"),
    flag(Id::NoPassword, Some(b'w'), "no-password"),
    flag(Id::Password, Some(b'W'), "password"),
    value(Id::StatusInterval, Some(b's'), "status-interval"),
    value(Id::Slot, Some(b'S'), "slot"),
    flag(Id::Verbose, Some(b'v'), "verbose"),
    value(Id::Compress, Some(b'Z'), "compress"),
    flag(Id::CreateSlot, None, "create-slot"),
    flag(Id::DropSlot, None, "drop-slot"),
    flag(Id::IfNotExists, None, "if-not-exists"),
    flag(Id::Synchronous, None, "synchronous"),
    flag(Id::NoSync, None, "no-sync"),
];

const fn flag(id: Id, short: Option<u8>, long: &'static str) -> Spec<Id> {
    Spec { id, short, long, takes_value: false }
}

const fn value(id: Id, short: Option<u8>, long: &'static str) -> Spec<Id> {
    Spec { id, short, long, takes_value: true }
}

const LAST_STATUS_INTERVAL: u64 = 2_147_483;

impl Options {
    /// `arguments` begin with the program's name.
    pub(super) fn parse(arguments: &[OsString]) -> Result<Self, Mistake> {
        let mut options = Self {
            action: Action::Receive,
            slot: None,
            if_not_exists: false,
            directory: None,
            endpos: None,
            no_loop: false,
            status_interval: Some(Duration::from_secs(10)),
            synchronous: false,
            compress: Compress::default(),
            verbose: false,
            dbname: None,
            host: None,
            port: None,
            username: None,
            password: Password::IfWanted,
        };
        let (mut create_slot, mut drop_slot, mut no_sync) = (false, false, false);
        let mut compression = None;
        let mut getopt = Getopt::new(&SPECS, arguments);
        for option in getopt.by_ref() {
            let (id, value) = option.map_err(Mistake::Syntax)?;
            match id {
                Id::Help | Id::Version => return Err(Mistake::NotFirst),
                Id::Directory => options.directory = Some(value.into()),
                Id::Dbname => options.dbname = Some(text(value)?),
                Id::Endpos => options.endpos = Some(position(value)?),
                Id::Host => options.host = Some(text(value)?),
                Id::Port => options.port = Some(text(value)?),
                Id::Username => options.username = Some(text(value)?),
                Id::NoLoop => options.no_loop = true,
                Id::NoPassword => options.password = Password::Never,
                Id::Password => options.password = Password::First,
                Id::StatusInterval => options.status_interval = status_interval(value)?,
                Id::Slot => options.slot = Some(text(value)?),
                Id::Verbose => options.verbose = true,
                Id::Compress => compression = Some(text(value)?),
                Id::CreateSlot => create_slot = true,
                Id::DropSlot => drop_slot = true,
                Id::IfNotExists => options.if_not_exists = true,
                Id::Synchronous => options.synchronous = true,
                Id::NoSync => no_sync = true,
            }
        }
        let combination = |what: &str| Err(Mistake::Combination(what.into()));
        if let Some(operand) = getopt.operands().first() {
            let operand = operand.display();
            return combination(&format!("too many command-line arguments (first is \"{operand}\")"));
        }
        options.action = match (create_slot, drop_slot) {
            (true, true) => return combination("cannot use --create-slot together with --drop-slot"),
            (true, false) => Action::CreateSlot,
            (false, true) => Action::DropSlot,
            (false, false) => Action::Receive,
        };
        if options.slot.is_none() && create_slot {
            return combination("--create-slot needs a slot to be specified using --slot");
        }
        if options.slot.is_none() && drop_slot {
            return combination("--drop-slot needs a slot to be specified using --slot");
        }
        if options.synchronous && no_sync {
            return combination("cannot use --synchronous together with --no-sync");
        }
        if options.directory.is_none() && options.action == Action::Receive {
            return combination("no target directory specified");
        }
        if let Some(compression) = compression {
            options.compress =
                parse_compress(&compression).map_err(|error| Mistake::Value(error.to_string()))?;
        }
        Ok(options)
    }
}

fn text(value: &OsStr) -> Result<String, Mistake> {
    let text = value.to_str().map(String::from);
    text.ok_or_else(|| Mistake::Value(format!("\"{}\" is not UTF-8", value.display())))
}

fn position(value: &OsStr) -> Result<Lsn, Mistake> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Mistake::Value(format!("could not parse end position \"{}\"", value.display())))
}

fn status_interval(value: &OsStr) -> Result<Option<Duration>, Mistake> {
    const NAME: &str = "-s/--status-interval";
    let number = value.to_str().and_then(|text| integer(text.trim_end()));
    match number.map(u64::try_from) {
        None => Err(Mistake::Value(format!("invalid value \"{}\" for option {NAME}", value.display()))),
        Some(Ok(number)) if number <= LAST_STATUS_INTERVAL => Ok(seconds(number)),
        Some(_) => Err(Mistake::Value(format!("{NAME} must be in range 0..{LAST_STATUS_INTERVAL}"))),
    }
}

/// A number is a level of gzip, as `strtol` reads it.
fn parse_compress(text: &str) -> Result<Compress, CompressError> {
    match integer(text) {
        Some(level) => level.to_string().parse(),
        None => text.parse(),
    }
}

/// Parses a whole text as C's `strtol` would: blanks and a sign may precede the digits, an empty text is 0, and too
/// large a number becomes the largest.
fn integer(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_levels_of_gzip_as_c_reads_them() {
        for (text, level) in [("", None), ("0", None), (" +9", Some(9)), ("1", Some(1))] {
            assert_eq!(parse_compress(text).unwrap().level, level, "{text:?}");
        }
        for text in ["1x", "-", "99999999999999999999"] {
            assert!(parse_compress(text).is_err(), "{text:?}");
        }
    }

    fn parse(arguments: &[&str]) -> Result<Options, Mistake> {
        let arguments: Vec<OsString> =
            ["pg_receivewal"].iter().chain(arguments).map(|argument| argument.into()).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn what_barman_passes_is_understood() {
        let options = parse(&[
            "--dbname=dbname=replication host=db1 replication=true application_name=barman_receive_wal",
            "--verbose",
            "--no-loop",
            "--no-password",
            "--directory=/wal",
            "--slot=barman",
            "--synchronous",
        ])
        .unwrap();
        assert!(options.verbose && options.no_loop && options.synchronous);
        assert_eq!((options.action, options.password), (Action::Receive, Password::Never));
        assert_eq!(options.directory, Some("/wal".into()));
        assert_eq!(options.slot.as_deref(), Some("barman"));
        assert_eq!(options.status_interval, Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_last_of_several_counts_and_an_interval_of_0_is_none() {
        let options = parse(&["-D", "a", "-Db", "-w", "-W", "-s", " 0 ", "-Z9", "-Znone"]).unwrap();
        assert_eq!(options.directory, Some("b".into()));
        assert_eq!((options.password, options.status_interval), (Password::First, None));
        assert_eq!(options.compress, Compress::default());
    }

    #[test]
    fn the_first_mistake_is_told() {
        let value = |words: &str| Mistake::Value(words.into());
        let combination = |words: &str| Mistake::Combination(words.into());
        for (arguments, mistake) in [
            (&["-D", "d", "extra", "-E", "zz"][..], value("could not parse end position \"zz\"")),
            (&["extra", "more"], combination("too many command-line arguments (first is \"extra\")")),
            (&["-Z", "foo"], combination("no target directory specified")),
            (
                &["-D", "d", "-s", "5", "-s", "5x"],
                value("invalid value \"5x\" for option -s/--status-interval"),
            ),
            (&["-D", "d", "-s", "-1"], value("-s/--status-interval must be in range 0..2147483")),
            (
                &["-D", "d", "-s", "99999999999999999999"],
                value("-s/--status-interval must be in range 0..2147483"),
            ),
            (
                &["--drop-slot", "--create-slot"],
                combination("cannot use --create-slot together with --drop-slot"),
            ),
            (&["-D", "d", "-v", "--version"], Mistake::NotFirst),
            (&["--hel"], Mistake::NotFirst),
            (&["-D", "d", "-V"], Mistake::Syntax("pg_receivewal: invalid option -- 'V'".into())),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), mistake, "{arguments:?}");
        }
    }
}
