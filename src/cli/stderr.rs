//! stderr: lines for people, or documents for a log collector. On a terminal a status line may stay below the others,
//! rewritten in place.

use core::time::Duration;
use std::io::{Write as _, stderr};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::about::About;
use super::readable;

/// One per process, as there is only one stderr.
static STDERR: Mutex<Stderr> = Mutex::new(Stderr {
    as_json: false,
    server: Value::Null,
    last_line: String::new(),
    is_drawn: false,
    is_read: true,
});

/// How long to wait for a slow reader before a line is dropped. Receiving WAL waits meanwhile, too.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

struct Stderr {
    as_json: bool,
    /// The `server` of documents about no server in particular.
    server: Value,
    /// The text of the status line, without a line end; empty if there is none.
    last_line: String,
    /// Whether the terminal shows a status line.
    is_drawn: bool,
    /// Whether the last line could be written in time.
    is_read: bool,
}

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warning,
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warning,
            _ => Self::Info,
        }
    }
}

/// From now on every line is a document of its own, with `ts`, `level`, `event`, `server` and `message`.
pub(super) fn write_json() {
    let mut stderr = lock();
    stderr.as_json = true;
    stderr.server = About::default().to_json();
}

/// Whether every line is a document.
pub(super) fn writes_json() -> bool {
    lock().as_json
}

/// From now on, documents about no server in particular are about this one: it is the only one of the process.
pub(super) fn set_server(server: &About) {
    lock().server = server.to_json();
}

/// Writes a line for people.
pub(super) fn line(text: &str) {
    log(Level::Info, text, text, &json!({}));
}

/// Writes a line: `text` for people; in a document `message`, with the members of `event`. What is no event of the
/// command has the event `log`.
pub(super) fn log(level: Level, text: &str, message: &str, event: &Value) {
    let mut stderr = lock();
    if stderr.as_json {
        let mut document = json!({
            "schema": "tapster.log/1", "ts": readable::exact_timestamp(), "level": level.name(), "event": "log",
            "server": stderr.server,
        });
        for (key, value) in event.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        document["message"] = message.into();
        stderr.write_line(&readable::for_programs(&document));
    } else {
        stderr.write_line(&readable::for_people(text));
    }
}

/// Replaces the status line; an empty text removes it.
pub(super) fn set_last_line(text: String) {
    let mut stderr = lock();
    let text = readable::for_people(&text).into_owned();
    if stderr.last_line != text {
        stderr.last_line = text;
        stderr.write("");
    }
}

impl Stderr {
    fn write_line(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Writes everything in one call, so that no other program's output comes between.
    fn write(&mut self, lines: &str) {
        // A stopped terminal or a hanging reader gets nothing until it reads again.
        self.is_read = is_writable(stderr(), if self.is_read { PATIENCE } else { Duration::ZERO });
        if !self.is_read {
            return;
        }
        // Return to the beginning of the line and clear it, but only where a status line was drawn.
        let clear = if self.is_drawn { "\r\x1b[K" } else { "" };
        self.is_drawn = !self.last_line.is_empty();
        let _ = stderr().lock().write_all(format!("{clear}{lines}{}", self.last_line).as_bytes());
    }
}

/// Whether `out` accepts a write within that time. A signal ends the wait, because it may ask the program to stop.
pub(super) fn is_writable(out: impl AsFd, within: Duration) -> bool {
    let within = within.try_into().ok();
    match poll(&mut [PollFd::new(&out, PollFlags::OUT)], within.as_ref()) {
        Ok(ready) => ready > 0,
        Err(error) => error != Errno::INTR,
    }
}

fn lock() -> MutexGuard<'static, Stderr> {
    STDERR.lock().unwrap_or_else(PoisonError::into_inner)
}
