use std::time::Instant;

use serde_json::{Map, Value, json};

use super::connection::ConnectionArgs;
use super::failure::Failure;
use super::output;
use super::postgres::Postgres;
use tapster::client::{ColumnError, ResultSet};
use tapster::postgres::{
    PostgreSQL as _, PostgresError, PostgresStatus, Privilege, StreamingStatus, backup_privileges,
    checkpoint_privileges,
};
use tapster::types::{ServerVersion, SqlState};
use tapster::{Error, client};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster check service=db1 --slot tap
  tapster check -H db1 -U barman --for backup
  tapster check service=db1 --nagios

Each line is ok, WARNING or FAILED; below what is not ok stands what mends it on this server.

Exit codes:
  0  nothing failed
  1  something failed
  2  usage, bad connection string
  with --nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A connection URI, a key=value string, or a database's name
    conn: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// What the server is to be ready for
    #[arg(long = "for", value_name = "PURPOSE", value_enum, default_value_t = Purpose::All)]
    purpose: Purpose,
    /// The slot that the receiver uses
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
    /// Print one line as monitoring plugins do, and end with their exit codes
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

impl Outcome {
    /// The word for people, and the one in documents.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "ok"),
            Self::Warning => ("WARNING", "warning"),
            Self::Failed => ("FAILED", "failed"),
        }
    }
}

/// One line of the answer.
#[derive(Debug)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    text: String,
    /// What mends it: statements, settings, lines of files.
    hints: Vec<String>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, text: text.into(), hints: Vec::new() }
    }

    fn warning(name: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, text: text.into(), hints: Vec::from([hint.into()]) }
    }

    fn failed(name: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, text: text.into(), hints: Vec::from([hint.into()]) }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let outcome = check(&args).await;
    match outcome {
        Err(failure) if args.nagios && !failure.is_told() => {
            let error = failure.to_json();
            let message = error["message"].as_str().unwrap_or_default();
            output::print(&format!("TAPSTER UNKNOWN - {}", plugin_text(message)));
            Failure::exit(3)
        }
        outcome => outcome,
    }
}

async fn check(args: &Args) -> Result<(), Failure> {
    let began = Instant::now();
    let mut target = args.connection.target(args.conn.as_deref())?;
    let connected = target.postgres(args.slot.as_deref()).await;
    let elapsed_ms = began.elapsed().as_millis();
    let (server, checks) = match connected {
        Ok(postgres) => {
            let connection = Check::ok("connection", format!("{elapsed_ms} ms"));
            let mut checks = Vec::from([connection]);
            let server = checks_of(args, &postgres, &mut checks).await?;
            postgres.postgres.close().await;
            postgres.streaming.close().await;
            (server, checks)
        }
        Err(failure) if failure.is_usage() => return Err(failure),
        Err(failure) => {
            let message = failure.to_json()["message"].as_str().unwrap_or_default().to_string();
            let user = target.resolve()?.get("user").unwrap_or_default().to_string();
            let hint = connection_hint(&failure, &message, &user);
            (json!({}), Vec::from([Check::failed("connection", message, hint)]))
        }
    };
    let worst = checks.iter().map(|check| check.outcome as u8).max().unwrap_or_default();
    if args.nagios {
        print_nagios(&checks, elapsed_ms);
        return Failure::exit(worst);
    }
    if args.json {
        print_json(&server, &checks);
    } else {
        print(&server, &checks);
    }
    Failure::exit(u8::from(worst == Outcome::Failed as u8))
}

/// What pg_hba.conf or the role lacks for an ordinary connection.
fn connection_hint(failure: &Failure, message: &str, user: &str) -> String {
    match failure.sqlstate() {
        Some(SqlState::INVALID_AUTHORIZATION) => hba_hint(message, "all", &quoted(user))
            .unwrap_or_else(|| format!("CREATE ROLE {} LOGIN;", quoted(user))),
        Some(SqlState::INVALID_PASSWORD) => "give the right password in ~/.pgpass or PGPASSWORD".into(),
        Some(SqlState::TOO_MANY_CONNECTIONS) => "raise max_connections, or end other sessions".into(),
        _ => "\"tapster conninfo\" shows which host and port are used, and why".into(),
    }
}

