//! `--dry-run`: everything except streaming.

use serde_json::json;

use super::super::about::About;
use super::super::failure::Failure;
use super::super::input;
use super::super::{OnEvent, output, readable};
use super::args::ServerArgs;
use super::report::Reporter;
use super::supervisor;
use tapster::receiver::{Receiver, ResumePoint};
use tapster::types::Advice;

/// Shows where receiving would begin, and why. Fails if receiving would.
pub(super) async fn run(args: &ServerArgs, report: &Reporter) -> Result<(), Failure> {
    let options = args.options(None)?;
    input::check_directory(&options.directory)?;
    let mut target = args.target()?;
    let about = About { label: Some(supervisor::address(&target)?), ..target.about() };
    report.names(about);
    let resume_point = target.with_password(async |target| {
        let report = report.clone();
        let on_event: OnEvent<'_> = Box::new(move |event| report.event(&event));
        let receiver = Receiver::new(target.replication_config()?, options.clone(), on_event);
        Ok(receiver.resume_point().await?)
    });
    let point = resume_point.await?;
    let slot = slot_text(args, &point).map_err(|failure| failure.given(&target.given()))?;
    let ResumePoint { first, reason, server_position, .. } = &point;
    let (start, timeline) = (first.start(), first.timeline());
    if report.json {
        return report.print(&json!({
            "event": "dry_run",
            "ok": true,
            "start_lsn": start.to_string(),
            "timeline": timeline.get(),
            "segment": first.to_string(),
            "reason": reason.to_string(),
            "server_lsn": server_position.to_string(),
            "slot_name": args.slot,
            "slot_exists": point.slot_exists,
        }));
    }
    let name = report.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
    output::print(&format!("{name}would stream from {start} on timeline {timeline}: {reason}"))?;
    let behind = readable::bytes(server_position.saturating_sub(start));
    output::print(&format!("{name}the server is at {server_position}, {behind} further"))?;
    if let Some(slot) = slot {
        output::print(&format!("{name}{slot}"))?;
    }
    Ok(())
}

/// What would happen to the slot.
fn slot_text(args: &ServerArgs, point: &ResumePoint) -> Result<Option<String>, Failure> {
    let Some(slot) = &args.slot else { return Ok(None) };
    match (point.slot_exists, args.create_slot) {
        (Some(true), true) if !args.if_not_exists => {
            Err(Failure::other(format!("replication slot \"{slot}\" already exists"))
                .with_hint("--if-not-exists uses it"))
        }
        (Some(true), _) => Ok(Some(format!("slot {slot} exists"))),
        (Some(false), true) => Ok(Some(format!("slot {slot} would be created"))),
        (Some(false), false) => Err(Failure::other(format!("replication slot \"{slot}\" does not exist"))
            .with_advice(Advice::CreateSlot)),
        (None, _) => Ok(None),
    }
}
