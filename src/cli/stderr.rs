//! stderr: lines for people or, for a log collector, documents; and at most one line that is written over in
//! place, which stays below the others.

use core::time::Duration;
use std::io::{Write as _, stderr};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::readable;

/// There is one per process, as there is one stderr.
static STDERR: Mutex<Stderr> =
    Mutex::new(Stderr { as_json: false, last_line: String::new(), is_drawn: false, is_read: true });

/// How long a line waits for whoever reads it. What goes on meanwhile, such as receiving WAL, waits with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

struct Stderr {
    as_json: bool,
    /// What stands in the last line, without a line end; empty if nothing does.
    last_line: String,
    /// Whether the terminal shows such a line.
    is_drawn: bool,
    /// Whether the last line could be written in time.
    is_read: bool,
}

/// How much a line matters.
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

/// From now on every line is a document of its own, with `ts`, `level` and `message`.
pub(super) fn write_json() {
    lock().as_json = true;
}

/// Writes a line for people.
pub(super) fn line(text: &str) {
    log(Level::Info, text, text, &json!({}));
}

/// Writes a line: `text` for people; in a document `message`, with the members of `event`.
pub(super) fn log(level: Level, text: &str, message: &str, event: &Value) {
    let mut stderr = lock();
    if stderr.as_json {
        let mut document = json!({ "ts": readable::timestamp(), "level": level.name() });
        for (key, value) in event.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        document["message"] = message.into();
        stderr.write_line(&document.to_string());
    } else {
        stderr.write_line(text);
    }
}

/// Replaces the last line of a terminal; with an empty one it is gone.
pub(super) fn set_last_line(text: String) {
    let mut stderr = lock();
    if stderr.last_line != text {
        stderr.last_line = text;
        stderr.write("");
    }
}

impl Stderr {
    fn write_line(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// At once, so that no other program's output comes between.
    fn write(&mut self, lines: &str) {
        // A stopped terminal, or a reader that hangs, gets nothing until it reads again.
        self.is_read = is_writable(stderr(), if self.is_read { PATIENCE } else { Duration::ZERO });
        if !self.is_read {
            return;
        }
        // Back to the line's beginning and clear it; nothing is written where there never was such a line.
        let clear = if self.is_drawn { "\r\x1b[K" } else { "" };
        self.is_drawn = !self.last_line.is_empty();
        let _ = stderr().lock().write_all(format!("{clear}{lines}{}", self.last_line).as_bytes());
    }
}

/// Whether what is written there is taken within that time. A signal ends the wait: it may be the one to stop.
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