/// The line that pg_hba.conf lacks, if that is what the server says, for the address that it sees.
fn hba_hint(message: &str, database: &str, role: &str) -> Option<String> {
    let (_, rest) = message.split_once("no pg_hba.conf entry")?;
    let address = rest.split_once("host \"").and_then(|(_, rest)| rest.split_once('"')).map(|(host, _)| host);
    let line = match address {
        None | Some("[local]") => format!("local {database} {role} scram-sha-256"),
        Some(address) => {
            let bits = if address.contains(':') { 128 } else { 32 };
            format!("host {database} {role} {address}/{bits} scram-sha-256")
        }
    };
    Some(format!("in pg_hba.conf: {line}\nthen: SELECT pg_reload_conf();"))
}

/// A name as SQL and `pg_hba.conf` write it.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.into() } else { client::quote_ident(name) }
}

/// What only the checks want to know.
struct Facts {
    role: String,
    may_replicate: bool,
    senders: u32,
    slots: u32,
    wal_sender_timeout_ms: Option<u64>,
    archive_mode: String,
    wal_status: Option<String>,
    safe_wal_size: Option<i64>,
}

const FACTS: &str = "SELECT CURRENT_USER AS role, \
     (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) \
     AS may_replicate, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots, \
     (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout') AS wal_sender_timeout, \
     pg_catalog.current_setting('archive_mode') AS archive_mode";

impl Facts {
    fn read(facts: &ResultSet, slot: Option<&ResultSet>) -> Result<Self, ColumnError> {
        let row = facts.rows().next();
        let missing =
            || client::ColumnError { column: "role".into(), kind: client::ColumnErrorKind::Missing };
        let row = row.ok_or_else(missing)?;
        let slot = slot.and_then(|set| set.row(0));
        Ok(Self {
            role: row.text("role")?.into(),
            may_replicate: row.optional_text("may_replicate")? == Some("t"),
            senders: row.parse("senders")?,
            slots: row.parse("slots")?,
            wal_sender_timeout_ms: row.optional("wal_sender_timeout")?,
            archive_mode: row.text("archive_mode")?.into(),
            wal_status: match slot {
                Some(slot) => slot.optional_text("wal_status")?.map(str::to_string),
                None => None,
            },
            safe_wal_size: match slot {
                Some(slot) => slot.optional("safe_wal_size")?,
                None => None,
            },
        })
    }
}

