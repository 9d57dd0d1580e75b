use std::path::PathBuf;

use serde_json::{Value, json};
use tapster::archive::{ArchiveFileName, ListedSegment, ListedTimeline, SegmentFile, list};
use tapster::compression::Compression;
use tapster::wal::WalSegment;

use crate::cli::failure::Failure;
use crate::cli::{output, readable};

pub(super) const AFTER_HELP: &str = "Examples:
  tapster wal ls /wal
  tapster wal ls /wal --json

Names and sizes are looked at, and nothing is changed; \"tapster verify\" looks into every segment.

Exit codes:
  0  listed, whatever is there
  2  usage
  6  the directory cannot be read, or the result not be written";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The archive's directory
    #[arg(value_name = "DIR", required_unless_present = "from")]
    directory: Option<PathBuf>,
    /// The same, as for "wal get"
    #[arg(long, value_name = "DIR", conflicts_with = "directory")]
    from: Option<PathBuf>,
    /// Print a JSON document, with every file
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let directory = args.directory.as_ref().or(args.from.as_ref());
    let directory = directory.ok_or_else(|| Failure::usage("give a directory"))?;
    let listing = list(directory)?;
    if args.json {
        return output::print_json(&json!({
            "schema": "tapster.wal-ls/1",
            "ok": true,
            "directory": directory.display().to_string(),
            "system_id": listing.cluster.map(|(system_id, _)| system_id.to_string()),
            "segment_size_bytes": listing.cluster.map(|(_, size)| size.bytes()),
            "timelines": listing.timelines.iter().map(timeline_to_json).collect::<Vec<_>>(),
            "others": listing.others,
        }));
    }
    for timeline in &listing.timelines {
        print_timeline(timeline)?;
    }
    if listing.timelines.is_empty() {
        output::note("no WAL in the directory");
    }
    let is_foreign = |name: &&String| !ArchiveFileName::is_temporary(name);
    let foreign = listing.others.iter().filter(is_foreign).count();
    if foreign > 0 {
        output::note(&format!("{} not belonging to an archive", count(foreign as u64, "file")));
    }
    Ok(())
}

fn print_timeline(listed: &ListedTimeline) -> Result<(), Failure> {
    let branch = listed.history.as_ref().and_then(|history| history.entries().last());
    let origin = match (&listed.history_file, branch) {
        (Some(_), Some(branch)) => format!(", from timeline {} at {}", branch.parent, branch.switchpoint),
        (Some(file), None) => format!(", {file} cannot be read"),
        (None, _) if listed.timeline.get() > 1 => ", no history file".to_string(),
        (None, _) => String::new(),
    };
    output::print(&format!("timeline {}{origin}", listed.timeline))?;
    let mut before: Option<WalSegment> = None;
    for (first, last) in listed.runs() {
        if let Some(before) = before {
            let missing = first.number() - before.number() - 1;
            output::print(&format!(
                "  GAP   {} - {}  {}",
                before.end(),
                first.start(),
                count(missing, "segment")
            ))?;
        }
        before = Some(last);
        let is_of_run = |file: SegmentFile| !file.is_partial && (first..=last).contains(&file.segment);
        let files = listed.segments.iter().filter(|listed| is_of_run(listed.file));
        let (bytes, forms) = files.fold((0, Vec::new()), |(bytes, mut forms), listed| {
            if !forms.contains(&listed.file.compression) {
                forms.push(listed.file.compression);
            }
            (bytes + listed.len_bytes, forms)
        });
        let segments = count(last.number() - first.number() + 1, "segment");
        let (size, forms) = (readable::bytes(bytes), words(&forms));
        output::print(&format!("  {first} - {last}  {segments}, {size}{forms}"))?;
    }
    for partial in listed.partials() {
        output::print(&format!("  {}  {}", partial.file, readable::bytes(partial.len_bytes)))?;
    }
    Ok(())
}

/// How segments are compressed, if they are.
fn words(forms: &[Compression]) -> String {
    let suffixes = forms.iter().map(|form| form.suffix()).filter(|suffix| !suffix.is_empty());
    suffixes.map(|suffix| format!(", {suffix}")).collect()
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn timeline_to_json(listed: &ListedTimeline) -> Value {
    let runs = listed.runs();
    let gap = |pair: &[(WalSegment, WalSegment)]| match pair {
        [(_, after), (before, _)] => json!({
            "after_segment": after.to_string(),
            "before_segment": before.to_string(),
            "start_lsn": after.end().to_string(),
            "end_lsn": before.start().to_string(),
            "segments": before.number() - after.number() - 1,
        }),
        _ => Value::Null,
    };
    let branch = listed.history.as_ref().and_then(|history| history.entries().last());
    json!({
        "timeline": listed.timeline.get(),
        "history": listed.history_file,
        "parent": branch.map(|branch| branch.parent.get()),
        "switchpoint_lsn": branch.map(|branch| branch.switchpoint.to_string()),
        "runs": runs.iter().map(|(first, last)| json!({
            "first_segment": first.to_string(),
            "last_segment": last.to_string(),
            "start_lsn": first.start().to_string(),
            "end_lsn": last.end().to_string(),
            "segments": last.number() - first.number() + 1,
        })).collect::<Vec<_>>(),
        "gaps": runs.windows(2).map(gap).collect::<Vec<_>>(),
        "files": listed.segments.iter().map(|ListedSegment { file, len_bytes, .. }| json!({
            "name": file.to_string(),
            "segment": file.segment.to_string(),
            "partial": file.is_partial,
            "compression": file.compression.name(),
            "bytes": len_bytes,
        })).collect::<Vec<_>>(),
    })
}
