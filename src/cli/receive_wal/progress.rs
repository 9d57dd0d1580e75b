//! The receivers' progress in a form for people.

use core::time::Duration;
use std::io::{IsTerminal as _, stderr};
use std::time::Instant;

use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::super::{readable, stderr};
use super::args::{LogFormat, When};
use super::registry::Shown;
use super::report::Reporter;
use tapster::types::Lsn;

/// How often the line on a terminal is redrawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// The time over which the rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// `--progress`.
#[derive(Debug)]
pub(super) struct Progress {
    in_place: bool,
    shown_at: Instant,
    rate: Rate,
}

impl Progress {
    /// The progress display that these options and this stderr ask for, if any.
    pub(super) fn new(when: When, format: LogFormat, quiet: bool, json: bool) -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let in_place = stderr().is_terminal() && !is_dumb && format == LogFormat::Text;
        let is_wanted = match when {
            When::Auto => in_place && !quiet && !json,
            When::Always => true,
            When::Never => false,
        };
        is_wanted.then(|| Self { in_place, shown_at: Instant::now(), rate: Rate::default() })
    }

    /// When [`poll`](Self::poll) is due.
    pub(super) fn due(&self) -> Instant {
        self.shown_at + if self.in_place { DRAW_INTERVAL } else { LINE_INTERVAL }
    }

    /// Shows the progress, if it is due.
    pub(super) fn poll(&mut self, servers: &[Shown], report: &Reporter) {
        let now = Instant::now();
        if now < self.due() {
            return;
        }
        self.shown_at = now;
        let rate = self.rate.update(now, servers.iter().map(|server| server.figures.bytes).sum());
        if self.in_place {
            let width = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
            // Some terminals do not report their width.
            let width = if width == 0 { 80 } else { width };
            let line = in_place(servers, rate);
            // One column less, for the cursor behind the line.
            stderr::set_last_line(line.chars().take(width - 1).collect());
        } else {
            report_all(servers, report);
        }
    }

    /// Clears the line.
    pub(super) fn finish(&self) {
        if self.in_place {
            stderr::set_last_line(String::new());
        }
    }
}

/// A line, or with `--json` a document, about each server.
pub(super) fn report_all(servers: &[Shown], report: &Reporter) {
    for server in servers {
        report.answer(&format!("{}: {}", server.label, of_one(server, None)), &status(server));
    }
}

fn in_place(servers: &[Shown], rate: u64) -> String {
    if let [server] = servers {
        return format!(" {}", of_one(server, Some(rate)));
    }
    let up = servers.iter().filter(|server| server.is_up()).count();
    let lag = servers.iter().map(|server| server.figures.lag_bytes()).max().unwrap_or_default();
    let mut line = format!(
        " {up} of {} servers streaming   {}/s   largest lag {}",
        servers.len(),
        readable::bytes(rate),
        readable::bytes(lag)
    );
    for server in servers.iter().filter(|server| !server.is_up()) {
        line.push_str(&format!("   {} {}", server.label, server.state().replace('_', " ")));
    }
    line
}

/// Segment, percent, position, rate, lag, and the time since WAL was last made durable.
fn of_one(server: &Shown, rate: Option<u64>) -> String {
    let figures = &server.figures;
    let mut parts = Vec::new();
    if !server.is_up() || rate.is_none() {
        parts.push(server.state().replace('_', " "));
    }
    if let Some(segment) = figures.segment {
        let filled = figures.received.saturating_sub(segment.start());
        parts.push(segment.to_string());
        parts.push(format!("{:>3} %", filled * 100 / u64::from(segment.size().bytes())));
        parts.push(figures.received.to_string());
        parts.extend(rate.map(|rate| format!("{}/s", readable::bytes(rate))));
        parts.push(format!("lag {}", readable::bytes(figures.lag_bytes())));
        parts.push(match figures.since_flushed {
            _ if figures.flushed >= figures.received => "all flushed".to_string(),
            Some(since) => format!("flushed {} ago", age(since)),
            None => "not flushed yet".to_string(),
        });
    }
    parts.join("   ")
}

/// The document that answers SIGUSR1 with `--json`.
fn status(server: &Shown) -> Value {
    let figures = &server.figures;
    let position = |lsn: Lsn| lsn.is_valid().then(|| lsn.to_string());
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "event": "status",
        "server": server.about.to_json(),
        "state": server.state(),
        "exit": server.ended,
        "timeline": figures.timeline.map(|timeline| timeline.get()),
        "segment": figures.segment.map(|segment| segment.to_string()),
        "received_lsn": position(figures.received),
        "write_lsn": position(figures.written),
        "flush_lsn": position(figures.flushed),
        "server_lsn": position(figures.server_end),
        "lag_bytes": figures.lag_bytes(),
        "flush_lag_bytes": figures.flush_lag_bytes(),
        "lag_ms": ms(figures.behind),
        "last_message_age_ms": figures.since_message.map(ms),
        "bytes": figures.bytes,
        "segments": figures.segments,
        "reconnects": figures.connections.saturating_sub(1),
    })
}

/// Bytes a second over the last moments.
#[derive(Debug, Default)]
struct Rate {
    /// The beginning of the measured time, and the bytes received before it.
    since: Option<(Instant, u64)>,
    per_second: u64,
}

impl Rate {
    fn update(&mut self, now: Instant, bytes: u64) -> u64 {
        let (since, before) = *self.since.get_or_insert((now, bytes));
        let elapsed = now - since;
        if elapsed >= RATE_SPAN {
            self.per_second = (bytes.saturating_sub(before) as f64 / elapsed.as_secs_f64()) as u64;
            self.since = Some((now, bytes));
        }
        self.per_second
    }
}

/// A time in the unit that reads best.
fn age(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_moments() {
        let mut rate = Rate::default();
        let begin = Instant::now();
        assert_eq!(rate.update(begin, 1000), 0);
        assert_eq!(rate.update(begin + RATE_SPAN / 2, 2000), 0);
        assert_eq!(rate.update(begin + RATE_SPAN, 5000), 2000);
        assert_eq!(rate.update(begin + RATE_SPAN * 3, 5000), 0);
    }

    #[test]
    fn ages_are_in_the_unit_that_reads_best() {
        let texts = [3, 999, 1000, 119_999, 120_000, 7_200_000].map(|ms| age(Duration::from_millis(ms)));
        assert_eq!(texts, ["3 ms", "999 ms", "1 s", "119 s", "2 min", "2 h"]);
    }
}
