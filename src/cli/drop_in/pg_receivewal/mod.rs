//! The program under the name `pg_receivewal`: that program's options, messages, files and exit codes.
//!
//! Barman and unit files call it by a link of that name, as if it were PostgreSQL's program.

mod events;
mod help;
mod options;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use tokio::sync::watch;

use self::events::{Events, describe};
use self::options::{Action, Mistake, Options, Password};
use super::messages::{Messages, refused};
use crate::cli::connection::Target;
use crate::cli::failure::Failure;
use crate::cli::given::{connection_for_shell, for_shell};
use crate::cli::signals::{EndSignals, survive_file_size_limit};
use crate::cli::slot::create_physical_slot;
use crate::cli::{OnEvent, block_on, output};
use tapster::Error;
use tapster::client::quote_ident;
use tapster::conninfo::ConnInfo;
use tapster::receiver::{Receiver, ReceiverOptions};
use tapster::replication::PhysicalSlot;

/// The program's name, if it was called as pg_receivewal or pg_receivexlog.
pub(in crate::cli) fn called_as(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    // The program was called pg_receivexlog up to PostgreSQL 9.6.
    ["pg_receivewal", "pg_receivexlog"].into_iter().find(|ours| name == *ours)
}

/// Runs the program with these arguments, the first of which is its path.
pub(in crate::cli) fn main(program: &str, arguments: &[OsString]) -> ExitCode {
    let text = match arguments.get(1).and_then(|first| first.to_str()) {
        Some("--help" | "-?") => Some(help::HELP),
        Some("--version" | "-V") => Some(help::VERSION),
        _ => None,
    };
    let mut messages = Messages::new(program);
    if let Some(text) = text {
        return match output::print(&format!("{program}{text}")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                if !failure.is_reported() {
                    messages.error(&failure);
                }
                failure.code().into()
            }
        };
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(mistake) => {
            print_mistake(&messages, program, &mistake);
            return ExitCode::FAILURE;
        }
    };
    messages.set_verbose(options.verbose);
    match block_on(Box::pin(run(options, program, &messages))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            messages.error(&failure);
            ExitCode::FAILURE
        }
    }
}

fn print_mistake(messages: &Messages, program: &str, mistake: &Mistake) {
    match mistake {
        Mistake::Syntax(complaint) => output::note(complaint),
        Mistake::Combination(what) | Mistake::Value(what) => messages.error(&Failure::usage(what)),
        Mistake::NotFirst => {}
    }
    if !matches!(mistake, Mistake::Value(_)) {
        messages.hint(format_args!("Try \"{program} --help\" for more information."));
    }
}

async fn run(options: Options, program: &str, messages: &Messages) -> Result<(), Failure> {
    if let (Action::Receive, Some(directory)) = (options.action, &options.directory) {
        std::fs::read_dir(directory).map_err(|error| {
            let shown = directory.display();
            Failure::other(format!("could not open directory \"{shown}\": {}", without_number(&error)))
        })?;
    }
    let target = target(&options, program)?;
    match (options.action, &options.slot) {
        (Action::CreateSlot, Some(slot)) => create_slot(target, slot, options.if_not_exists, messages).await,
        (Action::DropSlot, Some(slot)) => drop_slot(target, slot, messages).await,
        _ => receive(target, options, messages).await,
    }
}

/// The connection parameters; an empty one counts as not given.
fn target(options: &Options, program: &str) -> Result<Target, Failure> {
    let given: ConnInfo = options.dbname.as_deref().unwrap_or_default().parse()?;
    let mut conninfo = ConnInfo::new();
    // The password file has entries for it.
    conninfo.set("dbname", "replication")?;
    let flags = [("host", &options.host), ("port", &options.port), ("user", &options.username)];
    let flags = flags.iter().filter_map(|(keyword, value)| Some((*keyword, value.as_deref()?)));
    for (keyword, value) in given.iter().chain(flags).filter(|(_, value)| !value.is_empty()) {
        conninfo.set(keyword, value)?;
    }
    conninfo.set("replication", "true")?;
    conninfo.set("fallback_application_name", program)?;
    let target = Target::new(conninfo, options.password != Password::Never);
    let mut target = target
        .with_arguments(repeated(options))
        .with_names(options.slot.as_deref(), options.directory.as_deref());
    if options.password == Password::First {
        target.prompt()?;
    }
    Ok(target)
}

