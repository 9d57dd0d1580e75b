use core::fmt::Display;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::about::About;
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
    pub(super) name: Option<Arc<str>>,
    /// What is known about the server; more after a connection.
    about: Arc<Mutex<About>>,
    /// Why there is no stream, as last told to people; empty while there is one.
    told: Arc<Mutex<String>>,
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
        Self {
            json,
            quiet,
            verbose,
            name: None,
            about: Arc::default(),
            told: Arc::default(),
            documents: Arc::default(),
        }
    }

    /// The documents, which the reporters of all servers share.
    pub(super) fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.documents)
    }

    /// A reporter for one server, which has a name if there may be several.
    pub(super) fn of_server(&self, name: Option<Arc<str>>, about: About) -> Self {
        Self { name, about: Arc::new(Mutex::new(about)), told: Arc::default(), ..self.clone() }
    }

    /// What is known about the server.
    pub(super) fn about(&self) -> About {
        self.about.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same for an observer, which sees what is found out later.
    pub(super) fn shared_about(&self) -> Arc<Mutex<About>> {
        Arc::clone(&self.about)
    }

    /// Documents from now on have what is known here.
    pub(super) fn names(&self, server: About) {
        let mut about = self.about.lock().unwrap_or_else(PoisonError::into_inner);
        *about = About { label: about.label.take().or(server.label), ..server };
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

    /// Reports on stderr what may be wrong; with `--json` also as a document.
    pub(super) fn warning(&self, event: &str, text: &str) {
        let event = json!({ "event": event });
        if self.json {
            let mut event = event.clone();
            event["message"] = text.into();
            self.document(&event);
        }
        self.log(Level::Warning, "warning: ", text, &event);
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

    /// Writes a document that is the command's result.
    pub(super) fn print(&self, event: &Value) -> Result<(), Failure> {
        output::print_json(&self.filled(event))
    }

    fn document(&self, event: &Value) {
        self.documents.print(&self.filled(event));
    }

    /// The event with what every document has.
    fn filled(&self, event: &Value) -> Value {
        let mut document = json!({
            "schema": "tapster.receive-wal/1", "ts": readable::exact_timestamp(), "event": null,
            "server": self.about().to_json(),
        });
        for (key, value) in event.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        document
    }

    fn log(&self, level: Level, prefix: &str, text: &str, event: &Value) {
        let name = self.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let line = format!("{} {name}{prefix}{text}", readable::timestamp());
        let mut event = event.clone();
        if event.get("server").is_none() {
            event["server"] = self.about().to_json();
        }
        stderr::log(level, &line, text, &event);
    }

    pub(super) fn event(&self, event: &ReceiverEvent<'_>) {
        let text = |value: &dyn Display| value.to_string();
        match event {
            ReceiverEvent::Connected { server, version, system_id, timeline } => {
                let (version, system_id) = (*version, *system_id);
                self.names(About {
                    version: Some(version),
                    system_id: Some(system_id),
                    ..About::named(server)
                });
                self.line(
                    &format!(
                        "connected to {server}, PostgreSQL {version}, system {system_id}, timeline {timeline}"
                    ),
                    &json!({ "event": "connected", "timeline": timeline.get() }),
                );
            }
            ReceiverEvent::ArchiveWarning(warning) => self.warning("archive_warning", &text(warning)),
            ReceiverEvent::Resumed { flushed, timeline } => self.line(
                &format!(
                    "the newest segments are no longer in the archive; everything before {flushed} \
                     on timeline {timeline} was received"
                ),
                &json!({ "event": "resumed", "flush_lsn": text(flushed), "timeline": timeline.get() }),
            ),
            ReceiverEvent::SlotCreated { slot } => {
                self.line(
                    &format!("slot {slot} created"),
                    &json!({ "event": "slot_created", "slot_name": slot }),
                );
            }
            ReceiverEvent::SlotUnknown { slot, error } => self.warning(
                "slot_unknown",
                &format!(
                    "could not find out what slot {slot} keeps, or whether it is lost: {}; receiving begins at the \
                     server's current segment",
                    with_causes(*error)
                ),
            ),
            ReceiverEvent::GapAccepted(gap) => self.gap_accepted(gap),
            ReceiverEvent::ArchiveDamage { segment, damage } => self.warning(
                "archive_damage",
                &format!("segment {segment} of the archive is damaged: {damage}; it is received again"),
            ),
            ReceiverEvent::Streaming { start, timeline } => {
                self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.line(
                    &format!("streaming from {start} on timeline {timeline}"),
                    &json!({ "event": "streaming", "start_lsn": text(start), "timeline": timeline.get() }),
                );
            }
            ReceiverEvent::SegmentFinished(segment) if self.verbose || self.json => {
                self.line(
                    &format!("finished segment {segment}"),
                    &json!({
                        "event": "segment", "segment": text(segment), "timeline": segment.timeline().get(),
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
                    "event": "timeline_switch", "timeline": timeline.get(), "switchpoint_lsn": text(switchpoint),
                }),
            ),
            ReceiverEvent::BranchedBehind { timeline, flushed, switchpoint, server_timeline } => {
                let bytes = flushed.saturating_sub(*switchpoint);
                let volume = if self.json { format!("{bytes} bytes") } else { readable::bytes(bytes) };
                self.warning(
                    "branched_behind",
                    &format!(
                        "timeline {server_timeline} left timeline {timeline} at {switchpoint}, but WAL was received \
                         up to {flushed}: what was committed in these {volume} is not on the server any more; \
                         they stay in the partial segment of timeline {timeline}"
                    ),
                );
            }
            ReceiverEvent::Damage { damage, retry_in } => {
                let reason = format!("the server sent damaged WAL: {damage}");
                self.problem("damage", &reason, retry_in.as_millis(), "fetching it again");
            }
            ReceiverEvent::NotLocked(error) => {
                let error = with_causes(*error);
                let text = format!("{error}; nothing keeps another process from receiving into it");
                self.warning("not_locked", &text);
            }
            ReceiverEvent::Unchecked(version) => {
                let text = format!("WAL of PostgreSQL {version} is stored without being checked");
                self.warning("unchecked", &text);
            }
            ReceiverEvent::OutOfSpace { error, retry_in } => {
                self.problem("out_of_space", &with_causes(*error), retry_in.as_millis(), "trying again");
            }
            ReceiverEvent::NotCompressed { error, retry_in } => {
                self.problem("not_compressed", &with_causes(*error), retry_in.as_millis(), "trying again");
            }
            _ => {}
        }
    }

    /// Reports a lost connection, or a failed attempt to make it again. People are told once of each reason, with what
    /// to do; documents come with each attempt.
    pub(super) fn disconnected(&self, failure: &Failure, retry_in: Duration) {
        let reason = failure.full_text();
        let is_news = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            core::mem::replace(&mut *told, reason.clone()) != reason
        };
        if self.json || is_news {
            self.problem("disconnected", &reason, retry_in.as_millis(), "connecting again");
        }
    }

    fn gap_accepted(&self, gap: &AcceptedGap) {
        let AcceptedGap { from, to, .. } = gap;
        let bytes = to.get().saturating_sub(from.get());
        let event = json!({
            "event": "gap_accepted", "start_lsn": from.to_string(), "end_lsn": to.to_string(), "bytes": bytes,
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
