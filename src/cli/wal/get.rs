use std::path::PathBuf;

use serde_json::json;
use tapster::archive::Fetcher;

use crate::cli::failure::{Failure, with_causes};
use crate::cli::output;

pub(super) const AFTER_HELP: &str = "Examples:
  restore_command = 'tapster wal get %f %p --from /wal --partial'
  tapster wal get 00000001000000000000002A /tmp/2A --from /wal --from /backup/wal

NAME is that of a segment, of a timeline's history or of a backup's history. Compressed files
are decompressed. DEST appears in one step, whole and durable; a file of the wrong size is never
handed out. A partial segment is handed out only if its segment is nowhere complete, nothing
follows it, and every archive could be searched.

Every line on stderr begins with \"tapster:\", as the server writes it into its log. Every recovery
asks for files that do not exist; each such question is one line \"tapster: NAME is not in DIR\".

Exit codes:
  0    the file is at DEST
  1    surely no archive has it: to a recovery, a segment that is missing is the end of the log
  255  could not tell, or not write: an archive that cannot be read, a damaged file, a link to a
       file that is not there, a file in an unknown form (NAME.xz), a NAME of no WAL file, a mistake
       in the options; PostgreSQL then stops, where 1 would end the recovery";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The file that recovery wants, %f
    name: String,
    /// Where to put it, %p
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// The archive; of several, the first that has the file gives it
    #[arg(long = "from", value_name = "DIR", required = true)]
    archives: Vec<PathBuf>,
    /// If a segment is nowhere complete, hand out a partial one with zeros for what never came
    #[arg(long)]
    partial: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { name, destination, archives, partial, json } = args;
    let restore = Fetcher { archives: archives.clone(), partial: *partial };
    let fetched = restore.fetch(name, destination).map_err(|error| Failure::other(with_causes(&error)))?;
    let Some(restored) = fetched else {
        let shown: Vec<String> = archives.iter().map(|archive| archive.display().to_string()).collect();
        return Err(Failure::missing(format!("{name} is not in {}", shown.join(", "))));
    };
    for problem in &restored.passed_over {
        output::note(&format!("tapster: warning: {}", with_causes(problem)));
    }
    let source = restored.source.display();
    if let Some(bytes) = restored.partial {
        output::note(&format!(
            "tapster: {source} is partial: {bytes} bytes of WAL, and zeros for what never came"
        ));
    }
    if *json {
        return output::print_json(&json!({
            "schema": "tapster.wal-get/1",
            "ok": true,
            "name": name,
            "source": source.to_string(),
            "partial": restored.partial.is_some(),
            "partial_bytes": restored.partial,
            "warnings": restored.passed_over.iter().map(|problem| with_causes(problem)).collect::<Vec<_>>(),
        }));
    }
    Ok(())
}