/// Adds all checks to the first, and gives what identifies the server.
async fn checks_of(args: &Args, target: &Postgres, checks: &mut Vec<Check>) -> Result<Value, Failure> {
    let postgres = &target.postgres;
    let version = postgres.server_version().await?;
    let mut statements = Vec::from([FACTS.to_string()]);
    if let Some(slot) = args.slot.as_ref().filter(|_| version >= ServerVersion::release(13)) {
        statements.push(format!(
            "SELECT wal_status, safe_wal_size FROM pg_catalog.pg_replication_slots \
             WHERE slot_name::pg_catalog.text = {}",
            client::quote_literal(slot)
        ));
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    let (status, results) = postgres.fetch_remote_status_with(&statements).await;
    let mut sets = Vec::new();
    for result in results {
        sets.push(result.map_err(PostgresError::Connection)?);
    }
    let facts = sets.first().ok_or(PostgresError::NoConnection)?;
    let facts = Facts::read(facts, sets.get(1)).map_err(|e| PostgresError::Connection(Error::Column(e)))?;
    let streaming = target.streaming.fetch_remote_status().await;

    checks.push(match status.version_supported {
        Some(true) => Check::ok("version", version.to_string()),
        _ => Check::failed("version", version.to_string(), "PostgreSQL 9.6 or later is needed"),
    });
    for (key, error) in &status.errors {
        checks.push(Check::warning(
            "status",
            format!("{key}: {}", error.message),
            "GRANT pg_monitor TO the role",
        ));
    }
    if args.purpose != Purpose::Backup {
        receive_checks(args, &status, &streaming, &facts, version, checks);
    }
    if args.purpose != Purpose::Receive {
        let missing = postgres.missing_privileges(backup_privileges(version)).await?;
        backup_checks(&missing, &status, &facts, version, checks);
        let missing = postgres.missing_privileges(checkpoint_privileges(version)).await?;
        if let Some(check) = checkpoint_check(&missing, &facts) {
            checks.push(check);
        }
        if facts.archive_mode != "off" && !postgres.get_archiver_stats().await?.is_archiving {
            let hint = "look at archive_command and at the server's log: WAL piles up in its pg_wal";
            checks.push(Check::failed("archiving", "the last attempt failed", hint));
        }
    }
    Ok(json!({
        "host": target.server,
        "version": version.to_string(),
        "version_num": version.num(),
        "in_recovery": status.is_in_recovery,
        "timeline": streaming.timeline.map(tapster::types::TimelineId::get),
        "system_identifier": status.postgres_systemid.map(|id| id.to_string()),
    }))
}

fn receive_checks(
    args: &Args,
    status: &PostgresStatus,
    streaming: &StreamingStatus,
    facts: &Facts,
    version: ServerVersion,
    checks: &mut Vec<Check>,
) {
    checks.push(replication_login(streaming, facts));
    match (status.postgres_systemid, streaming.streaming_systemid) {
        (Some(one), Some(other)) if one != other => checks.push(Check::failed(
            "system identifier",
            format!("{one}, but {other} over the replication connection"),
            "both connections must reach the same server: look at the list of hosts, or the pooler",
        )),
        _ => {}
    }
    let restart = "and restart the server";
    if status.wal_level.as_deref() == Some("minimal") {
        let hint = format!("ALTER SYSTEM SET wal_level = 'replica'; {restart}");
        checks.push(Check::failed("wal_level", "minimal", hint));
    } else {
        checks.push(Check::ok("wal_level", status.wal_level.as_deref().unwrap_or("unknown")));
    }
    let most = status.max_wal_senders.unwrap_or_default();
    let in_use = format!("{} of {most} in use", facts.senders);
    let hint = format!("ALTER SYSTEM SET max_wal_senders = {}; {restart}", most.max(facts.senders) + 5);
    checks.push(match facts.senders {
        _ if most == 0 => Check::failed("wal senders", "none are allowed", hint),
        used if used >= most => Check::failed("wal senders", in_use, hint),
        _ => Check::ok("wal senders", in_use),
    });
    checks.push(match &args.slot {
        Some(slot) => slot_check(slot, status, facts, version),
        None => slots_check(status, facts),
    });
    let milliseconds = facts.wal_sender_timeout_ms.unwrap_or_default();
    let text = format!("{} s (receive-wal reports every 10 s)", milliseconds / 1000);
    checks.push(match milliseconds {
        0 => Check::warning(
            "wal_sender_timeout",
            "0: the server never notices a receiver that is gone",
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
        ),
        1..=20_000 => {
            let hint = "receive with --status-interval of less than half of it";
            Check::warning("wal_sender_timeout", text, hint)
        }
        _ => Check::ok("wal_sender_timeout", text),
    });
}

fn replication_login(streaming: &StreamingStatus, facts: &Facts) -> Check {
    const NAME: &str = "replication login";
    let role = quoted(&facts.role);
    let Some(error) = &streaming.connection_error else {
        return match streaming.streaming {
            Some(true) => Check::ok(NAME, ""),
            _ => {
                Check::failed(NAME, "what answers is no WAL sender", "connect to the server, not to a pooler")
            }
        };
    };
    // pg_hba.conf is looked at before the role's attribute.
    if let Some(hint) = hba_hint(&error.message, "replication", &role) {
        return Check::failed(NAME, error.message.clone(), hint);
    }
    let hint = match error.sqlstate {
        _ if !facts.may_replicate => format!("ALTER ROLE {role} REPLICATION;"),
        Some(SqlState::TOO_MANY_CONNECTIONS) => "all WAL senders are in use: raise max_wal_senders".into(),
        Some(SqlState::INVALID_PASSWORD) => "in ~/.pgpass: a line for the database replication".into(),
        _ => "the server's log says more".into(),
    };
    Check::failed(NAME, error.message.clone(), hint)
}

fn slot_check(name: &str, status: &PostgresStatus, facts: &Facts, version: ServerVersion) -> Check {
    const NAME: &str = "slot";
    let Some(slot) = &status.replication_slot else {
        let hint = format!("tapster slot create {name}");
        return Check::failed(NAME, format!("there is no physical slot {name}"), hint);
    };
    let left = facts.safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok()).map(output::bytes);
    match facts.wal_status.as_deref() {
        Some("lost") => {
            let hint = format!("WAL is missing: drop {name}, create it again, and take a new backup");
            return Check::failed(NAME, format!("{name} is lost"), hint);
        }
        Some("unreserved") => {
            let left = left.unwrap_or_else(|| "0 B".into());
            let text = format!("{name} is unreserved, {left} until its WAL is removed");
            return Check::warning(NAME, text, "let the receiver catch up, or raise max_slot_wal_keep_size");
        }
        _ => {}
    }
    match (slot.active, slot.restart_lsn) {
        (true, _) => Check::ok(NAME, format!("{name} is active")),
        (false, None) => {
            let hint = format!("tapster receive-wal -S {name}, or create it without --no-reserve-wal");
            Check::warning(NAME, format!("{name} keeps no WAL, as nobody has used it yet"), hint)
        }
        (false, Some(lsn)) => {
            let mut hint = format!("tapster receive-wal -S {name}");
            if version >= ServerVersion::release(13) && facts.safe_wal_size.is_none() {
                hint.push_str("; until then WAL piles up, without a limit in max_slot_wal_keep_size");
            }
            Check::warning(NAME, format!("nobody uses {name}, which keeps WAL from {lsn} on"), hint)
        }
    }
}

