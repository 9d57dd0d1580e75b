use core::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::failure::{Failure, with_causes};
use super::super::output;
use super::super::readable;
use super::super::stderr::{self, Level};
use tapster::archive::AcceptedGap;
use tapster::receiver::{ReceiverEvent, Stopped};

/// Reports events, on stderr for people or on stdout as JSON.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    /// The server's name, where there may be several.
    pub(super) server: Option<Arc<str>>,
    documents: Arc<Documents>,
}

/// The documents on stdout. The first that cannot be written has to end the program, but an event's callback can only
/// note the failure; the command waits for it here.
#[derive(Debug, Default)]
pub(super) struct Documents {
    failure: Mutex<Option<Failure>>,
    failed: Notify,
}

impl Documents {
    fn print(&self, document: &Value) {
        if let Err(failure) = output::print_event(document) {
            self.lock().get_or_insert(failure);
            self.failed.notify_one();
        }
    }

    /// Waits for a document that cannot be written.
    ///
    /// Cancel-safe.
    pub(super) async fn failure(&self) -> Failure {
        loop {
            if let Err(failure) = self.result() {
                return failure;
            }
            self.failed.notified().await;
        }
    }

    /// The failure to write a document. A second call no longer gives it.
    pub(super) fn result(&self) -> Result<(), Failure> {
        self.lock().take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter {
    pub(super) fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        Self { json, quiet, verbose, server: None, documents: Arc::default() }
    }

    /// The documents, which the reporters of all servers share.
    pub(super) fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.documents)
    }

    /// A reporter for one server of several.
    pub(super) fn of_server(&self, server: Option<Arc<str>>) -> Self {
        Self { server, ..self.clone() }
    }

    /// Reports an event, unless `--quiet` was given.
    pub(super) fn line(&self, text: &str, event: &Value) {
        if self.json {
            self.document(event);
        } else if !self.quiet {
            self.log(Level::Info, "", text, event);
        }
    }

    /// Reports what the user asked for by a signal, also with `--quiet`.
    pub(super) fn answer(&self, text: &str, event: &Value) {
        if self.json {
            self.document(event);
        } else {
            self.log(Level::Info, "", text, event);
        }
    }

    pub(super) fn warning(&self, text: &str) {
        self.log(Level::Warning, "warning: ", text, &json!({}));
    }

    /// Reports that one server of several has failed; the process goes on.
    pub(super) fn failed(&self, failure: &Failure) {
        let event = json!({ "event": "failed", "ok": false, "error": failure.to_json() });
        if self.json {
            self.document(&event);
        } else {
            self.log(Level::Error, "error: ", &failure.text(), &event);
        }
    }

    fn document(&self, event: &Value) {
        let mut event = self.named(event);
        event["ts"] = readable::timestamp().into();
        self.documents.print(&event);
    }

    fn log(&self, level: Level, prefix: &str, text: &str, event: &Value) {
        let server = self.server.as_ref().map_or_else(String::new, |server| format!("{server}: "));
        let line = format!("{} {server}{prefix}{text}", readable::timestamp());
        stderr::log(level, &line, text, &self.named(event));
    }

    fn named(&self, event: &Value) -> Value {
        let mut event = event.clone();
        if let Some(server) = &self.server {
            event["server"] = (**server).into();
        }
        event
    }

    pub(super) fn event(&self, event: &ReceiverEvent<'_>) {
        let text = |value: &dyn Display| value.to_string();
        match event {
            ReceiverEvent::Connected { server, version, system_id, timeline } => self.line(
                &format!(
                    "connected to {server}, PostgreSQL {version}, system {system_id}, timeline {timeline}"
                ),
                &json!({
                    "event": "connected", "server": text(server), "address": text(server), "version": text(version),
                    "system_identifier": text(system_id), "timeline": timeline.get(),
                }),
            ),
            ReceiverEvent::ArchiveWarning(warning) => self.warning(&text(warning)),
            ReceiverEvent::Resumed { flushed, timeline } => self.line(
                &format!(
                    "the newest segments are no longer in the archive; by the state file, everything before {flushed} \
                     on timeline {timeline} was received"
                ),
                &json!({ "event": "resumed", "flush_lsn": text(flushed), "timeline": timeline.get() }),
            ),
            ReceiverEvent::SlotUnknown { slot, error } => self.warning(&format!(
                "could not find out what slot {slot} keeps, or whether it is lost: {}; receiving begins at the \
                 server's current segment",
                with_causes(*error)
            )),
            ReceiverEvent::GapAccepted(gap) => self.gap_accepted(gap),
            ReceiverEvent::ArchiveDamage { segment, damage } => self.warning(&format!(
                "segment {segment} of the archive is damaged: {damage}; it is received again"
            )),
            ReceiverEvent::Streaming { start, timeline } => self.line(
                &format!("streaming from {start} on timeline {timeline}"),
                &json!({ "event": "streaming", "start_lsn": text(start), "timeline": timeline.get() }),
            ),
            ReceiverEvent::SegmentFinished(segment) if self.verbose || self.json => {
                self.line(
                    &format!("finished segment {segment}"),
                    &json!({
                        "event": "segment", "name": text(segment), "timeline": segment.timeline().get(),
                        "end_lsn": text(&segment.end()), "bytes": segment.size().bytes(),
                    }),
                );
            }
            ReceiverEvent::HistoryStored(timeline) => self.line(
                &format!("stored the history of timeline {timeline}"),
                &json!({ "event": "history", "timeline": timeline.get() }),
            ),
            ReceiverEvent::TimelineSwitched { timeline, switchpoint } => self.line(
                &format!("switched to timeline {timeline}, which begins at {switchpoint}"),
                &json!({
                    "event": "timeline_switch", "timeline": timeline.get(), "switchpoint": text(switchpoint),
                }),
            ),
            ReceiverEvent::BranchedBehind { timeline, flushed, switchpoint, server_timeline } => {
                let bytes = flushed.saturating_sub(*switchpoint);
                self.warning(&format!(
                    "timeline {server_timeline} left timeline {timeline} at {switchpoint}, but WAL was received up to \
                     {flushed}: what was committed in these {bytes} bytes is not on the server any more; they stay in \
                     the partial segment of timeline {timeline}"
                ));
            }
            ReceiverEvent::Damage { damage, retry_in } => {
                let reason = format!("the server sent damaged WAL: {damage}");
                self.problem("damage", &reason, retry_in.as_millis(), "fetching it again");
            }
            ReceiverEvent::NotLocked(error) => self.warning(&format!(
                "{}; nothing keeps another process from receiving into it",
                with_causes(*error)
            )),
            ReceiverEvent::Unchecked(version) => {
                self.warning(&format!("WAL of PostgreSQL {version} is stored without being checked"));
            }
            ReceiverEvent::OutOfSpace { error, retry_in } => {
                self.problem("out_of_space", &with_causes(*error), retry_in.as_millis(), "trying again");
            }
            ReceiverEvent::NotCompressed { error, retry_in } => {
                self.problem("not_compressed", &with_causes(*error), retry_in.as_millis(), "trying again");
            }
            ReceiverEvent::Disconnected { error, retry_in } => {
                self.problem("disconnected", &Failure::from(*error).text(), retry_in.as_millis(), "connecting again");
            }
            _ => {}
        }
    }

    fn gap_accepted(&self, gap: &AcceptedGap) {
        let AcceptedGap { from, to, .. } = gap;
        let bytes = to.get().saturating_sub(from.get());
        let event = json!({
            "event": "gap_accepted", "from_lsn": from.to_string(), "to_lsn": to.to_string(), "bytes": bytes,
        });
        if self.json {
            self.document(&event);
        } else {
            let volume = readable::bytes(bytes);
            let text = format!("WAL from {from} to {to} is missing ({volume}), as accepted by --accept-gap");
            self.log(Level::Warning, "warning: ", &text, &event);
        }
    }

    /// Reports a problem after which the receiver tries again, also with `--quiet`.
    pub(super) fn problem(&self, event: &str, reason: &str, retry_in_ms: u128, then: &str) {
        let retry_in_ms = u64::try_from(retry_in_ms).unwrap_or(u64::MAX);
        let document = json!({ "event": event, "reason": reason, "retry_in_ms": retry_in_ms });
        if self.json {
            self.document(&document);
        } else {
            let seconds = retry_in_ms as f64 / 1000.0;
            // Details and hints follow on lines of their own.
            let (what, more) = reason.split_at(reason.find('\n').unwrap_or(reason.len()));
            self.log(
                Level::Warning,
                "warning: ",
                &format!("{what}; {then} in {seconds:.1} s{more}"),
                &document,
            );
        }
    }

    pub(super) fn stopped(&self, stopped: &Stopped) {
        let Stopped { flushed, timeline, segments, bytes, partial } = stopped;
        let segments_text = match (segments, partial) {
            (1, false) => "1 segment".to_string(),
            (n, false) => format!("{n} segments"),
            (1, true) => "1 segment and a partial one".to_string(),
            (n, true) => format!("{n} segments and a partial one"),
        };
        let volume = readable::bytes(*bytes);
        self.line(
            &format!(
                "stopped: flushed to {flushed} on timeline {timeline}, {segments_text}, {volume} in this run"
            ),
            &json!({
                "event": "stopped", "ok": true, "flush_lsn": flushed.to_string(), "timeline": timeline.get(),
                "segments": segments, "bytes": bytes, "partial": partial,
            }),
        );
    }
}
