use clap::{ArgMatches, FromArgMatches, Subcommand};
use serde_json::{Value, json};

use super::about::About;
use super::connection::{ConnectionArgs, ServerArgs, TimeoutArgs};
use super::environment::is_from_variable;
use super::failure::Failure;
use super::{output, rows, usage};
use tapster::Error;
use tapster::postgres::PostgreSQL as _;
use tapster::replication::{PhysicalSlot, ReplicationConnection};
use tapster::types::SqlState;

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
#[derive(Debug)]
struct NameArgs {
    words: Words,
    /// Whether the name that `-S` would give comes from an environment variable.
    from_variable: bool,
}

impl FromArgMatches for NameArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let from_variable = is_from_variable(matches, "slot");
        Ok(Self { words: Words::from_arg_matches(matches)?, from_variable })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for NameArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Words::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Words::augment_args_for_update(command)
    }
}

#[derive(Debug, clap::Args)]
struct Words {
    /// A connection URI, a key=value string, or a database's name; then the slot's name
    #[arg(value_names = ["CONN", "NAME"], num_args = 1..=2, required_unless_present = "slot")]
    conn_and_name: Vec<String>,
    /// The slot's name, instead of the last argument
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
}

impl NameArgs {
    fn split(&self) -> Result<(Option<&str>, &str), Failure> {
        let Words { conn_and_name, slot } = &self.words;
        // A name on the command line takes precedence over the variable. A lone word is the name, unless it can only be a
        // connection: otherwise "slot drop NAME" would drop another slot than that.
        let slot = slot.as_deref().filter(|_| match (self.from_variable, conn_and_name.as_slice()) {
            (true, [_, _]) => false,
            (true, [word]) => usage::name("slot", word).is_err(),
            _ => true,
        });
        match (conn_and_name.as_slice(), slot) {
            ([name], None) => Ok((None, usage::name("slot", name)?)),
            ([conn, name], None) => Ok((Some(conn), usage::name("slot", name)?)),
            ([conn], Some(name)) => Ok((Some(conn), name)),
            ([], Some(name)) => Ok((None, name)),
            _ => Err(Failure::usage("give the slot's name once")),
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
    let target = target.connect_postgres(None).await?;
    let slots = target.ask(target.postgres.slots()).await?;
    target.postgres.close().await;
    if args.json {
        let slots: Value = slots.iter().map(rows::slot).collect();
        output::print_json(&json!({
            "schema": "tapster.slot-ls/1", "ok": true, "server": target.about.to_json(), "slots": slots,
        }))?;
    } else if slots.is_empty() {
        output::note("no replication slots");
    } else {
        rows::print_slots(&slots)?;
    }
    Ok(())
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let (conn, name) = args.name.split()?;
    let mut target = args.connection.target(conn)?.within(args.timeout).with_names(Some(name), None);
    let mut connection = target.connect_replication().await?;
    let about = About::connected(connection.connection());
    let slot = PhysicalSlot { temporary: false, reserve_wal: !args.no_reserve_wal };
    let created = create_physical_slot(&mut connection, name, slot, args.if_not_exists).await;
    let created = created.map_err(|error| {
        let exists = "--if-not-exists accepts one that exists already";
        Failure::from(error).hint_if(SqlState::DUPLICATE_OBJECT, exists).about(&about).given(&target.given())
    })?;
    connection.close().await?;
    if args.json {
        return output::print_json(&json!({
            "schema": "tapster.slot-create/1", "ok": true, "server": about.to_json(), "slot_name": name,
            "created": created,
        }));
    }
    output::print(&format!("slot {name} {}", if created { "created" } else { "exists already" }))
}

/// Creates a slot, and tells whether it did: with `if_not_exists` one that exists already is no error.
pub(super) async fn create_physical_slot(
    connection: &mut ReplicationConnection,
    name: &str,
    slot: PhysicalSlot,
    if_not_exists: bool,
) -> Result<bool, Error> {
    match connection.create_physical_slot(name, slot).await {
        Err(Error::Server(said)) if if_not_exists && said.sqlstate == SqlState::DUPLICATE_OBJECT => Ok(false),
        created => created.map(|_| true),
    }
}

async fn drop_slot(args: &DropArgs) -> Result<(), Failure> {
    let (conn, name) = args.name.split()?;
    let mut target = args.connection.target(conn)?.within(args.timeout).with_names(Some(name), None);
    let mut connection = target.connect_replication().await?;
    let about = About::connected(connection.connection());
    if args.wait {
        // The server answers only when the slot is free.
        connection.connection().set_read_timeout(None);
    }
    let dropped = match connection.drop_slot(name, args.wait).await {
        Ok(()) => true,
        Err(Error::Server(error)) if error.sqlstate == SqlState::UNDEFINED_OBJECT && args.if_exists => false,
        Err(error) => {
            let failure = Failure::from(error).about(&about).given(&target.given());
            let failure =
                failure.hint_if(SqlState::OBJECT_IN_USE, "stop who uses it, or wait for that with --wait");
            if failure.sqlstate() != Some(SqlState::UNDEFINED_OBJECT) {
                return Err(failure);
            }
            let list = target.given().tapster("slot ls", "");
            return Err(failure.with_lines(Vec::from(["those that exist are listed by".into(), list])));
        }
    };
    connection.close().await?;
    if args.json {
        return output::print_json(&json!({
            "schema": "tapster.slot-drop/1", "ok": true, "server": about.to_json(), "slot_name": name,
            "dropped": dropped,
        }));
    }
    output::print(&format!("slot {name} {}", if dropped { "dropped" } else { "does not exist" }))
}