fn slots_check(status: &PostgresStatus, facts: &Facts) -> Check {
    let most = status.max_replication_slots.unwrap_or_default();
    let text = format!("{} of {most} in use", facts.slots);
    if facts.slots < most {
        return Check::ok("slots", text);
    }
    let hint =
        format!("ALTER SYSTEM SET max_replication_slots = {}; and restart the server", facts.slots + 5);
    Check::warning("slots", text, hint)
}

fn backup_checks(
    missing: &[Privilege],
    status: &PostgresStatus,
    facts: &Facts,
    version: ServerVersion,
    checks: &mut Vec<Check>,
) {
    let role = quoted(&facts.role);
    if status.has_backup_privileges == Some(true) {
        checks.push(Check::ok("backup privileges", ""));
    } else if missing.is_empty() {
        let text = format!("on PostgreSQL {} only a superuser may take backups", version.major());
        checks.push(Check::failed("backup privileges", text, format!("ALTER ROLE {role} SUPERUSER;")));
    } else {
        let names: Vec<&str> = missing.iter().map(|privilege| privilege.name.as_str()).collect();
        checks.push(Check {
            name: "backup privileges",
            outcome: Outcome::Failed,
            text: format!("missing: {}", names.join("; ")),
            hints: missing.iter().map(|privilege| format!("{} {role};", privilege.grant)).collect(),
        });
    }
    match facts.archive_mode.as_str() {
        "off" => checks.push(Check::ok("archive_mode", "off: the backup's WAL has to be received")),
        mode => checks.push(Check::ok("archive_mode", format!("{mode}: the end of a backup waits for it"))),
    }
}

fn checkpoint_check(missing: &[Privilege], facts: &Facts) -> Option<Check> {
    let privilege = missing.first()?;
    let text = format!("missing: {}, for the command checkpoint", privilege.name);
    let hint = format!("{} {};", privilege.grant, quoted(&facts.role));
    Some(Check::warning("checkpoint", text, hint))
}

