use std::path::PathBuf;

use serde_json::{Value, json};
use tapster::archive::{AcceptedGap, ArchiveProblem, SegmentRun, Verification, verify_with};

use super::failure::Failure;
use super::output::{self, Colour};
use super::receive_wal::When;
use super::verify_progress::Progress;

pub(super) const AFTER_HELP: &str = "Examples:
  tapster verify /wal
  tapster verify /wal --json

Every file with the name of a segment is looked into, compressed or not, partial or complete. A
parent timeline has to reach the point where its child began, and WAL that was durable, as
tapster.state says, has to be there and right. Segments may be missing at the old end.

A receiver may write into the archive meanwhile, and other programs may move segments away. Nothing
is changed. Gaps that receive-wal noted with --accept-gap are problems unless --allow-accepted is
given. The last line is \"ok: N segments, no problem\" or \"FAILED: N segments, M problems\".

Exit codes:
  0  nothing is wrong
  2  usage
  6  the directory cannot be read, or the result not be written
  7  something is wrong, or there is no WAL in the directory";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The archive's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Gaps that were accepted are no problem
    #[arg(long)]
    allow_accepted: bool,
    /// Show the progress: in one line on a terminal, elsewhere as a line each 30 s
    ///
    /// With --json there is none unless "always" is given.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    progress: When,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut progress = Progress::new(args.progress, args.json);
    let found = verify_with(&args.directory, &mut |at| progress.show(at));
    progress.finish();
    let found = found?;
    let problems = found.problems.len() + if args.allow_accepted { 0 } else { found.accepted.len() };
    let verdict = match problems {
        0 => Ok(()),
        n => Err(Failure::damage(format!("{} found", count(n as u64, "problem")))),
    };
    if args.json {
        let mut document = json!({
            "schema": "tapster.verify/1",
            "ok": verdict.is_ok(),
            "system_id": found.system_id.map(|id| id.to_string()),
            "segments": found.segments(),
            "compressed": found.compressed,
            "partials": found.partials(),
            "moved_away": found.moved_away,
            "runs": found.runs.iter().map(run_to_json).collect::<Vec<_>>(),
            "problems": found.problems.iter().map(problem_to_json).collect::<Vec<_>>(),
            "accepted": found.accepted.iter().map(accepted_to_json).collect::<Vec<_>>(),
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
    for problem in &found.problems {
        output::print(&problem.to_string())?;
    }
    for accepted in &found.accepted {
        output::print(&accepted_text(accepted))?;
    }
    let (word, colour, rest) = last_line(&found, problems as u64);
    output::print_verdict(word, colour, &rest)?;
    verdict.map_err(Failure::already_reported)
}

/// What the answer comes to, in one line.
fn last_line(found: &Verification, problems: u64) -> (&'static str, Colour, String) {
    let mut looked_at = count(found.segments(), "segment");
    if found.segments() == 0 && found.partials() > 0 {
        looked_at = format!("{looked_at} and {}", count(found.partials(), "partial one"));
    }
    let moved = match found.moved_away {
        0 => String::new(),
        n => format!(" ({n} more were moved away meanwhile)"),
    };
    match (problems, found.accepted.len() as u64) {
        (0, 0) => ("ok", Colour::Green, format!(": {looked_at}, no problem{moved}")),
        (0, n) => {
            let accepted = count(n, "accepted gap");
            ("ok", Colour::Green, format!(": {looked_at}, no problem but {accepted}{moved}"))
        }
        (n, _) => ("FAILED", Colour::Red, format!(": {looked_at}, {}{moved}", count(n, "problem"))),
    }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn run_to_json(run: &SegmentRun) -> Value {
    json!({
        "timeline": run.first.timeline().get(),
        "first_segment": run.first.to_string(),
        "last_segment": run.last.to_string(),
        "segments": run.segments,
        "partial_name": run.partial.map(|file| file.to_string()),
        "partial_end_lsn": run.partial_end.map(|end| end.to_string()),
    })
}

fn problem_to_json(problem: &ArchiveProblem) -> Value {
    let (start, end) = problem.range();
    let mut value = json!({
        "kind": problem.kind(),
        "segment": problem.segment().map(|segment| segment.to_string()),
        "name": problem.file(),
        "timeline": problem.timeline().map(|timeline| timeline.get()),
        "start_lsn": start.map(|lsn| lsn.to_string()),
        "end_lsn": end.map(|lsn| lsn.to_string()),
        "message": problem.to_string(),
    });
    if let ArchiveProblem::Gap(missing) = problem {
        value["after_segment"] = missing.after.segment.to_string().into();
        value["before_segment"] = missing.before.segment.to_string().into();
        value["segments"] = missing.segments().into();
    }
    value
}

fn accepted_to_json(accepted: &(ArchiveProblem, AcceptedGap)) -> Value {
    let mut value = problem_to_json(&accepted.0);
    value["accepted_at"] = accepted.1.accepted_at.to_string().into();
    value["message"] = accepted_text(accepted).into();
    value
}

fn accepted_text((problem, gap): &(ArchiveProblem, AcceptedGap)) -> String {
    format!("{problem}; accepted at {}", gap.accepted_at)
}