/// The arguments that name the connection, for a shell.
fn repeated(options: &Options) -> String {
    let dbname = options.dbname.as_deref().map(connection_for_shell);
    let flags = [("-h", &options.host), ("-p", &options.port), ("-U", &options.username)];
    let flags =
        flags.map(|(flag, value)| (flag, value.as_deref().map(|value| for_shell(value).into_owned())));
    let words = [("-d", dbname)].into_iter().chain(flags);
    let words = words.filter_map(|(flag, value)| value.map(|value| format!("{flag} {value}")));
    let password = match options.password {
        Password::Never => Some("-w".to_string()),
        Password::IfWanted => None,
        Password::First => Some("-W".to_string()),
    };
    words.chain(password).collect::<Vec<_>>().join(" ")
}

async fn create_slot(
    mut target: Target,
    slot: &str,
    if_not_exists: bool,
    messages: &Messages,
) -> Result<(), Failure> {
    let mut connection = target.connect_as_given().await?;
    messages.detail(format_args!("creating replication slot \"{slot}\""));
    let options = PhysicalSlot { temporary: false, reserve_wal: false };
    match create_physical_slot(&mut connection, slot, options, if_not_exists).await {
        Err(Error::Server(said)) => {
            let command = format!("CREATE_REPLICATION_SLOT {} PHYSICAL", quote_ident(slot));
            return Err(Failure::other(refused(&command, &said)));
        }
        created => {
            created?;
        }
    }
    Ok(connection.close().await?)
}

async fn drop_slot(mut target: Target, slot: &str, messages: &Messages) -> Result<(), Failure> {
    let mut connection = target.connect_as_given().await?;
    messages.detail(format_args!("dropping replication slot \"{slot}\""));
    match connection.drop_slot(slot, false).await {
        Err(Error::Server(said)) => {
            let command = format!("DROP_REPLICATION_SLOT {}", quote_ident(slot));
            return Err(Failure::other(refused(&command, &said)));
        }
        dropped => dropped?,
    }
    Ok(connection.close().await?)
}

async fn receive(mut target: Target, options: Options, messages: &Messages) -> Result<(), Failure> {
    let stop = stop_signal(messages.clone())?;
    let receiver_options = ReceiverOptions {
        slot: options.slot,
        end_position: options.endpos,
        status_interval: options.status_interval,
        synchronous: options.synchronous,
        no_loop: options.no_loop,
        compress: Some(options.compress),
        // Barman expects only the files that pg_receivewal would write.
        state_file: false,
        ..ReceiverOptions::new(options.directory.unwrap_or_default())
    };
    let mut events = Events::new(messages);
    let received = target.with_password(async |target| {
        let on_event: OnEvent<'_> = Box::new(|event| events.report(&event));
        let receiver = Receiver::new(target.config()?, receiver_options.clone(), on_event);
        receiver.run(stop.clone()).await.map_err(|error| describe(&error))
    });
    let stopped = match received.await {
        Err(failure) if options.no_loop && events.was_connected => {
            messages.error(&failure);
            return Err(Failure::other("disconnected"));
        }
        received => received?,
    };
    if !*stop.borrow() {
        let (end, timeline) = (stopped.flushed, stopped.timeline);
        messages.detail(format_args!("stopped log streaming at {end} (timeline {timeline})"));
    }
    Ok(())
}

/// Becomes true at the first SIGINT or SIGTERM. Further ones are ignored: at Ctrl-C the terminal signals both Barman
/// and this program, and Barman forwards its signal.
fn stop_signal(messages: Messages) -> Result<watch::Receiver<bool>, Failure> {
    let mut signals = EndSignals::listen()?;
    survive_file_size_limit()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        messages.detail("received interrupt signal, exiting");
        let _ = stop.send(true);
    });
    Ok(stopped)
}

/// The error's text as C programs print it, without the number.
fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}
