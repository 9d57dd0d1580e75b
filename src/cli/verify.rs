use std::path::PathBuf;

use serde_json::{Value, json};
use tapster::archive::{SegmentRun, verify};

use super::failure::Failure;
use super::output;

pub(super) const AFTER_HELP: &str = "Examples:
  tapster verify /wal
  tapster verify /wal --json

Gaps that receive-wal noted with --accept-gap are problems unless --allow-accepted is given.
Compressed segments are decompressed on the way. Nothing is changed.

Exit codes:
  0  nothing is wrong
  2  usage
  6  the directory or a file cannot be read, or the result not be written
  7  something is wrong";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The archive's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Gaps that were accepted are no problem
    #[arg(long)]
    allow_accepted: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let found = verify(&args.directory)?;
    let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    let accepted: Vec<String> = found
        .accepted
        .iter()
        .map(|(problem, gap)| format!("{problem}; accepted at {}", gap.accepted_at))
        .collect();
    let verdict = match problems.len() + if args.allow_accepted { 0 } else { accepted.len() } {
        0 => Ok(()),
        1 => Err(Failure::damage("1 problem found")),
        n => Err(Failure::damage(format!("{n} problems found"))),
    };
    if args.json {
        let mut document = json!({
            "schema": "tapster.verify/1",
            "ok": verdict.is_ok(),
            "system_id": found.system_id.map(|id| id.to_string()),
            "segments": found.segments(),
            "compressed": found.compressed,
            "runs": found.runs.iter().map(run_to_json).collect::<Vec<_>>(),
            "problems": problems,
            "accepted": accepted,
        });
        if let Err(failure) = &verdict {
            document["error"] = failure.to_json();
        }
        output::print_json(&document)?;
        return verdict.map_err(Failure::already_reported);
    }
    for run in &found.runs {
        output::print(&run.to_string())?;
    }
    for problem in problems.iter().chain(&accepted) {
        output::print(problem)?;
    }
    if found.runs.is_empty() {
        output::note("no complete segment to verify");
    }
    verdict
}

fn run_to_json(run: &SegmentRun) -> Value {
    json!({
        "timeline": run.first.timeline().get(),
        "first_segment": run.first.to_string(),
        "last_segment": run.last.to_string(),
        "partial_end_lsn": run.partial_end.map(|end| end.to_string()),
    })
}
