use serde_json::{Map, Value, json};

use super::connection::{ConnectionArgs, TimeoutArgs};
use super::failure::Failure;
use super::members::{self, MEMBERS};
use super::{output, usage};
use tapster::postgres::{PostgreSQL as _, PostgresError};

/// Examples, the members, and the exit codes.
pub(super) fn after_help() -> String {
    let mut help = String::from(
        "Examples:
  tapster show service=db1 current_xlog_info
  tapster show -H db1 -U barman get_setting:wal_level
  tapster show service=db1 --all --json

Members, which have the names they have in Barman's classes:\n",
    );
    for member in MEMBERS {
        help.push_str(&format!("  {member}\n"));
    }
    help.push_str("  get_setting:NAME\n\n");
    help + exit_codes!()
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The connection, which may be left out, and the member's name
    #[arg(value_name = "[CONN] MEMBER", num_args = 0..=2)]
    conn_and_member: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// Show every member
    #[arg(long)]
    all: bool,
    /// The slot that the members are about
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    fn split(&self) -> Result<(Option<&str>, Option<&str>), Failure> {
        match (self.conn_and_member.as_slice(), self.all) {
            ([], true) => Ok((None, None)),
            ([conn], true) => Ok((Some(conn), None)),
            ([member], false) => Ok((None, Some(member))),
            ([conn, member], false) => Ok((Some(conn), Some(member))),
            _ => Err(Failure::usage("give one member, or --all")),
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let (conn, member) = args.split()?;
    if let Some(member) = member
        && !MEMBERS.contains(&member)
        && !member.starts_with("get_setting:")
    {
        let member = usage::name("member", member)?;
        return Err(Failure::usage(format!("there is no member \"{member}\""))
            .with_hint("\"tapster show --help\" lists them"));
    }
    let mut target = args.connection.target(conn)?.within(args.timeout);
    let target = target.connect_postgres(args.slot.as_deref()).await?;
    let mut values = Map::new();
    let mut errors = Map::new();
    for name in member.as_ref().map_or(MEMBERS, core::slice::from_ref) {
        match members::value(&target, name).await {
            Some(Ok(value)) => drop(values.insert((*name).to_string(), value)),
            // For a single member its error is the command's error; with --all it is listed.
            Some(Err(error)) if member.is_some() => return Err(Failure::from(error).about(&target.about)),
            Some(Err(error)) => {
                values.insert((*name).to_string(), Value::Null);
                errors.insert((*name).to_string(), error_json(&error));
            }
            None => {}
        }
    }
    target.postgres.close().await;
    target.streaming.close().await;
    if args.json {
        let mut document = json!({
            "schema": "tapster.show/1", "ok": true, "server": target.about.to_json(), "members": values,
        });
        if !errors.is_empty() {
            document["errors"] = errors.into();
        }
        output::print_json(&document)?;
    } else if member.is_some() {
        values.values().try_for_each(print_value)?;
    } else {
        print_all(&values, &errors)?;
    }
    Ok(())
}

fn error_json(error: &PostgresError) -> Value {
    let sqlstate = error.sqlstate().map(|state| state.to_string());
    json!({ "class": error.class(), "sqlstate": sqlstate, "message": Failure::from(error).text() })
}

fn print_value(value: &Value) -> Result<(), Failure> {
    match value {
        Value::Object(object) => {
            let row = |(key, value): (&String, &Value)| Vec::from([key.clone(), inline(value)]);
            output::print_table(&object.iter().map(row).collect::<Vec<_>>())
        }
        Value::Array(items) => items.iter().try_for_each(|item| output::print(&inline(item))),
        value => output::print(&inline(value)),
    }
}

fn print_all(values: &Map<String, Value>, errors: &Map<String, Value>) -> Result<(), Failure> {
    let row = |(name, value): (&String, &Value)| {
        let shown = match errors.get(name) {
            Some(error) => {
                let message = error["message"].as_str().unwrap_or_default();
                format!("({})", message.lines().next().unwrap_or_default())
            }
            None => inline(value),
        };
        Vec::from([name.clone(), shown])
    };
    output::print_table(&values.iter().map(row).collect::<Vec<_>>())
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}
