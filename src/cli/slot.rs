use clap::Subcommand;
use serde_json::{Value, json};

use super::connection::{ConnectionArgs, ServerArgs, TimeoutArgs};
use super::failure::Failure;
use super::{output, usage};
use tapster::client::Row;
use tapster::postgres::{NameMap, PostgreSQL as _};
use tapster::replication::PhysicalSlot;
use tapster::types::{ServerVersion, SqlState};
use tapster::{Error, client};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List replication slots and how much WAL each keeps
    #[command(after_long_help = after_help!("  tapster slot ls service=db1\n  tapster slot ls service=db1 --json"))]
    Ls(LsArgs),
    /// Create a physical replication slot
    #[command(after_long_help = after_help!(
        "  tapster slot create service=db1 tap\n  tapster slot create service=db1 tap --if-not-exists"
    ))]
    Create(CreateArgs),
    /// Drop a replication slot
    #[command(after_long_help = after_help!(
        "  tapster slot drop service=db1 tap\n  tapster slot drop service=db1 tap --wait --if-exists"
    ))]
    Drop(DropArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// Keep WAL only from the first position that a receiver reports, instead of from now on
    #[arg(long)]
    no_reserve_wal: bool,
    /// A slot that exists already is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// A slot that does not exist is no error
    #[arg(long)]
    if_exists: bool,
    /// Wait until the slot is free
    #[arg(long)]
    wait: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// The connection, which may be left out, and the slot's name.
#[derive(Debug, clap::Args)]
struct NameArgs {
    /// A connection URI, a key=value string, or a database's name; then the slot's name
    #[arg(value_names = ["CONN", "NAME"], num_args = 1..=2, required_unless_present = "slot")]
    conn_and_name: Vec<String>,
    /// The slot's name, instead of the last argument
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
}

impl NameArgs {
    fn split(&self) -> Result<(Option<&str>, &str), Failure> {
        match (self.conn_and_name.as_slice(), &self.slot) {
            ([name], None) => Ok((None, usage::name("slot", name)?)),
            ([conn, name], None) => Ok((Some(conn), usage::name("slot", name)?)),
            ([conn], Some(name)) => Ok((Some(conn), name)),
            ([], Some(name)) => Ok((None, name)),
            _ => Err(Failure::usage("give the slot's name once")),
        }
    }
}

impl Command {
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Ls(args) => args.json,
            Self::Create(args) => args.json,
            Self::Drop(args) => args.json,
        }
    }
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(&args).await,
        Command::Create(args) => create(&args).await,
        Command::Drop(args) => drop_slot(&args).await,
    }
}

async fn list(args: &LsArgs) -> Result<(), Failure> {
    let mut target = args.server.target()?;
    let target = target.postgres(None).await?;
    let sets = {
        let mut connection = target.postgres.connect().await?;
        let query = slots_query(connection.server_version()?);
        connection.simple_query(&query).await?
    };
    let slots = sets.first().map(read_slots).transpose()?.unwrap_or_default();
    target.postgres.close().await;
    if args.json {
        output::print_json(&json!({ "schema": "tapster.slots/1", "ok": true, "slots": slots }));
    } else if slots.is_empty() {
        output::note("no replication slots");
    } else {
        print_slots(&slots);
    }
    Ok(())
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let (conn, name) = args.name.split()?;
    let mut connection = args.connection.target(conn)?.within(args.timeout).connect_replication().await?;
    let slot = PhysicalSlot { temporary: false, reserve_wal: !args.no_reserve_wal };
    let created = match connection.create_physical_slot(name, slot).await {
        Ok(_) => true,
        Err(Error::Server(error)) if error.sqlstate == SqlState::DUPLICATE_OBJECT && args.if_not_exists => {
            false
        }
        Err(error) => {
            let exists = "--if-not-exists accepts one that exists already";
            return Err(Failure::from(error).hint_if(SqlState::DUPLICATE_OBJECT, exists));
        }
    };
    connection.close().await?;
    let text = if created { "created" } else { "exists already" };
    done(args.json, name, &format!("slot {name} {text}"), "created", created);
    Ok(())
}

