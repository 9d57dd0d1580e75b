//! `tapster receive-wal`: receives from one server or many, and reports to its observers.

mod args;
mod config;
mod dry_run;
mod metrics;
mod observers;
mod progress;
mod registry;
mod report;
mod server;
mod signals;
mod supervisor;
mod systemd;

use core::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use tokio::task::LocalSet;

use super::about::About;
use super::failure::Failure;
use super::{input, stderr};
use args::LogFormat;
pub(super) use args::{Args, When, with_variable};
use observers::Observers;
use registry::Registry;
use report::Reporter;
use signals::{Signal, Signals};
use supervisor::Supervisor;

pub(super) const AFTER_HELP: &str = "Examples:
  tapster receive-wal postgresql://barman@db1 -D /wal -S tap --create-slot --if-not-exists
  tapster receive-wal service=db1 -D /wal -S tap --synchronous
  tapster receive-wal --config servers.toml --metrics-file /run/tapster.prom

Receiving begins where the archive ends, by its segments or by its file tapster.state; with an
empty archive, at the oldest WAL that the slot keeps, or else at the server's current segment.
Without a slot the server may remove WAL before it is received. After a lost connection the program
connects again.

If the server no longer has the next WAL, the program refuses to continue (5). Then take a new base
backup, and give --accept-gap once: the gap is noted in tapster.state.

Each flag can also be set by an environment variable, TAPSTER_ and its name (TAPSTER_SLOT); the
command line takes precedence. A file for --config has a table [servers.NAME] for each server, with
conn, directory, slot and the other flags as keys, and [defaults] for all servers. One server's
failure does not stop the others; when all have ended, the highest exit code counts.

SIGINT and SIGTERM stop in good order, a second one at once. SIGHUP reads passwords, service files
and the file of --config again, SIGUSR1 prints the progress. systemd (Type=notify) is sent READY,
STATUS and WATCHDOG.

Exit codes:
  0  stopped by SIGINT or SIGTERM, or at --endpos
  1  failed for another reason
  2  usage, bad connection string
  3  cannot connect, or connection lost and --no-loop
  4  authentication, TLS verification, missing privilege
  5  refused because WAL would be lost or mixed: gap, other cluster, archive ahead, archive locked
  6  local storage
  130, 143  ended at once by a second SIGINT or SIGTERM";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let report = Reporter::new(args.json, args.quiet, args.verbose);
    if args.daemon.log_format == LogFormat::Json {
        stderr::write_json();
    }
    if let Some(file) = &args.daemon.metrics_file {
        input::check_output(file)?;
    }
    match (args.dry_run, &args.config) {
        (true, Some(file)) => dry_run_all(file, &report).await,
        (true, None) => dry_run::run(&args.server, &report).await,
        (false, _) => {
            // Never dropped. When the command ends at once, tasks and threads end with the process, as in a crash;
            // dropping them could wait for a stuck disk.
            let tasks = ManuallyDrop::new(LocalSet::new());
            tasks.run_until(receive(args, report)).await
        }
    }
}

/// Runs until all servers have ended, or a second signal or an unwritable stdout ends it at once.
async fn receive(args: Args, report: Reporter) -> Result<(), Failure> {
    let documents = report.documents();
    let mut signals = Signals::listen()?;
    let mut observers = Observers::new(&args.daemon, &report);
    let registry = Arc::new(Registry::default());
    let mut supervisor = Supervisor::new(args.config, Arc::clone(&registry), report, observers.ask_after());
    supervisor.start(args.server)?;
    loop {
        tokio::select! {
            end = supervisor.next_end() => if end.is_none() { break },
            signal = signals.next() => match signal {
                Signal::Stop => {
                    observers.stopping();
                    supervisor.stop();
                }
                Signal::Reload => {
                    observers.reloading();
                    supervisor.reload();
                    observers.reloaded();
                }
                Signal::Abort(signal) => {
                    stderr::set_last_line(String::new());
                    return Err(Failure::interrupted(signal).already_reported());
                }
                Signal::Status => observers.report_all(&registry),
            },
            failure = documents.failure() => return Err(failure),
            () = observers.poll(&registry) => {}
        }
    }
    observers.finish(&registry).await;
    documents.result()?;
    supervisor.result()
}

/// Checks one server after the other. Of several failures, the highest exit code counts.
async fn dry_run_all(file: &Path, report: &Reporter) -> Result<(), Failure> {
    let mut worst: Option<Failure> = None;
    for definition in config::read(file)? {
        let about = About { label: Some(definition.name.clone()), ..About::default() };
        let report = report.of_server(Some(definition.name.as_str().into()), about);
        if let Err(failure) = dry_run::run(&definition.args, &report).await {
            report.failed(&failure);
            if worst.as_ref().is_none_or(|worst| failure.code() > worst.code()) {
                worst = Some(failure.already_reported());
            }
        }
    }
    report.documents().result()?;
    worst.map_or(Ok(()), Err)
}
