use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tapster::archive::{
    ListedOther, ListedSegment, ListedTimeline, MissingWal, OtherKind, SegmentFile, Unreadable, list,
};
use tapster::compression::Compression;
use tapster::types::{Printable, text_of};
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
            "directory": text_of(directory.as_os_str().as_bytes()),
            "system_id": listing.cluster.map(|(system_id, _)| system_id.to_string()),
            "segment_size_bytes": listing.cluster.map(|(_, size)| size.bytes()),
            "timelines": listing.timelines.iter().map(timeline_to_json).collect::<Vec<_>>(),
            "others": listing.others.iter().map(|other| &other.name).collect::<Vec<_>>(),
        }));
    }
    for timeline in &listing.timelines {
        print_timeline(timeline)?;
    }
    if listing.timelines.is_empty() {
        output::note("no WAL in the directory");
    }
    print_others(&listing.others)
}

/// The other files: how many backup histories, and what each of the rest is.
fn print_others(others: &[ListedOther]) -> Result<(), Failure> {
    let backups = others.iter().filter(|other| other.kind == OtherKind::BackupHistory).count() as u64;
    match backups {
        0 => {}
        1 => output::print("1 backup history")?,
        n => output::print(&format!("{n} backup histories"))?,
    }
    let is_told =
        |other: &&ListedOther| !matches!(other.kind, OtherKind::BackupHistory | OtherKind::Temporary);
    let told: Vec<&ListedOther> = others.iter().filter(is_told).collect();
    for other in told.iter().take(MAX_OTHERS) {
        let what = match &other.kind {
            OtherKind::Unreadable(Unreadable::NotAFile) => "has the name of a WAL file, and is not a file",
            OtherKind::Unreadable(Unreadable::BrokenLink) => {
                "is a symbolic link to something that is not there"
            }
            OtherKind::Unreadable(Unreadable::UnknownForm) => "may be WAL, in a form that cannot be read",
            OtherKind::Unreadable(Unreadable::OtherSegmentSize) => {
                "is named as a segment of a cluster with segments of another size"
            }
            OtherKind::Unreadable(_) => "has the name of a WAL file, and cannot be read",
            _ => "is not WAL",
        };
        output::print(&format!("{} {what}", Printable(&other.name)))?;
    }
    match told.len().saturating_sub(MAX_OTHERS) as u64 {
        0 => Ok(()),
        n => output::print(&format!("and {} more that no WAL can be read from", count(n, "file"))),
    }
}

/// How many other files are listed one by one.
const MAX_OTHERS: usize = 10;

fn print_timeline(listed: &ListedTimeline) -> Result<(), Failure> {
    let branch = listed.history.as_ref().and_then(|history| history.entries().last());
    let origin = match (&listed.history_file, branch) {
        (Some(_), Some(branch)) => format!(", from timeline {} at {}", branch.parent, branch.switchpoint),
        (Some(file), None) => format!(", {file} cannot be read"),
        (None, _) if listed.timeline.get() > 1 => ", no history file".to_string(),
        (None, _) => String::new(),
    };
    output::print(&format!("timeline {}{origin}", listed.timeline))?;
    let print_gap = |first: WalSegment| {
        let gap = listed.gaps.iter().find(|gap| gap.before.segment == first);
        gap.map_or(Ok(()), |gap| {
            let segments = count(gap.segments(), "segment");
            output::print(&format!("  GAP   {} - {}  {segments}", gap.start(), gap.end()))
        })
    };
    for (first, last) in listed.runs() {
        print_gap(first)?;
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
        print_gap(partial.file.segment)?;
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
    let gap = |gap: &MissingWal| {
        json!({
            "after_segment": gap.after.segment.to_string(),
            "before_segment": gap.before.segment.to_string(),
            "start_lsn": gap.start().to_string(),
            "end_lsn": gap.end().to_string(),
            "segments": gap.segments(),
        })
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
        "gaps": listed.gaps.iter().map(gap).collect::<Vec<_>>(),
        "files": listed.segments.iter().map(|ListedSegment { file, len_bytes, .. }| json!({
            "name": file.to_string(),
            "segment": file.segment.to_string(),
            "partial": file.is_partial,
            "compression": file.compression.name(),
            "bytes": len_bytes,
        })).collect::<Vec<_>>(),
    })
}
