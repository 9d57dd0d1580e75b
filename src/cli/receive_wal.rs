use core::fmt::Display;
use std::path::PathBuf;

use rustix::fs::{Access, access};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::connection::{ConnectionArgs, Target, seconds};
use super::failure::{Failure, with_causes};
use super::output;
use tapster::Error;
use tapster::replication::PhysicalSlot;
use tapster::types::{Lsn, SqlState};
use tapster::wal::{AcceptedGap, ReceiveError, Receiver, ReceiverEvent, ReceiverOptions, Stopped};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster receive-wal postgresql://barman@db1 -D /wal -S tap --create-slot --if-not-exists
  tapster receive-wal service=db1 -D /wal -S tap --synchronous

Receiving begins where the archive ends, by its segments or by the file tapster.state in it; in an empty one at
what the slot keeps, else at the server's current segment. Without a slot the server may remove WAL before it is
received. A lost connection is made again. SIGINT and SIGTERM stop in good order, a second one at once.

If the server does not have the next WAL any more, the program refuses to continue (5). Take a new base backup
then, and give --accept-gap once: the gap is noted in tapster.state.

Exit codes:
  0  stopped by SIGINT or SIGTERM, or at --endpos
  1  failed for another reason
  2  usage, bad connection string
  3  cannot connect, or connection lost and --no-loop
  4  authentication, TLS verification, missing privilege
  5  refused so that WAL is not lost or mixed: gap, other cluster, archive ahead, archive locked
  6  local storage";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A connection URI, a key=value string, or a database's name
    conn: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The archive: a directory, which must exist
    #[arg(short = 'D', long, value_name = "DIR", env = "TAPSTER_DIRECTORY")]
    directory: PathBuf,
    /// The replication slot to use
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
    /// Create the slot first; it keeps WAL from then on
    #[arg(long, requires = "slot")]
    create_slot: bool,
    /// With --create-slot: a slot that exists already is no error
    #[arg(long, requires = "create_slot")]
    if_not_exists: bool,
    /// Stop when everything up to this position is received
    #[arg(short = 'E', long, value_name = "LSN")]
    endpos: Option<Lsn>,
    /// End with an error when the connection is lost, instead of connecting again
    #[arg(short = 'n', long)]
    no_loop: bool,
    /// Seconds between status reports to the server; 0 for none but those it asks for
    #[arg(short = 's', long, value_name = "SECONDS", default_value_t = 10, env = "TAPSTER_STATUS_INTERVAL")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=2_147_483))]
    status_interval: u64,
    /// Make everything durable and report it at once, as a synchronous standby does
    #[arg(long, alias = "sync")]
    synchronous: bool,
    /// Seconds that the server may be silent before the connection counts as lost; 0 for any
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "TAPSTER_RECEIVE_TIMEOUT")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=2_147_483))]
    receive_timeout: u64,
    /// Store WAL without checking its pages and records
    #[arg(long)]
    no_check_wal: bool,
    /// If the server does not have the next WAL any more, note the gap in the archive and go on behind it
    #[arg(long, conflicts_with = "no_state_file")]
    accept_gap: bool,
    /// Keep no state file (tapster.state) in the archive
    #[arg(long)]
    no_state_file: bool,
    /// Begin no segment with less space left than this, as in 500MB or 10GiB
    #[arg(long, value_name = "SIZE", default_value = "0", hide_default_value = true)]
    #[arg(env = "TAPSTER_MIN_FREE", value_parser = super::size::parse)]
    min_free: u64,
    /// Print events as JSON documents, one a line
    #[arg(long)]
    pub(super) json: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
    /// Also tell of each segment
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    check_directory(&args.directory)?;
    let stop = stop_signals()?;
    let mut target = args.connection.target(args.conn.as_deref())?;
    let report = Reporter { json: args.json, quiet: args.quiet, verbose: args.verbose };
    if args.create_slot
        && let Some(slot) = &args.slot
    {
        create_slot(&mut target, slot, args.if_not_exists, &report).await?;
    } else if args.slot.is_none() {
        report.warning("no replication slot: the server may remove WAL before it is received (see -S)");
    }
    let options = ReceiverOptions {
        slot: args.slot,
        end_position: args.endpos,
        status_interval: seconds(args.status_interval),
        synchronous: args.synchronous,
        no_loop: args.no_loop,
        check_wal: !args.no_check_wal,
        receive_timeout: seconds(args.receive_timeout),
        state_file: !args.no_state_file,
        accept_gap: args.accept_gap,
        min_free: args.min_free,
        ..ReceiverOptions::new(args.directory)
    };
    loop {
        let config = target.replication_config()?;
        let receiver = Receiver::new(config, options.clone(), |event| report.event(&event));
        match receiver.run(stop.clone()).await {
            Err(ReceiveError::Connection(error)) if target.can_mend(&error) => target.prompt()?,
            result => {
                report.stopped(&result?);
                return Ok(());
            }
        }
    }
}