async fn drop_slot(args: &DropArgs) -> Result<(), Failure> {
    let (conn, name) = args.name.split()?;
    let mut connection = args.connection.target(conn)?.within(args.timeout).connect_replication().await?;
    if args.wait {
        // For as long as somebody uses it.
        connection.connection().set_read_timeout(None);
    }
    let dropped = match connection.drop_slot(name, args.wait).await {
        Ok(()) => true,
        Err(Error::Server(error)) if error.sqlstate == SqlState::UNDEFINED_OBJECT && args.if_exists => false,
        Err(error) => {
            return Err(Failure::from(error)
                .hint_if(SqlState::UNDEFINED_OBJECT, "\"tapster slot ls\" lists those that exist")
                .hint_if(SqlState::OBJECT_IN_USE, "stop who uses it, or wait for that with --wait"));
        }
    };
    connection.close().await?;
    let text = if dropped { "dropped" } else { "does not exist" };
    done(args.json, name, &format!("slot {name} {text}"), "dropped", dropped);
    Ok(())
}

fn done(json: bool, name: &str, text: &str, verb: &str, did: bool) {
    if json {
        output::print_json(&json!({ "schema": "tapster.slot/1", "ok": true, "slot": name, verb: did }));
    } else {
        output::print(text);
    }
}

/// What is known about every slot, and how much WAL it keeps from being removed.
pub(super) fn slots_query(version: ServerVersion) -> String {
    // Servers from 13 on tell how close a slot is to being lost.
    let availability = if version >= ServerVersion::release(13) {
        "wal_status, safe_wal_size"
    } else {
        "NULL AS wal_status, NULL AS safe_wal_size"
    };
    format!(
        "SELECT slot_name, slot_type, plugin, database, active, active_pid, restart_lsn, confirmed_flush_lsn, \
         {availability}, {}({}, restart_lsn) AS retained_bytes \
         FROM pg_catalog.pg_replication_slots ORDER BY slot_name",
        lsn_difference(version),
        own_position(version),
    )
}

/// The function that takes one position from another.
pub(super) fn lsn_difference(version: ServerVersion) -> &'static str {
    if version < ServerVersion::release(10) {
        "pg_catalog.pg_xlog_location_diff"
    } else {
        "pg_catalog.pg_wal_lsn_diff"
    }
}

/// SQL for where a primary writes, or how far a standby has received.
pub(super) fn own_position(version: ServerVersion) -> String {
    let names = NameMap::new(version);
    let name = |key: &'static str| names.get(key).unwrap_or(key);
    let (received, written) = (name("pg_last_wal_receive_lsn"), name("pg_current_wal_lsn"));
    format!(
        "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.{received}() \
         ELSE pg_catalog.{written}() END"
    )
}

pub(super) fn read_slots(set: &client::ResultSet) -> Result<Vec<Value>, Error> {
    set.rows().map(|row| Ok(slot(row)?)).collect()
}

fn slot(row: Row<'_>) -> Result<Value, client::ColumnError> {
    Ok(json!({
        "slot_name": row.text("slot_name")?,
        "slot_type": row.text("slot_type")?,
        "plugin": row.optional_text("plugin")?,
        "database": row.optional_text("database")?,
        "active": row.text("active")? == "t",
        "active_pid": row.optional::<i64>("active_pid")?,
        "restart_lsn": row.optional_text("restart_lsn")?,
        "confirmed_flush_lsn": row.optional_text("confirmed_flush_lsn")?,
        "wal_status": row.optional_text("wal_status")?,
        "safe_wal_size": row.optional::<i64>("safe_wal_size")?,
        "retained_bytes": row.optional::<i64>("retained_bytes")?,
    }))
}

pub(super) fn print_slots(slots: &[Value]) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let mut rows =
        Vec::from([["SLOT", "type", "active", "keeps from", "keeps", "WAL"].map(String::from).to_vec()]);
    for slot in slots {
        let active = match slot["active_pid"].as_i64() {
            Some(pid) => format!("pid {pid}"),
            None => "no".to_string(),
        };
        let kept = slot["retained_bytes"].as_i64().and_then(|bytes| u64::try_from(bytes).ok());
        rows.push(Vec::from([
            text(&slot["slot_name"]),
            text(&slot["slot_type"]),
            active,
            text(&slot["restart_lsn"]),
            kept.map_or_else(|| "-".to_string(), output::bytes),
            text(&slot["wal_status"]),
        ]));
    }
    output::print_table(&rows);
}
