//! `check`: whether a server is ready, and how to fix it if not.

mod backup;
mod hints;
mod receive;
mod render;

use core::time::Duration;
use std::time::Instant;

use serde_json::json;

use super::about::About;
use super::connection::ServerArgs;
use super::failure::Failure;
use super::postgres::Postgres;
pub(super) use render::Server;
use render::{Check, Outcome};
use tapster::postgres::{PostgreSQL as _, backup_privileges, checkpoint_privileges};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster check service=db1 --slot tap
  tapster check -H db1 -U barman --for backup
  tapster check service=db1 --nagios

Each line is ok, WARNING or FAILED. Below a line that is not ok stands what fixes it on this server.
Statements, which end with a semicolon, have to be run by a superuser in the database that you
connect to; a standby's roles and privileges are those of its primary.

Exit codes:
  0  nothing failed
  1  something failed, also the connection
  2  usage, bad connection string
  3  the connection was lost on the way
  4  the server refuses what a check asks
  6  the result cannot be written
  with --nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// What the server has to be ready for
    #[arg(long = "for", value_name = "PURPOSE", value_enum, default_value_t = Purpose::All)]
    purpose: Purpose,
    /// The slot that the receiver uses
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
    /// Print one line, and end with an exit code, as monitoring plugins do
    #[arg(long, conflicts_with = "json")]
    nagios: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Purpose {
    /// Receiving WAL
    Receive,
    /// Taking backups
    Backup,
    /// Both
    All,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let began = Instant::now();
    let mut target = args.server.target()?.with_names(args.slot.as_deref(), None);
    let connected = target.connect_postgres(args.slot.as_deref()).await;
    let elapsed = began.elapsed();
    let (server, checks) = match connected {
        Ok(postgres) => {
            let mut checks = Vec::from([postgres.ask(connected_in(elapsed, &postgres)).await?]);
            let server = postgres.ask(checks_of(&args, &postgres, &mut checks)).await?;
            postgres.postgres.close().await;
            postgres.streaming.close().await;
            (server, checks)
        }
        Err(failure) if failure.is_usage() => return Err(failure),
        Err(failure) => {
            let message = failure.message().to_string();
            let hints = hints::connection(&failure, &target.given());
            let server = Server { about: target.about(), ..Server::default() };
            (server, Vec::from([Check::failed("connection", message, hints)]))
        }
    };
    let worst = checks.iter().map(|check| check.outcome as u8).max().unwrap_or_default();
    if args.nagios {
        render::nagios(&server, &checks)?;
        return Failure::exit(worst);
    }
    if args.json {
        render::json(&server, &checks)?;
    } else {
        render::text(&server, &checks)?;
    }
    Failure::exit(u8::from(worst == Outcome::Failed as u8))
}

/// The exit code of a monitoring plugin that could not find out.
pub(super) const UNKNOWN: u8 = 3;

/// The line that a monitoring plugin prints then.
pub(super) fn unknown(reason: &str) -> String {
    format!("TAPSTER UNKNOWN - {}", render::plugin_text(reason))
}

/// How the connection is protected, and how long it took.
async fn connected_in(elapsed: Duration, target: &Postgres) -> Result<Check, Failure> {
    let link = target.postgres.connect().await?;
    let (tls, session) = (link.is_encrypted(), link.session());
    let bound = if session.channel_bound { " bound to it" } else { "" };
    let text = format!(
        "{}, authentication {}{bound}, {} ms",
        if tls { "TLS" } else { "no TLS" },
        session.authentication,
        elapsed.as_millis()
    );
    let milliseconds = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
    let auth = session.authentication.to_string();
    let detail = json!({ "tls": tls, "auth": auth, "channel_binding": session.channel_bound, "connect_ms": milliseconds });
    Ok(Check::ok("connection", text).with(detail).measured(Some(milliseconds)))
}

/// Neither standbys nor backups can use WAL without what `replica` adds to it.
fn wal_level(level: Option<&str>) -> Check {
    match level {
        Some("minimal") => {
            let hints = ["ALTER SYSTEM SET wal_level = 'replica';", hints::RESTART];
            Check::failed("wal_level", "minimal", hints)
        }
        level => Check::ok("wal_level", level.unwrap_or("unknown")),
    }
}

/// Adds all checks to the first, and gives what identifies the server.
async fn checks_of(args: &Args, target: &Postgres, checks: &mut Vec<Check>) -> Result<Server, Failure> {
    let postgres = &target.postgres;
    let version = postgres.server_version().await?;
    let (status, readiness) = postgres.fetch_readiness().await?;
    let streaming = target.streaming.fetch_remote_status().await;

    checks.push(match status.version_supported {
        Some(true) => Check::ok("version", version.to_string()),
        _ => Check::failed("version", version.to_string(), ["PostgreSQL 9.6 or later is needed"]),
    });
    for (key, error) in &status.errors {
        checks.push(Check::warning(
            "status",
            format!("{key}: {}", error.message),
            ["the server's log says more; roles in pg_monitor may see most"],
        ));
    }
    checks.push(wal_level(status.wal_level.as_deref()));
    if args.purpose != Purpose::Backup {
        let slots = postgres.slots().await?;
        receive::checks(&target.given, &status, &streaming, &readiness, &slots, version, checks);
    }
    if args.purpose != Purpose::Receive {
        let missing = postgres.missing_privileges(backup_privileges(version)).await?;
        backup::checks(&missing, &status, &readiness, version, checks);
        let missing = postgres.missing_privileges(checkpoint_privileges(version)).await?;
        if let Some(check) = backup::checkpoint(&missing, &readiness) {
            checks.push(check);
        }
        checks.extend(backup::archiving(postgres, &status, &readiness).await?);
    }
    Ok(Server {
        about: About { system_id: status.postgres_systemid, ..target.about.clone() },
        in_recovery: status.is_in_recovery,
        timeline: streaming.timeline,
    })
}