/// Finds out before connecting what would fail after it.
fn check_directory(directory: &std::path::Path) -> Result<(), Failure> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Err(error) => return Err(Failure::storage(format!("could not open directory \"{shown}\": {error}"))),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Failure::storage(format!("\"{shown}\" is not a directory")));
        }
        Ok(_) => {}
    }
    access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Failure::storage(format!("could not write to directory \"{shown}\": {error}")))
}

async fn create_slot(
    target: &mut Target,
    slot: &str,
    if_not_exists: bool,
    report: &Reporter,
) -> Result<(), Failure> {
    let mut connection = target.connect_replication().await?;
    match connection.create_physical_slot(slot, PhysicalSlot { temporary: false, reserve_wal: true }).await {
        Ok(_) => {
            report.line(&format!("slot {slot} created"), &json!({ "event": "slot_created", "slot": slot }))
        }
        Err(Error::Server(error)) if error.sqlstate == SqlState::DUPLICATE_OBJECT && if_not_exists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(connection.close().await?)
}

/// The same number on every Linux architecture but MIPS.
const SIGXFSZ: i32 = 25;

/// True once SIGINT or SIGTERM has come. A second one ends the process.
fn stop_signals() -> Result<watch::Receiver<bool>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::other(format!("could not handle signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    // A file size limit is an error of the write then, and not the end of the process.
    let _too_large = listen(SignalKind::from_raw(SIGXFSZ))?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        let _ = stop.send(true);
        let signal = next(&mut interrupt, &mut terminate).await;
        std::process::exit(128 + signal.as_raw_value());
    });
    Ok(stopped)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    }
}

/// Tells what happens, on stderr for people or on stdout as JSON.
struct Reporter {
    json: bool,
    quiet: bool,
    verbose: bool,
}

impl Reporter {
    fn line(&self, text: &str, event: &Value) {
        if self.json {
            let mut event = event.clone();
            event["ts"] = output::timestamp().into();
            output::print_json(&event);
        } else if !self.quiet {
            output::note(&format!("{} {text}", output::timestamp()));
        }
    }

    fn warning(&self, text: &str) {
        output::note(&format!("{} warning: {text}", output::timestamp()));
    }