fn count(checks: &[Check], outcome: Outcome) -> usize {
    checks.iter().filter(|check| check.outcome == outcome).count()
}

fn print(server: &Value, checks: &[Check]) {
    if let Some(host) = server["host"].as_str() {
        let role = if server["in_recovery"] == true { "standby" } else { "primary" };
        let system = server["system_identifier"].as_str().unwrap_or("-");
        let version = server["version"].as_str().unwrap_or("-");
        output::print(&format!("{host}: PostgreSQL {version}, {role}, system {system}"));
    }
    let mut rows = Vec::new();
    for check in checks {
        let mut texts = check.text.lines();
        let first = texts.next().unwrap_or_default().to_string();
        rows.push(Vec::from([format!("  {}", check.name), check.outcome.words().0.into(), first]));
        let below = texts.chain(check.hints.iter().flat_map(|hint| hint.lines()));
        rows.extend(below.map(|line| Vec::from([String::new(), String::new(), line.to_string()])));
    }
    output::print_table(&rows);
    let [failed, warnings, ok] = [Outcome::Failed, Outcome::Warning, Outcome::Ok].map(|o| count(checks, o));
    let plural = if warnings == 1 { "" } else { "s" };
    output::print(&format!("{failed} failed, {warnings} warning{plural}, {ok} ok"));
}

fn print_json(server: &Value, checks: &[Check]) {
    let check = |check: &Check| {
        let mut value = Map::new();
        value.insert("name".into(), check.name.replace(' ', "_").into());
        value.insert("status".into(), check.outcome.words().1.into());
        value.insert("text".into(), check.text.as_str().into());
        if !check.hints.is_empty() {
            value.insert("hint".into(), check.hints.join("\n").into());
        }
        Value::Object(value)
    };
    output::print_json(&json!({
        "schema": "tapster.check/1",
        "ok": count(checks, Outcome::Failed) == 0,
        "server": server,
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "counts": {
            "ok": count(checks, Outcome::Ok),
            "warning": count(checks, Outcome::Warning),
            "failed": count(checks, Outcome::Failed),
        },
    }));
}

fn print_nagios(checks: &[Check], elapsed_ms: u128) {
    let (word, told) = match (count(checks, Outcome::Failed), count(checks, Outcome::Warning)) {
        (0, 0) => ("OK", Outcome::Ok),
        (0, _) => ("WARNING", Outcome::Warning),
        _ => ("CRITICAL", Outcome::Failed),
    };
    let texts: Vec<String> = checks
        .iter()
        .filter(|check| check.outcome == told && told != Outcome::Ok)
        .map(|check| format!("{}: {}", check.name, plugin_text(&check.text)))
        .collect();
    let text = if texts.is_empty() { format!("{} checks", checks.len()) } else { texts.join("; ") };
    output::print(&format!("TAPSTER {word} - {text} | connect_ms={elapsed_ms}"));
}

/// The first line; a bar would begin the numbers.
fn plugin_text(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_pg_hba_is_that_of_the_address_the_server_sees() {
        let line = |message: &str| hba_hint(message, "replication", "\"My role\"");
        for (host, expected) in [
            ("10.0.0.7", "host replication \"My role\" 10.0.0.7/32 scram-sha-256"),
            ("fe80::1", "host replication \"My role\" fe80::1/128 scram-sha-256"),
            ("[local]", "local replication \"My role\" scram-sha-256"),
        ] {
            let message = format!(
                "no pg_hba.conf entry for replication connection from host \"{host}\", user \"My role\""
            );
            assert_eq!(
                line(&message).unwrap().lines().next(),
                Some(format!("in pg_hba.conf: {expected}").as_str())
            );
        }
    }

    #[test]
    fn only_plain_names_are_not_quoted() {
        assert_eq!(
            ["barman", "_x1", "Barman", "a b", "1x"].map(quoted),
            ["barman", "_x1", "\"Barman\"", "\"a b\"", "\"1x\""]
        );
    }
}
