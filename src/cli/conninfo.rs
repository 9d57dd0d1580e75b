use serde_json::{Map, Value, json};

use super::connection::ConnectionArgs;
use super::failure::Failure;
use super::output;
use tapster::conninfo::{ResolvedParameter, Source};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster conninfo 'host=db1,db2 user=barman sslmode=verify-full'
  tapster conninfo service=db1 --json

Passwords and keys are shown as ***. Nothing is connected to.

Exit codes:
  0  the parameters can be used
  2  usage, bad connection string
  6  the result cannot be written";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A connection URI, a key=value string, or a database's name
    conn: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let resolved = args.connection.target(args.conn.as_deref())?.resolve()?;
    // An unusable value is an error, but easier to understand beside the other values, so those are printed first.
    let usable = resolved.config().and_then(|config| config.check_hosts()).map_err(Failure::from);
    if !args.json {
        let row = |parameter: &ResolvedParameter| {
            let source = parameter.source().to_string();
            Vec::from([parameter.keyword().name.to_string(), parameter.shown().to_string(), source])
        };
        output::print_table(&resolved.iter().map(row).collect::<Vec<_>>())?;
        return usable;
    }
    let is_set = |parameter: &&ResolvedParameter| !matches!(parameter.source(), Source::Default);
    let parameters = resolved.iter().filter(is_set).map(|parameter| {
        let source = match parameter.source() {
            Source::ConnInfo => "conninfo".to_string(),
            other => other.to_string(),
        };
        (parameter.keyword().name.to_string(), json!({ "value": parameter.shown(), "source": source }))
    });
    let parameters: Map<String, Value> = parameters.collect();
    let mut document =
        json!({ "schema": "tapster.conninfo/1", "ok": usable.is_ok(), "parameters": parameters });
    if let Err(failure) = &usable {
        document["error"] = failure.to_json();
    }
    output::print_json(&document)?;
    usable.map_err(Failure::already_reported)
}