    fn event(&self, event: &ReceiverEvent<'_>) {
        let text = |value: &dyn Display| value.to_string();
        match event {
            ReceiverEvent::Connected { server, version, system_id, timeline } => self.line(
                &format!(
                    "connected to {server}, PostgreSQL {version}, system {system_id}, timeline {timeline}"
                ),
                &json!({
                    "event": "connected", "server": server, "version": text(version),
                    "system_identifier": text(system_id), "timeline": timeline.get(),
                }),
            ),
            ReceiverEvent::ArchiveWarning(warning) => self.warning(&text(warning)),
            ReceiverEvent::Resumed { flushed, timeline } => self.line(
                &format!(
                    "the newest segments are not here any more; by the state file, everything before {flushed} on \
                     timeline {timeline} was received"
                ),
                &json!({ "event": "resumed", "flush_lsn": text(flushed), "timeline": timeline.get() }),
            ),
            ReceiverEvent::SlotUnknown { slot, error } => self.warning(&format!(
                "could not find out what slot {slot} keeps, or whether it is lost: {}; receiving begins at the \
                 server's current segment",
                with_causes(*error)
            )),
            ReceiverEvent::GapAccepted(gap) => self.gap_accepted(gap),
            ReceiverEvent::ArchiveDamage { segment, damage } => self.warning(&format!(
                "segment {segment} of the archive is damaged: {damage}; see tapster verify"
            )),
            ReceiverEvent::Streaming { start, timeline } => self.line(
                &format!("streaming from {start} on timeline {timeline}"),
                &json!({ "event": "streaming", "start_lsn": text(start), "timeline": timeline.get() }),
            ),
            ReceiverEvent::SegmentFinished(segment) if self.verbose || self.json => {
                self.line(
                    &format!("finished segment {segment}"),
                    &json!({
                        "event": "segment", "name": text(segment), "timeline": segment.timeline().get(),
                        "end_lsn": text(&segment.end()), "bytes": segment.size().bytes(),
                    }),
                );
            }
            ReceiverEvent::HistoryStored(timeline) => self.line(
                &format!("stored the history of timeline {timeline}"),
                &json!({ "event": "history", "timeline": timeline.get() }),
            ),
            ReceiverEvent::TimelineSwitched { timeline, switchpoint } => self.line(
                &format!("switched to timeline {timeline}, which begins at {switchpoint}"),
                &json!({
                    "event": "timeline_switch", "timeline": timeline.get(), "switchpoint": text(switchpoint),
                }),
            ),
            ReceiverEvent::Damage(damage) => {
                self.problem(
                    "damage",
                    &format!("the server sent damaged WAL: {damage}"),
                    0,
                    "fetching it again",
                );
            }
            ReceiverEvent::Unchecked(version) => {
                self.warning(&format!("WAL of PostgreSQL {version} is stored without being checked"));
            }
            ReceiverEvent::OutOfSpace { error, retry_in } => {
                self.problem("out_of_space", &with_causes(*error), retry_in.as_millis(), "trying again");
            }
            ReceiverEvent::Disconnected { error, retry_in } => {
                self.problem("disconnected", &with_causes(*error), retry_in.as_millis(), "connecting again");
            }
            _ => {}
        }
    }

    fn gap_accepted(&self, gap: &AcceptedGap) {
        let AcceptedGap { from, to, .. } = gap;
        let bytes = to.get().saturating_sub(from.get());
        if self.json {
            let (from, to) = (from.to_string(), to.to_string());
            self.line(
                "",
                &json!({ "event": "gap_accepted", "from_lsn": from, "to_lsn": to, "bytes": bytes }),
            );
        } else {
            let volume = output::bytes(bytes);
            self.warning(&format!(
                "WAL from {from} to {to} is missing ({volume}), as accepted by --accept-gap"
            ));
        }
    }

    /// A problem that is not the end, for people also with `--quiet`.
    fn problem(&self, event: &str, reason: &str, retry_in_ms: u128, then: &str) {
        if self.json {
            let retry_in_ms = u64::try_from(retry_in_ms).unwrap_or(u64::MAX);
            self.line("", &json!({ "event": event, "reason": reason, "retry_in_ms": retry_in_ms }));
        } else {
            let seconds = retry_in_ms as f64 / 1000.0;
            self.warning(&format!("{reason}; {then} in {seconds:.1} s"));
        }
    }

    fn stopped(&self, stopped: &Stopped) {
        let Stopped { flushed, timeline, segments, bytes, partial } = stopped;
        let segments_text = match (segments, partial) {
            (1, false) => "1 segment".to_string(),
            (n, false) => format!("{n} segments"),
            (1, true) => "1 segment and a partial one".to_string(),
            (n, true) => format!("{n} segments and a partial one"),
        };
        let volume = output::bytes(*bytes);
        self.line(
            &format!(
                "stopped: flushed to {flushed} on timeline {timeline}, {segments_text}, {volume} in this run"
            ),
            &json!({
                "event": "stopped", "ok": true, "flush_lsn": flushed.to_string(), "timeline": timeline.get(),
                "segments": segments, "bytes": bytes, "partial": partial,
            }),
        );
    }
}
